#include <weft/reactor/thread_pool.hpp>

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <mutex>
#include <unistd.h>

namespace weft {
namespace detail {
namespace {

// A new thread inherits the mask of the thread that happens to queue a job. It shall have the
// pool's, and run no handler before. Not a full one: exec keeps the mask, so that children of a job
// would be deaf to SIGTERM, whether forked by hand, by system(3) or by posix_spawn(3). A signal
// sent to the process goes to its first thread anyway if that does not block it.
class SignalsBlocked {
public:
    SignalsBlocked() noexcept {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;

private:
    sigset_t before_;
};

thread_local const JobQueue* queue_of_this_thread = nullptr;

} // namespace

/// The jobs of a pool, its threads, and the lock for both.
class JobQueue {
public:
    explicit JobQueue(std::size_t limit) : limit_(limit) {
        pthread_sigmask(SIG_SETMASK, nullptr, &mask_);
    }

    std::error_code push(Function<void()> job, ThreadPool::JobId* id, unsigned threads_limit) {
        if (forked()) return Errc::forked;
        const std::lock_guard lock(mutex_);
        if (closed_) return Errc::closed;
        if (jobs_.size() >= limit_) return Errc::queue_full;
        if (idle_ <= jobs_.size() && threads_.size() < threads_limit) {
            // With at least one thread the job will run, if later.
            if (const auto error = add_thread(); error && threads_.empty()) return error;
        }
        jobs_.push_back({next_id_, std::move(job)});
        if (id) *id = next_id_;
        ++next_id_;
        wake_.notify_one();
        return {};
    }

    bool cancel(ThreadPool::JobId id) {
        if (forked()) return false;
        // destroyed after the lock is released: captures may come back here
        Function<void()> removed;
        const std::lock_guard lock(mutex_);
        const auto job =
            std::lower_bound(jobs_.begin(), jobs_.end(), id,
                             [](const Job& a, ThreadPool::JobId b) { return a.id < b; });
        if (job == jobs_.end() || job->id != id) return false;
        removed = std::move(job->function);
        jobs_.erase(job);
        return true;
    }

    void drop_all() {
        if (forked()) return;
        std::deque<Job> dropped; // destroyed without the lock, see cancel
        const std::lock_guard lock(mutex_);
        dropped.swap(jobs_);
    }

    void close() {
        if (on_own_thread())
            throw UsageError("ThreadPool::shutdown: called by one of the pool's own jobs");
        std::deque<Job> dropped;
        std::vector<std::thread> threads;
        {
            std::unique_lock lock(mutex_);
            if (closed_) {
                // By another thread, which is still at it, or by this one, in the end of a job that
                // it drops.
                if (closer_ != std::this_thread::get_id())
                    ended_.wait(lock, [this] { return closer_ == std::thread::id(); });
                return;
            }
            closed_ = true;
            closer_ = std::this_thread::get_id();
            dropped.swap(jobs_);
            threads.swap(threads_);
        }
        wake_.notify_all();
        dropped.clear(); // first, for a running job may wait for what one of these has captured
        for (auto& thread : threads)
            thread.join();
        const std::lock_guard lock(mutex_);
        closer_ = {};
        ended_.notify_all();
    }

    std::size_t size() const {
        if (forked()) return 0;
        const std::lock_guard lock(mutex_);
        return jobs_.size();
    }

    // In a forked child there are no threads to join, and the lock may be held by one of them for
    // ever.
    bool forked() const noexcept { return getpid() != process_; }
    bool on_own_thread() const noexcept { return queue_of_this_thread == this; }

private:
    struct Job {
        ThreadPool::JobId id;
        Function<void()> function;
    };

    std::error_code add_thread() {
        const SignalsBlocked blocked;
        try {
            threads_.emplace_back([this] { work(); });
            return {};
        } catch (const std::system_error& error) {
            return error.code();
        }
    }

    void work() {
        queue_of_this_thread = this;
        pthread_sigmask(SIG_SETMASK, &mask_, nullptr);
        std::unique_lock lock(mutex_);
        for (;;) {
            ++idle_;
            wake_.wait(lock, [this] { return closed_ || !jobs_.empty(); });
            --idle_;
            if (closed_) return;
            auto job = std::move(jobs_.front().function);
            jobs_.pop_front();
            lock.unlock();
            job();
            job.reset();
            lock.lock();
        }
    }

    const std::size_t limit_;
    const pid_t process_ = getpid();
    sigset_t mask_; // of the threads
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::condition_variable ended_; // the threads have been joined
    std::thread::id closer_;        // which is joining them
    std::deque<Job> jobs_;
    std::vector<std::thread> threads_;
    std::size_t idle_ = 0;
    ThreadPool::JobId next_id_ = 1;
    bool closed_ = false;
};

bool cancel_job(const std::weak_ptr<JobQueue>& queue, ThreadPool::JobId id) {
    const auto alive = queue.lock();
    return alive && alive->cancel(id);
}

} // namespace detail

ThreadPool::ThreadPool(Options options)
    : threads_limit_(options.threads != 0 ? options.threads
                                          : std::max(1U, std::thread::hardware_concurrency()) + 4),
      queue_(std::make_shared<detail::JobQueue>(options.queue_limit)) {
    detail::check_option(options.queue_limit != 0, "ThreadPool::Options: queue_limit",
                         options.queue_limit, "must be at least 1");
}

ThreadPool::~ThreadPool() {
    shutdown();
}

std::error_code ThreadPool::submit(Function<void()> job, JobId* id) {
    return queue_->push(std::move(job), id, threads_limit_);
}

bool ThreadPool::cancel(JobId id) {
    return queue_->cancel(id);
}

void ThreadPool::drop_queued() {
    queue_->drop_all();
}

void ThreadPool::shutdown() {
    if (queue_->forked()) {
        // Destroying a lock or a condition that a thread of the parent uses may wait for that
        // thread. So they stay.
        static auto& of_the_parent = *new std::vector<std::shared_ptr<detail::JobQueue>>;
        of_the_parent.push_back(queue_);
        return;
    }
    queue_->close();
}

bool ThreadPool::forked() const noexcept {
    return queue_->forked();
}

bool ThreadPool::on_own_thread() const noexcept {
    return queue_->on_own_thread();
}

std::size_t ThreadPool::queued() const {
    return queue_->size();
}

} // namespace weft
