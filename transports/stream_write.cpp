// The writing half of the stream transport.

#include "stream_transport.hpp"

#include <climits>

namespace weft::detail {
namespace {

// Pieces per sendmsg(2): enough to empty 4 MiB of queue in one call, few enough for the stack.
constexpr std::size_t pieces_per_send = 64;

constexpr std::size_t capped(std::size_t bytes) noexcept { return bytes < UINT32_MAX ? bytes : UINT32_MAX; }

} // namespace

/// Sends what a callback wrote.
void StreamTransport::send_gathered() {
    Loop::Cork& gathered = loop_.cork();
    const Bytes data(gathered.data.get(), gathered.size);
    gathered.size = 0;
    if (has(writable)) [[likely]] {
        const Sys sent = channel_.send(fd_, data.data(), data.size());
        if (sent.value() == static_cast<std::int64_t>(data.size())) [[likely]] return note_activity();
        return queue_unsent({}, data, sent);
    }
    queue_unsent({}, data, 0);
}

void StreamTransport::write(Bytes data) {
    Loop::Cork& gathered = loop_.cork();
    // In a callback of its own, with nothing waiting and room in the cork buffer: the common case. An empty write wraps
    // around and takes the other way.
    if (gathered.owner == this && !queue_ && !has(closing | eof_wanted | write_broken) &&
        data.size() - 1 < Loop::Cork::capacity - gathered.size) [[likely]] {
        std::memcpy(gathered.data.get() + gathered.size, data.data(), data.size());
        gathered.size += data.size();
        return;
    }
    write_otherwise(data);
}

[[gnu::noinline]] void StreamTransport::write_otherwise(Bytes data) {
    if (data.empty() || has(closing | write_broken)) return;
    if (kind_ == StreamKind::pipe_reader) throw UsageError("write: this end of the pipe is for reading");
    if (has(eof_wanted)) throw UsageError(describe("write: write_eof was called"));
    if (queue_) return enqueue(data);
    if (!in_callback()) return send_now({}, data);
    Loop::Cork& gathered = loop_.cork();
    const Bytes head(gathered.data.get(), gathered.size);
    gathered.size = 0;
    send_now(head, data);
}

void StreamTransport::write_all(std::span<const Bytes> pieces) {
    Loop::Cork& gathered = loop_.cork();
    std::size_t total = 0;
    for (const Bytes piece : pieces) total += piece.size();
    const bool simple = has(closing | eof_wanted | write_broken) || queue_ || total == 0 ||
                        (in_callback() && total <= Loop::Cork::capacity - gathered.size);
    if (simple || pieces.size() >= pieces_per_send) {
        for (const Bytes piece : pieces) write(piece);
        return;
    }
    iovec vector[pieces_per_send];
    std::size_t count = 0;
    const bool corked = in_callback() && gathered.size != 0;
    if (corked) vector[count++] = {gathered.data.get(), gathered.size};
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
    if (!has(writable)) return queue_unsent(head, data, 0);
    Sys sent = 0;
    if (head.empty()) {
        sent = channel_.send(fd_, data.data(), data.size());
    } else {
        const iovec pieces[] = {{const_cast<std::byte*>(head.data()), head.size()},
                                {const_cast<std::byte*>(data.data()), data.size()}};
        sent = channel_.sendv(fd_, pieces, 2);
    }
    if (sent.value() == static_cast<std::int64_t>(head.size() + data.size())) return note_activity();
    queue_unsent(head, data, sent);
}

/// The kernel took only `sent` bytes, or none.
[[gnu::noinline]] void StreamTransport::queue_unsent(Bytes head, Bytes data, Sys sent) {
    if (!sent.ok() && !sent.would_block()) return send_failed(sent.error());
    const std::size_t taken = sent.ok() ? sent.count() : 0;
    if (taken != 0) note_activity();
    flags_ &= ~writable;
    if (!queue_) queue_ = std::make_unique<WriteQueue>();
    if (taken < head.size()) queue_->append(head.subspan(taken));
    queue_->append(data.subspan(taken > head.size() ? taken - head.size() : 0));
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
    if (!in_callback()) queue_again();
}

void StreamTransport::write_eof() {
    if (has(closing | eof_wanted)) return;
    flags_ |= eof_wanted;
    if (!queue_ && !in_callback()) drained();
}

std::size_t StreamTransport::write_buffer_size() const noexcept {
    const Loop::Cork& gathered = loop_.cork();
    return (queue_ ? queue_->size() : 0) + (in_callback() ? gathered.size : 0);
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
    // Inside somebody's callback (of this connection, or of another that changed our limits) writes go their usual way;
    // called by the loop, they gather.
    Loop::Cork& gathered = loop_.cork();
    const bool mine = gathered.owner == nullptr;
    if (mine) gathered.owner = this;
    const auto uncorked = [&] {
        if (!mine) return;
        gathered.owner = nullptr;
        if (gathered.size != 0) send_gathered();
    };
    try {
        protocol_->resume_writing();
        uncorked();
    } catch (...) {
        uncorked();
        loop_.report_exception(describe("resume_writing"));
    }
    if (mine && has(closing | eof_wanted) && !queue_) drained();
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
