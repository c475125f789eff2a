#include "suspend.hpp"

#include <weft/coro/core/scheduler.hpp>
#include <weft/coro/tasks/sleep.hpp>
#include <weft/coro/tasks/task.hpp>
#include <weft/reactor/log.hpp>

#include <cstdlib>
#include <string>
#include <utility>

namespace weft::coro::detail {

namespace {

class WaitTimer final : public TimerNode {
public:
    WaitTimer(Coroutine& coroutine, TimePoint deadline) : coroutine_(coroutine) {
        coroutine.scheduler.core().arm(*this, deadline);
    }
    ~WaitTimer() { coroutine_.scheduler.core().timers().cancel(*this); }
    void on_timer() override { coroutine_.end_wait(Wake::timed_out); }

private:
    Coroutine& coroutine_;
};

} // namespace

// Returns by a jump, as `yield` does, and needs no registers saved of its own.
Coroutine* Scheduler::park(Wait& wait) {
    Coroutine& self = begin_wait(wait);
    if (core_.cork().is_open() || debug_) [[unlikely]]
        return park_slowly(self);
    return jump_to(next_context(self), self);
}

[[gnu::noinline]] Coroutine* Scheduler::park_slowly(Coroutine& self) {
    switch_away(self);
    return &self;
}

Wake Scheduler::suspend_until(Wait& wait, TimePoint deadline) {
    const WaitTimer timer(wait.coroutine, deadline);
    return suspend(wait);
}

void Scheduler::refuse_to_wait(Wait& wait) {
    Coroutine& self = wait.coroutine;
    wait.abandon();
    if (self.no_wait != nullptr) refuse_in_hook(self, wait.describe());
    if (self.cancel_pending && !unwinding()) throw_cancelled(self);
    throw UsageError("the coroutine " + describe(self) + " would have to wait for " +
                     wait.describe() + " in a destructor that runs because of an exception");
}

void Scheduler::refuse_in_hook(const Coroutine& self, const std::string& wait) {
    throw UsageError("the coroutine " + describe(self) + " would have to wait for " + wait +
                     " in " + self.no_wait + ", which must not wait");
}

// A function of its own, so that the one below needs no registers saved.
[[gnu::noinline]] Coroutine* Scheduler::yield_slowly(Coroutine& self) {
    core_.cork().flush();
    // What is queued in the loop has its turn, too, and first if it is that which runs this.
    if (!in_run_ || core_.work_queued()) jumps_left_ = 0;
    make_ready(self);
    switch_away(self);
    return &self;
}

[[gnu::always_inline]] inline Coroutine* Scheduler::yield_unchecked(Coroutine& self) {
    Coroutine* const next = ready_;
    if (next == nullptr || jumps_left_ <= 0 || core_.work_queued() || core_.cork().is_open() ||
        self.consumer != nullptr) [[unlikely]]
        return yield_slowly(self);
    --jumps_left_;
    self.next_ready = nullptr;
    ready_last_->next_ready = &self;
    ready_last_ = &self;
    ready_ = next->next_ready;
    count_switch(*next); // whose time is not taken: in debug mode there are no jumps left
    return jump_to(*next, self);
}

Coroutine* yield_now() {
    Coroutine* const self = current;
    if (self == nullptr || self->cancel_pending || unwinding()) [[unlikely]]
        return nullptr;
    return self->scheduler.yield_unchecked(*self);
}

void yield_refused() {
    Coroutine& self = running("yield");
    if (!unwinding()) self.scheduler.check_cancelled(self);
    throw UsageError("the coroutine " + Scheduler::describe(self) +
                     " would have to yield in a destructor that runs because of an exception");
}

void Scheduler::yield() {
    coro::yield();
}

void Scheduler::checkpoint_slowly(Coroutine& self) {
    // A destructor's: it has its result, and must not be thrown at.
    if (unwinding() || self.no_wait != nullptr) return;
    check_cancelled(self);
    stand_aside(self);
    if (self.cancel_pending) [[unlikely]]
        throw_cancelled(self);
}

// A coroutine that has not had to wait for long may be what keeps the loop from its events, or
// moves a flood: others are resumed by events, and it must not come in between each two of them as
// one that they have woken does.
void Scheduler::stand_aside(Coroutine& self) {
    jumps_left_ = 0;
    self.next_ready = nullptr;
    (aside_ != nullptr ? aside_last_->next_ready : aside_) = &self;
    aside_last_ = &self;
    if (!in_run_) core_.run_front_end(*this);
    switch_away(self);
}

void Scheduler::checkpoint_in_memory_slowly(Coroutine& self) {
    if (ready_ != nullptr || core_.work_queued() || self.cancel_pending || unwinding())
        return checkpoint_slowly(self);
    self.immediate = immediate_limit - 1;
}

void Scheduler::throw_cancelled(Coroutine& self) {
    if (self.woken_by == Wake::refused && self.task.error) [[unlikely]]
        std::rethrow_exception(std::exchange(self.task.error, nullptr));
    if (self.no_wait != nullptr) refuse_in_hook(self, "others");
    const bool by_scope = self.scope->effectively_cancelled() || ending_;
    if (by_scope && self.in_cancellation && !std::current_exception()) note_swallowed(self);
    self.in_cancellation = by_scope;
    self.cancel_pending = by_scope;
    if (self.task.must_cancel) {
        // Delivered, unless a shield keeps it off and this is about another scope.
        const CancelScope* scope = self.scope;
        while (scope != self.own_scope && !scope->shield())
            scope = scope->parent();
        if (scope == self.own_scope) self.task.must_cancel = false;
    }
    throw Cancelled();
}

// The cancellation of a scope was caught inside, and not thrown on.
void Scheduler::note_swallowed(Coroutine& self) {
    if (++self.swallowed == 1)
        core_.report(
            {"the coroutine " + describe(self) +
                 " has caught a weft::Cancelled and goes on; a catch (...) must throw it on",
             nullptr, self.task.spawned});
    if (self.swallowed < swallowed_alone) return;
    if ((ending_ || root_scope_.cancel_called()) && self.swallowed >= swallowed_limit) {
        log(LogLevel::error, "the coroutine " + describe(self) + " has caught " +
                                 std::to_string(self.swallowed) +
                                 " cancellations of one scope, and can not be ended");
        std::abort();
    }
    if (self.swallowed == UINT16_MAX) --self.swallowed;
    // It throws without waiting: the others, signals included, would never have their turn.
    if (self.consumer == nullptr) {
        jumps_left_ = 0;
        make_ready(self);
        switch_away(self);
    }
}

} // namespace weft::coro::detail
