// Some facts about datagram sockets on Linux
//
// An ICMP error makes a connected socket report ERR, and fails the next call that is made, whatever
// it is: a receive, though datagrams wait; a send, which then sends nothing; or SO_ERROR. Whoever
// asks first takes it away. An unconnected socket hears of it only with IP_RECVERR (ip(7)), which
// keeps it in a queue as well, with the address that it is about; taking it out of the queue takes
// it away from the next call, and until the queue is empty ERR is reported, whether asked for or
// not. So at ERR the queue is emptied first, then SO_ERROR is asked.
//
// A sendmmsg(2) that meets such an error after the first datagram returns a short count and forgets
// the error; the queue does not.
//
// After shutdown(2) of the receiving direction a socket is readable for ever, and has nothing to
// read.

#include "udp_transport.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/socket.h>

namespace weft::detail {
namespace {

// Entries of the error queue taken at once. The kernel bounds the queue by SO_RCVBUF.
constexpr int errors_per_turn = 64;

// What GRO puts together at most (UDP_GRO_CNT_MAX), and never more than one IP packet.
constexpr std::size_t gro_segments = 64;
constexpr std::size_t gro_slot = 65536;
// Slots of a socket with GRO: with 64 datagrams in each they are as many as other sockets' bound
// per turn.
constexpr std::size_t gro_batch = 8;

// Slots of 64 KiB would all begin in the same cache sets. One page and one line more spreads them.
constexpr std::size_t slot_colour = 4096 + 64;

constexpr std::size_t slot_stride(std::size_t size) noexcept {
    return size % 4096 == 0 && size > 4096 ? size + slot_colour : size;
}

std::size_t slots_wanted(const UdpOptions& options) noexcept {
    const std::size_t most = options.gro ? gro_batch : DatagramRoom::max_batch;
    return std::clamp<std::size_t>(options.batch, 1, most);
}

} // namespace

// --- What endpoints share ---

std::shared_ptr<DatagramRoom> DatagramRoom::of(LoopCore& core) {
    auto room = std::static_pointer_cast<DatagramRoom>(core.datagram_memory().lock());
    if (!room) {
        room = std::make_shared<DatagramRoom>(core);
        core.datagram_memory() = room;
    }
    return room;
}

void DatagramRoom::reserve(std::size_t count, std::size_t size, std::size_t views) {
    if (busy) return; // an endpoint made in a callback: its first receive will see to it
    (void)slots(count, size);
    batch.reserve(views);
}

std::span<DatagramSlot> DatagramRoom::slots(std::size_t count, std::size_t size) {
    // The loop's buffer is another one when somebody has kept what a stream received.
    const bool moved = borrowed_ != nullptr && core_.receive_buffer().room().data() != borrowed_;
    if (size != slot_size_ || count > slots_.size() || moved) {
        const std::size_t slots = std::max(count, slots_.size());
        const std::size_t stride = slot_stride(size);
        MutableBytes memory = core_.receive_buffer().room();
        slot_size_ = 0;
        slots_.resize(slots);
        borrowed_ = memory.data();
        if (memory.size() < slots * stride) {
            if (capacity_ < slots * stride) {
                bytes_.reset();
                capacity_ = 0;
                bytes_.reset(new std::byte[slots * stride]);
                capacity_ = slots * stride;
            }
            memory = {bytes_.get(), capacity_};
            borrowed_ = nullptr;
        }
        for (std::size_t i = 0; i < slots; ++i) {
            slots_[i].data = memory.data() + i * stride;
            slots_[i].capacity = size;
        }
        slot_size_ = size;
    }
    return std::span(slots_).first(count);
}

std::unique_ptr<DatagramQueue> DatagramRoom::take_queue() {
    if (spare_) return std::move(spare_);
    return std::make_unique<DatagramQueue>();
}

void DatagramRoom::give_back(std::unique_ptr<DatagramQueue> queue) noexcept {
    queue->clear();
    if (!spare_) spare_ = std::move(queue);
}

// --- Life ---

struct DatagramEndpoint::Backlog {
    struct Entry {
        Address from;
        Address to;
        Address destination;
        std::size_t offset;
        std::size_t size;
        std::uint32_t interface;
        std::int8_t ecn;
        bool truncated;
    };
    std::vector<Entry> entries;
    std::vector<std::byte> bytes;

