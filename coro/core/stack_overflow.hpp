#pragma once

#pragma GCC visibility push(default)

namespace weft::coro {

/// While one exists, a coroutine of this thread that overflows its stack is named on standard
/// error, with the place where it was spawned, the size of its stack and a backtrace; then the
/// process dies of the signal, as it would have done without a word. `run` makes one unless
/// `RunOptions::report_overflow` is false; code that runs a loop by hand makes one on its thread.
///
/// Handles SIGSEGV and SIGBUS of the whole process from the first such object to the last, and
/// hands whatever is no overflow to the handlers that were there before. Gives the thread a stack
/// for signal handlers unless it has one that is large enough. Where stacks have no guard pages
/// nothing faults, and an overflow is noticed when the coroutine ends.
///
/// Making one throws `std::system_error` if there is no memory for that stack. Neither call
/// suspends. To be destroyed on the thread that made it.
class OverflowReport {
public:
    OverflowReport();
    ~OverflowReport();
    OverflowReport(const OverflowReport&) = delete;
    OverflowReport& operator=(const OverflowReport&) = delete;
};

} // namespace weft::coro

#pragma GCC visibility pop
