#pragma once

#include <weft/reactor/buffer_pool.hpp>
#include <weft/reactor/call_queue.hpp>
#include <weft/reactor/cork.hpp>
#include <weft/reactor/executor_jobs.hpp>
#include <weft/reactor/loop.hpp>
#include <weft/reactor/receive_buffer.hpp>
#include <weft/reactor/reporter.hpp>
#include <weft/reactor/signal_watches.hpp>
#include <weft/reactor/source.hpp>
#include <weft/reactor/source_table.hpp>
#include <weft/reactor/timer_queue.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string_view>
#include <utility>
#include <vector>

#pragma GCC visibility push(default)

namespace weft::detail {

/// The loop as transports and front-ends know it: `Loop` shows users what they may do, and this is
/// what does it. One per loop, from `core_of`; for the loop's thread.
class LoopCore {
public:
    LoopCore(Loop& loop, LoopOptions options);
    /// `Loop`'s destructor.
    void end();
    LoopCore(const LoopCore&) = delete;
    LoopCore& operator=(const LoopCore&) = delete;

    Loop& loop() noexcept { return loop_; }
    const std::shared_ptr<Mailbox>& mailbox() const noexcept { return mailbox_; }
    Kernel& kernel() noexcept { return *kernel_; }
    Resolver& resolver() noexcept { return *options_.resolver; }
    const LoopOptions& options() const noexcept { return options_; }
    bool debug() const noexcept { return debug_; }

    // Sources: what has a place in the loop, and the phases that they ask for.
    SourceTable& sources() noexcept { return sources_; }
    void remove_source(Token token) noexcept {
        removed_ = true;
        sources_.remove(token);
    }
    /// `on_ready(ready)` again in the next turn.
    void again(Token token, std::uint32_t ready);
    /// `on_finish()` in this turn's closing phase, or the next one's.
    void finish_later(Source& source);
    /// `on_flush()` in this turn's flush phase; outside a turn, the next one's.
    void flush_later(Source& source);

    // The turn, and what one source may do in it.
    bool in_turn() const noexcept { return in_turn_; }
    /// Whether a `step` bounds what may be done: then one thing at a time, and `spend` before each
    /// further one.
    bool limited() const noexcept { return limited_; }
    /// Counts one thing of the budget. False: there is none left, and it is for the next turn.
    bool spend() {
        if (allowance_.left == 0 && !refill()) [[unlikely]]
            return false;
        --allowance_.left;
        return true;
    }
    /// How often one source may read, or accept, before it stands in line again.
    int reads_per_turn() const noexcept { return limited_ ? 1 : options_.reads_per_turn; }
    int accepts_per_turn() const noexcept { return limited_ ? 1 : options_.accepts_per_turn; }
    /// Whether this turn has been going on for so long that bulk waits for a later one.
    bool turn_is_long() noexcept { return kernel_->now() - now_ >= options_.bulk_time_per_turn; }
    /// Whether the kernel may know of more events than this turn was told of: a source that was not
    /// heard may still be.
    bool more_events() const noexcept { return more_events_; }
    /// Whether something was queued for the next turn since the front-ends' phase began.
    bool work_queued() const noexcept { return work_queued_; }

    // Time.
    TimePoint now() noexcept { return kernel_ ? kernel_->now() : now_; }
    TimePoint deadline_in(Duration delay) noexcept { return add_saturated(now(), delay); }
    TimerQueue& timers() noexcept { return timers_; }
    void arm(TimerNode& node, TimePoint when);
    TimerRecords& timer_records() noexcept { return timer_records_; }
    /// Something happens now. The clock is read when the turn ends, once for all of them: what
    /// blocks the turn, a callback that computes, does not count as time in which nothing happened.
    void note_activity(Activity& activity) noexcept {
        if (!in_turn_) {
            activity.at = now();
        } else if (!activity.linked()) {
            active_.push_back(activity);
        }
    }

    // Memory that the connections share.
    ReceiveBuffer& receive_buffer() noexcept { return receive_buffer_; }
    /// Blocks for input and for output that waits.
    BlockPool& blocks() noexcept { return *blocks_; }
    /// Fewer bytes are not worth the block that they would keep.
    static constexpr std::size_t worth_a_block = 8 * 1024;
    /// Small writes of one connection gather here.
    Cork& cork() noexcept { return cork_; }
    /// What the datagram endpoints share: made by the first of them and gone with the last.
    std::weak_ptr<void>& datagram_memory() noexcept { return datagram_memory_; }

