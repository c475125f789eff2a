// The sending half of the datagram endpoint.

#include "datagram_endpoint.hpp"

#include <cerrno>
#include <sys/socket.h>

namespace weft::detail {
namespace {

// Gathered for one system call, which takes no more of them.
constexpr std::size_t gathered_datagrams = DatagramRoom::max_batch;
// Gathered bytes are copied and read again soon: they are to stay in the level-1 and level-2
// caches.
constexpr std::size_t gathered_bytes = 64 * 1024;

bool means_no_gso(int error) noexcept {
    // EIO: the interface does not compute checksums. EINVAL, ENOPROTOOPT, EOPNOTSUPP: a kernel or a
    // simulation without it, or a socket it does not go with.
    return error == EIO || error == EINVAL || error == ENOPROTOOPT || error == EOPNOTSUPP;
}

} // namespace

void DatagramEndpoint::send_to(Bytes data, const Address& to) {
    send_to(data, to, SendOptions());
}

void DatagramEndpoint::send(Bytes data) {
    if (is_closing()) return;
    if (peer_.empty()) throw UsageError(describe("send") + ": it is not connected, use send_to");
    gather(data, nullptr, SendOptions());
}

void DatagramEndpoint::send_to(Bytes data, const Address& to, const SendOptions& options) {
    if (is_closing()) return;
    Address room;
    gather(data, checked_target(to, room), options);
}

void DatagramEndpoint::send_batch(std::span<const Outgoing> batch) {
    if (is_closing() || batch.empty()) return;
    // Whatever can be refused is refused before anything is taken.
    Address room;
    std::size_t bytes = 0;
    for (const Outgoing& each : batch) {
        (void)checked_target(each.to, room);
        bytes += each.data.size();
    }
    if (!queue_) queue_ = room_->take_queue();
    queue_->reserve(batch.size(), bytes);
    for (const Outgoing& each : batch)
        (void)append(each.data, checked_target(each.to, room), SendOptions());
    after_append();
}

namespace {

/// Whether a connected endpoint's peer is meant: in whatever form, and by the unspecified address
/// if that was connected to, which leads to this host.
bool same_place(const Address& to, const Address& peer) noexcept {
    const Address a = to.unmapped(), b = peer.unmapped();
    return a == b || (a.is_any() && b.is_loopback() && a.port() == b.port());
}

} // namespace

/// An IP address in the form that the socket's family takes, if there is one.
const Address* DatagramEndpoint::fitted(const Address& address, Address& room) const noexcept {
    if (address.data()->sa_family == family_) [[likely]]
        return &address;
    room = family_ == AF_INET6 ? address.mapped() : address.unmapped();
    return &room;
}

/// Where to send: null for the connected peer.
const Address* DatagramEndpoint::checked_target(const Address& to, Address& room) const {
    if (peer_.empty()) {
        if (to.empty()) throw UsageError(describe("send_to") + ": the address is empty");
        return fitted(to, room);
    }
    if (!to.empty() && to != peer_ && !same_place(to, peer_))
        throw UsageError(describe("send_to") + ": it is connected, and can not send to " +
                         to.to_string());
    return nullptr;
}

/// Takes a datagram; false if it waits for its receiver, and there is nothing to send now.
bool DatagramEndpoint::append(Bytes data, const Address* to, const SendOptions& options) {
    Address room;
    const Address* from = options.from;
    if (from && !from->empty()) {
        from = fitted(*from, room);
        if (from->data()->sa_family != family_ || !has(internet))
            throw UsageError(describe("send_to") + ": it can not send from " +
                             options.from->to_string() + ", of another family");
    }
    const OutDatagram datagram{data, to, from, options.segment_size, options.ecn};
    if (to && waiting_) [[unlikely]]
        if (DatagramQueue* held = waiting_->queue_for(*to)) {
            held->append(datagram);
            return false;
        }
    if (!queue_) queue_ = room_->take_queue();
    queue_->append(datagram);
    return true;
}

void DatagramEndpoint::gather(Bytes data, const Address* to, const SendOptions& options) {
    if (!append(data, to, options)) return check_high_water();
    after_append();
}

void DatagramEndpoint::after_append() {
    if (blocked()) return check_high_water();
    if (!queue_ || queue_->empty()) {
        drop_queue(); // all of a batch waits for receivers
        return check_high_water();
    }
    const bool full = queue_->count() >= gathered_datagrams || queue_->bytes() >= gathered_bytes;
    if (full || !(has(in_callback) || core_.in_turn())) {
        flush_queue();
    } else if (!has(in_callback)) {
        request_flush();
    }
}

void DatagramEndpoint::flush() {
    if (queue_ && !blocked()) flush_queue();
}

/// Sends until everything is gone or the socket's buffer is full.
void DatagramEndpoint::flush_queue() {
    send_queue();
    if (waiting_) [[unlikely]] {
        tell_drained();
        check_high_water();
    } else if (blocked()) {
        check_high_water();
    }
}

void DatagramEndpoint::send_queue() {
    while (queue_) {
        const bool gso = !has(split_here);
        const std::size_t count = queue_->describe(room_->out, gso);
        const Sys sent = core_.kernel().send_batch(fd_, std::span(room_->out).first(count));
        if (sent.value() > 0) {
            clear(retried);
            queue_->pop(sent.count(), gso);
            if (queue_->empty()) drop_queue();
        } else if (sent.ok() || sent.would_block()) {
            if (!hold_first()) return block();
        } else {
            send_failed(sent.error());
        }
    }
}

/// The first in the queue could not be sent as it is.
void DatagramEndpoint::send_failed(int error) {
    const bool gso = !has(split_here);
    if (queue_->first_is_segmented(gso)) {
        if (means_no_gso(error)) {
            set(split_here);
            return;
        }
        if (error == EMSGSIZE)
            return queue_->split_first(); // the way there takes smaller packets only
    }
    request_flush(); // where errors are delivered
    // What ICMP told of an earlier datagram fails the next send, which is not its fault.
    if (has(errors_queued) && error != EMSGSIZE && take_queued_errors() > 0)
        return; // there may be more of them than are taken at once
    if (error == ECONNREFUSED && has(internet) && !has(retried)) {
        note_error(error, peer_);
        set(retried);
        return;
    }
    clear(retried);
    const Address& target = queue_->first_target();
    note_error(error, target.empty() ? peer_ : target, true);
    queue_->pop(1, gso);
    if (queue_->empty()) drop_queue();
    // A datagram that is too long is told of twice: by the call, and in the queue.
    if (error == EMSGSIZE && has(errors_queued)) (void)take_queued_errors(EMSGSIZE);
}

/// The socket's buffer is full: what is left waits until it has room.
void DatagramEndpoint::block() {
    sending_ = Sending::blocked;
    update_interest();
}

/// It has room again, or something else happened that a send will tell.
void DatagramEndpoint::unblock() {
    sending_ = Sending::ready;
    if (queue_) flush_queue();
    if (!blocked()) update_interest();
    check_low_water();
    settle();
}

void DatagramEndpoint::drop_queue() noexcept {
    if (queue_) room_->give_back(std::move(queue_));
}

void DatagramEndpoint::request_flush() {
    if (has(flush_queued)) return;
    set(flush_queued);
    core_.flush_later(*this);
}

void DatagramEndpoint::set_write_buffer_limits(std::size_t high, std::optional<std::size_t> low) {
    const std::size_t lower = low.value_or(high / 4);
    if (lower > high)
        throw UsageError("set_write_buffer_limits: low (" + std::to_string(lower) +
                         ") is above high (" + std::to_string(high) + ")");
    limits_ = {high, lower};
    if (blocked() || waiting_) check_high_water();
    check_low_water();
}

// What is gathered and about to leave does not count as buffered: only a full socket pauses.
void DatagramEndpoint::check_high_water() {
    if (has(writing_paused) || write_buffer_size() <= limits_.high) return;
    set(writing_paused);
    try {
        protocol_->pause_writing();
    } catch (...) {
        core_.report_exception(describe("pause_writing"));
    }
}

void DatagramEndpoint::check_low_water() {
    if (!has(writing_paused) || is_over() || write_buffer_size() > limits_.low) return;
    clear(writing_paused);
    guarded(
        "resume_writing", [&] { protocol_->resume_writing(); }, false);
}

} // namespace weft::detail
