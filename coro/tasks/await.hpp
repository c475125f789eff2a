#pragma once

#include <weft/coro/tasks/sleep.hpp>
#include <weft/coro/tasks/task.hpp>
#include <weft/reactor/future.hpp>

#include <string>
#include <type_traits>
#include <utility>

#pragma GCC visibility push(default)

namespace weft::coro {
namespace detail {

/// Waits for a future. Cancelling the waiter cancels the future, unless it is shielded.
class FutureWait final : public Wait {
public:
    FutureWait(Coroutine& self, weft::detail::FutureStateBase& future, bool cancels);
    ~FutureWait() = default;
    void abandon() noexcept override;
    std::string describe() const override { return "a future"; }

private:
    struct Told final : weft::detail::FutureStateBase::Waiter {
        explicit Told(FutureWait& w) noexcept : wait(w) {}
        void on_done() noexcept override { wait.wake(); }
        FutureWait& wait;
    };
    weft::detail::FutureStateBase& future_;
    Told told_{*this};
    bool cancels_;
};

/// Parks the calling coroutine until `future` is done. `UsageError` outside of a coroutine, for an
/// empty future and for one of another loop.
void wait_for_future(weft::detail::FutureStateBase* future, bool cancels,
                     TimePoint deadline = TimePoint::max());
/// The same for a future whose operation refers to the frame of the caller: nothing ends the wait
/// but its end.
void wait_to_the_end(weft::detail::FutureStateBase& future);

} // namespace detail

/// Waits for the future's outcome and moves it out: its value, or its exception, or `Cancelled` if
/// it was cancelled. Suspends unless it is done. Cancelling the waiter cancels the future, and with
/// it the operation behind it.
template<class T>
T await(Future<T>&& future) {
    Future<T> mine = std::move(future);
    detail::wait_for_future(mine.state_ref().get(), true);
    return mine.take();
}

/// The same, and the value stays in the future, for others that wait for it.
template<class T>
decltype(auto) await(Future<T>& future) {
    detail::wait_for_future(future.state_ref().get(), true);
    return future.result();
}

/// `Task::join`, and `Task::result`.
template<class T>
T await(Task<T>&& task) {
    Task<T> mine = std::move(task);
    return mine.join();
}
template<class T>
decltype(auto) await(Task<T>& task) {
    return task.result();
}

/// Waits for a future that is not to be cancelled with the waiter: others may need it.
template<class T>
decltype(auto) shield(Future<T>& future) {
    detail::wait_for_future(future.state_ref().get(), false);
    return future.result();
}
/// Waits for a task that is not to be cancelled with the waiter. It goes on, also while and after
/// the waiter is cancelled; a child of the waiter's is then joined by it when it ends, whatever
/// becomes of its handle. What it throws when nobody waits any more is reported when its handle
/// goes.
template<class T>
decltype(auto) shield(Task<T>& task) {
    const weft::detail::StateRef<detail::TaskBase> keep(task.state());
    keep->protect();
    keep->join("shield", false);
    return task.result();
}

/// Calls `function()` on a thread of the loop's executor, and waits for what it returns or throws.
/// Cancelling prevents it if it has not begun; afterwards its outcome is dropped and its thread is
/// left to finish. Whatever it refers to must live so long: capture by value what may go away. A
/// `Cancelled` that it throws arrives as that.
template<class F>
auto run_in_executor(F function) -> std::invoke_result_t<F&> {
    detail::check_cancelled("run_in_executor");
    return await(this_loop().run_in_executor(std::move(function)));
}
/// The same for work that cannot be left alone, and that may refer to the caller's frame: a
/// cancellation waits for its end, and so does the closing of the loop.
template<class F>
auto run_in_executor_to_end(F function) -> std::invoke_result_t<F&> {
    detail::check_cancelled("run_in_executor_to_end");
    auto future = this_loop().run_in_executor(std::move(function));
    detail::wait_to_the_end(*future.state_ref());
    return future.take();
}

} // namespace weft::coro

#pragma GCC visibility pop
