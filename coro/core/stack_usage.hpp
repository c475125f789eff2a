#pragma once

#include <weft/reactor/loop.hpp>

#include <cstddef>
#include <source_location>
#include <string>
#include <vector>

#pragma GCC visibility push(default)

namespace weft::coro {

/// How much of their stacks the coroutines of one place have used.
struct StackUsage {
    std::source_location spawned; ///< where `spawn` was called
    std::size_t count = 0;        ///< coroutines that were measured and have ended
    std::size_t size = 0;         ///< bytes that a stack had, the largest
    std::size_t used = 0;         ///< the deepest that any of them came
    std::size_t suggested = 0;    ///< what `SpawnOptions::stack_size` might be: twice as much
};

/// From now on, or no longer, measures the stacks of coroutines that are spawned in `loop`. Each is
/// written over first, which touches all of its pages and takes microseconds: for tests and for a
/// look, not for service. Does not suspend. For the loop's thread.
void measure_stacks(Loop& loop, bool on = true);

/// What was measured in `loop`, one entry for each place that spawns, those that use most first.
/// Does not suspend. For the loop's thread.
std::vector<StackUsage> stack_usage(Loop& loop);

/// The same as a table, a line for each place.
std::string describe(const std::vector<StackUsage>& usage);

} // namespace weft::coro

#pragma GCC visibility pop
