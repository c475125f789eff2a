// The writing half of the stream transport.

#include "stream_transport.hpp"

#include <climits>

namespace weft::detail {
namespace {

// Pieces per sendmsg(2): enough to empty 4 MiB of queue in one call, few enough for the stack.
constexpr std::size_t pieces_per_send = 64;

constexpr std::size_t capped(std::size_t bytes) noexcept { return bytes < UINT32_MAX ? bytes : UINT32_MAX; }

} // namespace

/// From here on the connection's small writes gather in the loop's cork buffer.
void StreamTransport::cork() noexcept {
    flags_ |= in_callback;
    Loop::Cork& gathered = loop_.cork();
    if (gathered.owner == nullptr) gathered.owner = this;
}

/// The callback has returned: what it wrote leaves, and what it asked for that had to wait for that happens.
void StreamTransport::uncork() {
    flags_ &= ~in_callback;
    Loop::Cork& gathered = loop_.cork();
    if (gathered.owner != this) return;
    gathered.owner = nullptr;
    if (gathered.size != 0) {
        const Bytes data(gathered.data, gathered.size);
        gathered.size = 0;
        send_now({}, data);
    }
    if (has(closing | eof_wanted) && !queue_) drained();
}

void StreamTransport::write(Bytes data) {
    if (has(closing | eof_wanted | write_broken)) [[unlikely]] {
        if (has(eof_wanted) && !has(closing) && !data.empty())
            throw UsageError(describe("write: write_eof was called"));
        return;
    }
    if (data.empty()) return;
    if (queue_) return enqueue(data);
    Loop::Cork& gathered = loop_.cork();
    if (gathered.owner != this) return send_now({}, data);
    if (data.size() <= Loop::Cork::capacity - gathered.size) [[likely]] {
        std::memcpy(gathered.data + gathered.size, data.data(), data.size());
        gathered.size += data.size();
        return;
    }
    const Bytes head(gathered.data, gathered.size);
    gathered.size = 0;
    send_now(head, data);
}

void StreamTransport::write_all(std::span<const Bytes> pieces) {
    Loop::Cork& gathered = loop_.cork();
    std::size_t total = 0;
    for (const Bytes piece : pieces) total += piece.size();
    const bool simple = has(closing | eof_wanted | write_broken) || queue_ || total == 0 ||
                        (gathered.owner == this && total <= Loop::Cork::capacity - gathered.size);
    if (simple || pieces.size() >= pieces_per_send) {
        for (const Bytes piece : pieces) write(piece);
        return;
    }
    iovec vector[pieces_per_send];
    std::size_t count = 0;
    const bool corked = gathered.owner == this && gathered.size != 0;
    if (corked) vector[count++] = {gathered.data, gathered.size};
    for (const Bytes piece : pieces)
        if (!piece.empty()) vector[count++] = {const_cast<std::byte*>(piece.data()), piece.size()};
    std::size_t sent = 0;
    if (has(writable)) {
        const Sys done = channel_.sendv(fd_, vector, count);
        if (!done.ok() && !done.would_block()) {
            if (corked) gathered.size = 0;
            return send_failed(done.error());
        }
        sent = done.ok() ? done.count() : 0;
        if (sent != 0) note_activity();
    }
    const std::size_t all = total + (corked ? gathered.size : 0);
    if (sent < all) flags_ &= ~writable;
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t skipped = std::min(sent, vector[i].iov_len);
        sent -= skipped;
        const Bytes rest(static_cast<const std::byte*>(vector[i].iov_base) + skipped, vector[i].iov_len - skipped);
        if (rest.empty()) continue;
        if (!queue_) queue_ = std::make_unique<WriteQueue>();
        queue_->append(rest);
    }
    if (corked) gathered.size = 0;
    check_high_water();
}

/// Sends `head`, then `data`, as far as the kernel takes them; queues the rest.
void StreamTransport::send_now(Bytes head, Bytes data) {
    std::size_t sent = 0;
    if (has(writable)) {
        Sys done = 0;
        if (head.empty()) {
            done = channel_.send(fd_, data.data(), data.size());
        } else {
            const iovec pieces[] = {{const_cast<std::byte*>(head.data()), head.size()},
                                    {const_cast<std::byte*>(data.data()), data.size()}};
            done = channel_.sendv(fd_, pieces, 2);
        }
        if (!done.ok() && !done.would_block()) return send_failed(done.error());
        sent = done.ok() ? done.count() : 0;
        if (sent != 0) note_activity();
        if (sent == head.size() + data.size()) return;
        flags_ &= ~writable;
    }
    queue_ = std::make_unique<WriteQueue>();
    if (sent < head.size()) queue_->append(head.subspan(sent));
    queue_->append(data.subspan(sent > head.size() ? sent - head.size() : 0));
    check_high_water();
}