    // Front-ends.
    void add_front_end(std::unique_ptr<FrontEnd> front_end);
    /// The one of type `F`, null if there is none.
    template<class F>
    F* front_end() const noexcept {
        for (const auto& front_end : front_ends_)
            if (front_end->kind_ == &F::kind) return static_cast<F*>(front_end.get());
        return nullptr;
    }
    /// `FrontEnd::run` in this turn's phase for it, or the next one's.
    void run_front_end(FrontEnd& front_end) noexcept {
        front_end.wants_run_ = front_end_ready_ = true;
        if (!in_turn_) outside_change();
    }

    // What users ask for through `Loop`, which has the contracts.
    void run_turns(bool until_idle);
    void run_until_done(FutureStateBase& state);
    std::size_t run_once(bool wait);
    void stop() noexcept { stopping_ = true; }
    void close();
    bool running() const noexcept { return running_; }
    bool closed() const noexcept { return state_ == State::closed; }
    bool closing() const noexcept { return state_ != State::open; }
    Handle call_soon(Function<void()>&& function, std::source_location location);
    Timer call_at(TimePoint when, Function<void()>&& function, std::source_location location);
    Timer call_every(Duration interval, Function<void()>&& function, std::source_location location);
    Result<Watch> watch(int fd, std::source_location location);
    Result<SignalWatch> on_signal(int number, Function<void()> function,
                                  std::source_location location);
    SignalWatches& signals() noexcept { return signals_; }
    ExecutorJobs& jobs() noexcept { return jobs_; }
    void begin_future(ListNode& state);
    Result<int> pollable_fd();
    StepResult step(Loop::Budget budget);
    TimePoint next_deadline() noexcept;
    void on_wake(Function<void()> hook);
    Result<void> after_fork();
    Loop::Stats stats() const noexcept;

    // What goes wrong.
    Reporter& reporter() noexcept { return reporter_; }
    void report(const Unhandled& unhandled) noexcept { reporter_.report(unhandled, now()); }
    /// To be called in a catch block: rethrows a `FatalError`, hands anything else to
    /// `on_unhandled`.
    void report_exception(std::string_view message, std::source_location scheduled = {});
    /// Logs what others can cause as often as they like: `LogLimit::usual` messages a second pass,
    /// the rest is counted.
    void log_limited(LogLevel level, std::string_view text) noexcept {
        reporter_.log_limited(level, text, now());
    }
    /// Throws `UsageError` if the loop is closed, or (debug mode) if it belongs to another thread.
    /// It belongs to the one that runs it, as long as it runs; an embedded one to the one that
    /// stepped it last. A loop that does not run may be set up by any thread.
    void check_usable(std::string_view what) const;
    /// Calls `function`. What it throws goes to `report_exception`; in debug mode a slow one is
    /// reported.
    template<class F>
    void call_guarded(F&& function, std::string_view what, std::source_location scheduled) {
        const TimePoint start = debug_ ? kernel_->now() : TimePoint();
        try {
            function();
        } catch (...) {
            report_exception(what, scheduled);
        }
        if (debug_) [[unlikely]]
            check_duration(start, what, scheduled);
    }

    /// Marks the loop as running, on this thread, for as long as it lives.
    class Entered;

private:
    enum class State : std::uint8_t { open, closing, closed };
    enum class Phase : std::uint8_t { wait, events, timers, callbacks, front_ends, flush, closing };
    /// What a turn may still do. `run` has no bound; `step` hands it out one by one, to look at the
    /// clock each time.
    struct Allowance {
        std::size_t left = SIZE_MAX; ///< may be spent without asking
        std::size_t in_reserve = 0;  ///< may be moved to `left` while there is time
        TimePoint until = TimePoint::max();
        std::size_t spent = 0; ///< of the reserve
    };

    /// More events than this wait for the next turn, which comes at once.
    static constexpr std::size_t events_per_wait = 512;

    // The turn (turn.cpp).
    void turn(TimePoint wait_until);
    std::size_t make_turn(TimePoint wait_until);
    bool go_on();
    void wait(TimePoint until);
    TimePoint sleep_until(TimePoint until);
    void collect();
    void look_ahead(const FrontEnd& front_end) const noexcept;
    bool dispatch_events();
    bool fire_timers();
    bool run_callbacks();
    bool run_front_ends();
    bool flush();
    bool finish_closing();
    void settle_activity() noexcept;
    bool refill() noexcept;
    bool may_skip_poll() noexcept;
    TimePoint trim_blocks(TimePoint until) noexcept;
    void note_stale(bool by_kernel);
    void forget_posted() noexcept;
    bool ready_now() const noexcept {
        return calls_.queued() || front_end_ready_ || !again_.empty() || !closing_.empty() ||
               !flushing_.empty();
    }
    /// Whether a turn was cut short.
    bool leftovers() const noexcept { return phase_ != Phase::wait; }

