// Some facts about switching stacks. Boost.Context's fcontext functions save the callee-saved
// registers and the floating-point control words, and nothing else: errno, the C++ runtime's
// exception state and what sanitizers know of the stack are ours to look after. `jump_fcontext`
// hands its second argument to the other side together with the place to jump back to, which only
// that side can store. Debian builds the library without sanitizer support, so its C++ classes are
// of no use here, and its functions are all that is needed; where nobody has to be told and the
// processor is known not even those.

#include "context_switch.hpp"

#include <boost/context/detail/fcontext.hpp>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cxxabi.h>
#include <new>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define WEFT_HAS_VALGRIND
#endif

#if defined(__SANITIZE_ADDRESS__)
#define WEFT_ASAN
#elif defined(__SANITIZE_THREAD__)
#define WEFT_TSAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WEFT_ASAN
#elif __has_feature(thread_sanitizer)
#define WEFT_TSAN
#endif
#endif
#ifdef WEFT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef WEFT_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace weft::coro::detail {
namespace {

namespace boost_context = boost::context::detail;

#ifdef WEFT_BY_LIBRARY
/// What the side that was jumped to has to finish for the one that jumped. Lies on the latter's
/// stack.
struct Jump {
    Context& from;
    Context& to;
    bool last; ///< `from` has ended
};

/// The first thing on either side after a jump.
inline void arrived(const boost_context::transfer_t& transfer) noexcept {
    [[maybe_unused]] const Jump& jump = *static_cast<const Jump*>(transfer.data);
    jump.from.resume_at = transfer.fctx;
#ifdef WEFT_ASAN
    // Where the loop's own stack lies is learnt here.
    __sanitizer_finish_switch_fiber(jump.to.fake_stack, &jump.from.stack_bottom,
                                    &jump.from.stack_size);
#endif
#ifdef WEFT_TSAN
    if (jump.last) __tsan_destroy_fiber(jump.from.tsan_fiber);
#endif
}

/// Not instrumented: AddressSanitizer may keep a function's variables on a stack of its own, which
/// ends with the call that announces the last switch.
[[gnu::noinline, gnu::no_sanitize_address]] boost_context::transfer_t
jump(Context& from, Context& to, bool last) noexcept {
    Jump jump{from, to, last};
#ifdef WEFT_ASAN
    __sanitizer_start_switch_fiber(last ? nullptr : &from.fake_stack, to.stack_bottom,
                                   to.stack_size);
#endif
#ifdef WEFT_TSAN
    from.tsan_fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(to.tsan_fiber, 0);
#endif
    return boost_context::jump_fcontext(to.resume_at, &jump);
}

#endif

#ifdef WEFT_BY_LIBRARY
[[noreturn]] void begin(boost_context::transfer_t transfer) {
    Context& self = static_cast<const Jump*>(transfer.data)->to;
    arrived(transfer);
    self.entry(self);
    std::abort();
}
#else
[[noreturn]] void begin(Context* self) {
    self->entry(*self);
    std::abort();
}

/// How a stack is filled before the first switch to it, which goes to `place`.
struct Beginning {
    void (*place)();
    void (*begin)(Context*);
    Context* self;
    void* end_of_frames[2]; // the stack is aligned when `begin` is called
};

[[gnu::naked]] void enter_stack() {
    asm(".cfi_undefined rip\n\t" // for debuggers and backtraces: nobody has called this
        "popq %rax\n\t"
        "popq %rdi\n\t"
        "xorl %ebp, %ebp\n\t"
        "callq *%rax");
}
#endif

} // namespace

constinit thread_local ThreadPlaces thread_places;

void find_thread_places() noexcept {
    thread_places = {reinterpret_cast<ExceptionGlobals*>(abi::__cxa_get_globals()), &errno};
}

void make_context(Context& context, void* top, std::size_t size, void (*entry)(Context&)) noexcept {
    context.entry = entry;
    context.stack_bottom = static_cast<std::byte*>(top) - size;
    context.stack_size = size;
#ifdef WEFT_BY_LIBRARY
    context.resume_at = boost_context::make_fcontext(top, size, &begin);
#else
    context.resume_at =
        ::new (static_cast<Beginning*>(top) - 1) Beginning{&enter_stack, &begin, &context, {}};
#endif
#ifdef WEFT_TSAN
    context.tsan_fiber = __tsan_create_fiber(0);
#endif
}

#ifdef WEFT_BY_LIBRARY
void switch_by_library(Context& from, Context& to) noexcept {
    arrived(jump(from, to, false));
}
void leave_by_library(Context& from, Context& to) noexcept {
    jump(from, to, true);
    std::abort();
}
#endif

#ifdef WEFT_BY_LIBRARY
void* weft_coro_switch_and_return(Context* from, Context* to, void* result) noexcept {
    switch_stacks(*from, *to);
    return result;
}
#else
static_assert(offsetof(Context, resume_at) == 0);

[[gnu::naked]] void* weft_coro_switch_and_return(Context*, Context*, void*) noexcept {
    asm("pushq %rbx\n\t"
        "pushq %rbp\n\t"
        "pushq %r12\n\t"
        "pushq %r13\n\t"
        "pushq %r14\n\t"
        "pushq %r15\n\t"
        "pushq %rdx\n\t"
        "leaq 1f(%rip), %rax\n\t"
        "pushq %rax\n\t"
        "movq %rsp, (%rdi)\n\t"
        "movq (%rsi), %rsp\n\t"
        "popq %rax\n\t"
        "jmpq *%rax\n"
        "1:\tpopq %rax\n\t"
        "popq %r15\n\t"
        "popq %r14\n\t"
        "popq %r13\n\t"
        "popq %r12\n\t"
        "popq %rbp\n\t"
        "popq %rbx\n\t"
        "popq %rcx\n\t"
        "jmpq *%rcx");
}
#endif

void forget_frames([[maybe_unused]] const void* bottom,
                   [[maybe_unused]] std::size_t size) noexcept {
#ifdef WEFT_ASAN
    __asan_unpoison_memory_region(bottom, size);
#endif
}

unsigned register_stack([[maybe_unused]] void* bottom, [[maybe_unused]] void* top) noexcept {
#ifdef WEFT_HAS_VALGRIND
    return VALGRIND_STACK_REGISTER(bottom, top);
#else
    return 0;
#endif
}

void unregister_stack([[maybe_unused]] unsigned id) noexcept {
#ifdef WEFT_HAS_VALGRIND
    VALGRIND_STACK_DEREGISTER(id);
#endif
}

} // namespace weft::coro::detail
