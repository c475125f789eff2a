#pragma once

#include <weft/reactor/error.hpp>
#include <weft/reactor/function.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#pragma GCC visibility push(default)

namespace weft {

namespace detail {
class JobQueue;
}

/// A bounded pool of threads for work that blocks or computes. Threads start when there is work for
/// them, and have the signal mask of the thread that made the pool: what their jobs fork and
/// execute hears of SIGTERM like any other child. Usable from any thread; may serve several loops.
class ThreadPool {
public:
    /// How large a pool is.
    struct Options {
        unsigned threads = 0; ///< at most; 0: one per processor, plus 4
        /// jobs that may wait; `UsageError` for 0, with which none could run
        std::size_t queue_limit = 65536;
    };
    ThreadPool() : ThreadPool(Options{}) {}
    explicit ThreadPool(Options options);
    /// Destroys the jobs that never started, then waits for the running ones, which may wait for
    /// what those have captured. In a forked child, where the threads are not, it forgets both.
    /// Ends the process on one of its own threads.
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    /// Names a job for `cancel`.
    using JobId = std::uint64_t;
    /// Queues `job`, which must not throw. `Errc::queue_full`, `Errc::closed` after `shutdown`,
    /// `Errc::forked`, or the system's error if not even one thread could be started; `job` is then
    /// destroyed.
    std::error_code submit(Function<void()> job, JobId* id = nullptr);
    /// Takes a job out of the queue and destroys it. False if it has started.
    bool cancel(JobId id);
    /// Destroys the jobs that wait for a thread.
    void drop_queued();
    /// No new jobs from now on; destroys those that wait, then joins the threads. Calls made
    /// meanwhile or afterwards return when that is done, but for what is destroyed inside it.
    /// `UsageError` on one of its own threads.
    void shutdown();
    /// Whether the calling thread is one of its own.
    bool on_own_thread() const noexcept;
    /// In a forked child: the threads are the parent's.
    bool forked() const noexcept;

    /// Jobs that wait for a thread.
    std::size_t queued() const;
    /// What outlives the pool, for those that may want to cancel a job then.
    std::weak_ptr<detail::JobQueue> queue() const noexcept { return queue_; }

private:
    const unsigned threads_limit_;
    std::shared_ptr<detail::JobQueue> queue_;
};

namespace detail {
/// `ThreadPool::cancel` for a pool that may be gone.
bool cancel_job(const std::weak_ptr<JobQueue>& queue, ThreadPool::JobId id);
} // namespace detail

} // namespace weft

#pragma GCC visibility pop
