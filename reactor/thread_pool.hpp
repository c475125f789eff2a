#pragma once

#include <weft/reactor/error.hpp>
#include <weft/reactor/function.hpp>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

namespace weft {

/// A bounded pool of threads for work that blocks or computes. Threads start when there is work for them and block all
/// signals. Usable from any thread; may serve several loops.
class ThreadPool {
public:
    struct Options {
        unsigned threads = 0;            ///< at most; 0: one per processor, plus 4
        std::size_t queue_limit = 65536; ///< jobs that may wait
    };
    ThreadPool() : ThreadPool(Options{}) {}
    explicit ThreadPool(Options options);
    /// Waits for running jobs; those that never started are destroyed.
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    /// Names a job for `cancel`.
    using JobId = std::uint64_t;
    /// Queues `job`, which must not throw. `Errc::queue_full`, `Errc::closed` after `shutdown`, or the system's error if not
    /// even one thread could be started; `job` is then destroyed.
    std::error_code submit(Function<void()> job, JobId* id = nullptr);
    /// Takes a job out of the queue and destroys it. False if it has started.
    bool cancel(JobId id);
    /// No new jobs; destroys those that wait and joins the threads. Not from one of its own threads.
    void shutdown();

    std::size_t queued() const;

private:
    struct Job {
        JobId id;
        Function<void()> function;
    };
    void work();
    std::error_code add_thread();

    const Options options_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<Job> jobs_;
    std::vector<std::thread> threads_;
    std::size_t idle_ = 0;
    JobId next_id_ = 1;
    bool closed_ = false;
};

} // namespace weft
