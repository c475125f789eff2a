#pragma once

#include <weft/reactor/executor_job.hpp>

#include <cstddef>
#include <memory>

#pragma GCC visibility push(default)

namespace weft::detail {

class LoopCore;

/// What a loop has under way on other threads, and its own threads for it.
class ExecutorJobs {
public:
    explicit ExecutorJobs(LoopCore& loop) noexcept : loop_(loop) {}

    /// The loop's own pool, started on first use.
    ThreadPool& pool();
    StdWatcher& std_watcher();
    /// Whether the calling thread is one of the own pool's.
    bool on_own_thread() const noexcept { return pool_ && pool_->on_own_thread(); }

    /// Gives `job` to `pool`, or to the own one. It is refused what the pool does not take, and
    /// leaves the pool's queue when its future is cancelled.
    void submit(ThreadPool& pool, const std::shared_ptr<JobBase>& job);
    /// In the list from now on, until `end`.
    void begin(std::shared_ptr<JobBase> job) noexcept;
    /// Takes it out of the list; code that still needs it keeps what is returned.
    std::shared_ptr<JobBase> end(JobBase& job) noexcept;
    std::size_t size() const noexcept { return size_; }

    // The loop's end.
    void begin_closing() noexcept;
    /// Completes the futures of what has not begun, or of everything.
    void abort(bool running_too) noexcept;
    /// How many of the own pool's have begun, or are about to, and have not come back.
    std::size_t running() const noexcept;
    /// What the callbacks of a running job's future have captured it may refer to, so they stay
    /// until it has ended.
    void keep_futures_of_running() noexcept;
    void close() noexcept;
    /// The threads are the parent's.
    void after_fork() noexcept;

private:
    LoopCore& loop_;
    ListNode jobs_;
    std::size_t size_ = 0;
    ListNode futures_of_running_; // while the loop is being closed
    std::unique_ptr<ThreadPool> pool_;
    std::unique_ptr<StdWatcher> std_watcher_;
};

} // namespace weft::detail

#pragma GCC visibility pop
