#pragma once

#include <chrono>

namespace weft::test {

/// Ends the process when this thread does not come to an end in time, after saying where it is. One
/// for the whole process, for the thread that arms it. A timer of the system's and no thread, so
/// that what counts threads or forks notices nothing; a forked child has none.
///
/// When the time is over, a signal runs `tell(fd)` on the thread, which may do what signal handlers
/// may not (if that hangs or crashes the process ends all the same), then prints the thread's
/// stack, and ends with `stuck_status`.
class Watchdog {
public:
    using Tell = void (*)(int fd);
    using Moved = bool (*)();
    /// Starts over if it is armed. `limit` is for a plain build: sanitizers and Valgrind get more,
    /// and the environment's WEFT_CASE_DEADLINE (seconds, or "0" for none) goes before it. If
    /// `moved` says, when the time is over, that something went on in it, there is as much again.
    static void arm(std::chrono::seconds limit, Tell tell, Moved moved = nullptr) noexcept;
    static void disarm() noexcept;
    /// What `limit` is here, with all that is said above; 0 if there is none.
    static std::chrono::seconds scaled(std::chrono::seconds limit) noexcept;
};

inline constexpr int stuck_status = 86;

/// Prints the calling thread's stack to `fd`, with names and lines where addr2line(1) finds them.
void print_stack(int fd) noexcept;

} // namespace weft::test
