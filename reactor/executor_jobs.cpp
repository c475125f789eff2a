#include <weft/reactor/executor_jobs.hpp>
#include <weft/reactor/loop_core.hpp>

namespace weft::detail {

ThreadPool& ExecutorJobs::pool() {
    loop_.check_usable("executor");
    if (loop_.closing()) throw UsageError("executor: the loop is being closed");
    if (!pool_) {
        ThreadPool::Options options;
        options.threads = loop_.options().executor_threads;
        pool_ = std::make_unique<ThreadPool>(options);
    }
    return *pool_;
}

StdWatcher& ExecutorJobs::std_watcher() {
    if (!std_watcher_) std_watcher_ = std::make_unique<StdWatcher>();
    return *std_watcher_;
}

void ExecutorJobs::submit(ThreadPool& pool, const std::shared_ptr<JobBase>& job) {
    job->of_loop = &pool == pool_.get();
    begin(job);
    ThreadPool::JobId id = 0;
    const auto error = pool.submit(
        [ticket = JobTicket(job, loop_.mailbox()), running = job.get()] {
            job_on_this_thread() = ticket.loop();
            running->run();
            job_on_this_thread() = nullptr;
        },
        &id);
    if (error) { // the ticket was destroyed and has sent the job back
        job->refuse(error);
    } else {
        job->state().on_cancel([queue = pool.queue(), id] { cancel_job(queue, id); });
    }
}

// The thread that has run a job may be the last but the loop to hold it, and must not take it out
// of the loop's list.
void ExecutorJobs::begin(std::shared_ptr<JobBase> job) noexcept {
    jobs_.push_back(*job);
    job->self = job;
    ++size_;
    loop_.kernel().outside_work(+1);
}

std::shared_ptr<JobBase> ExecutorJobs::end(JobBase& job) noexcept {
    if (!job.linked()) return nullptr;
    job.unlink();
    --size_;
    loop_.kernel().outside_work(-1);
    return std::move(job.self);
}

void ExecutorJobs::begin_closing() noexcept {
    if (std_watcher_ && std_watcher_->forked()) StdWatcher::forget(std::move(std_watcher_));
}

std::size_t ExecutorJobs::running() const noexcept {
    std::size_t count = 0;
    for (const auto* node = jobs_.next; node != &jobs_; node = node->next) {
        const auto& job = static_cast<const JobBase&>(*node);
        count += job.of_loop && !job.returned.load() && !pool_->forked();
    }
    return count;
}

void ExecutorJobs::abort(bool running_too) noexcept {
    if (pool_) pool_->drop_queued();
    if (std_watcher_ && !std_watcher_->forked()) std_watcher_->stop();
    running_too = running_too || (pool_ && pool_->forked());
    ListNode running;
    while (jobs_.linked()) {
        auto& job = static_cast<JobBase&>(*jobs_.next);
        if (job.of_loop && !job.returned.load() && !running_too) {
            job.unlink();
            running.push_back(job);
            continue;
        }
        const auto held = end(job);
        // A coroutine that waits for it all the same is one that is to have its outcome.
        if (!job.returned.load() || !job.state().waited_for()) {
            job.abort();
            continue;
        }
        try {
            job.deliver();
        } catch (...) { // moving its value
            job.abort();
        }
    }
    while (running.linked()) {
        auto& job = *running.next;
        job.unlink();
        jobs_.push_back(job);
    }
}

void ExecutorJobs::keep_futures_of_running() noexcept {
    for (auto* node = jobs_.next; node != &jobs_; node = node->next)
        static_cast<JobBase*>(node)->state().move_to(futures_of_running_);
}

void ExecutorJobs::close() noexcept {
    std_watcher_.reset();
    pool_.reset();
}

void ExecutorJobs::after_fork() noexcept {
    abort(true);
    pool_.reset();
    if (std_watcher_) StdWatcher::forget(std::move(std_watcher_));
}

JobTicket::~JobTicket() {
    if (!job_) return;
    job_->returned.store(true);
    // If the loop is closed meanwhile, it has completed the future itself, and this is the job's
    // end.
    (void)loop_->give_back(
        [job = std::move(job_), loop = loop_.get()] {
            (void)core_of(*loop->loop()).jobs().end(*job);
            job->deliver();
        },
        {});
}

Mailbox*& job_on_this_thread() noexcept {
    static thread_local Mailbox* loop = nullptr;
    return loop;
}

} // namespace weft::detail
