#pragma once

#include <weft/reactor/clock.hpp>

#pragma GCC visibility push(default)

namespace weft::coro {

/// Suspends until every other coroutine of the loop waits for something that has not happened: none
/// ran, and nothing was queued, delivered by the kernel or due, for a whole look around, and then
/// for `cushion`, counted from the last time that somebody did something, if that is not 0. With 0
/// no virtual time passes. For tests, in place of sleeping until the others have surely got where
/// they are wanted. Those that wait here count as waiting: several are told together, those with
/// the shortest cushion first. Cancelled at every step.
void wait_all_blocked(Duration cushion = Duration::zero());

} // namespace weft::coro

#pragma GCC visibility pop
