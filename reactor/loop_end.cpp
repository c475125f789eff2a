#include <weft/reactor/log.hpp>
#include <weft/reactor/loop_core.hpp>

#include <string>

// The end of a loop: everything that is alive is ended and told so.

namespace weft::detail {

void LoopCore::close() {
    if (state_ != State::open) return;
    if (jobs_.on_own_thread())
        throw UsageError("close: called by a job of the loop's own executor");
    if (in_turn_ || running_ || host_.in_hook)
        throw UsageError("close: called inside a callback of this loop");
    mailbox_->begin_closing();
    jobs_.begin_closing();
    state_ = State::closing;
    in_turn_ = true;
    // Only when all else has ended are running jobs waited for, because they may wait for some of
    // it; and one by one, because they may wait for each other's futures.
    for (;;) {
        const std::uint32_t seen = mailbox_->given_back();
        end_everything();
        if (jobs_.running() == 0) break;
        if (seen == mailbox_->given_back()) mailbox_->wait_for_more(seen);
    }
    end_everything(); // of the jobs that came back meanwhile
    mailbox_->close();
    end_callbacks();
    abandon_futures();
    reporter_.tell_suppressed();
    if (sources_.size() != 0)
        log(LogLevel::error, std::to_string(sources_.size()) +
                                 " transports or watches are still open at the loop's end");
    jobs_.close();
    timer_records_.let_go();
    on_wake(nullptr);
    front_ends_.clear();
    now_ = kernel_->now();
    kernel_.reset();
    in_turn_ = false;
    state_ = State::closed;
}

// What is ended may start something else in its last callbacks and destructors. A few rounds of
// that are fine; what still goes on then is a program's error, or waits for a job that runs.
void LoopCore::end_everything() noexcept {
    constexpr int rounds = 100;
    for (int round = 0; round < rounds && (round == 0 || anything_alive()); ++round) {
        for (const auto& front_end : front_ends_)
            front_end->on_loop_closing();
        end_sources();
        jobs_.abort(false);
        end_callbacks();
        abandon_futures();
    }
}

bool LoopCore::anything_alive() const noexcept {
    return front_end_alive() || sources_.size() != 0 || timers_.size() != 0 ||
           signals_.size() != 0 || jobs_.size() != jobs_.running() || ready_now() || leftovers() ||
           pending_futures_.linked() || !mailbox_->empty();
}

void LoopCore::abandon_futures() noexcept {
    jobs_.keep_futures_of_running();
    FutureStateBase::abandon_all(pending_futures_);
}

// Timers, signals and what is queued: destroyed without being called.
void LoopCore::end_callbacks() noexcept {
    while (TimerNode* timer = timers_.pop_any())
        timer->on_abandoned();
    while (due_.linked()) {
        auto& timer = static_cast<TimerNode&>(*due_.next);
        timers_.fired(timer);
        timer.on_abandoned();
    }
    signals_.close();
    calls_.begin_turn();
    while (calls_.pending()) {
        const auto captures = calls_.take();
    }
    // Each by itself, for what its captures do at their end may queue or post more.
    do {
        while (posted_next_ < posted_.size()) {
            const auto captures = std::move(posted_[posted_next_++].function);
        }
        forget_posted();
        mailbox_->take(posted_);
    } while (!posted_.empty());
}

void LoopCore::end_sources() {
    sources_.for_each([](Source& source, Token) { source.on_loop_closing(); });
    again_.clear();
    event_next_ = event_end_ = 0;
    // Once for what an earlier turn has left of each, and once for what came since.
    for (int round = 0; round < 2; ++round) {
        (void)flush();
        (void)finish_closing();
    }
}

} // namespace weft::detail
