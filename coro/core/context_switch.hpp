#pragma once

#include <weft/coro/core/context.hpp>

// The switch itself, for code that makes many: inlined, because every return between here and the
// code that goes on is one that the processor predicts from the calls it has seen, and those were
// another coroutine's.

// Sanitizers are told of each switch, which only the long way does.
#if !defined(__x86_64__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define WEFT_BY_LIBRARY
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define WEFT_BY_LIBRARY
#endif
#endif

namespace weft::coro::detail {

/// What the C++ ABI says that `__cxa_get_globals` points to (Itanium C++ ABI, 2.2.2).
struct ExceptionGlobals {
    void* caught;
    unsigned uncaught;
};

/// Places that are this thread's, and that asking for is a call.
struct ThreadPlaces {
    ExceptionGlobals* exceptions = nullptr;
    int* error_number = nullptr;
};
[[gnu::tls_model("initial-exec")]] extern constinit thread_local ThreadPlaces thread_places;

/// To be called on a thread before its first switch.
void find_thread_places() noexcept;

/// The switch by Boost.Context alone, which sanitizers are told of.
void switch_by_library(Context& from, Context& to) noexcept;
[[noreturn]] void leave_by_library(Context& from, Context& to) noexcept;

[[gnu::always_inline]] inline void switch_stacks(Context& from, Context& to) noexcept {
#ifndef WEFT_BY_LIBRARY
    // fcontext's functions also save the floating-point control words, which costs as much as all
    // the rest, and are entered by a call but left by a jump, so that every return after a switch
    // is predicted wrong. This saves what the compiler is told is not clobbered. 128 bytes below
    // the stack pointer may be in use by the surrounding function (System V ABI, 3.2.2).
    void* place = to.resume_at;
    void* save = &from.resume_at;
    asm volatile("leaq -128(%%rsp), %%rsp\n\t"
                 "pushq %%rbp\n\t"
                 "pushq %%rbx\n\t"
                 "leaq 1f(%%rip), %%rax\n\t"
                 "pushq %%rax\n\t"
                 "movq %%rsp, (%%rdx)\n\t"
                 "movq %%rdi, %%rsp\n\t"
                 "popq %%rax\n\t"
                 "jmpq *%%rax\n"
                 "1:\tpopq %%rbx\n\t"
                 "popq %%rbp\n\t"
                 "leaq 128(%%rsp), %%rsp"
                 : "+D"(place), "+d"(save)
                 :
                 : "rax", "rcx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
                   "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
                   "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
#else
    switch_by_library(from, to);
#endif
}

/// What the thread keeps for the stack that runs becomes `to`'s. No exception may come between this
/// and the switch.
[[gnu::always_inline]] inline void load_thread_state(const Context& to) noexcept {
    const ThreadPlaces places = thread_places;
    *places.exceptions = {to.caught_exceptions, to.uncaught_exceptions};
    *places.error_number = to.error_number;
}

[[gnu::always_inline]] inline void swap_thread_state(Context& from, const Context& to) noexcept {
    const ThreadPlaces places = thread_places;
    from.caught_exceptions = places.exceptions->caught;
    from.uncaught_exceptions = places.exceptions->uncaught;
    from.error_number = *places.error_number;
    load_thread_state(to);
}

[[gnu::always_inline]] inline void switch_context(Context& from, Context& to) noexcept {
    swap_thread_state(from, to);
    switch_stacks(from, to);
}

/// Goes on with `to` for good: `from` is never switched to again.
[[noreturn, gnu::always_inline]] inline void leave_context([[maybe_unused]] Context& from,
                                                           Context& to) noexcept {
    load_thread_state(to);
#ifndef WEFT_BY_LIBRARY
    asm volatile("movq %0, %%rsp\n\t"
                 "popq %%rax\n\t"
                 "jmpq *%%rax"
                 :
                 : "r"(to.resume_at)
                 : "memory");
    __builtin_unreachable();
#else
    leave_by_library(from, to);
#endif
}

/// `switch_stacks` as the last thing a function does: when `from` goes on, that function has
/// returned `result`. It returns by a jump. Processors predict a return from the calls they have
/// seen, which were another coroutine's, but a jump from where it went after the last ones like it.
extern "C" void* weft_coro_switch_and_return(Context* from, Context* to, void* result) noexcept;

/// Whether the stack that runs is being unwound: an exception was thrown and no handler has been
/// entered.
inline bool unwinding() noexcept {
    return thread_places.exceptions->uncaught != 0;
}

} // namespace weft::coro::detail
