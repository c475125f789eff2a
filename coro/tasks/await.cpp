#include <weft/coro/tasks/await.hpp>

namespace weft::coro::detail {

FutureWait::FutureWait(Coroutine& self, weft::detail::FutureStateBase& future, bool cancels)
    : Wait(self), future_(future), cancels_(cancels) {
    future.add_waiter(told_);
}

void FutureWait::abandon() noexcept {
    told_.unlink();
    if (!cancels_) return;
    const NoWaiting hook("a hook given to Promise::on_cancel");
    try {
        future_.cancel();
    } catch (...) { // its hook is somebody's
        coroutine.scheduler.report_exception("cancelling what the coroutine " +
                                             Scheduler::describe(coroutine) + " waits for");
    }
}

void wait_for_future(weft::detail::FutureStateBase* future, bool cancels, TimePoint deadline) {
    Coroutine& self = running("await");
    if (future == nullptr) weft::detail::throw_no_state("await");
    Scheduler& scheduler = self.scheduler;
    if (!future->done() && future->loop() != &scheduler.loop())
        throw UsageError(
            "await: the future belongs to another loop; use post() or to_std() to get there");
    if (future->done()) return scheduler.checkpoint(self);
    const weft::detail::StateRef keep(future); // its last owner may go meanwhile
    FutureWait wait(self, *future, cancels);
    if (scheduler.suspend(wait, deadline) == Wake::timed_out)
        throw TimeoutError("await: the time is up");
}

void wait_to_the_end(weft::detail::FutureStateBase& future) {
    Coroutine& self = running("run_in_executor_to_end");
    if (future.done()) return; // refused
    const weft::detail::StateRef keep(&future);
    FutureWait wait(self, future, false);
    wait.uncancellable = true;
    self.scheduler.suspend(wait);
}

} // namespace weft::coro::detail
