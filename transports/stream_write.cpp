// The writing half of the stream transport.

#include "stream_transport.hpp"

#include <climits>

namespace weft::detail {
namespace {

// Pieces per sendmsg(2): enough to empty 4 MiB of queue in one call, few enough for the stack.
constexpr std::size_t pieces_per_send = 64;

iovec piece_of(Bytes bytes) noexcept {
    return {const_cast<std::byte*>(bytes.data()), bytes.size()};
}

constexpr std::size_t capped(std::size_t bytes) noexcept {
    return bytes < UINT32_MAX ? bytes : UINT32_MAX;
}

/// Empties the cork buffer; the bytes stay where they are until the next write.
Bytes take_gathered(Loop::Cork& gathered) noexcept {
    return {gathered.data.get(), std::exchange(gathered.size, 0)};
}

} // namespace

/// Sends what a callback wrote.
void StreamTransport::send_gathered() {
    send_now(take_gathered(loop_.cork()));
}

[[gnu::noinline]] bool StreamTransport::gather_newly() {
    if (has(closing | write_broken)) return false;
    loop_.uncork();
    if (has(closing | write_broken)) return false;
    cork();
    return true;
}

void StreamTransport::write(Bytes data) {
    // In a callback of its own, with nothing waiting and room in the cork buffer: the common case.
    if (!loop_.cork().add(this, data)) [[unlikely]]
        write_otherwise(data);
}

[[gnu::noinline]] void StreamTransport::write_otherwise(Bytes data) {
    if (data.empty() || has(closing | write_broken)) return;
    if (kind_ == StreamKind::pipe_reader)
        throw UsageError("write: this end of the pipe is for reading");
    if (has(eof_wanted)) throw UsageError(describe("write: write_eof was called"));
    if (queue_) {
        queue_->append(data);
        return check_high_water();
    }
    if (!in_callback() || loop_.cork().size == 0) return send_now(data);
    const iovec pieces[] = {piece_of(take_gathered(loop_.cork())), piece_of(data)};
    if (send_pieces(pieces, 2)) check_high_water();
}

void StreamTransport::write_all(std::span<const Bytes> pieces) {
    std::size_t total = 0;
    for (const Bytes piece : pieces)
        total += piece.size();
    Loop::Cork& gathered = loop_.cork();
    const bool corked = in_callback() && !queue_;
    if (total == 0 || has(closing | eof_wanted | write_broken) ||
        (corked && total <= std::min(gathered.room, Loop::Cork::largest_piece))) {
        for (const Bytes piece : pieces)
            write(piece); // gathers it, drops it, or says why not
        return;
    }
    iovec vector[pieces_per_send];
    std::size_t count = 0;
    if (corked && gathered.size != 0) vector[count++] = piece_of(take_gathered(gathered));
    for (const Bytes piece : pieces) {
        if (piece.empty()) continue;
        if (count == pieces_per_send) {
            if (!send_pieces(vector, count)) return;
            count = 0;
        }
        vector[count++] = piece_of(piece);
    }
    if (send_pieces(vector, count)) check_high_water();
}

/// Sends what no queue and no cork stands before.
void StreamTransport::send_now(Bytes data) {
    if (!has(writable)) return queue_unsent(data, 0);
    const Sys sent = channel_.send(fd_, data.data(), data.size());
    if (sent.value() == static_cast<std::int64_t>(data.size())) [[likely]]
        return note_activity();
    queue_unsent(data, sent);
}

/// The kernel took only `sent` bytes, or none.
[[gnu::noinline]] void StreamTransport::queue_unsent(Bytes data, Sys sent) {
    if (!sent.ok() && !sent.would_block()) return send_failed(sent.error());
    const std::size_t taken = sent.ok() ? sent.count() : 0;
    if (taken != 0) note_activity();
    flags_ &= ~writable;
    queue_ = std::make_unique<WriteQueue>();
    queue_->append(data.subspan(taken));
    note_room();
    check_high_water();
}

/// Sends pieces as far as the kernel takes them and queues the rest, behind what is queued already;
/// false if sending failed. The high-water mark is left to the caller.
bool StreamTransport::send_pieces(const iovec* pieces, std::size_t count) {
    std::size_t sent = 0;
    if (!queue_ && has(writable)) {
        const Sys done = channel_.sendv(fd_, pieces, count);
        if (!done.ok() && !done.would_block()) {
            send_failed(done.error());
            return false;
        }
        sent = done.ok() ? done.count() : 0;
        if (sent != 0) note_activity();
    }
    for (std::size_t i = 0; i < count; ++i) {
        const Bytes piece(static_cast<const std::byte*>(pieces[i].iov_base), pieces[i].iov_len);
        const Bytes rest = piece.subspan(std::min(sent, piece.size()));
        sent -= piece.size() - rest.size();
        if (rest.empty()) continue;
        flags_ &= ~writable;
        if (!queue_) queue_ = std::make_unique<WriteQueue>();
        queue_->append(rest);
    }
    note_room();
    return true;
}

void StreamTransport::flush_queue() {
    // A file can be long and its peer fast: the others have their turn in between.
    int file_parts = loop_.options().reads_per_turn;
    while (queue_ && has(writable) && !has(finishing)) {
        if (FilePart* file = queue_->file(); file == nullptr) {
            flush_bytes();
        } else if (file_parts-- != 0) {
            flush_file(*file);
        } else {
            queue_again();
            break;
        }
        if (queue_ && queue_->empty()) queue_.reset();
    }
    if (!queue_) drained();
    check_low_water();
}

void StreamTransport::flush_bytes() {
    iovec pieces[pieces_per_send];
    const std::size_t count = queue_->gather(pieces, pieces_per_send);
    std::size_t offered = 0;
    for (std::size_t i = 0; i < count; ++i)
        offered += pieces[i].iov_len;
    const Sys done = channel_.sendv(fd_, pieces, count);
    if (!done.ok()) {
        flags_ &= ~writable;
        if (!done.would_block()) send_failed(done.error());
        return;
    }
    note_activity();
    if (done.count() < offered) flags_ &= ~writable;
    queue_->consume(done.count());
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

/// Sending is over for good. What the peer sent before it went away is delivered first, then the
/// error.
void StreamTransport::send_failed(int error) {
    report_if_odd(error, "sending");
    const auto code = errno_code(error);
    drop_queue(code);
    extras().write_error = code;
    // The kernel may have no news of this: only EAGAIN or the end of the stream ends the reading.
    flags_ |= write_broken | hangup;
    flags_ &= ~writable;
    note_room();
    fail_drain_waiters(code);
    if (!can_read()) return finish(code);
    queue_again();
}

void StreamTransport::write_eof() {
    if (has(closing | eof_wanted)) return;
    flags_ |= eof_wanted;
    note_room();
    if (!queue_ && !in_callback()) drained();
}

std::size_t StreamTransport::write_buffer_size() const noexcept {
    const Loop::Cork& gathered = loop_.cork();
    return (queue_ ? queue_->size() : 0) + (in_callback() ? gathered.size : 0);
}

void StreamTransport::set_write_buffer_limits(std::size_t high, std::optional<std::size_t> low) {
    const std::size_t lower = low.value_or(high / 4);
    if (lower > high)
        throw UsageError("set_write_buffer_limits: low (" + std::to_string(lower) +
                         ") is above high (" + std::to_string(high) + ")");
    high_ = static_cast<std::uint32_t>(capped(high));
    low_ = static_cast<std::uint32_t>(capped(lower));
    check_high_water();
    check_low_water();
}

void StreamTransport::check_high_water() {
    if (!queue_ || queue_->size() <= high_ || has(writing_paused | unannounced)) return;
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
        for (auto& waiter : waiters)
            waiter.set_value_if_pending();
    }
    if (has(finishing)) return;
    // Called by the loop, what it writes gathers. Inside a callback (of this connection, or of
    // another that moved our water marks) writes go their usual way.
    Loop::Cork& gathered = loop_.cork();
    const bool gather = gathered.owner == nullptr;
    if (gather) gathered.owner = this;
    std::exception_ptr fatal;
    try {
        protocol_->resume_writing();
    } catch (...) {
        fatal = reported("resume_writing");
    }
    if (gather) {
        gathered.owner = nullptr;
        if (gathered.size != 0) send_gathered();
        if (has(closing | eof_wanted) && !queue_) drained();
    }
    if (fatal) std::rethrow_exception(fatal);
}

Future<void> StreamTransport::drain() {
    Promise<void> promise(loop_);
    Future<void> future = promise.future();
    if (has(write_broken)) {
        promise.set_error({extras().write_error, describe("drain")});
    } else if (has(finishing)) {
        promise.set_error({end_reason(), describe("drain")});
    } else if (!has(writing_paused)) {
        promise.set_value();
    } else {
        auto& waiters = extras().drain_waiters;
        std::erase_if(waiters, [](const Promise<void>& waiter) { return !waiter.pending(); });
        waiters.push_back(std::move(promise));
    }
    return future;
}

void StreamTransport::fail_drain_waiters(std::error_code why) {
    if (!extras_ || extras_->drain_waiters.empty()) return;
    const Error error{why, describe("drain")};
    auto waiters = std::move(extras_->drain_waiters);
    extras_->drain_waiters.clear();
    for (auto& waiter : waiters)
        waiter.set_error_if_pending(error);
}

} // namespace weft::detail
