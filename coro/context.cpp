// Some facts about switching stacks. Boost.Context's fcontext functions save the callee-saved
// registers and the floating-point control words, and nothing else: errno, the C++ runtime's
// exception state and what sanitizers know of the stack are ours to look after. `jump_fcontext`
// hands its second argument to the other side together with the place to jump back to, which only
// that side can store. Debian builds the library without sanitizer support, so its C++ classes are
// of no use here, and its functions are all that is needed.

#include "context_switch.hpp"

#include <boost/context/detail/fcontext.hpp>
#include <cerrno>
#include <cstdlib>
#include <cxxabi.h>

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

inline boost_context::transfer_t jump(const Jump& jump) noexcept {
#ifdef WEFT_ASAN
    __sanitizer_start_switch_fiber(jump.last ? nullptr : &jump.from.fake_stack,
                                   jump.to.stack_bottom, jump.to.stack_size);
#endif
#ifdef WEFT_TSAN
    jump.from.tsan_fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(jump.to.tsan_fiber, 0);
#endif
    return boost_context::jump_fcontext(jump.to.resume_at, const_cast<Jump*>(&jump));
}

#endif

[[noreturn]] void begin(boost_context::transfer_t transfer) {
#ifdef WEFT_BY_LIBRARY
    Context& self = static_cast<const Jump*>(transfer.data)->to;
    arrived(transfer);
#else
    Context& self = *static_cast<Context*>(transfer.data);
#endif
    self.started = true;
    *thread_places.exceptions = {nullptr, 0};
    self.entry(self);
    std::abort();
}

} // namespace

constinit thread_local ThreadPlaces thread_places;
void* const start_context = reinterpret_cast<void*>(&boost_context::jump_fcontext);

void find_thread_places() noexcept {
    thread_places = {reinterpret_cast<ExceptionGlobals*>(abi::__cxa_get_globals()), &errno};
}

void make_context(Context& context, void* top, std::size_t size, void (*entry)(Context&)) noexcept {
    context.entry = entry;
    context.started = false;
    context.stack_bottom = static_cast<std::byte*>(top) - size;
    context.stack_size = size;
    context.resume_at = boost_context::make_fcontext(top, size, &begin);
#ifdef WEFT_ASAN
    // The last frames that were left here for good are still marked.
    __asan_unpoison_memory_region(context.stack_bottom, size);
#endif
#ifdef WEFT_TSAN
    context.tsan_fiber = __tsan_create_fiber(0);
#endif
}

#ifdef WEFT_BY_LIBRARY
void switch_by_library(Context& from, Context& to) noexcept {
    arrived(jump({from, to, false}));
}
#endif

void leave_context(Context& from, Context& to) noexcept {
#ifdef WEFT_BY_LIBRARY
    jump({from, to, true});
#else
    switch_stacks(from, to);
#endif
    std::abort();
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
