// A datagram endpoint's beginning and end, and what it waits for.

#include "datagram_endpoint.hpp"

#include "datagram_backlog.hpp"

#include <algorithm>
#include <sys/socket.h>

namespace weft::detail {
namespace {

// What GRO puts together at most (UDP_GRO_CNT_MAX), and never more than one IP packet.
constexpr std::size_t gro_segments = 64;
constexpr std::size_t gro_slot = 65536;
// Slots of a socket with GRO: with 64 datagrams in each they are as many as other sockets' bound
// per turn.
constexpr std::size_t gro_batch = 8;

std::size_t slots_wanted(const UdpOptions& options) noexcept {
    const std::size_t most = options.gro ? gro_batch : DatagramRoom::max_batch;
    return std::clamp<std::size_t>(options.batch, 1, most);
}

} // namespace

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
    if (core.kernel().local_address(fd, local).ok() && local.is_ip()) set(internet);
    if (has(internet)) {
        if (options.report_errors) set(errors_queued);
    } else {
        set(split_here); // the kernel takes the wish, and sends all of it as one
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
    set(made);
    guarded("connection_made", [&] { protocol_->connection_made(*this); });
}

/// Nothing of the endpoint is on the stack any more: what was gathered leaves, and what it asked
/// for happens.
void DatagramEndpoint::settle() {
    if (queue_ && !blocked()) flush_queue();
    if (is_closing() && all_sent()) finish({});
}

void DatagramEndpoint::close() {
    if (is_closing()) return;
    phase_ = Phase::closing;
    if (all_sent() && !has(in_callback)) finish({});
    if (discards()) update_interest();
}

void DatagramEndpoint::abort(std::error_code reason) {
    errors_.clear(); // also when it is closed and about to go
    if (!is_over()) {
        drop_all(reason ? reason : make_error_code(Errc::aborted));
        finish(reason);
    }
    phase_ = Phase::aborted;
}

void DatagramEndpoint::finish(std::error_code reason) {
    if (is_over()) return;
    phase_ = Phase::finishing;
    backlog_.reset();
    reason_ = reason;
    core_.finish_later(*this);
}

void DatagramEndpoint::on_flush() {
    clear(flush_queued);
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

// Another turn for this endpoint, although its descriptor may have nothing to say.
void DatagramEndpoint::queue_again() {
    if (has(again_queued)) return;
    set(again_queued);
    core_.again(token_, 0);
}

void DatagramEndpoint::update_interest() {
    Interest wanted = can_read() || discards() ? Interest::read : Interest::none;
    if (blocked()) wanted = wanted | Interest::write;
    if (wanted == armed_ || is_over()) return;
    const Sys done = core_.kernel().modify(fd_, token_, wanted);
    if (!done.ok()) return abort(done.code());
    armed_ = wanted;
}

} // namespace weft::detail

namespace weft {

DatagramTransport* DatagramRef::get() const noexcept {
    if (!loop_ || loop_->loop() == nullptr) return nullptr;
    detail::Source* source = detail::core_of(*loop_->loop()).sources().find(token_);
    return source ? source->as_datagram_transport() : nullptr;
}

} // namespace weft
