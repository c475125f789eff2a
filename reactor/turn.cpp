#include <weft/reactor/log.hpp>
#include <weft/reactor/loop_core.hpp>

#include <algorithm>

// One turn of the loop: its phases, in the words of the documentation of `Loop`.

namespace weft::detail {
namespace {

// So many connections that had used up their share of an earlier turn go on in every turn, however
// long it takes.
constexpr std::size_t bulk_per_turn = 16;

// A registration that outlived its descriptor (a duplicate in a forked child) shows as events for
// nobody, turn after turn. After this many turns in a row the kernel's set is rebuilt; fewer are
// the normal course of closing things.
constexpr int stale_turns_limit = 100;

} // namespace

bool LoopCore::refill() noexcept {
    if (allowance_.in_reserve == 0) return false;
    // The first is granted however little time there is, so that steps get somewhere.
    if (allowance_.until != TimePoint::max() && allowance_.spent != 0 &&
        kernel_->now() >= allowance_.until) {
        allowance_.in_reserve = 0;
        return false;
    }
    --allowance_.in_reserve;
    ++allowance_.spent;
    allowance_.left = 1;
    return true;
}

// Chains of callbacks need not pay for a look at the kernel each time: some turns go without, but
// never for long.
bool LoopCore::may_skip_poll() noexcept {
    constexpr Duration longest = std::chrono::microseconds(20);
    if ((!calls_.queued() && !front_end_ready_) || !again_.empty() || host_.embedded) return false;
    if (++turns_since_poll_ >= options_.turns_per_poll) return false;
    // A turn of callbacks is short; one of coroutines runs many of them.
    const bool look_at_clock = (turns_since_poll_ & 3) == 0 || front_end_ready_;
    return !look_at_clock || kernel_->now() - polled_at_ < longest;
}

// How long the next wait may take. Before one that nothing could end the front-ends have a last
// word.
TimePoint LoopCore::sleep_until(TimePoint until) {
    until = std::min(until, timers_.next_deadline());
    if (until == TimePoint::max() && !front_ends_.empty() && sources_.size() == 0 &&
        jobs_.size() == 0 && !signals_.awaited() && mailbox_->empty()) [[unlikely]] {
        if (signals_.size() != 0) signals_.note(kernel_->take_signals());
        if (signals_.due()) return TimePoint::min();
        for (const auto& front_end : front_ends_)
            front_end->on_nothing_to_wait_for();
        if (ready_now() || stopping_) return TimePoint::min();
        until = timers_.next_deadline();
    }
    return until;
}

void LoopCore::wait(TimePoint until) {
    event_next_ = event_end_ = 0;
    if (ready_now() || stopping_) {
        if (may_skip_poll()) return;
        until = TimePoint::min();
    } else {
        until = sleep_until(until);
    }
    const bool sleeps = until != TimePoint::min();
    if (blocks_->wants_trim()) [[unlikely]]
        until = sleeps ? trim_blocks(until) : (trim_blocks(until), until);
    if (sleeps && !mailbox_->prepare_to_sleep()) until = TimePoint::min();
    const Sys got = kernel_->wait({events_.data(), events_per_wait}, until);
    mailbox_->awake();
    turns_since_poll_ = 0;
    polled_at_ = now_ = kernel_->now();
    if (!got.ok()) {
        if (got.error() == EDEADLK) throw std::system_error(Errc::deadlock, "run");
        throw std::system_error(got.code(), "wait for events");
    }
    event_end_ = fresh_events_ = got.count();
    removed_ = false;
    more_events_ = event_end_ == events_per_wait;
    if (!again_.empty()) {
        // Connections that used up their share of an earlier turn line up behind the new events.
        if (events_.size() < event_end_ + again_.size()) events_.resize(event_end_ + again_.size());
        for (const Event& event : again_)
            events_[event_end_++] = event;
        again_.clear();
    }
}

// Blocks that were needed in a rush, and that a second later nobody has asked for, go back to the
// system.
TimePoint LoopCore::trim_blocks(TimePoint until) noexcept {
    constexpr Duration patience = std::chrono::seconds(1);
    if (now_ >= trim_at_) {
        blocks_->trim();
        trim_at_ = TimePoint::max();
        if (!blocks_->wants_trim()) return until;
    }
    if (trim_at_ == TimePoint::max()) trim_at_ = add_saturated(now_, patience);
    return std::min(until, trim_at_);
}

void LoopCore::collect() {
    calls_.begin_turn();
    // What is there now: threads that post faster than it is run must not keep the turn from going
    // on.
    if (!mailbox_->empty()) mailbox_->take(posted_);
    if (signals_.size() != 0) signals_.note(kernel_->take_signals());
}

// Most events of a batch have three behind them.
[[gnu::always_inline]] inline void LoopCore::look_ahead(const FrontEnd& front_end) const noexcept {
    const Event* next = events_.data() + event_next_;
    const std::size_t left = event_end_ - event_next_;
    const auto source = [&](std::size_t at) { return sources_.in_slot(next[at].token); };
    if (left > 2) [[likely]]
        return front_end.look_ahead(source(0), source(1), source(2));
    if (left > 0) front_end.look_ahead(source(0), left > 1 ? source(1) : nullptr, nullptr);
}

// The phases return false when the budget ends before they do.

[[gnu::always_inline]] inline bool LoopCore::dispatch_events() {
    const FrontEnd* looks_ahead = front_ends_.empty() ? nullptr : front_ends_.front().get();
    while (event_next_ < event_end_) {
        // What is new comes before what had its share of an earlier turn.
        if (event_next_ >= fresh_events_ + bulk_per_turn && turn_is_long()) [[unlikely]] {
            again_.insert(again_.begin(),
                          events_.begin() + static_cast<std::ptrdiff_t>(event_next_),
                          events_.begin() + static_cast<std::ptrdiff_t>(event_end_));
            event_next_ = event_end_;
            break;
        }
        if (!spend()) return false;
        const Event& event = events_[event_next_++];
        if (looks_ahead != nullptr) look_ahead(*looks_ahead);
        // Tokens come from the table of sources; what the event is for may be gone.
        if (Source* source = sources_.of_event(event.token)) [[likely]] {
            source->on_ready(event.ready);
        } else {
            note_stale(event_next_ <= fresh_events_);
        }
    }
    return true;
}

bool LoopCore::fire_timers() {
    while (due_.linked()) {
        if (!spend()) return false;
        auto& timer = static_cast<TimerNode&>(*due_.next);
        timers_.fired(timer);
        timer.on_timer();
    }
    return true;
}

bool LoopCore::run_callbacks() {
    const auto may_go_on = [this] { return spend(); };
    if (signals_.due() && !signals_.deliver(may_go_on)) [[unlikely]]
        return false;
    while (calls_.pending()) {
        if (!spend()) return false;
        auto [function, location] = calls_.take();
        if (function) call_guarded(function, "a queued callback", location);
    }
    while (posted_next_ < posted_.size()) {
        if (!spend()) return false;
        auto [function, location] = std::move(posted_[posted_next_++]);
        if (posted_next_ == posted_.size()) forget_posted();
        call_guarded(function, "a queued callback", location);
    }
    return true;
}

// Those that ask for it meanwhile are for the next turn.
bool LoopCore::run_front_ends() {
    if (!front_end_ready_) return true;
    for (const auto& front_end : front_ends_) {
        if (!front_end->wants_run_) continue;
        if (!spend()) return false; // for the first thing that it runs
        front_end->wants_run_ = front_end_ready_ = false;
        for (const auto& other : front_ends_)
            front_end_ready_ = front_end_ready_ || other->wants_run_;
        work_queued_ = ready_now();
        front_end->run();
    }
    return true;
}

void LoopCore::forget_posted() noexcept {
    posted_.clear();
    posted_next_ = 0;
}

bool LoopCore::flush() {
    return flushing_.empty() || flushing_.call_each([this] { return spend(); },
                                                    [](Source& source) { source.on_flush(); });
}

bool LoopCore::finish_closing() {
    return closing_.empty() || closing_.call_each([this] { return spend(); },
                                                  [](Source& source) { source.on_finish(); });
}

void LoopCore::settle_activity() noexcept {
    const TimePoint time = now();
    while (active_.linked()) {
        auto& activity = static_cast<Activity&>(*active_.next);
        activity.unlink();
        activity.at = time;
    }
}

/// One turn: the phases of the loop, in the words of its documentation. One that its budget cut
/// short, or that a `FatalError` left, goes on where it stopped, without waiting.
bool LoopCore::go_on() {
    switch (phase_) {
    case Phase::wait:
    case Phase::events:
        phase_ = Phase::events;
        if (!dispatch_events()) return false;
        timers_.expire(now_, due_);
        phase_ = Phase::timers;
        [[fallthrough]];
    case Phase::timers:
        if (!fire_timers()) return false;
        phase_ = Phase::callbacks;
        [[fallthrough]];
    case Phase::callbacks:
        if (!run_callbacks()) return false;
        phase_ = Phase::front_ends;
        [[fallthrough]];
    case Phase::front_ends:
        if (!run_front_ends()) return false;
        phase_ = Phase::flush;
        [[fallthrough]];
    case Phase::flush:
        if (!flush()) return false;
        phase_ = Phase::closing;
        [[fallthrough]];
    case Phase::closing:
        if (!finish_closing()) return false;
        phase_ = Phase::wait;
    }
    return true;
}

void LoopCore::turn(TimePoint wait_until) {
    if (!leftovers()) {
        ++turns_;
        wait(wait_until);
        collect();
    }
    const bool whole = go_on();
    if (active_.linked()) settle_activity();
    if (rebuild_wanted_ && whole) {
        log(LogLevel::warning,
            "events for closed descriptors keep coming: the kernel's set of them is rebuilt");
        if (const auto done = rebuild_kernel(); !done.ok())
            log(LogLevel::error, done.error().message());
    }
}

// Nothing is stale of what this loop had put in line itself, and not what the kernel told of before
// this turn removed it.
void LoopCore::note_stale(bool by_kernel) {
    if (!by_kernel) return;
    ++stale_events_;
    if (removed_ || stale_turn_ == turns_) return;
    stale_turns_ = stale_turn_ + 1 == turns_ ? stale_turns_ + 1 : 1;
    stale_turn_ = turns_;
    if (stale_turns_ >= stale_turns_limit) rebuild_wanted_ = true;
}

} // namespace weft::detail