void StreamTransport::enqueue(Bytes data) {
    queue_->append(data);
    check_high_water();
}

void StreamTransport::flush_queue() {
    while (queue_ && has(writable)) {
        iovec pieces[pieces_per_send];
        const std::size_t count = queue_->gather(pieces, pieces_per_send);
        std::size_t offered = 0;
        for (std::size_t i = 0; i < count; ++i) offered += pieces[i].iov_len;
        const Sys done = channel_.sendv(fd_, pieces, count);
        if (!done.ok()) {
            flags_ &= ~writable;
            if (!done.would_block()) send_failed(done.error());
            return;
        }
        note_activity();
        if (done.count() < offered) flags_ &= ~writable;
        queue_->consume(done.count());
        if (queue_->size() == 0) queue_.reset();
    }
    check_low_water();
    if (!queue_) drained();
}

/// Everything written has left: what waited for that goes on.
void StreamTransport::drained() {
    if (has(finishing)) return;
    if (has(eof_wanted) && !has(eof_sent)) {
        flags_ |= eof_sent;
        (void)channel_.shutdown_write(fd_);
        if (has(eof_seen)) flags_ |= closing; // both directions are done
    }
    if (has(closing) && !has(lingering)) finish_or_linger();
}

/// Sending is over for good. What the peer sent before it went away is delivered first, then the error.
void StreamTransport::send_failed(int error) {
    queue_.reset();
    report_if_odd(error, "sending");
    const auto code = errno_code(error);
    extras().write_error = code;
    flags_ |= write_broken;
    flags_ &= ~writable;
    if (!can_read()) return finish(code);
    if (!has(in_callback)) queue_again();
}

void StreamTransport::write_eof() {
    if (has(closing | eof_wanted)) return;
    flags_ |= eof_wanted;
    if (!queue_ && loop_.cork().owner != this) drained();
}

std::size_t StreamTransport::write_buffer_size() const noexcept {
    const Loop::Cork& gathered = loop_.cork();
    return (queue_ ? queue_->size() : 0) + (gathered.owner == this ? gathered.size : 0);
}

void StreamTransport::set_write_buffer_limits(std::size_t high, std::optional<std::size_t> low) {
    const std::size_t lower = low.value_or(high / 4);
    if (lower > high)
        throw UsageError("set_write_buffer_limits: low (" + std::to_string(lower) + ") is above high (" +
                         std::to_string(high) + ")");
    high_ = static_cast<std::uint32_t>(capped(high));
    low_ = static_cast<std::uint32_t>(capped(lower));
    check_high_water();
    check_low_water();
}

void StreamTransport::check_high_water() {
    if (!queue_ || queue_->size() <= high_ || has(writing_paused)) return;
    flags_ |= writing_paused;
    try {
        protocol_->pause_writing();
    } catch (...) {
        loop_.report_exception(describe("pause_writing"));
    }
}

void StreamTransport::check_low_water() {
    if (!has(writing_paused) || (queue_ && queue_->size() > low_)) return;
    flags_ &= ~writing_paused;
    if (extras_) {
        auto waiters = std::move(extras_->drain_waiters);
        extras_->drain_waiters.clear();
        for (auto& waiter : waiters) waiter.set_value_if_pending();
    }
    if (has(finishing)) return;
    cork();
    try {
        protocol_->resume_writing();
    } catch (...) {
        loop_.report_exception(describe("resume_writing"));
    }
    uncork();
}

Future<void> StreamTransport::drain() {
    Promise<void> promise(loop_);
    Future<void> future = promise.future();
    if (has(write_broken)) {
        promise.set_error({extras().write_error, describe("drain")});
    } else if (has(finishing)) {
        promise.set_error({reason() ? reason() : make_error_code(Errc::closed), describe("drain")});
    } else if (!has(writing_paused)) {
        promise.set_value();
    } else {
        extras().drain_waiters.push_back(std::move(promise));
    }
    return future;
}

} // namespace weft::detail
