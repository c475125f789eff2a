#pragma once

#include <cstddef>

#pragma GCC visibility push(default)

namespace weft::coro::detail {

/// A stack that does not run at the moment: where it goes on, and what belongs to the flow of
/// control on it. The loop's own stack has one as well. context.cpp and context_switch.hpp alone
/// know how a switch is made.
struct Context {
    void* resume_at = nullptr;
    /// The exceptions that are caught and in flight on this stack. The C++ runtime keeps them per
    /// thread
    /// (`__cxa_get_globals`); two coroutines suspended inside `catch` blocks would rethrow each
    /// other's.
    void* caught_exceptions = nullptr;
    unsigned uncaught_exceptions = 0;
    int error_number = 0;              ///< errno
    void (*entry)(Context&) = nullptr; ///< what runs on it
    // For sanitizers: the stack's lower end and size, what AddressSanitizer keeps of it,
    // ThreadSanitizer's name for it.
    const void* stack_bottom = nullptr;
    std::size_t stack_size = 0;
    void* fake_stack = nullptr;
    void* tsan_fiber = nullptr;
};

/// Prepares `context` so that the first switch to it calls `entry(context)` on the stack that ends
/// at `top`, of which `size` bytes are usable. `entry` must not return and must not let an
/// exception out.
void make_context(Context& context, void* top, std::size_t size, void (*entry)(Context&)) noexcept;

/// Takes AddressSanitizer's marks off a stack: of frames that were left for good.
void forget_frames(const void* bottom, std::size_t size) noexcept;

/// Makes a stack known to Valgrind, and forgets it again. Costs nothing outside of it.
unsigned register_stack(void* bottom, void* top) noexcept;
void unregister_stack(unsigned id) noexcept;

} // namespace weft::coro::detail

#pragma GCC visibility pop
