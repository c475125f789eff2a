// The writing half of the stream transport.

#include "stream_transport.hpp"

#include <algorithm>
#include <cerrno>

namespace weft::detail {
namespace {

// Pieces per sendmsg(2): enough to empty 4 MiB of queue in one call, few enough for the stack.
constexpr std::size_t pieces_per_send = 64;
static_assert(pieces_per_send > Cork::most_pieces);

iovec piece_of(Bytes bytes) noexcept {
    return {const_cast<std::byte*>(bytes.data()), bytes.size()};
}

} // namespace

[[gnu::noinline]] bool StreamTransport::gather_newly() {
    if (has(closing) || broken()) return false;
    core_.cork().flush();
    if (has(closing) || broken()) return false;
    cork();
    return true;
}

void StreamTransport::write(Bytes data) {
    // In a callback of its own, with nothing waiting and room in the cork: the common case.
    if (!core_.cork().add_small(this, data)) [[unlikely]]
        write_otherwise(data);
}

void StreamTransport::write(Buffer&& data) {
    if (core_.cork().add_small(this, data)) {
        data.clear();
        return;
    }
    Buffer owned = std::move(data); // also what is dropped is no longer the caller's
    if (owned.empty() || !takes_writes("write")) return;
    if (!core_.cork().refer(this, owned)) write_on(owned, &owned);
}

/// Whether what is written now would leave. Throws where writing is a mistake.
bool StreamTransport::takes_writes(const char* what) {
    if (has(closing) || broken()) return false;
    if (!traits().writes)
        throw UsageError(std::string(what) + ": this end of the pipe is for reading");
    if (has(sends_no_more)) throw UsageError(describe(what) + ": write_eof was called");
    return true;
}

[[gnu::noinline]] void StreamTransport::write_otherwise(Bytes data) {
    if (data.empty() || !takes_writes("write")) return;
    Cork& gathered = core_.cork();
    // What was received stays where it is until the callback that it was handed to has returned.
    Buffer received = core_.receive_buffer().holds(data) ? Buffer::unowned(data) : Buffer();
    if (received.empty() ? gathered.add(this, data) : gathered.refer(this, received)) return;
    write_on(data, nullptr);
}

/// Sends what has gathered and `data` behind it, or queues it behind what waits.
void StreamTransport::write_on(Bytes data, Buffer* owner) {
    if (has(queued)) {
        queue_rest(data, owner);
        return check_high_water();
    }
    if (!in_callback() || core_.cork().empty()) return send_now(data, owner);
    const bool sent = send_pieces([&](auto&& each) {
        core_.cork().for_each(each);
        each(data, owner);
    });
    core_.cork().clear();
    note_room();
    if (sent) check_high_water();
}

void StreamTransport::write_all(std::span<const Bytes> pieces) {
    std::size_t total = 0;
    for (const Bytes piece : pieces)
        total += piece.size();
    if (!core_.cork().add_small(this, pieces, total)) [[unlikely]]
        write_all_otherwise(pieces, total);
}

[[gnu::noinline]] void StreamTransport::write_all_otherwise(std::span<const Bytes> pieces,
                                                            std::size_t total) {
    if (total == 0 || !takes_writes("write_all")) return;
    Cork& gathered = core_.cork();
    const bool corked = in_callback() && !has(queued);
    if (corked && total <= Cork::largest_piece) {
        for (const Bytes piece : pieces)
            if (!piece.empty()) write(piece);
        return;
    }
    // With what has gathered in front of the first of them.
    bool sent = true;
    for (bool first = corked && !gathered.empty(); sent && !pieces.empty(); first = false) {
        const std::size_t at_once = pieces_per_send - (first ? Cork::most_pieces : 0);
        std::size_t some = 0;
        for (std::size_t full = 0; some < pieces.size() && full < at_once; ++some)
            full += !pieces[some].empty();
        sent = send_pieces([&](auto&& each) {
            if (first) gathered.for_each(each);
            for (const Bytes piece : pieces.first(some))
                if (!piece.empty()) each(piece, nullptr);
        });
        if (first) gathered.clear();
        pieces = pieces.subspan(some);
    }
    note_room();
    if (sent) check_high_water();
}

/// Sends what a callback wrote.
void StreamTransport::send_gathered() {
    Cork& gathered = core_.cork();
    if (!gathered.plain()) [[unlikely]]
        return send_gathered_pieces();
    const Bytes data = gathered.take_copies();
    if (has(writable)) [[likely]] {
        const Sys sent = channel().send(fd_, data.data(), data.size());
        if (sent.value() == static_cast<std::int64_t>(data.size())) [[likely]]
            return note_activity();
        return queue_unsent(data, nullptr, sent);
    }
    queue_unsent(data, nullptr, Sys::fail(EAGAIN));
}

[[gnu::noinline]] void StreamTransport::send_gathered_pieces() {
    Cork& gathered = core_.cork();
    if (Buffer* const piece = gathered.single()) {
        send_now(*piece, piece);
        return gathered.clear();
    }
    const bool sent = send_pieces([&](auto&& each) { gathered.for_each(each); });
    gathered.clear();
    if (sent) check_high_water();
}

/// Sends what no queue and no cork stands before.
void StreamTransport::send_now(Bytes data, Buffer* owner) {
    if (!has(writable)) return queue_unsent(data, owner, Sys::fail(EAGAIN));
    const Sys sent = channel().send(fd_, data.data(), data.size());
    if (sent.value() == static_cast<std::int64_t>(data.size())) [[likely]]
        return note_activity();
    queue_unsent(data, owner, sent);
}

/// The kernel took only a part of it, or nothing.
[[gnu::noinline]] void StreamTransport::queue_unsent(Bytes data, Buffer* owner, Sys sent) {
    if (!sent.ok() && !sent.would_block()) return send_failed(sent.error());
    const std::size_t taken = sent.ok() ? sent.count() : 0;
    note_sent(taken, data.size());
    queue_rest(data.subspan(taken), owner);
    note_room();
    check_high_water();
}

/// To the end of the queue, without a copy if `owner` shows the end of the same bytes or the loop
/// received them.
void StreamTransport::queue_rest(Bytes rest, Buffer* owner) {
    if (rest.empty()) return;
    if (!has(queued)) begin_queue();
    const bool received =
        core_.receive_buffer().holds(rest); // which lasts only as long as the callback
    if (owner != nullptr && (owner->owned() ? rest.size() <= Cork::copied : received))
        owner = nullptr;
    if (owner != nullptr) {
        Buffer kept = std::move(*owner);
        kept.remove_prefix(kept.size() - rest.size());
        extras_->queue->append(std::move(kept));
    } else if (received && rest.size() >= core_.receive_buffer().size() / 8) {
        extras_->queue->append(core_.receive_buffer().keep(rest));
    } else {
        extras_->queue->append(rest, core_.blocks());
    }
}

/// Sends the pieces for which `pieces(each)` calls `each(bytes, owner)`, as far as the kernel takes
/// them, and queues the rest, behind what is queued already. False if sending failed. The
/// high-water mark is left to the caller.
template<class Pieces>
bool StreamTransport::send_pieces(Pieces&& pieces) {
    std::size_t sent = 0;
    if (!has(queued) && has(writable)) {
        iovec vector[pieces_per_send];
        std::size_t count = 0;
        std::size_t offered = 0;
        pieces([&](Bytes piece, Buffer*) {
            vector[count++] = piece_of(piece);
            offered += piece.size();
        });
        if (count == 0) return true;
        const Sys done = count == 1 ? channel().send(fd_, vector[0].iov_base, vector[0].iov_len)
                                    : channel().sendv(fd_, vector, count);
        if (!done.ok() && !done.would_block()) {
            send_failed(done.error());
            return false;
        }
        sent = done.ok() ? done.count() : 0;
        note_sent(sent, offered);
        if (sent == offered) return true;
    }
    pieces([&](Bytes piece, Buffer* owner) {
        const std::size_t here = std::min(sent, piece.size());
        sent -= here;
        queue_rest(piece.subspan(here), owner);
    });
    note_room();
    return true;
}

void StreamTransport::flush_queue() {
    // What waits can be much, a file be long and its peer fast: the others have their turn in
    // between.
    Share share(core_);
    while (has(queued) && has(writable) && !finishing()) {
        FilePart* file = extras_->queue->file();
        const std::size_t sent = file == nullptr ? flush_bytes() : flush_file(*file);
        if (has(queued) && extras_->queue->empty()) (void)take_queue();
        if (has(queued) && has(writable) && !share.spend(sent)) {
            queue_again();
            break;
        }
    }
    if (!has(queued)) drained();
    check_low_water();
}

/// How many bytes were sent.
std::size_t StreamTransport::flush_bytes() {
    iovec pieces[pieces_per_send];
    const std::size_t count =
        extras_->queue->gather(pieces, pieces_per_send, core_.options().bytes_per_turn);
    std::size_t offered = 0;
    for (std::size_t i = 0; i < count; ++i)
        offered += pieces[i].iov_len;
    const Sys done = channel().sendv(fd_, pieces, count);
    if (!done.ok()) {
        flags_ &= ~writable;
        if (!done.would_block()) send_failed(done.error());
        return 0;
    }
    note_sent(done.count(), offered);
    extras_->queue->consume(done.count());
    return done.count();
}

void StreamTransport::own_queued() {
    if (!has(queued)) return;
    try {
        extras_->queue->own();
    } catch (const std::bad_alloc&) { // a part of a message is worse than none
        abort(std::make_error_code(std::errc::not_enough_memory));
    }
}

/// Everything written has left: what waited for that goes on.
void StreamTransport::drained() {
    if (finishing()) return;
    if (sending() == Sending::ending) {
        enter(Sending::ended);
        (void)channel().shutdown_write(fd_);
        // both directions are done
        if (has(eof_seen) && !has(ended_above) && life() == Life::open) enter(Life::closing);
    }
    if (life() == Life::closing) finish_or_linger();
}

/// Sending is over for good. What the peer sent before it went away is delivered first, then the
/// error.
void StreamTransport::send_failed(int error) {
    report_if_odd(error, "sending");
    const auto code = errno_code(error);
    drop_queue(code);
    extras().write_error = code;
    // The kernel may have no news of this: only EAGAIN or the end of the stream ends the reading.
    enter(Sending::broken);
    flags_ |= hangup;
    flags_ &= ~writable;
    if (in_callback()) core_.cork().clear();
    note_room();
    fail_drain_waiters(code);
    if (!can_read() && !has(held)) return finish(code);
    queue_again();
    // Whoever writes as long as nobody stops it is stopped, for good.
    if (pressure() == Pressure::none) enter(Pressure::high);
    if (pressure() == Pressure::high && !has(unannounced)) tell_pause();
}

void StreamTransport::write_eof() {
    if (has(closing | sends_no_more)) return;
    enter(Sending::ending);
    note_room();
    if (!has(queued) && !in_callback()) drained();
}

std::size_t StreamTransport::write_buffer_size() const noexcept {
    return (has(queued) ? extras_->queue->size() : 0) + (in_callback() ? core_.cork().size() : 0);
}

void StreamTransport::set_write_buffer_limits(std::size_t high, std::optional<std::size_t> low) {
    const std::size_t lower = low.value_or(high / 4);
    if (lower > high)
        throw UsageError("set_write_buffer_limits: low (" + std::to_string(lower) +
                         ") is above high (" + std::to_string(high) + ")");
    extras().limits = {high, lower};
    check_high_water();
    check_low_water();
}

void StreamTransport::check_high_water() {
    if (!has(queued) || has(unannounced) || pressure() == Pressure::told) return;
    if (extras_->queue->size() > write_buffer_limits().high) enter(Pressure::high);
    if (pressure() == Pressure::high) tell_pause();
}

void StreamTransport::tell_pause() {
    enter(Pressure::told);
    try {
        protocol_->pause_writing();
    } catch (...) {
        core_.report_exception(describe("pause_writing"));
    }
}

void StreamTransport::check_low_water() {
    // What was dropped has not left: those who wait for room hear the reason from whoever dropped
    // it.
    if (!has(under_pressure) || broken() || finishing() ||
        (has(queued) && extras_->queue->size() > write_buffer_limits().low))
        return;
    const bool told = pressure() == Pressure::told;
    enter(Pressure::none);
    if (extras_) {
        auto waiters = std::move(extras_->drain_waiters);
        extras_->drain_waiters.clear();
        for (auto& waiter : waiters)
            waiter.set_value_if_pending();
    }
    if (told) tell_resume();
}

/// What the callback writes gathers, as in any other, also where it comes inside the callback of
/// another connection, which has moved our water marks: what that one has gathered leaves first.
void StreamTransport::tell_resume() {
    Cork& gathered = core_.cork();
    Source* const outer = gathered.owner();
    const bool gathers = outer != this;
    if (gathers) {
        core_.cork().flush();
        cork();
    }
    std::exception_ptr fatal;
    try {
        protocol_->resume_writing();
    } catch (...) {
        fatal = reported("resume_writing");
    }
    if (gathers) {
        if (in_callback()) on_uncork();
        if (outer != nullptr) outer->on_recork();
    }
    if (fatal) std::rethrow_exception(fatal);
}

void StreamTransport::on_recork() {
    if (!finishing()) cork();
}

Future<void> StreamTransport::drain() {
    Promise<void> promise(core_.loop());
    Future<void> future = promise.future();
    if (broken()) {
        promise.set_error({extras().write_error, describe("drain")});
    } else if (finishing()) {
        promise.set_error({end_reason(), describe("drain")});
    } else if (!has(under_pressure)) {
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
