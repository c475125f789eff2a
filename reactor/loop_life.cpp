// The loop's sources, its end, and its life inside a foreign main loop.

#include "loop_entered.hpp"
#include "watch_impl.hpp"

#include <weft/reactor/log.hpp>
#include <weft/reactor/loop.hpp>
#include <weft/reactor/std_watcher.hpp>
#include <weft/reactor/thread_pool.hpp>

namespace weft {

// --- Sources ---

Token Loop::add_source(detail::Source& source) {
    std::uint32_t index = free_slot_;
    if (index != 0) {
        free_slot_ = slots_[index].next_free;
    } else {
        index = static_cast<std::uint32_t>(slots_.size());
        slots_.emplace_back();
    }
    slots_[index].source = &source;
    ++sources_;
    return Token{slots_[index].generation} << 32 | index;
}

void Loop::remove_source(Token token) noexcept {
    const auto index = static_cast<std::uint32_t>(token);
    Slot& slot = slots_[index];
    removed_ = true;
    slot.source = nullptr;
    ++slot.generation;
    slot.next_free = free_slot_;
    free_slot_ = index;
    --sources_;
}

void Loop::replace_source(Token token, detail::Source& source) noexcept {
    slots_[static_cast<std::uint32_t>(token)].source = &source;
}

detail::Source* Loop::find_source(Token token) noexcept {
    const auto index = static_cast<std::uint32_t>(token);
    if (index >= slots_.size() || slots_[index].generation != token >> 32) return nullptr;
    return slots_[index].source;
}

void Loop::again(Token token, std::uint32_t ready) {
    again_.push_back({token, ready});
    work_queued_ = true;
    if (!in_turn_) outside_change();
}

void Loop::finish_later(detail::Source& source) {
    closing_.coming.push_back(&source);
    work_queued_ = true;
    if (!in_turn_) outside_change();
}

void Loop::flush_later(detail::Source& source) {
    flushing_.coming.push_back(&source);
    work_queued_ = true;
    if (!in_turn_) outside_change();
}

Result<void> Loop::rebuild_kernel() {
    rebuild_wanted_ = false;
    stale_turns_ = 0;
    armed_ = announced_ = TimePoint::max();
    const bool child = !kernel_->owns(-1); // of a fork that this loop has not been told of
    if (const Sys reset = kernel_->reset(); !reset.ok())
        return Error{reset.code(), "start the kernel over"};
    Result<void> result;
    for (std::uint32_t index = 1; index < slots_.size(); ++index) {
        if (slots_[index].source == nullptr) continue;
        const auto [fd, interest] = slots_[index].source->registration();
        if (fd < 0) continue;
        const bool inherited = child || !kernel_->owns(fd);
        const Sys added = kernel_->add(fd, Token{slots_[index].generation} << 32 | index, interest);
        // One that is gone must not cost the others theirs.
        if (!added.ok() && result.ok())
            result = Error{added.code(), "register descriptor " + std::to_string(fd) + " again"};
        if (inherited) kernel_->inherited(fd);
    }
    if (embedded_ && !running_) hand_to_host();
    return result;
}

Result<void> Loop::after_fork() {
    if (state_ != State::open) throw UsageError("after_fork: the loop is closed");
    if (in_turn_) throw UsageError("after_fork: called inside a callback");
    abort_jobs(true); // the threads that ran them are the parent's
    executor_.reset();
    if (std_watcher_) detail::StdWatcher::forget(std::move(std_watcher_));
    mailbox_->after_fork();
    return rebuild_kernel();
}

Loop::Stats Loop::stats() const noexcept {
    return {sources_,      timers_.size(),
            signal_count_, soon_.size + batch_.size + posted_.size() - posted_next_,
            job_count_,    turns_,
            stale_events_};
}

// --- Executor ---

void Loop::begin_future(detail::ListNode& state) {
    if (state_ == State::closed) throw UsageError("a promise: the loop is closed");
    pending_futures_.push_back(state);
}

ThreadPool& Loop::executor() {
    check_usable("executor");
    if (state_ != State::open) throw UsageError("executor: the loop is being closed");
    if (!executor_) {
        ThreadPool::Options options;
        options.threads = options_.executor_threads;
        executor_ = std::make_unique<ThreadPool>(options);
    }
    return *executor_;
}

detail::StdWatcher& Loop::std_watcher() {
    if (!std_watcher_) std_watcher_ = std::make_unique<detail::StdWatcher>();
    return *std_watcher_;
}

// The thread that has run a job may be the last but the loop to hold it, and must not take it out
// of the loop's list.
void Loop::begin_job(std::shared_ptr<detail::JobBase> job) noexcept {
    jobs_.push_back(*job);
    job->self = job;
    ++job_count_;
    kernel_->outside_work(+1);
}

std::shared_ptr<detail::JobBase> Loop::end_job(detail::JobBase& job) noexcept {
    if (!job.linked()) return nullptr;
    job.unlink();
    --job_count_;
    kernel_->outside_work(-1);
    return std::move(job.self);
}

namespace detail {

JobTicket::~JobTicket() {
    if (!job_) return;
    job_->returned.store(true);
    // If the loop is closed meanwhile, it has completed the future itself, and this is the job's
    // end.
    (void)loop_->give_back(
        [job = std::move(job_), loop = loop_.get()] {
            (void)loop->loop()->end_job(*job);
            job->deliver();
        },
        Loop::no_location());
}

Mailbox*& job_on_this_thread() noexcept {
    static thread_local Mailbox* loop = nullptr;
    return loop;
}

} // namespace detail

// --- The end ---

void Loop::close() {
    if (state_ != State::open) return;
    if (executor_ && executor_->on_own_thread())
        throw UsageError("close: called by a job of the loop's own executor");
    if (in_turn_ || running_ || in_hook_)
        throw UsageError("close: called inside a callback of this loop");
    mailbox_->begin_closing();
    if (std_watcher_ && std_watcher_->forked()) detail::StdWatcher::forget(std::move(std_watcher_));
    state_ = State::closing;
    in_turn_ = true;
    // Only when all else has ended are running jobs waited for, because they may wait for some of
    // it; and one by one, because they may wait for each other's futures.
    for (;;) {
        const std::uint32_t seen = mailbox_->given_back();
        end_everything();
        if (running_jobs() == 0) break;
        if (seen == mailbox_->given_back()) mailbox_->wait_for_more(seen);
    }
    end_everything(); // of the jobs that came back meanwhile
    mailbox_->close();
    end_callbacks();
    abandon_futures();
    unhandled_limit_.tell();
    peers_limit_.tell();
    if (sources_ != 0)
        log(LogLevel::error,
            std::to_string(sources_) + " transports or watches are still open at the loop's end");
    std_watcher_.reset();
    executor_.reset();
    for (detail::TimerRecord* record : timer_records_) {
        if (record->held) {
            record->loop = nullptr; // the last to hold it deletes it
        } else {
            delete record;
        }
    }
    timer_records_.clear();
    free_timers_ = nullptr;
    while (free_nodes_ != nullptr)
        delete std::exchange(free_nodes_, free_nodes_->next);
    on_wake(nullptr);
    front_end_.reset();
    now_ = kernel_->now();
    kernel_.reset();
    in_turn_ = false;
    state_ = State::closed;
}

// What is ended may start something else in its last callbacks and destructors. A few rounds of
// that are fine; what still goes on then is a program's error, or waits for a job that runs.
void Loop::end_everything() noexcept {
    constexpr int rounds = 100;
    for (int round = 0; round < rounds && (round == 0 || anything_alive()); ++round) {
        if (front_end_) front_end_->on_loop_closing();
        end_sources();
        abort_jobs(false);
        end_callbacks();
        abandon_futures();
    }
}

bool Loop::anything_alive() const noexcept {
    return (front_end_ && front_end_->alive()) || sources_ != 0 || timers_.size() != 0 ||
           signal_count_ != 0 || job_count_ != running_jobs() || ready_now() || leftovers() ||
           pending_futures_.linked() || !mailbox_->empty();
}

// Of the loop's own executor; it has begun, or a thread is about to begin it.
std::size_t Loop::running_jobs() const noexcept {
    std::size_t count = 0;
    for (const auto* node = jobs_.next; node != &jobs_; node = node->next) {
        const auto& job = static_cast<const detail::JobBase&>(*node);
        count += job.of_loop && !job.returned.load() && !executor_->forked();
    }
    return count;
}

void Loop::abort_jobs(bool running_too) noexcept {
    if (executor_) executor_->drop_queued();
    if (std_watcher_ && !std_watcher_->forked()) std_watcher_->stop();
    running_too = running_too || (executor_ && executor_->forked());
    detail::ListNode running;
    while (jobs_.linked()) {
        auto& job = static_cast<detail::JobBase&>(*jobs_.next);
        if (job.of_loop && !job.returned.load() && !running_too) {
            job.unlink();
            running.push_back(job);
            continue;
        }
        const auto held = end_job(job);
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

// What the callbacks of a running job's future have captured it may refer to, so they stay until it
// has ended.
void Loop::abandon_futures() noexcept {
    for (auto* node = jobs_.next; node != &jobs_; node = node->next)
        static_cast<detail::JobBase*>(node)->state().move_to(futures_of_running_jobs_);
    detail::FutureStateBase::abandon_all(pending_futures_);
}

// Timers, signals and what is queued: destroyed without being called.
void Loop::end_callbacks() noexcept {
    while (detail::TimerNode* timer = timers_.pop_any())
        timer->on_abandoned();
    while (due_.linked()) {
        auto& timer = static_cast<detail::TimerNode&>(*due_.next);
        timers_.fired(timer);
        timer.on_abandoned();
    }
    while (signals_.linked())
        static_cast<detail::WatchedSignal*>(signals_.next)->on_loop_closing();
    signals_due_ = false;
    const auto destroy = [this](detail::CallNode* node) {
        auto captures = std::move(node->function);
        recycle(node);
    };
    batch_.append(soon_);
    while (batch_.head != nullptr)
        destroy(batch_.pop());
    // Each by itself, for what its captures do at their end may queue or post more.
    do {
        while (posted_next_ < posted_.size()) {
            const auto captures = std::move(posted_[posted_next_++].function);
        }
        forget_posted();
        mailbox_->take(posted_);
    } while (!posted_.empty());
}

void Loop::end_sources() {
    for (std::uint32_t index = 1; index < slots_.size(); ++index)
        if (slots_[index].source != nullptr) slots_[index].source->on_loop_closing();
    again_.clear();
    event_next_ = event_end_ = 0;
    // Once for what an earlier turn has left of each, and once for what came since.
    for (int round = 0; round < 2; ++round) {
        (void)flush();
        (void)finish_closing();
    }
}

// --- Embedding ---

Result<int> Loop::pollable_fd() {
    check_usable("pollable_fd");
    const Sys fd = kernel_->pollable_fd();
    if (!fd.ok())
        return Error{fd.code(),
                     "a pollable descriptor for the " + std::string(kernel_->name()) + " kernel"};
    embedded_ = true;
    // What is there already counts as news.
    if (!running_) hand_to_host();
    return fd.fd();
}

TimePoint Loop::next_deadline() noexcept {
    if (running_) return TimePoint::max();
    if (ready_now() || leftovers() || stopping_ || !mailbox_->empty()) return TimePoint::min();
    return timers_.next_deadline();
}

StepResult Loop::step(Budget budget) {
    StepResult result;
    {
        const Entered entered(*this, "step", true);
        embedded_ = true; // at its end `entered` tells the host what is left
        limited_ = true;
        allowance_.left = 0;
        allowance_.in_reserve = budget.count;
        if (budget.time != Duration::max()) allowance_.until = deadline_in(budget.time);
        // A turn that only goes on with what an earlier step left does not look at the kernel,
        // which would go on calling the host for a wake-up that is already answered.
        const std::uint64_t looked = turns_;
        do {
            (void)make_turn(TimePoint::min());
        } while (allowance_.in_reserve != 0 && !stopping_ &&
                 (ready_now() || leftovers() || turns_ == looked));
        result.ran = allowance_.spent;
        result.stopped = stopping_;
    }
    result.more_ready = announced_ == TimePoint::min();
    result.alive = could_call_back();
    result.next_deadline = timers_.next_deadline();
    return result;
}

// From here on the host sleeps. A message that came in meanwhile, or work that is left, keeps the
// descriptor readable; a deadline makes it so when it passes.
void Loop::hand_to_host() noexcept {
    bool more = ready_now() || leftovers();
    if (!mailbox_->prepare_to_sleep()) more = true;
    if (more) kernel_->wake();
    const TimePoint next = timers_.next_deadline();
    if (armed_ <= now_) armed_ = TimePoint::max(); // it went off, and does not do so again
    if (next != armed_) arm_kernel(next);
    announced_ = more ? TimePoint::min() : next;
    kernel_->announce(true);
}

// Without a timer of the kernel's the host has to come by and look.
void Loop::arm_kernel(TimePoint next) noexcept {
    armed_ = kernel_->arm(next).ok() ? next : TimePoint::max();
    if (armed_ != next && kernel_->announces()) kernel_->wake();
}

// Work was queued or a deadline was set by the host, not by a callback.
void Loop::outside_change() {
    if (!embedded_ || running_ || state_ != State::open) return;
    const TimePoint next = next_deadline();
    if (next >= announced_) return;
    announced_ = next;
    if (next == TimePoint::min()) {
        kernel_->wake();
    } else {
        arm_kernel(next);
    }
    if (!wake_hook_ || in_hook_) return;
    // On the stack while it runs: it may replace itself.
    auto hook = std::move(wake_hook_);
    const auto changes = hook_changes_;
    in_hook_ = true;
    struct Back {
        Loop& loop;
        Function<void()>& hook;
        std::uint64_t changes;
        ~Back() {
            loop.in_hook_ = false;
            if (loop.hook_changes_ == changes) loop.wake_hook_ = std::move(hook);
        }
    } back{*this, hook, changes};
    call_guarded(hook, "the on_wake hook", no_location());
}

void Loop::on_wake(Function<void()> hook) {
    ++hook_changes_;
    wake_hook_ = std::move(hook);
    if (!wake_hook_) return;
    embedded_ = true;
    if (!running_) hand_to_host();
}

} // namespace weft
