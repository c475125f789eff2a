#pragma once

#include <weft/coro/tasks/task.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#pragma GCC visibility push(default)

namespace weft::coro {
namespace detail {

/// What a `RemoteTask` and its task share. All but `loop`, `cancelled` and the first three
/// functions is for the loop's thread.
class RemoteState {
public:
    explicit RemoteState(std::shared_ptr<weft::detail::Mailbox> mailbox) noexcept
        : loop(std::move(mailbox)) {}
    RemoteState(const RemoteState&) = delete;
    RemoteState& operator=(const RemoteState&) = delete;

    /// Any thread.
    static void cancel(const std::shared_ptr<RemoteState>& self) noexcept;
    /// Throws `UsageError` on the thread whose loop would have to do the work meanwhile.
    void check_may_block(const char* what) const;
    /// A job of the loop's is about to wait for the outcome, and does no work of its own until it
    /// is there, or until it calls this with false: a virtual clock need not stand still for it.
    static void note_waiting(const std::shared_ptr<RemoteState>& self, bool waits);

    /// The task that does the work, null once it has ended.
    void set_task(TaskBase* started) noexcept { task_ = weft::detail::StateRef<TaskBase>(started); }
    /// The task was dropped without having begun.
    std::exception_ptr not_begun() const;

    const std::shared_ptr<weft::detail::Mailbox> loop;
    std::atomic<bool> cancelled{false};
    bool spawned = false; ///< the task has the duty to bring the outcome

protected:
    ~RemoteState() = default;
    /// True for the first that asks, which has to bring the outcome then. Jobs that wait for it go
    /// on from here.
    bool settle_now() noexcept;

private:
    void count_waiting(int change) noexcept;

    weft::detail::StateRef<TaskBase> task_;
    int waiting_jobs_ = 0;
    bool settled_ = false;
};

template<class T>
class RemoteOutcome : public RemoteState {
public:
    using RemoteState::RemoteState;
    std::promise<T> promise;

    void fail(std::exception_ptr error) {
        if (settle_now()) promise.set_exception(std::move(error));
    }
};

/// The function with its outcome.
template<class T, class F>
class RemoteWork final : public RemoteOutcome<T> {
public:
    RemoteWork(std::shared_ptr<weft::detail::Mailbox> mailbox, F f)
        : RemoteOutcome<T>(std::move(mailbox)), function_(std::move(f)) {}