    void add(const Datagram& datagram) {
        entries.push_back({datagram.from, datagram.to, datagram.destination, bytes.size(),
                           datagram.data.size(), datagram.interface, datagram.ecn,
                           datagram.truncated});
        bytes.insert(bytes.end(), datagram.data.begin(), datagram.data.end());
    }
    Datagram view(const Entry& entry, DatagramTransport& transport) const noexcept {
        return {Bytes(bytes.data() + entry.offset, entry.size),
                entry.from,
                entry.to,
                entry.destination,
                entry.interface,
                entry.ecn,
                entry.truncated,
                transport};
    }
};

DatagramEndpoint::DatagramEndpoint(LoopCore& core, int fd,
                                   std::unique_ptr<DatagramProtocol> protocol, const Address& peer,
                                   const UdpOptions& options)
    : core_(core), room_(DatagramRoom::of(core)), protocol_(std::move(protocol)), fd_(fd),
      datagram_size_(std::max<std::size_t>(options.datagram_size, 1)),
      slot_size_(options.gro ? std::max(datagram_size_, gro_slot) : datagram_size_),
      slot_count_(slots_wanted(options)), limits_(options.write_limits.value_or(WriteLimits{})),
      peer_(peer) {
    limits_.low = std::min(limits_.low, limits_.high);
    Address local;
    if (core.kernel().local_address(fd, local).ok() && local.is_ip()) flags_ |= internet;
    if (has(internet)) {
        if (options.report_errors) flags_ |= errors_queued;
    } else {
        flags_ |= split_here; // the kernel takes the wish, and sends all of it as one
    }
    family_ = std::as_const(local).data()->sa_family;
    room_->reserve(slot_count_, slot_size_, slot_count_ * (options.gro ? gro_segments : 1));
}

DatagramEndpoint::~DatagramEndpoint() = default;

Sys DatagramEndpoint::start() {
    token_ = core_.sources().add(*this);
    const Sys added = core_.kernel().add(fd_, token_, armed_);
    if (!added.ok()) {
        core_.remove_source(token_);
    } else {
        queue_again(); // for connection_made
    }
    return added;
}

std::string DatagramEndpoint::describe(const char* what) const {
    std::string text =
        std::string(what) + " of the datagram endpoint " + local_address().to_string();
    if (!peer_.empty()) text += " with " + peer_.to_string();
    return text;
}

void DatagramEndpoint::make() {
    flags_ |= made;
    guarded("connection_made", [&] { protocol_->connection_made(*this); });
}

/// Nothing of the endpoint is on the stack any more: what was gathered leaves, and what it asked
/// for happens.
void DatagramEndpoint::settle() {
    if (queue_ && !has(blocked)) flush_queue();
    if (has(closing) && all_sent()) finish({});
}

void DatagramEndpoint::close() {
    if (has(closing)) return;
    flags_ |= closing;
    if (all_sent() && !has(in_callback)) finish({});
    if (discards()) update_interest();
}

void DatagramEndpoint::abort(std::error_code reason) {
    flags_ |= aborted; // also when it is closed and about to go
    errors_.clear();
    if (has(finishing)) return;
    drop_all(reason ? reason : make_error_code(Errc::aborted));
    finish(reason);
}

void DatagramEndpoint::finish(std::error_code reason) {
    if (has(finishing)) return;
    flags_ |= closing | finishing;
    backlog_.reset();
    reason_ = reason;
    core_.finish_later(*this);
}

void DatagramEndpoint::on_flush() {
    flags_ &= ~flush_queued;
    if (!has(made)) make();
    settle();
    deliver_errors();
}

void DatagramEndpoint::on_finish() {
    // The loop still holds this for the flush phase, which comes first: errors may be waiting
    // there.
    if (has(flush_queued)) return core_.finish_later(*this);
    std::exception_ptr fatal;
    const auto call = [&](const char* name, auto callback) {
        try {
            callback();
        } catch (...) {
            try {
                core_.report_exception(describe(name));
            } catch (...) {
                fatal = std::current_exception();
            }
        }
    };
    // Closed before its first turn: the two come as a pair all the same.
    if (!has(made)) call("connection_made", [&] { protocol_->connection_made(*this); });
    waiting_.reset();
    call("connection_lost", [&] { protocol_->connection_lost(reason_); });
    protocol_.reset();
    core_.kernel().close(fd_);
    core_.remove_source(token_);
    delete this;
    if (fatal) std::rethrow_exception(fatal);
}

namespace {

/// The room's slots and views are on loan to a callback.
class Busy {
public:
    explicit Busy(DatagramRoom& room) noexcept : room_(room) { room_.busy = true; }
    ~Busy() { room_.busy = false; }
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;

private:
    DatagramRoom& room_;
};

} // namespace

// --- Receiving ---

void DatagramEndpoint::on_ready(std::uint32_t ready) {
    if (ready == 0) flags_ &= ~again_queued;
    if (has(finishing)) return;
    if (!has(made)) make();
    if (ready & ready::error) take_errors();
    if (has(blocked) && (ready & (ready::writable | ready::error | ready::hangup))) unblock();
    if (can_read()) {
        receive(ready);
    } else if (discards() && (ready & ready::readable)) {
        discard_input();
    } else if (ready & (ready::readable | ready::read_hangup)) {
        update_interest(); // level-triggered: it would be reported for ever
    }
    if (ready & ready::hangup) abort({}); // somebody shut both directions down
}

void DatagramEndpoint::receive(std::uint32_t ready) {
    if (backlog_) deliver_backlog();
    const bool told = (ready & (ready::readable | ready::read_hangup)) != 0;
    // What is left after these is reported again, behind everybody else's.
    for (int left = core_.reads_per_turn(); told && left > 0; --left) {
        if (!can_read() || backlog_) return;
        auto slots = room_->slots(slot_count_, slot_size_);
        if (core_.limited()) slots = slots.first(1);
        const Sys got = core_.kernel().recv_batch(fd_, slots);
        if (got.ok()) {
            deliver(slots.first(got.count()));
            if (got.count() < slots.size()) return;
        } else if (!got.would_block()) {
            receive_failed(got.error());
        } else if (ready & ready::read_hangup) {
            flags_ |= deaf;
            return update_interest();
        } else {
            return;
        }
    }
}

/// Two that wait for each other's queues would never have sent what is left: nobody wants what is
/// in this one.
void DatagramEndpoint::discard_input() {
    for (int left = core_.reads_per_turn(); left > 0; --left) {
        const auto slots = room_->slots(slot_count_, slot_size_);
        const Sys got = core_.kernel().recv_batch(fd_, slots);
        if (!got.ok() || got.count() < slots.size()) return;
    }
}

void DatagramEndpoint::deliver(std::span<DatagramSlot> slots) {
    std::vector<Datagram>& batch = room_->batch;
    batch.clear();
    for (const DatagramSlot& slot : slots) {
        const Bytes all(slot.data, slot.size);
        if (slot.segment_size == 0) [[likely]] {
            batch.push_back({all.first(std::min(all.size(), datagram_size_)), slot.from, slot.to,
                             slot.destination, slot.interface, slot.ecn,
                             slot.truncated || all.size() > datagram_size_, *this});
            continue;
        }
        // A run of datagrams (GRO): all but the last are as long as the first.
        const std::size_t step = slot.segment_size;
        std::size_t at = 0;
        do {
            const Bytes part = all.subspan(at, std::min(step, all.size() - at));
            at += step;
            const bool cut = part.size() > datagram_size_ || (slot.truncated && at >= all.size());
            batch.push_back({part.first(std::min(part.size(), datagram_size_)), slot.from, slot.to,
                             slot.destination, slot.interface, slot.ecn, cut, *this});
        } while (at < all.size());
    }
    {
        const Busy busy(*room_);
        hand_over(batch);
    }
    if (!core_.debug()) return;
    // Who kept a view beyond the call shall notice.
    for (const DatagramSlot& slot : slots)
        std::memset(slot.data, 0xDD, slot.size);
}

void DatagramEndpoint::hand_over(std::span<const Datagram> batch) {
    guarded("datagrams_received", [&] { protocol_->datagrams_received(batch); });
}

void DatagramEndpoint::deliver_backlog() {
    const std::unique_ptr<Backlog> held = std::move(backlog_);
    std::vector<Datagram> batch;
    batch.reserve(held->entries.size());
    for (const Backlog::Entry& entry : held->entries)
        batch.push_back(held->view(entry, *this));
    hand_over(batch);
}

void DatagramEndpoint::unread(std::span<const Datagram> batch) {
    if (has(closing) || batch.empty()) return;
    auto all = std::make_unique<Backlog>();
    for (const Datagram& datagram : batch)
        all->add(datagram);
    if (backlog_)
        for (const Backlog::Entry& entry : backlog_->entries)
            all->add(backlog_->view(entry, *this));
    backlog_ = std::move(all);
    if (can_read()) queue_again();
}

void DatagramEndpoint::unread_rest(std::span<const Datagram> batch) {
    if (has(closing) || batch.empty()) return;
    if (!backlog_) return unread(batch);
    auto all = std::make_unique<Backlog>(*backlog_); // nothing is lost if memory is
    for (const Datagram& datagram : batch)
        all->add(datagram);
    backlog_ = std::move(all);
}

void DatagramEndpoint::pause_reading() {
    flags_ |= paused;
}

void DatagramEndpoint::resume_reading() {
    flags_ &= ~paused;
    if (!can_read()) return;
    update_interest();
    if (backlog_) queue_again();
}

// Another turn for this endpoint, although its descriptor may have nothing to say.
void DatagramEndpoint::queue_again() {
    if (has(again_queued)) return;
    flags_ |= again_queued;
    core_.again(token_, 0);
}

void DatagramEndpoint::update_interest() {
    Interest wanted = can_read() || discards() ? Interest::read : Interest::none;
    if (has(blocked)) wanted = wanted | Interest::write;
    if (wanted == armed_ || has(finishing)) return;
    const Sys done = core_.kernel().modify(fd_, token_, wanted);
    if (!done.ok()) return abort(done.code());
    armed_ = wanted;
}

// --- Errors ---

void DatagramEndpoint::receive_failed(int error) {
    // Not a datagram's fate but the descriptor's: closed or exchanged behind our back, and so
    // without end.
    if (error == EBADF || error == ENOTSOCK) return abort(errno_code(error));
    if (!has(errors_queued) || take_queued_errors() == 0) note_error(error, peer_);
    deliver_errors();
}

/// Empties the error queue, but for entries that say `except`; how many there were.
std::size_t DatagramEndpoint::take_queued_errors(int except) {
    std::size_t taken = 0;
    for (; taken < errors_per_turn; ++taken) {
        Address to;
        const Sys got = core_.kernel().recv_error(fd_, to);
        if (!got.ok()) break;
        const int error = static_cast<int>(got.value());
        if (error != 0 && error != except) note_error(error, to.empty() ? peer_ : to);
    }
    return taken;
}

/// The socket reported ERR.
void DatagramEndpoint::take_errors() {
    // A Unix socket has no such queue, and would hand out a datagram instead.
    if (has(internet)) (void)take_queued_errors();
    const Sys error = core_.kernel().get_option(fd_, SocketOption::error);
    if (error.ok() && error.value() != 0) note_error(static_cast<int>(error.value()), peer_);
    deliver_errors();
}

void DatagramEndpoint::note_error(int error, const Address& to, bool at_send) {
    // A program that sends thousands into a wall in one callback learns of the first thousand.
    constexpr std::size_t most = 1000;
    if (errors_.size() < most) errors_.push_back({errno_code(error), to, at_send});
}

/// Only when nothing of the endpoint is on the stack. What the calls give rise to waits for the
/// next time.
void DatagramEndpoint::deliver_errors() {
    if (errors_.empty()) return;
    const std::vector<SendError> errors = std::exchange(errors_, {});
    for (const SendError& error : errors) {
        if (has(aborted)) return;
        guarded(error.at_send ? "send_failed" : "error_received", [&] {
            if (error.at_send) return protocol_->send_failed(error.code, error.to);
            protocol_->error_received(error.code, error.to);
        });
    }
}

} // namespace weft::detail

namespace weft {

DatagramTransport* DatagramRef::get() const noexcept {
    if (!loop_ || loop_->loop() == nullptr) return nullptr;
    detail::Source* source = detail::core_of(*loop_->loop()).sources().find(token_);
    return source ? source->as_datagram_transport() : nullptr;
}

} // namespace weft
