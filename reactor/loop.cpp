#include "loop_entered.hpp"
#include "watch_impl.hpp"

#include <weft/reactor/log.hpp>
#include <weft/reactor/loop.hpp>

#include <algorithm>
#include <cstdlib>
#include <cxxabi.h>
#include <sstream>
#include <string>

namespace weft {
namespace {

// More events than this wait for the next turn, which comes at once.
constexpr std::size_t events_per_wait = 512;

// So many connections that had used up their share of an earlier turn go on in every turn, however
// long it takes.
constexpr std::size_t bulk_per_turn = 16;

// A registration that outlived its descriptor (a duplicate in a forked child) shows as events for
// nobody, turn after turn. After this many turns in a row the kernel's set is rebuilt; fewer are
// the normal course of closing things.
constexpr int stale_turns_limit = 100;

bool debug_wanted(const std::optional<bool>& option) {
    if (option) return *option;
    const char* value = std::getenv("WEFT_DEBUG");
    return value != nullptr && *value != '\0' && std::string_view(value) != "0";
}

std::string place(const std::source_location& where) {
    if (where.line() == 0) return {};
    return std::string(" (scheduled at ") + where.file_name() + ":" + std::to_string(where.line()) +
           ")";
}

std::string describe(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& e) {
        return e.what();
    } catch (const Cancelled&) {
        return "cancelled";
    } catch (...) {
        return "an exception that is not a std::exception";
    }
}

LoopOptions& checked(LoopOptions& options) {
    const auto at_least_1 = [](const char* option, auto value) {
        detail::check_option(value >= 1, option, value, "must be at least 1");
    };
    at_least_1("LoopOptions: receive_buffer", options.receive_buffer);
    at_least_1("LoopOptions: reads_per_turn", options.reads_per_turn);
    at_least_1("LoopOptions: bytes_per_turn", options.bytes_per_turn);
    detail::check_not_negative("LoopOptions: bulk_time_per_turn", options.bulk_time_per_turn);
    at_least_1("LoopOptions: accepts_per_turn", options.accepts_per_turn);
    at_least_1("LoopOptions: turns_per_poll", options.turns_per_poll);
    detail::check_not_negative("LoopOptions: slow_callback", options.slow_callback);
    return options;
}

} // namespace

Loop::Loop(LoopOptions options)
    : kernel_(checked(options).kernel ? std::move(options.kernel) : make_default_kernel()),
      events_(events_per_wait), slots_(1),
      mailbox_(std::make_shared<detail::Mailbox>(*this, *kernel_)),
      debug_(debug_wanted(options.debug)), options_(std::move(options)) {}

Loop::~Loop() {
    if (in_turn_ || running_) {
        // Its own frames are on the stack below: going on would run them on freed memory.
        log(LogLevel::error, "a loop was destroyed inside one of its own callbacks");
        std::abort();
    }
    close();
}

// --- The turn ---