    /// Brings the outcome. What the function has captured is gone when it arrives.
    void run() noexcept {
        try {
            if constexpr (std::is_void_v<T>) {
                (*function_)();
                drop();
                if (this->settle_now()) this->promise.set_value();
            } else {
                T value = (*function_)();
                drop();
                if (this->settle_now()) this->promise.set_value(std::move(value));
            }
        } catch (const Cancelled&) {
            drop();
            this->fail(std::make_exception_ptr(std::system_error(
                std::make_error_code(std::errc::operation_canceled), "the task was cancelled")));
        } catch (...) {
            drop();
            this->fail(std::current_exception());
        }
    }
    void drop() noexcept { function_.reset(); }

private:
    std::optional<F> function_;
};

/// The duty to bring an outcome. Dropped unfulfilled it brings the reason for that.
template<class Work>
class RemoteDuty {
public:
    explicit RemoteDuty(std::shared_ptr<Work> work) noexcept : work_(std::move(work)) {}
    RemoteDuty(RemoteDuty&&) noexcept = default;
    RemoteDuty& operator=(RemoteDuty&&) = delete;
    ~RemoteDuty() {
        if (!work_) return;
        work_->drop();
        work_->fail(work_->not_begun());
    }
    Work& operator*() const noexcept { return *work_; }
    const std::shared_ptr<Work>& shared() const noexcept { return work_; }
    void release() noexcept { work_.reset(); }

private:
    std::shared_ptr<Work> work_;
};

/// The body of the task. It has the duty once it is spawned; what becomes of it before that is for
/// the one that spawns.
template<class Work>
class RemoteBody {
public:
    explicit RemoteBody(std::shared_ptr<Work> work) noexcept : work_(std::move(work)) {}
    RemoteBody(RemoteBody&&) noexcept = default;
    RemoteBody& operator=(RemoteBody&&) = delete;
    ~RemoteBody() {
        if (!work_ || !work_->spawned) return;
        work_->set_task(nullptr);
        work_->drop();
        work_->fail(work_->not_begun()); // if it has not run
    }
    void operator()() const noexcept { work_->run(); }

private:
    std::shared_ptr<Work> work_;
};

} // namespace detail

/// A task in a loop, for a thread that is not that loop's. Dropping it leaves the task alone.
template<class T>
class RemoteTask {
public:
    RemoteTask() noexcept = default;
    /// Blocks the thread until the task has ended: its value, or what it threw, or why it could not
    /// be started; a cancellation shows as `std::system_error` with `operation_canceled`, a loop
    /// that was closed first as `Errc::aborted`. Once. `UsageError` if it is empty, on a thread
    /// that runs a loop, and on the one that the loop belongs to, be it between the steps of an
    /// embedded one: it would have to do the work. A job of the loop's executor may wait here; on a
    /// simulated kernel the clock goes on meanwhile.
    T get() {
        check("RemoteTask::get");
        const Waiting waiting(state_);
        return future_.get();
    }
    /// Blocks for at most `time`: whether the task has ended. It goes on if not.
    bool wait_for(Duration time) const {
        check("RemoteTask::wait_for");
        Waiting waiting(state_);
        const bool ended = future_.wait_for(std::min(time, for_ever)) == std::future_status::ready;
        waiting.given_up = !ended;
        return ended;
    }
    /// Whether there is an outcome to be had: not when it is empty or `get` was called.
    bool valid() const noexcept { return future_.valid(); }
    /// Asks the task to end, as `Task::cancel`; soon, from any thread. One that has not begun never
    /// will. Harmless when it has ended, its loop is closed, or this is empty.
    void cancel() noexcept {
        if (state_) detail::RemoteState::cancel(state_);
    }
    /// The standard future in place of `get`. `UsageError` if it is empty.
    std::future<T> to_std() && {
        if (!valid()) throw UsageError("RemoteTask::to_std: there is no task");
        return std::move(future_);
    }

private:
    template<class F>
    friend RemoteTask<detail::SpawnResult<F>>
    start(const RemoteLoop& loop, F&& function, SpawnOptions options, std::source_location where);
    RemoteTask(std::shared_ptr<detail::RemoteState> state, std::future<T> future) noexcept
        : state_(std::move(state)), future_(std::move(future)) {}
    static constexpr Duration for_ever = std::chrono::hours(24 * 365 * 100); // plus now is a time
    /// A job of the loop's that waits for the loop.
    struct Waiting {
        explicit Waiting(const std::shared_ptr<detail::RemoteState>& s) : state(s) {
            if (weft::detail::job_on_this_thread() != state->loop.get()) return;
            detail::RemoteState::note_waiting(state, true);
            noted = true;
        }
        Waiting(const Waiting&) = delete;
        Waiting& operator=(const Waiting&) = delete;
        ~Waiting() {
            if (noted && given_up) detail::RemoteState::note_waiting(state, false);
        }
        const std::shared_ptr<detail::RemoteState>& state;
        bool noted = false;
        bool given_up = false;
    };
    void check(const char* what) const {
        if (!valid())
            throw UsageError(std::string(what) +
                             ": there is no task, or its outcome was taken already");
        state_->check_may_block(what);
    }

    std::shared_ptr<detail::RemoteState> state_;
    std::future<T> future_;
};

/// Starts `function()` as a task of the loop that `loop` names, soon; from any thread, also the
/// loop's. Does not suspend or block. When the loop is closed, or closes before the task begins,
/// the function is destroyed without being called and the outcome is `Errc::aborted`; one that runs
/// then is cancelled. Nothing that it throws is lost or reported: it is the outcome. If the task
/// cannot be started, for want of memory, that is the outcome. What the function has captured is
/// gone when the outcome is there.
template<class F>
RemoteTask<detail::SpawnResult<F>>
start(const RemoteLoop& loop, F&& function, SpawnOptions options = {},
      std::source_location where = std::source_location::current()) {
    using T = detail::SpawnResult<F>;
    using Work = detail::RemoteWork<T, std::decay_t<F>>;
    auto work = std::make_shared<Work>(loop.mailbox(), std::forward<F>(function));
    auto future = work->promise.get_future();
    RemoteTask<T> remote(work, std::move(future));
    auto begin = [duty = detail::RemoteDuty<Work>(std::move(work)),
                  name = std::string(options.name), size = options.stack_size, where]() mutable {
        Work& job = *duty;
        if (job.cancelled.load()) return; // and the duty says so
        try {
            auto task = spawn(*job.loop->loop(), detail::RemoteBody<Work>(duty.shared()),
                              {.name = name, .stack_size = size}, where);
            job.set_task(task.state());
            job.spawned = true;
            duty.release();
            task.detach();
        } catch (...) {
            job.drop();
            job.fail(std::current_exception());
        }
    };
    // If it is refused, destroying it tells the outcome.
    (void)loop.post(std::move(begin), where);
    return remote;
}

} // namespace weft::coro

#pragma GCC visibility pop
