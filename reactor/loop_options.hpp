#pragma once

#include <weft/reactor/clock.hpp>
#include <weft/reactor/kernel/kernel.hpp>
#include <weft/reactor/resolver.hpp>

#include <cstddef>
#include <memory>
#include <optional>

#pragma GCC visibility push(default)

namespace weft {

/// How a loop is made. The bounds keep one busy party from starving the others; the constructor
/// throws `UsageError` for one that is 0 or less, and names it.
struct LoopOptions {
    /// The seam to the system; empty: `make_default_kernel()`.
    std::unique_ptr<Kernel> kernel = {};
    /// Who looks names up; empty: `make_kernel_resolver()`.
    std::unique_ptr<Resolver> resolver = {};
    /// Checks that cost something: wrong threads, slow callbacks, unread errors, a poisoned receive
    /// buffer. Empty: on iff the environment has `WEFT_DEBUG` set to anything but "" and "0".
    std::optional<bool> debug = {};
    /// In debug mode, a callback that runs longer is reported with the place that scheduled it. 0:
    /// every one.
    Duration slow_callback = std::chrono::milliseconds(100);
    /// Bytes (1 or more) of the one buffer that `data_received` is served from: small messages use
    /// its beginning over and over, and megabytes come in a quarter of the calls that 64 KiB would
    /// take.
    std::size_t receive_buffer = 256 * 1024;
    /// Reads of one connection, or sends of what has waited, before the others get their turn.
    int reads_per_turn = 16;
    /// Bytes of one connection likewise. After so many a turn costs others as much as a small
    /// request does: 256 KiB take some 100 us.
    std::size_t bytes_per_turn = 256 * 1024;
    /// A connection with more to read or send than fits into one call goes on in the same turn only
    /// until the turn is as old as this (0: not at all); those that have used up their share wait
    /// for a later one.
    Duration bulk_time_per_turn = std::chrono::milliseconds(1);
    /// Connections accepted from one listener before the rest of the loop gets its turn.
    int accepts_per_turn = 64;
    /// Turns of queued callbacks that may pass without looking at the kernel, as long as they take
    /// less than 20 us together, which is looked at in every fourth. 1 looks every turn.
    int turns_per_poll = 64;
    /// Threads of the default executor; they are started when first needed.
    unsigned executor_threads = 0; ///< 0: one per processor, plus 4
};

} // namespace weft

#pragma GCC visibility pop
