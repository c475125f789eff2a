#include <weft/reactor/thread_pool.hpp>

#include <algorithm>
#include <csignal>

namespace weft {
namespace {

// Signals belong to the threads that asked for them: a pool thread must not be the one that a handler interrupts.
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

} // namespace

ThreadPool::ThreadPool(Options options)
    : options_{options.threads != 0 ? options.threads
                                    : std::max(1U, std::thread::hardware_concurrency()) + 4,
               options.queue_limit} {}

ThreadPool::~ThreadPool() { shutdown(); }

std::error_code ThreadPool::add_thread() {
    SignalsBlocked blocked; // a new thread inherits the mask
    try {
        threads_.emplace_back([this] { work(); });
        return {};
    } catch (const std::system_error& error) {
        return error.code();
    }
}

std::error_code ThreadPool::submit(Function<void()> job, JobId* id) {
    const std::lock_guard lock(mutex_);
    if (closed_) return Errc::closed;
    if (jobs_.size() >= options_.queue_limit) return Errc::queue_full;
    if (idle_ <= jobs_.size() && threads_.size() < options_.threads) {
        // With at least one thread the job will run, if later.
        if (const auto error = add_thread(); error && threads_.empty()) return error;
    }
    if (id) *id = next_id_;
    jobs_.push_back({next_id_++, std::move(job)});
    wake_.notify_one();
    return {};
}

bool ThreadPool::cancel(JobId id) {
    Function<void()> removed; // destroyed after the lock is released: captures may come back here
    const std::lock_guard lock(mutex_);
    const auto job = std::lower_bound(jobs_.begin(), jobs_.end(), id,
                                      [](const Job& a, JobId b) { return a.id < b; });
    if (job == jobs_.end() || job->id != id) return false;
    removed = std::move(job->function);
    jobs_.erase(job);
    return true;
}

void ThreadPool::work() {
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

void ThreadPool::shutdown() {
    std::deque<Job> dropped;
    std::vector<std::thread> threads;
    {
        const std::lock_guard lock(mutex_);
        closed_ = true;
        dropped.swap(jobs_);
        threads.swap(threads_);
    }
    wake_.notify_all();
    for (auto& thread : threads) thread.join();
}

std::size_t ThreadPool::queued() const {
    const std::lock_guard lock(mutex_);
    return jobs_.size();
}

} // namespace weft
