// The end of a stream transport: asked for, forced, by time, or the peer's.

#include "../server/server_state.hpp"
#include "stream_callbacks.hpp"
#include "stream_transport.hpp"

#include <algorithm>

namespace weft::detail {
namespace {

// Turns that an idle time-out waits for news that the kernel could not tell yet: enough for half a
// million connections.
constexpr unsigned most_put_off = 1000;

} // namespace

void StreamTransport::close(std::error_code reason) {
    if (has(closing)) return;
    enter(Life::closing);
    if (reason) extras().reason = reason;
    note_room();
    if (!has(queued) && !in_callback()) finish_or_linger();
}

void StreamTransport::close_within(Duration limit) {
    close();
    if (finishing()) return;
    Extras& extra = extras();
    extra.close_limit = std::min(extra.close_limit, core_.deadline_in(limit));
    arm(extra, extra.armed() ? extra.deadline() : TimePoint::max());
}

void StreamTransport::abort(std::error_code reason) {
    if (finishing()) return;
    enter(Life::closing);
    flags_ |= reset;
    drop_queue(reason);
    if (in_callback()) core_.cork().clear();
    finish(reason);
}

void StreamTransport::finish(std::error_code reason) {
    if (finishing()) return;
    enter(Life::finishing);
    note_room();
    if (reason) extras().reason = reason;
    core_.finish_later(*this);
}

void StreamTransport::on_finish() {
    drop_queue(end_reason());
    if (extras_) {
        core_.timers().cancel(*extras_);
        fail_drain_waiters(end_reason());
    }
    std::exception_ptr fatal;
    try {
        if (!has(unannounced)) protocol_->connection_lost(reason());
    } catch (...) {
        fatal = reported("connection_lost");
    }
    protocol_.reset();
    channel().close(fd_, has(reset));
    core_.remove_source(token_);
    if (server_) server_->remove_connection(server_link_);
    delete this;
    if (fatal) std::rethrow_exception(fatal);
}

void StreamTransport::on_loop_closing() {
    abort(Errc::aborted);
}

void StreamTransport::finish_or_linger() {
    const Linger linger = extras_ ? extras_->linger : Linger{};
    if (!traits().resets) return finish({});
    const bool wanted = linger.mode == Linger::Mode::always ||
                        (linger.mode == Linger::Mode::unread && has(readable));
    if (!wanted || has(eof_seen) || broken() || !core_.kernel().owns(fd_)) return finish({});
    if (sending() != Sending::ended) (void)channel().shutdown_write(fd_);
    enter(Life::lingering);
    enter(Sending::ended);
    extras().idle_timeout = Duration(0);
    arm(extras(), core_.deadline_in(linger.timeout));
    // In a turn of its own: the loop's buffer may be in the hands of another connection's callback.
    if (has(readable)) queue_again();
}

void StreamTransport::discard_input() {
    const MutableBytes buffer = core_.receive_buffer().room();
    Extras& extra = extras();
    for (Share share(core_); has(readable);) {
        const Sys got = channel().recv(fd_, buffer.data(), buffer.size());
        if (!got.ok() && got.would_block()) {
            flags_ &= ~readable;
            // What looked like unread input was none.
            if (extra.linger.mode == Linger::Mode::unread && extra.discarded == 0) finish({});
            return;
        }
        // The peer's FIN, its RST, or more than it is worth: what we sent has arrived or never
        // will.
        if (!got.ok() || got.count() == 0) return finish({});
        extra.discarded += got.count();
        if (extra.discarded > extra.linger.bytes) return finish({});
        if (!share.spend(got.count())) return queue_again();
    }
}

// --- Time ---

/// For `when`, or the limit of a close that comes first.
void StreamTransport::arm(Extras& extra, TimePoint when) {
    core_.arm(extra, std::min(when, extra.close_limit));
}

void StreamTransport::on_timer(Extras& extra) {
    if (life() == Life::lingering) return finish({});
    if (finishing()) return;
    const TimePoint now = core_.now();
    if (extra.close_limit <= now) return abort(std::make_error_code(std::errc::timed_out));
    // Activity only stores its time; the timer finds out here whether there was any.
    if (extra.activity.linked()) return arm(extra, add_saturated(now, extra.idle_timeout));
    const TimePoint due = add_saturated(extra.activity.at, extra.idle_timeout);
    if (due > now) return arm(extra, due);
    // With very many events its own may be among those that the next turn is told of.
    if (core_.more_events() && ++extra.put_off < most_put_off) return core_.arm(extra, due);
    extra.put_off = 0;
    // Nobody is left to be asked: the peer does not take what was written before `close`.
    if (has(closing)) return abort(std::make_error_code(std::errc::timed_out));
    core_.note_activity(extra.activity);
    arm(extra, add_saturated(now, extra.idle_timeout));
    if (has(unannounced)) return;
    guarded("idle_timeout", [&] { protocol_->idle_timeout(*this); });
}

void StreamTransport::set_idle_timeout(Duration timeout) {
    if (life() == Life::lingering || finishing() || (!extras_ && timeout <= Duration::zero()))
        return;
    Extras& extra = extras();
    extra.idle_timeout = timeout;
    core_.note_activity(extra.activity);
    if (timeout <= Duration::zero() && extra.close_limit == TimePoint::max()) {
        core_.timers().cancel(extra);
    } else {
        if (timeout <= Duration::zero()) extra.idle_timeout = Duration::max();
        arm(extra, core_.deadline_in(extra.idle_timeout));
    }
}

void StreamTransport::set_linger(Linger linger) {
    extras().linger = linger;
}

} // namespace weft::detail