    bool could_call_back() const noexcept;
    bool idle() const noexcept;
    bool front_end_alive() const noexcept;
    void check_duration(TimePoint start, std::string_view what,
                        std::source_location scheduled) const;
    Result<void> rebuild_kernel();

    // The end (loop_end.cpp).
    void end_everything() noexcept;
    void end_sources();
    void end_callbacks() noexcept;
    void abandon_futures() noexcept;
    bool anything_alive() const noexcept;

    // Embedding (embedding.cpp).
    void outside_change();
    void hand_to_host() noexcept;
    void arm_kernel(TimePoint next) noexcept;

    struct CloseBlocks {
        void operator()(BlockPool* pool) const noexcept { pool->close(); }
    };

    // Hot: touched every turn, kept together.
    std::unique_ptr<BlockPool, CloseBlocks> blocks_{BlockPool::make()};
    std::unique_ptr<Kernel> kernel_;
    std::vector<Event> events_;
    std::size_t event_next_ = 0;
    std::size_t event_end_ = 0;
    std::size_t fresh_events_ = 0; // the first ones are the kernel's, the others those of `again_`
    SourceTable sources_;
    std::vector<Event> again_;
    bool work_queued_ = false;
    CallQueue calls_;
    std::vector<Posted> posted_; // this turn's, of which the first `posted_next_` have run
    std::size_t posted_next_ = 0;
    TimerQueue timers_;
    ListNode due_;
    ListNode active_; // since the turn began
    SourceQueue closing_;
    SourceQueue flushing_;
    TimePoint now_{};
    Allowance allowance_;
    std::shared_ptr<Mailbox> mailbox_;
    ReceiveBuffer receive_buffer_;
    Cork cork_;
    std::uint64_t turns_ = 0;
    int turns_since_poll_ = 0;
    bool front_end_ready_ = false;
    bool more_events_ = false;
    Phase phase_ = Phase::wait; // where a turn that was cut short goes on
    bool limited_ = false;
    bool removed_ = false; // a source, since the last look at the kernel
    bool in_turn_ = false;
    bool running_ = false;
    bool stopping_ = false;
    bool debug_ = false;
    State state_ = State::open;

    LoopOptions options_;
    Loop& loop_;
    ListNode pending_futures_;
    TimerRecords timer_records_;
    std::uint64_t stale_events_ = 0;
    int stale_turns_ = 0;
    std::uint64_t stale_turn_ = 0;
    bool rebuild_wanted_ = false;
    TimePoint polled_at_{};
    /// when blocks that nobody needs go back to the system
    TimePoint trim_at_ = TimePoint::max();
    SignalWatches signals_;
    ExecutorJobs jobs_{*this};
    std::weak_ptr<void> datagram_memory_;
    std::vector<std::unique_ptr<FrontEnd>> front_ends_;
    Reporter reporter_;

    /// What the host of an embedded loop knows.
    struct Host {
        bool embedded = false;                  ///< there is one
        TimePoint announced = TimePoint::max(); ///< the next deadline that it was told
        /// when the kernel makes the pollable descriptor readable
        TimePoint armed = TimePoint::max();
        Function<void()> wake_hook;
        std::uint64_t hook_changes = 0;
        bool in_hook = false;
    } host_;
};

// Inlined into `Loop`, which only passes them on.

inline void LoopCore::arm(TimerNode& node, TimePoint when) {
    timers_.add(node, when);
    if (!in_turn_) outside_change();
}

inline Handle LoopCore::call_soon(Function<void()>&& function, std::source_location location) {
    if (state_ != State::open || debug_) [[unlikely]] {
        check_usable("call_soon");
        // What is still queued is destroyed unrun, and so is this.
        if (state_ == State::closing) return {};
    }
    const Handle handle = calls_.add(std::move(function), location);
    work_queued_ = true;
    if (!in_turn_) outside_change();
    return handle;
}

inline Timer LoopCore::call_at(TimePoint when, Function<void()>&& function,
                               std::source_location location) {
    check_usable("call_at");
    TimerRecord& record = timer_records_.take(*this);
    record.function = std::move(function);
    record.interval = Duration(-1);
    record.location = location;
    record.wanted = true;
    Timer timer(&record);
    arm(record, when);
    return timer;
}

} // namespace weft::detail

#pragma GCC visibility pop
