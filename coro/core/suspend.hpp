#pragma once

#include "context_switch.hpp"

#include <weft/coro/core/scheduler.hpp>

#include <utility>

// The one place where coroutines suspend, to be inlined where it is hot: each return between a
// switch and the code that goes on is one that the processor predicts from another coroutine's
// calls.

namespace weft::coro::detail {

[[gnu::always_inline]] inline Coroutine* Scheduler::next_ready() noexcept {
    if (jumps_left_ == 0 || ready_ == nullptr) return nullptr;
    jumps_left_ += jumps_left_ < 0 ? 1 : -1;
    return std::exchange(ready_, ready_->next_ready);
}

[[gnu::always_inline]] inline void Scheduler::count_switch(Coroutine& to) noexcept {
    to.immediate = 0;
    ++switches_;
    current = &to;
}

[[gnu::always_inline]] inline void Scheduler::begin_running(Coroutine& self) noexcept {
    count_switch(self);
    if (debug_) [[unlikely]]
        running_since_ = core_.kernel().now();
}

// Whose turn it is when `self` does not run any more: its consumer's, if it is a generator's body,
// or that of the next in the queue, or the loop's.
[[gnu::always_inline]] inline Context& Scheduler::next_context(Coroutine& self) {
    Coroutine* next = nullptr;
    if (self.consumer != nullptr) [[unlikely]]
        next = std::exchange(self.consumer, nullptr);
    else
        next = next_ready();
    if (next == nullptr) {
        current = nullptr;
        return main_;
    }
    begin_running(*next);
    return *next;
}

// Another shall run. Returns when this one does again.
[[gnu::always_inline]] inline void Scheduler::switch_away(Coroutine& self) {
    if (self.consumer == nullptr) [[likely]] { // whose turn would go on, and its batch
        core_.cork().flush();
        if (debug_) [[unlikely]]
            check_duration(self);
    }
    Context& next = next_context(self);
    if (&next != &self) switch_context(self, next);
}

// A switch as the last thing that a function does, which returns `self` when that runs again.
[[gnu::always_inline]] inline Coroutine* jump_to(Context& next, Coroutine& self) noexcept {
    swap_thread_state(self, next);
    return static_cast<Coroutine*>(weft_coro_switch_and_return(&self, &next, &self));
}

[[gnu::always_inline]] inline void Scheduler::enter(Coroutine& coroutine) {
    if (thread_places.exceptions == nullptr) [[unlikely]]
        find_thread_places();
    begin_running(coroutine);
    switch_context(main_, coroutine);
    if (fatal_) [[unlikely]]
        rethrow_fatal();
}

[[gnu::always_inline]] inline void Wait::wake_here() {
    if (current != nullptr) [[unlikely]]
        return wake();
    coroutine.wait = nullptr;
    coroutine.woken_by = Wake::event;
    coroutine.scheduler.resume(coroutine);
}

[[gnu::always_inline]] inline void Scheduler::resume(Coroutine& coroutine) {
    jumps_left_ = core_.limited() ? 0 : -jumps_;
    enter(coroutine);
}

[[gnu::always_inline]] inline Coroutine& Scheduler::begin_wait(Wait& wait) {
    Coroutine& self = wait.coroutine;
    if ((self.cancel_pending || unwinding()) && !wait.uncancellable) [[unlikely]]
        refuse_to_wait(wait);
    self.wait = &wait;
    return self;
}

[[gnu::always_inline]] inline Wake Scheduler::suspend_here(Wait& wait) {
    Coroutine& self = begin_wait(wait);
    switch_away(self);
    if (self.woken_by >= Wake::cancelled) [[unlikely]]
        throw_cancelled(self);
    return self.woken_by;
}

} // namespace weft::coro::detail
