// The loop's sources, its end, and its life inside a foreign main loop.

#include <weft/reactor/log.hpp>
#include <weft/reactor/loop.hpp>
#include <weft/reactor/thread_pool.hpp>

#include "loop_entered.hpp"
#include "watch_impl.hpp"

namespace weft {

// --- Sources --------------------------------------------------------------------------------------------------

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
    if (!in_turn_) outside_change();
}

void Loop::finish_later(detail::Source& source) {
    closing_.push_back(&source);
    if (!in_turn_) outside_change();
}

void Loop::flush_later(detail::Source& source) {
    flushing_.push_back(&source);
    if (!in_turn_) outside_change();
}

Result<void> Loop::rebuild_kernel(std::string_view why) {
    rebuild_wanted_ = false;
    stale_turns_ = 0;
    log(LogLevel::warning, "the kernel's set of descriptors is rebuilt: " + std::string(why));
    if (const Sys reset = kernel_->reset(); !reset.ok()) return Error{reset.code(), "start the kernel over"};
    for (std::uint32_t index = 1; index < slots_.size(); ++index) {
        if (slots_[index].source == nullptr) continue;
        const auto [fd, interest] = slots_[index].source->registration();
        if (fd < 0) continue;
        const Sys added = kernel_->add(fd, Token{slots_[index].generation} << 32 | index, interest);
        if (!added.ok()) return Error{added.code(), "register descriptor " + std::to_string(fd) + " again"};
    }
    return {};
}

Result<void> Loop::after_fork() {
    if (state_ != State::open) throw UsageError("after_fork: the loop is closed");
    if (in_turn_) throw UsageError("after_fork: called inside a callback");
    return rebuild_kernel("after_fork");
}

Loop::Stats Loop::stats() const noexcept {
    return {sources_, timers_.size(), signal_count_, soon_.size + batch_.size, job_count_, turns_, stale_events_};
}

// --- Executor -------------------------------------------------------------------------------------------------

ThreadPool& Loop::executor() {
    check_usable("executor");
    if (!executor_) {
        ThreadPool::Options options;
        options.threads = options_.executor_threads;
        executor_ = std::make_unique<ThreadPool>(options);
    }
    return *executor_;
}

void Loop::begin_job(detail::JobBase& job) noexcept {
    jobs_.push_back(job);
    ++job_count_;
    kernel_->outside_work(+1);
}

void Loop::end_job(detail::JobBase& job) noexcept {
    if (!job.linked()) return;
    job.unlink();
    --job_count_;
    kernel_->outside_work(-1);
}

namespace detail {

JobTicket::~JobTicket() {
    if (!job_) return;
    // If the loop is closed meanwhile, it has completed the future itself, and this is the job's end.
    (void)loop_->post(
        [job = std::move(job_), loop = loop_.get()] {
            loop->loop()->end_job(*job);
            job->deliver();
        },
        Loop::no_location());
}

} // namespace detail

// --- The end --------------------------------------------------------------------------------------------------

void Loop::close() {
    if (state_ != State::open) return;
    if (in_turn_ || running_) throw UsageError("close: called inside a callback of this loop");
    state_ = State::closing;
    in_turn_ = true;
    end_sources();
    executor_.reset();
    while (jobs_.linked()) {
        auto& job = static_cast<detail::JobBase&>(*jobs_.next);
        end_job(job);
        job.abort();
    }
    while (detail::TimerNode* timer = timers_.pop_any()) timer->on_abandoned();
    while (due_.linked()) {
        auto& timer = static_cast<detail::TimerNode&>(*due_.next);
        timers_.fired(timer);
        timer.on_abandoned();
    }
    while (signals_.linked()) static_cast<detail::WatchedSignal*>(signals_.next)->end();
    mailbox_->close();
    destroy_callbacks();
    end_sources(); // what a capture's destructor may have opened
    while (detail::TimerNode* timer = timers_.pop_any()) timer->on_abandoned();
    while (free_timers_ != nullptr) delete std::exchange(free_timers_, free_timers_->next_free);
    while (free_nodes_ != nullptr)
        delete std::exchange(free_nodes_, free_nodes_->next.load(std::memory_order_relaxed));
    wake_hook_.reset();
    kernel_.reset();
    in_turn_ = false;
    state_ = State::closed;
}

void Loop::end_sources() {
    // A connection's last callbacks may open others: a few rounds, then whatever still opens new ones is a program's error.
    constexpr int rounds = 100;
    for (int round = 0; round < rounds && (sources_ != 0 || !closing_.empty()); ++round) {
        for (std::uint32_t index = 1; index < slots_.size(); ++index)
            if (slots_[index].source != nullptr) slots_[index].source->on_loop_closing();
        again_.clear();
        flush();
        finish_closing();
    }
    event_next_ = event_end_ = 0;
    if (sources_ != 0)
        log(LogLevel::error, std::to_string(sources_) + " transports or watches are still open at the loop's end");
}

void Loop::destroy_callbacks() noexcept {
    const auto empty_function = [](detail::CallNode* node) { auto captures = std::move(node->function); };
    do {
        batch_.append(soon_);
        while (batch_.head != nullptr) {
            detail::CallNode* node = batch_.pop();
            empty_function(node);
            recycle(node);
        }
        if (detail::CallNode* node = mailbox_->pop()) batch_.push(node);
    } while (batch_.head != nullptr || soon_.head != nullptr);
}

// --- Embedding ------------------------------------------------------------------------------------------------

Result<int> Loop::pollable_fd() {
    check_usable("pollable_fd");
    const Sys fd = kernel_->pollable_fd();
    if (!fd.ok())
        return Error{fd.code(), "a pollable descriptor for the " + std::string(kernel_->name()) + " kernel"};
    embedded_ = true;
    announced_ = TimePoint::max();
    if (!mailbox_->prepare_to_sleep()) kernel_->wake();
    outside_change();
    return fd.fd();
}

TimePoint Loop::next_deadline() noexcept {
    if (ready_now() || leftovers() || stopping_) return TimePoint::min();
    return timers_.next_deadline();
}

StepResult Loop::step(Budget budget) {
    if (running_ || in_turn_) throw UsageError("step: called inside a callback of this loop");
    const Entered entered(*this, running_, "step");
    thread_ = std::this_thread::get_id();
    embedded_ = true;
    StepResult result;
    allowance_.left = 0;
    allowance_.in_reserve = budget.count;
    allowance_.until = budget.time == Duration::max() ? TimePoint::max()
                                                      : add_saturated(kernel_->now(), budget.time);
    do {
        (void)make_turn(TimePoint::min());
    } while (allowance_.in_reserve != 0 && !stopping_ && (ready_now() || leftovers()));
    stopping_ = false;
    result.ran = allowance_.spent;
    allowance_ = {};
    result.more_ready = ready_now() || leftovers();
    result.next_deadline = timers_.next_deadline();
    // From here on the host sleeps. A message that came in meanwhile, or work that is left, keeps the descriptor
    // readable; a deadline makes it so when it passes.
    if (result.more_ready || !mailbox_->prepare_to_sleep()) {
        kernel_->wake();
        result.more_ready = true;
    }
    if (result.next_deadline != announced_) (void)kernel_->arm(announced_ = result.next_deadline);
    return result;
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
        (void)kernel_->arm(next);
    }
    if (wake_hook_) {
        try {
            wake_hook_();
        } catch (...) {
            report({"the on_wake hook", std::current_exception(), no_location()});
        }
    }
}

} // namespace weft