bool Loop::refill() noexcept {
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

bool Loop::ready_now() const noexcept {
    return soon_.head != nullptr || front_end_ready_ || !again_.empty() || !closing_.empty() ||
           !flushing_.empty();
}

// Chains of callbacks need not pay for a look at the kernel each time: some turns go without, but
// never for long.
bool Loop::may_skip_poll() noexcept {
    constexpr Duration longest = std::chrono::microseconds(20);
    if ((soon_.head == nullptr && !front_end_ready_) || !again_.empty() || embedded_) return false;
    if (++turns_since_poll_ >= options_.turns_per_poll) return false;
    // A turn of callbacks is short; one of coroutines runs many of them.
    const bool look_at_clock = (turns_since_poll_ & 3) == 0 || front_end_ready_;
    return !look_at_clock || kernel_->now() - polled_at_ < longest;
}

// How long the next wait may take. Before one that nothing could end the front-end has a last word.
TimePoint Loop::sleep_until(TimePoint until) {
    until = std::min(until, timers_.next_deadline());
    if (until == TimePoint::max() && front_end_ && sources_ == 0 && job_count_ == 0 &&
        signal_count_ <= own_signals_ && mailbox_->empty()) [[unlikely]] {
        if (signal_count_ != 0) note_signals();
        if (signals_due_) return TimePoint::min();
        front_end_->on_nothing_to_wait_for();
        if (ready_now() || stopping_) return TimePoint::min();
        until = timers_.next_deadline();
    }
    return until;
}

void Loop::wait(TimePoint until) {
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
TimePoint Loop::trim_blocks(TimePoint until) noexcept {
    constexpr Duration patience = std::chrono::seconds(1);
    if (now_ >= trim_at_) {
        blocks_->trim();
        trim_at_ = TimePoint::max();
        if (!blocks_->wants_trim()) return until;
    }
    if (trim_at_ == TimePoint::max()) trim_at_ = add_saturated(now_, patience);
    return std::min(until, trim_at_);
}

void Loop::renew_receive_buffer() {
    if (!receive_.unique()) {
        receive_ = {};
        if (options_.receive_buffer == detail::BlockPool::large_size) {
            receive_ = blocks_->take_large();
        } else {
            receive_ = Buffer(options_.receive_buffer);
        }
    }
    receive_kept_ = false;
}

Buffer Loop::keep(Bytes bytes) {
    if (bytes.size() < receive_.size() / 8 || !received(bytes)) return Buffer::copy(bytes);
    receive_kept_ = true;
    return receive_.share(static_cast<std::size_t>(bytes.data() - receive_.data()), bytes.size());
}

void Loop::collect() {
    batch_.append(soon_);
    // What is there now: threads that post faster than it is run must not keep the turn from going
    // on.
    if (!mailbox_->empty()) mailbox_->take(posted_);
    if (signal_count_ != 0) note_signals();
}

namespace {

/// Asks for `size` bytes from `at` on. Inlined early: g++ 12 takes a call of a function that only
/// prefetches for one without an effect, and drops it.
[[gnu::always_inline]] inline void fetch(const void* at, std::size_t size) noexcept {
    constexpr std::size_t line = 64;
    for (std::size_t i = 0; i < size; i += line)
        __builtin_prefetch(static_cast<const char*>(at) + i);
}

} // namespace

/// The memory of the events after the one that is handled now: what the next one's path names, the
/// path of the one behind it, the source of the one behind that. With coroutines: in a batch of 512
/// connections each resumed on a stack of its own, whose lines and page table entry the connections
/// before it had pushed out of the cache, for 6 to 8 % of a request's time.
[[gnu::always_inline]] inline void Loop::look_ahead() const noexcept {
    const auto source_of = [this](std::size_t event) {
        return slots_[static_cast<std::uint32_t>(events_[event].token)].source;
    };
    const std::size_t left = event_end_ - event_next_;
    if (left > 2) fetch(source_of(event_next_ + 2), 192);
    if (left > 1) {
        const detail::Source* second = source_of(event_next_ + 1);
        if (second != nullptr && second->path != nullptr) fetch(second->path, 192);
    }
    if (left == 0) return;
    const detail::Source* next = source_of(event_next_);
    // Nothing is mapped at null, which the processor would find out each time.
    if (next == nullptr || next->path == nullptr || next->path->object == nullptr) return;
    fetch(next->path->object, 128);
    fetch(next->path->stack, 448);
}

// The phases return false when the budget ends before they do.

[[gnu::always_inline]] inline bool Loop::dispatch_events() {
    // sources alone are few lines each, and not worth it
    const bool looks_ahead = front_end_ != nullptr;
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
        if (looks_ahead) look_ahead();
        // Tokens come from add_source and slots are never taken away, so the index is good; the use
        // may be over.
        const Slot& slot = slots_[static_cast<std::uint32_t>(event.token)];
        if (slot.generation == event.token >> 32) [[likely]] {
            slot.source->on_ready(event.ready);
        } else {
            note_stale(event_next_ <= fresh_events_);
        }
    }
    return true;
}

bool Loop::fire_timers() {
    while (due_.linked()) {
        if (!spend()) return false;
        auto& timer = static_cast<detail::TimerNode&>(*due_.next);
        timers_.fired(timer);
        timer.on_timer();
    }
    return true;
}

bool Loop::run_callbacks() {
    if (signals_due_ && !deliver_signals()) [[unlikely]]
        return false;
    while (batch_.head != nullptr) {
        if (!spend()) return false;
        detail::CallNode* node = batch_.pop();
        if (!node->function) { // cancelled
            recycle(node);
            continue;
        }
        auto function = std::move(node->function);
        const auto location = node->location;
        recycle(node);
        watched_call(function, "a queued callback", location);
    }
    while (posted_next_ < posted_.size()) {
        if (!spend()) return false;
        auto [function, location] = std::move(posted_[posted_next_++]);
        if (posted_next_ == posted_.size()) forget_posted();
        watched_call(function, "a queued callback", location);
    }
    return true;
}

bool Loop::run_coroutines() {
    if (!front_end_ready_) return true;
    if (!spend()) return false; // for the first of them
    front_end_ready_ = false;
    work_queued_ = ready_now();
    front_end_->run();
    return true;
}

void Loop::forget_posted() noexcept {
    posted_.clear();
    posted_next_ = 0;
}

void Loop::note_signals() {
    const std::uint64_t seen = kernel_->take_signals();
    if (seen == 0) return;
    for (auto* node = signals_.next; node != &signals_; node = node->next) {
        auto& watched = static_cast<detail::WatchedSignal&>(*node);
        if ((seen >> (watched.number() - 1)) & 1) watched.due = signals_due_ = true;
    }
}

bool Loop::deliver_signals() {
    // A callback may end any of these watches or add new ones, so the walk starts over after each.
    for (auto* node = signals_.next; node != &signals_;) {
        auto& watched = static_cast<detail::WatchedSignal&>(*node);
        node = node->next;
        if (!watched.due) continue;
        if (!spend()) return false;
        watched.due = false;
        watched.deliver();
        node = signals_.next;
    }
    signals_due_ = false;
    return true;
}

// Those that come meanwhile are for the next time. One that throws has had its turn, and may be
// gone.
template<class Each>
bool Loop::call_each(SourceQueue& queue, Each each) {
    if (queue.next == queue.now.size()) {
        queue.now.clear();
        queue.next = 0;
        queue.now.swap(queue.coming);
    }
    while (queue.next < queue.now.size()) {
        if (!spend()) return false;
        each(*queue.now[queue.next++]);
    }
    return true;
}

bool Loop::flush() {
    return flushing_.empty() ||
           call_each(flushing_, [](detail::Source& source) { source.on_flush(); });
}

bool Loop::finish_closing() {
    return closing_.empty() ||
           call_each(closing_, [](detail::Source& source) { source.on_finish(); });
}

void Loop::settle_activity() noexcept {
    const TimePoint time = now();
    while (active_.linked()) {
        auto& activity = static_cast<detail::Activity&>(*active_.next);
        activity.unlink();
        activity.at = time;
    }
}

/// One turn: the phases of the loop, in the words of its documentation. One that its budget cut
/// short, or that a `FatalError` left, goes on where it stopped, without waiting.
bool Loop::go_on() {
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
        phase_ = Phase::coroutines;
        [[fallthrough]];
    case Phase::coroutines:
        if (!run_coroutines()) return false;
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

void Loop::turn(TimePoint wait_until) {
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

// --- Running ---

std::size_t Loop::make_turn(TimePoint wait_until) {
    now_ = kernel_->now(); // the first turn may do without a look at the kernel
    struct InTurn {
        bool& flag;
        explicit InTurn(bool& f) : flag(f) { flag = true; }
        ~InTurn() { flag = false; }
    } in_turn(in_turn_);
    const std::size_t before = allowance_.left;
    turn(wait_until);
    return before - allowance_.left;
}

void Loop::run_turns(bool until_idle) {
    const Entered entered(*this, until_idle ? "run_until_idle" : "run");
    now_ = kernel_->now(); // the first turn may do without a look at the kernel
    in_turn_ = true;
    // SIZE_MAX callbacks are more than a process lives to see; the allowance is renewed all the
    // same.
    do {
        if (until_idle && idle()) break;
        allowance_.left = SIZE_MAX;
        turn(stopping_ ? TimePoint::min() : TimePoint::max());
    } while (!stopping_);
}

void Loop::run() {
    run_turns(false);
}
void Loop::run_until_idle() {
    run_turns(true);
}

std::size_t Loop::run_once(bool wait) {
    const Entered entered(*this, "run_once");
    return make_turn(wait ? TimePoint::max() : TimePoint::min());
}

void Loop::run_until_done(detail::FutureStateBase& state) {
    check_usable("run_until");
    if (state.loop() != this) throw UsageError("run_until: the future belongs to another loop");
    if (state.done()) return;
    // The callback may be queued already when something else ends the run; it must not stop the
    // next one.
    const auto waiting = std::make_shared<bool>(true);
    const CallbackId id = state.add_callback(
        [this, waiting](detail::FutureStateBase&) {
            if (*waiting) stop();
        },
        {});
    struct Removed {
        detail::FutureStateBase& state;
        CallbackId id;
        bool& waiting;
        ~Removed() {
            waiting = false;
            state.remove_callback(id);
        }
    } removed{state, id, *waiting};
    run();
    if (!state.done())
        throw std::system_error(Errc::aborted, "run_until: stopped before the future was done");
}

void Loop::stop() noexcept {
    stopping_ = true;
}

Loop* Loop::current() noexcept {
    return Entered::current;
}

bool Loop::could_call_back() const noexcept {
    return sources_ != 0 || timers_.size() != 0 || signal_count_ > own_signals_ ||
           job_count_ != 0 || ready_now() || leftovers() || !mailbox_->empty() ||
           (front_end_ && front_end_->alive());
}

bool Loop::idle() const noexcept {
    return sources_ == 0 && timers_.size() == 0 && signal_count_ == 0 && job_count_ == 0 &&
           !ready_now() && !leftovers() && mailbox_->empty();
}

// --- Time and callbacks ---

Timer Loop::call_at(TimePoint when, Function<void()> function, std::source_location location) {
    check_usable("call_at");
    if (free_timers_ == nullptr) {
        auto made = std::make_unique<detail::TimerRecord>();
        made->loop = this;
        timer_records_.push_back(made.get());
        free_timers_ = made.release();
    }
    detail::TimerRecord* record = std::exchange(free_timers_, free_timers_->next_free);
    record->function = std::move(function);
    record->interval = Duration(-1);
    record->location = location;
    record->wanted = true;
    Timer timer(record);
    arm(*record, when);
    return timer;
}

Timer Loop::call_every(Duration interval, Function<void()> function,
                       std::source_location location) {
    if (interval < Duration::zero()) throw UsageError("call_every: the interval is negative");
    Timer timer = call_at(deadline_in(interval), std::move(function), location);
    timer.record_->interval = interval;
    return timer;
}

void Loop::arm(detail::TimerNode& node, TimePoint when) {
    timers_.add(node, when);
    if (!in_turn_) outside_change();
}

void Loop::recycle(detail::TimerRecord* record) noexcept {
    record->next_free = free_timers_;
    free_timers_ = record;
}

detail::CallNode* Loop::new_node() {
    if (state_ != State::open || debug_) [[unlikely]] {
        check_usable("call_soon");
        // what is still queued is destroyed unrun, and so is this
        if (state_ == State::closing) return nullptr;
    }
    detail::CallNode* node = free_nodes_;
    if (node == nullptr) return new detail::CallNode;
    free_nodes_ = std::exchange(node->next, nullptr);
    return node;
}

void Loop::recycle(detail::CallNode* node) noexcept {
    node->sequence = 0;
    node->next = free_nodes_;
    free_nodes_ = node;
}

void Loop::CallQueue::push(detail::CallNode* node) noexcept {
    if (tail) {
        tail->next = node;
    } else {
        head = node;
    }
    tail = node;
    ++size;
}

detail::CallNode* Loop::CallQueue::pop() noexcept {
    detail::CallNode* node = head;
    head = std::exchange(node->next, nullptr);
    if (head == nullptr) tail = nullptr;
    --size;
    return node;
}

void Loop::CallQueue::append(CallQueue& other) noexcept {
    if (other.head == nullptr) return;
    if (tail) {
        tail->next = other.head;
    } else {
        head = other.head;
    }
    tail = other.tail;
    size += other.size;
    other = {};
}

bool Handle::pending() const noexcept {
    return node_ != nullptr && node_->sequence == sequence_ && static_cast<bool>(node_->function);
}

bool Handle::cancel() noexcept {
    if (!pending()) return false;
    auto captures = std::move(node_->function);
    return true;
}

// --- What went wrong ---

void Loop::check_duration(TimePoint start, std::string_view what,
                          std::source_location scheduled) const {
    if (scheduled.line() == 0) return; // the loop's own; what it calls is looked at by itself
    const Duration took = kernel_->now() - start;
    if (took <= options_.slow_callback) return;
    log(LogLevel::warning,
        std::string(what) + " took " +
            std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()) +
            " ms" + place(scheduled));
}

void Loop::report_exception(std::string_view message, std::source_location scheduled) {
    try {
        throw;
    } catch (const FatalError&) {
        if (state_ == State::open) throw;
        // closing is not `run`, and goes on to its end
        report({message, std::current_exception(), scheduled});
    } catch (abi::__forced_unwind&) { // pthread_cancel: must not be stopped
        throw;
    } catch (...) {
        report({message, std::current_exception(), scheduled});
    }
}

void Loop::report(const Unhandled& unhandled) noexcept {
    try {
        if (unhandled_) {
            // On the stack while it runs: it may replace itself, and what goes wrong inside it is
            // logged.
            auto handler = std::move(unhandled_);
            const auto changes = unhandled_changes_;
            struct Back {
                Loop& loop;
                Function<void(const Unhandled&)>& handler;
                std::uint64_t changes;
                ~Back() {
                    if (loop.unhandled_changes_ == changes) loop.unhandled_ = std::move(handler);
                }
            } back{*this, handler, changes};
            try {
                handler(unhandled);
                return;
            } catch (...) {
                log(LogLevel::error, "the handler given to on_unhandled threw: " +
                                         describe(std::current_exception()));
            }
        }
        if (!unhandled_limit_.admits(LogLevel::error, now())) return;
        log(LogLevel::error,
            std::string(unhandled.message) + place(unhandled.scheduled) +
                (unhandled.exception ? ": " + describe(unhandled.exception) : std::string()));
    } catch (...) {
        log(LogLevel::error, "an unhandled exception could not be described: out of memory");
    }
}

void Loop::on_unhandled(Function<void(const Unhandled&)> handler) {
    ++unhandled_changes_;
    unhandled_ = std::move(handler);
}

void Loop::log_limited(LogLevel level, std::string_view text) noexcept {
    if (peers_limit_.admits(level, now())) log(level, text);
}

void Loop::check_usable(std::string_view what) const {
    if (state_ == State::closed) throw UsageError(std::string(what) + ": the loop is closed");
    if (!debug_) return;
    const auto owner = mailbox_->owner();
    if (owner == std::thread::id() || owner == std::this_thread::get_id()) return;
    std::ostringstream text;
    text << what << ": called on thread " << std::this_thread::get_id()
         << ", but the loop belongs to thread " << owner << "; use post()";
    throw UsageError(text.str());
}

// Nothing is stale of what this loop had put in line itself, and not what the kernel told of before
// this turn removed it.
void Loop::note_stale(bool by_kernel) {
    if (!by_kernel) return;
    ++stale_events_;
    if (removed_ || stale_turn_ == turns_) return;
    stale_turns_ = stale_turn_ + 1 == turns_ ? stale_turns_ + 1 : 1;
    stale_turn_ = turns_;
    if (stale_turns_ >= stale_turns_limit) rebuild_wanted_ = true;
}

} // namespace weft
