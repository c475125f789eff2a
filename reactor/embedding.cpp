#include "loop_entered.hpp"

#include <weft/reactor/loop_core.hpp>

#include <string>

// A loop inside a foreign main loop, which calls `step` and is told when to.

namespace weft::detail {

Result<int> LoopCore::pollable_fd() {
    check_usable("pollable_fd");
    const Sys fd = kernel_->pollable_fd();
    if (!fd.ok())
        return Error{fd.code(),
                     "a pollable descriptor for the " + std::string(kernel_->name()) + " kernel"};
    host_.embedded = true;
    // What is there already counts as news.
    if (!running_) hand_to_host();
    return fd.fd();
}

TimePoint LoopCore::next_deadline() noexcept {
    if (running_) return TimePoint::max();
    if (ready_now() || leftovers() || stopping_ || !mailbox_->empty()) return TimePoint::min();
    return timers_.next_deadline();
}

StepResult LoopCore::step(Loop::Budget budget) {
    StepResult result;
    {
        const Entered entered(*this, "step", true);
        host_.embedded = true; // at its end `entered` tells the host what is left
        limited_ = true;
        allowance_.left = 0;
        allowance_.in_reserve = budget.count;
        if (budget.time != Duration::max()) allowance_.until = deadline_in(budget.time);
        // A turn that only goes on with what an earlier step left does not look at the kernel,
        // which would go on calling the host for a wake-up that is already answered.
        const std::uint64_t looked = turns_;
        do {
            (void)make_turn(TimePoint::min());
        } while (allowance_.in_reserve != 0 && !stopping_ &&
                 (ready_now() || leftovers() || turns_ == looked));
        result.ran = allowance_.spent;
        result.stopped = stopping_;
    }
    result.more_ready = host_.announced == TimePoint::min();
    result.alive = could_call_back();
    result.next_deadline = timers_.next_deadline();
    return result;
}

// From here on the host sleeps. A message that came in meanwhile, or work that is left, keeps the
// descriptor readable; a deadline makes it so when it passes.
void LoopCore::hand_to_host() noexcept {
    bool more = ready_now() || leftovers();
    if (!mailbox_->prepare_to_sleep()) more = true;
    if (more) kernel_->wake();
    const TimePoint next = timers_.next_deadline();
    if (host_.armed <= now_)
        host_.armed = TimePoint::max(); // it went off, and does not do so again
    if (next != host_.armed) arm_kernel(next);
    host_.announced = more ? TimePoint::min() : next;
    kernel_->announce(true);
}

// Without a timer of the kernel's the host has to come by and look.
void LoopCore::arm_kernel(TimePoint next) noexcept {
    host_.armed = kernel_->arm(next).ok() ? next : TimePoint::max();
    if (host_.armed != next && kernel_->announces()) kernel_->wake();
}

// Work was queued or a deadline was set by the host, not by a callback.
void LoopCore::outside_change() {
    if (!host_.embedded || running_ || state_ != State::open) return;
    const TimePoint next = next_deadline();
    if (next >= host_.announced) return;
    host_.announced = next;
    if (next == TimePoint::min()) {
        kernel_->wake();
    } else {
        arm_kernel(next);
    }
    if (!host_.wake_hook || host_.in_hook) return;
    // On the stack while it runs: it may replace itself.
    auto hook = std::move(host_.wake_hook);
    const auto changes = host_.hook_changes;
    host_.in_hook = true;
    struct Back {
        LoopCore& loop;
        Function<void()>& hook;
        std::uint64_t changes;
        ~Back() {
            loop.host_.in_hook = false;
            if (loop.host_.hook_changes == changes) loop.host_.wake_hook = std::move(hook);
        }
    } back{*this, hook, changes};
    call_guarded(hook, "the on_wake hook", {});
}

void LoopCore::on_wake(Function<void()> hook) {
    ++host_.hook_changes;
    host_.wake_hook = std::move(hook);
    if (!host_.wake_hook) return;
    host_.embedded = true;
    if (!running_) hand_to_host();
}

} // namespace weft::detail
