#include "suspend.hpp"

#include <weft/coro/core/coroutine.hpp>
#include <weft/coro/core/scheduler.hpp>
#include <weft/coro/tasks/task.hpp>

#include <utility>

namespace weft::coro::detail {

constinit thread_local Coroutine* current = nullptr;

// All that a switch touches.
static_assert(sizeof(Switched) + offsetof(Context, entry) == 64);

void throw_not_running(const char* what) {
    throw UsageError(std::string(what) +
                     ": called outside of a coroutine; start one with coro::run or coro::spawn");
}

void Wait::wake() noexcept {
    coroutine.wait = nullptr;
    coroutine.woken_by = Wake::event;
    coroutine.scheduler.make_ready(coroutine);
}

void Wait::wake_now() {
    wake_here();
}

void Coroutine::end_wait(Wake reason) noexcept {
    if (wait == nullptr || wait->uncancellable) return;
    if (reason == Wake::cancelled) {
        // One whose body has ended has nothing left that could be cancelled.
        if (TaskBase* other = wait->cancel_instead(); other != nullptr && other->cancellable()) {
            if (other == &task) return; // it hears of that when it runs
            task.must_cancel = false;   // it is delivered there
            // One that is cancelled together with this one needs no second request. A scope that
            // it is inside of is another matter: that does not end it.
            if (!other->coroutine->cancelled_as_whole()) other->cancel();
            return;
        }
    }
    Wait& ended = *std::exchange(wait, nullptr);
    ended.abandon();
    woken_by = reason;
    scheduler.make_ready(*this);
}

void Coroutine::update_cancellation() noexcept {
    const bool cancelled = scope->effectively_cancelled() || scheduler.ending();
    cancel_pending = cancelled || no_wait != nullptr;
    if (cancelled) end_wait(Wake::cancelled);
}

bool Coroutine::cancelled_as_whole() const noexcept {
    const CancelScope* whole = own_scope;
    if (whole == nullptr)
        for (whole = scope; whole->owner_ == this;)
            whole = whole->parent_;
    return whole->effective_;
}

void Coroutine::refuse_wait(std::exception_ptr error) noexcept {
    Wait& ended = *std::exchange(wait, nullptr);
    ended.abandon();
    task.error = std::move(error);
    woken_by = Wake::refused;
    scheduler.make_ready(*this);
}

// Looked at where a cancellation is, so that waiting costs no more.
NoWaiting::NoWaiting(const char* what) noexcept : self_(current) {
    if (self_ == nullptr) return;
    before_ = std::exchange(self_->no_wait, what);
    self_->cancel_pending = true;
}

NoWaiting::~NoWaiting() {
    if (self_ == nullptr) return;
    self_->no_wait = before_;
    self_->update_cancellation();
}

} // namespace weft::coro::detail
