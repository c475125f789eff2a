#pragma once

#include <weft/coro/task.hpp>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <system_error>
#include <type_traits>
#include <utility>

namespace weft::coro {
namespace detail {

/// What a `RemoteTask` and its task share. The task belongs to the loop's thread.
class RemoteState {
public:
    explicit RemoteState(std::shared_ptr<weft::detail::Mailbox> mailbox) noexcept
        : loop(std::move(mailbox)) {}
    RemoteState(const RemoteState&) = delete;
    RemoteState& operator=(const RemoteState&) = delete;

    /// Any thread.
    void cancel(const std::shared_ptr<RemoteState>& self) noexcept;
    /// The loop's thread: the task that does the work, null once it has ended.
    void set_task(TaskBase* started) noexcept { task_ = started; }
    /// Throws `UsageError` on the thread whose loop would have to do the work meanwhile.
    void check_may_block(const char* what) const;

    const std::shared_ptr<weft::detail::Mailbox> loop;
    std::atomic<bool> cancelled{false};

protected:
    ~RemoteState() = default;

private:
    TaskBase* task_ = nullptr;
};

template<class T>
class RemoteOutcome final : public RemoteState {
public:
    using RemoteState::RemoteState;
    /// Gives the outcome of `call`. Once.
    template<class Call>
    void settle(Call&& call) noexcept {
        try {
            if constexpr (std::is_void_v<T>) {
                call();
                promise.set_value();
            } else {
                promise.set_value(call());
            }
        } catch (const Cancelled&) {
            settled_ = true;
            promise.set_exception(std::make_exception_ptr(std::system_error(
                std::make_error_code(std::errc::operation_canceled), "the task was cancelled")));
        } catch (...) {
            promise.set_exception(std::current_exception());
        }
        settled_ = true;
    }
    /// Fails unless there is an outcome.
    void fail(std::error_code code, const char* what) {
        if (std::exchange(settled_, true)) return;
        promise.set_exception(std::make_exception_ptr(std::system_error(code, what)));
    }

    std::promise<T> promise;

private:
    bool settled_ = false;
};

/// The duty to bring an outcome; dropped unfulfilled, since the loop is closed, it brings that.
template<class T>
class RemoteDuty {
public:
    explicit RemoteDuty(std::shared_ptr<RemoteOutcome<T>> state) noexcept
        : state_(std::move(state)) {}
    RemoteDuty(RemoteDuty&&) noexcept = default;
    RemoteDuty& operator=(RemoteDuty&&) = delete;
    ~RemoteDuty() {
        if (state_) state_->fail(Errc::aborted, "start: the loop was closed before the task began");
    }
    RemoteOutcome<T>* operator->() const noexcept { return state_.get(); }

private:
    std::shared_ptr<RemoteOutcome<T>> state_;
};

} // namespace detail

/// A task in a loop, for a thread that is not that loop's. Dropping it leaves the task alone.
template<class T>
class RemoteTask {
public:
    RemoteTask() noexcept = default;
    /// Blocks the thread until the task has ended: its value, or what it threw; a cancellation
    /// shows as `std::system_error` with `operation_canceled`, a loop that was closed first
    /// as `Errc::aborted`. Once. `UsageError` on the thread that runs a loop, which
    /// would stop it.
    T get() {
        state_->check_may_block("RemoteTask::get");
        return future_.get();
    }
    /// Blocks for at most `time`: whether the task has ended. It goes on if not.
    template<class Rep, class Period>
    bool wait_for(std::chrono::duration<Rep, Period> time) const {
        state_->check_may_block("RemoteTask::wait_for");
        return future_.wait_for(time) == std::future_status::ready;
    }
    bool valid() const noexcept { return future_.valid(); }
    /// Asks the task to end, as `Task::cancel`; soon, from any thread. One that has not begun never
    /// will. Harmless when it has ended or its loop is closed.
    void cancel() noexcept { state_->cancel(state_); }
    /// The standard future in place of `get`.
    std::future<T> to_std() && { return std::move(future_); }

private:
    friend class RemoteLoop;
    std::shared_ptr<detail::RemoteState> state_;
    std::future<T> future_;
};

/// A loop as other threads may know it: copy it, keep it, use it from any thread, also when the
/// loop is gone.
class RemoteLoop {
public:
    /// On the loop's thread.
    explicit RemoteLoop(Loop& loop) : loop_(loop.remote()) {}

    /// Starts `function()` as a task of the loop itself, soon; from any thread, also the loop's.
    /// Does not suspend or block. When the loop is closed, or closes before the task begins, the
    /// function is destroyed without being called and the outcome is
    /// `Errc::aborted`; one that runs then is cancelled. Nothing that it throws is lost or
    /// reported: it is the outcome.
    template<class F>
    RemoteTask<detail::SpawnResult<F>>
    start(F&& function, SpawnOptions options = {},
          std::source_location where = std::source_location::current()) const {
        using T = detail::SpawnResult<F>;
        auto state = std::make_shared<detail::RemoteOutcome<T>>(loop_);
        RemoteTask<T> remote;
        remote.state_ = state;
        remote.future_ = state->promise.get_future();
        auto begin = [duty = detail::RemoteDuty<T>(std::move(state)),
                      function = std::decay_t<F>(std::forward<F>(function)),
                      name = std::string(options.name), size = options.stack_size,
                      where]() mutable {
            detail::RemoteOutcome<T>& outcome = *duty.operator->();
            if (outcome.cancelled.load())
                return outcome.fail(std::make_error_code(std::errc::operation_canceled),
                                    "the task was cancelled before it began");
            auto task = spawn(
                *outcome.loop->loop(),
                [duty = std::move(duty), function = std::move(function)]() mutable {
                    struct End {
                        detail::RemoteState& state;
                        ~End() { state.set_task(nullptr); }
                    } end{*duty.operator->()};
                    duty->settle(function);
                },
                {.name = name, .stack_size = size}, where);
            outcome.set_task(task.state());
            task.detach();
        };
        // A closed loop has destroyed it, which tells the outcome.
        (void)loop_->post(std::move(begin), where);
        return remote;
    }

private:
    std::shared_ptr<weft::detail::Mailbox> loop_;
};

} // namespace weft::coro
