#pragma once

#include <weft/reactor/future.hpp>
#include <weft/reactor/mailbox.hpp>
#include <weft/reactor/std_watcher.hpp>
#include <weft/reactor/thread_pool.hpp>
#include <weft/reactor/timer_queue.hpp>

#include <atomic>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <system_error>
#include <type_traits>
#include <utility>

#pragma GCC visibility push(default)

namespace weft::detail {

/// A call on its way through a pool, as the loop sees it. Only `run` and destruction happen on
/// other threads.
struct JobBase : ListNode {
    virtual ~JobBase() = default;
    virtual void run() noexcept = 0;                ///< on a thread of the pool
    virtual void deliver() = 0;                     ///< completes the future with the outcome
    virtual void abort() = 0;                       ///< completes it because the loop ends
    virtual void refuse(std::error_code error) = 0; ///< completes it because no pool takes it
    virtual FutureStateBase& state() noexcept = 0;

    /// it runs on the loop's own executor, and ends before the loop does
    bool of_loop = false;
    /// it has run, or never will: no other thread touches it any more
    std::atomic<bool> returned{false};
    std::shared_ptr<JobBase> self; ///< the loop's hold on it, while it stands in its list
};

/// Whose job the calling thread runs, null if none's.
Mailbox*& job_on_this_thread() noexcept;

/// Travels with a job through the pool. Wherever it ends, after the run, with a cancelled or a
/// dropped job, it sends the job back to the loop, where alone its future may be touched.
class JobTicket {
public:
    JobTicket(std::shared_ptr<JobBase> job, std::shared_ptr<Mailbox> loop) noexcept
        : job_(std::move(job)), loop_(std::move(loop)) {}
    JobTicket(JobTicket&&) noexcept = default;
    JobTicket& operator=(JobTicket&&) = delete;
    ~JobTicket();
    Mailbox* loop() const noexcept { return loop_.get(); }

private:
    std::shared_ptr<JobBase> job_;
    std::shared_ptr<Mailbox> loop_;
};

/// The callable on the way there, its outcome on the way back.
template<class F>
struct ExecutorJob final : JobBase {
    using R = std::invoke_result_t<F&>;
    ExecutorJob(Loop& loop, F f) : function(std::move(f)), promise(loop) {}

    void run() noexcept override {
        try {
            if constexpr (std::is_void_v<R>) {
                function();
                value.emplace();
            } else {
                value.emplace(function());
            }
        } catch (const Cancelled&) {
            cancelled = true;
        } catch (...) {
            error = std::current_exception();
        }
    }
    void deliver() override {
        if (cancelled) {
            promise.future().cancel();
        } else if (error) {
            promise.set_exception_if_pending(std::move(error));
        } else if (!value) {
            promise.set_error_if_pending(
                {Errc::aborted, "run_in_executor: the job was dropped unrun"});
        } else if constexpr (std::is_void_v<R>) {
            promise.set_value_if_pending();
        } else {
            promise.set_value_if_pending(std::move(*value));
        }
    }
    void abort() override {
        promise.set_error_if_pending({Errc::aborted, "run_in_executor: the loop was closed"});
    }
    void refuse(std::error_code why) override {
        promise.set_error_if_pending({why, "run_in_executor"});
    }
    FutureStateBase& state() noexcept override { return *promise.future().state_ref(); }

    F function;
    Promise<R> promise;
    std::optional<typename FutureState<R>::Value> value;
    std::exception_ptr error;
    bool cancelled = false;
};

} // namespace weft::detail

#pragma GCC visibility pop
