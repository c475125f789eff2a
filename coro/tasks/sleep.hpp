#pragma once

#include <weft/coro/core/coroutine.hpp>
#include <weft/reactor/loop.hpp>

#pragma GCC visibility push(default)

namespace weft::coro {

namespace detail {

/// The coroutine that runs, when it runs again after the others; null if it cannot yield.
Coroutine* yield_now();
/// Throws what speaks against yielding.
void yield_refused();

} // namespace detail

/// Lets every coroutine that is ready, and what is queued in the loop, run once. Throws
/// `Cancelled`.
inline void yield() {
    const detail::Coroutine* self = detail::yield_now();
    if (self == nullptr || self->cancel_pending) [[unlikely]]
        detail::yield_refused();
}
/// Suspends for `time`, never less; 0 or less is `yield`. Cancelling removes its timer.
void sleep(Duration time);
void sleep_until(TimePoint when);
/// Suspends until it is cancelled; by SIGINT, too, where `run` handles it, which then does not take
/// it for a deadlock that nothing else can end it.
[[noreturn]] void sleep_forever();
/// Throws `Cancelled` if the coroutine is cancelled, else does nothing: for long computations.
void check_cancelled();

/// The loop that the calling coroutine, or else callback, runs in. `UsageError` if there is none.
Loop& this_loop();

} // namespace weft::coro

#pragma GCC visibility pop
