#pragma once

#include <weft/reactor/buffer_pool.hpp>
#include <weft/reactor/clock.hpp>
#include <weft/reactor/cork.hpp>
#include <weft/reactor/error.hpp>
#include <weft/reactor/future.hpp>
#include <weft/reactor/kernel/kernel.hpp>
#include <weft/reactor/log.hpp>
#include <weft/reactor/mailbox.hpp>
#include <weft/reactor/remote_loop.hpp>
#include <weft/reactor/result.hpp>
#include <weft/reactor/source.hpp>
#include <weft/reactor/timer.hpp>
#include <weft/reactor/timer_queue.hpp>
#include <weft/reactor/watch.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <source_location>
#include <string_view>
#include <thread>
#include <vector>

#pragma GCC visibility push(default)

namespace weft {

class ThreadPool;

namespace detail {
class StdWatcher;
}

namespace detail {

/// A job given to an executor, as the loop sees it.
struct JobBase : ListNode {
    virtual ~JobBase() = default;
    virtual void deliver() = 0; ///< completes the future with the outcome
    virtual void abort() = 0;   ///< completes it because the loop ends
    virtual FutureStateBase& state() noexcept = 0;

    /// it runs on the loop's own executor, and ends before the loop does
    bool of_loop = false;
    /// it has run, or never will: no other thread touches it any more
    std::atomic<bool> returned{false};
    std::shared_ptr<JobBase> self; ///< the loop's hold on it, while it stands in its list
};

/// Whose job the calling thread runs, null if none's.
Mailbox*& job_on_this_thread() noexcept;

/// Travels with a job through the pool. Wherever it ends, after the run, with a cancelled or a
/// dropped job, it sends the job back to the loop, where alone its future may be touched.
class JobTicket {
public:
    JobTicket(std::shared_ptr<JobBase> job, std::shared_ptr<Mailbox> loop) noexcept
        : job_(std::move(job)), loop_(std::move(loop)) {}
    JobTicket(JobTicket&&) noexcept = default;
    JobTicket& operator=(JobTicket&&) = delete;
    ~JobTicket();
    Mailbox* loop() const noexcept { return loop_.get(); }

private:
    std::shared_ptr<JobBase> job_;
    std::shared_ptr<Mailbox> loop_;
};

} // namespace detail

/// How a loop is made. The bounds keep one busy party from starving the others; the constructor
/// throws `UsageError` for one that is 0 or less, and names it.
struct LoopOptions {
    /// The seam to the system; empty: `make_default_kernel()`.
    std::unique_ptr<Kernel> kernel = {};
    /// Checks that cost something: wrong threads, slow callbacks, unread errors, a poisoned receive
    /// buffer. Empty: on iff the environment has `WEFT_DEBUG` set to anything but "" and "0".
    std::optional<bool> debug = {};
    /// In debug mode, a callback that runs longer is reported with the place that scheduled it. 0:
    /// every one.
    Duration slow_callback = std::chrono::milliseconds(100);
    /// Bytes (1 or more) of the one buffer that `data_received` is served from: small messages use
    /// its beginning over and over, and megabytes come in a quarter of the calls that 64 KiB would
    /// take.
    std::size_t receive_buffer = 256 * 1024;
    /// Reads of one connection, or sends of what has waited, before the others get their turn.
    int reads_per_turn = 16;
    /// Bytes of one connection likewise. After so many a turn costs others as much as a small
    /// request does: 256 KiB take some 100 us.
    std::size_t bytes_per_turn = 256 * 1024;
    /// A connection with more to read or send than fits into one call goes on in the same turn only
    /// until the turn is as old as this (0: not at all); those that have used up their share wait
    /// for a later one.
    Duration bulk_time_per_turn = std::chrono::milliseconds(1);
    /// Connections accepted from one listener before the rest of the loop gets its turn.
    int accepts_per_turn = 64;
    /// Turns of queued callbacks that may pass without looking at the kernel, as long as they take
    /// less than 20 us together, which is looked at in every fourth. 1 looks every turn.
    int turns_per_poll = 64;
    /// Threads of the default executor; they are started when first needed.
    unsigned executor_threads = 0; ///< 0: one per processor, plus 4
};

/// What nobody caught.
struct Unhandled {
    /// what was going on: "data_received of 127.0.0.1:80 <- 127.0.0.1:4711"
    std::string_view message = {};
    std::exception_ptr exception = {};   ///< may be empty
    std::source_location scheduled = {}; ///< where the callback came from; line 0 if not known
};

namespace detail {

/// A callback that `call_soon` has queued. Nodes come from the loop's free list and keep their
/// memory, so that a stale `Handle` is recognised by its sequence number.
struct CallNode {
    CallNode* next = nullptr;
    Function<void()> function;
    std::uint64_t sequence = 0; // 0: in the free list
    std::source_location location;
};

} // namespace detail

/// Names one queued callback. A weak handle: copy and drop it at will, while the loop lives.
class Handle {
public:
    Handle() = default;
    /// The callback will not run, and its captures are destroyed now. False: it already ran, runs,
    /// or was cancelled.
    bool cancel() noexcept;
    /// Whether it still waits to be run.
    bool pending() const noexcept;

private:
    friend class Loop;
    Handle(detail::CallNode* node, std::uint64_t sequence) : node_(node), sequence_(sequence) {}
    detail::CallNode* node_ = nullptr;
    std::uint64_t sequence_ = 0;
};

/// What a call of `Loop::step` left behind. A host calls again at once if `more_ready`, at
/// `next_deadline` at the latest, and when the pollable descriptor or `on_wake` tells it to; it may
/// give the loop up when it is not `alive`.
struct StepResult {
    /// what was handled: events, timers, callbacks, resumed coroutines, flushes, closings
    std::size_t ran = 0;
    /// work is left: the budget ended before it did, or it was queued for the next turn
    bool more_ready = false;
    /// `stop` was called, in the step or since the last; that is over with this result
    bool stopped = false;
    /// something is left that could call back, `more_ready` included: see `run_until_idle`
    bool alive = false;
    TimePoint next_deadline = TimePoint::max(); ///< when the next timer is due
};

/// The reactor: one per thread. Everything but `post`, `remote` and what goes through them is for
/// that thread.
///
/// A turn has these phases, in this order:
///   1. wait      for events, a deadline or a wake-up; not at all if callbacks are queued
///   2. collect   the callbacks queued so far, the posted ones included: this turn's batch
///   3. events    go straight to their transports, which call their protocols
///   4. timers    that are due, in the order of their deadlines
///   5. callbacks of signals, then of the batch; what they queue is for the next turn
///   6. coroutines that are ready, if there are any
///   7. flush     what was gathered for sending
///   8. closing   `connection_lost` for what was closed, then its memory goes
class Loop {
public:
    explicit Loop(LoopOptions options = {});
    /// Closes the loop: see `close`.
    ~Loop();
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;

    // Running.
    /// Runs turns until `stop`. Throws `UsageError` when it runs already, when another loop runs on
    /// this thread (of which `step` alone may be called inside a callback), or when it is closed;
    /// `std::system_error` with `Errc::deadlock` when a simulated kernel finds that nothing can
    /// ever happen; and whatever `FatalError` left a callback.
    void run();
    /// Runs until `future` is done and returns its value or throws its error (`Cancelled` if it was
    /// cancelled). The value is moved out of the future. If `stop` comes first it throws
    /// `std::system_error` with `Errc::aborted`; the future stays as it is.
    template<class T>
    T run_until(Future<T> future);
    /// Runs until nothing is left that could call back: no open transport or server, no armed
    /// timer, watch or signal, no queued callback, no executor job. Or until `stop`.
    void run_until_idle();
    /// One turn; waits for something to happen if `wait` is set and `stop` was not called. Returns
    /// how many events, timers and callbacks were handled.
    std::size_t run_once(bool wait = false);
    /// Ends `run` after this turn. Before `run`: the next `run` makes one turn without waiting. For
    /// the loop's thread.
    void stop() noexcept;
    /// Ends everything: connections are aborted and told so, timers and queued callbacks are
    /// destroyed without being run, pending futures fail with `Errc::aborted`. From its first
    /// moment on posts are refused, however many threads go on posting. Of the default executor's
    /// jobs the queued ones are dropped and the running ones waited for, when everything else has
    /// ended, for they may wait for some of it; what their futures' callbacks have captured lives
    /// until then, and so does the frame of a coroutine in `run_in_executor_to_end`. Throws
    /// `UsageError` inside a callback and in one of those jobs; twice is fine. Afterwards every use
    /// is an error. In debug mode the handles that are still held are reported with the place where
    /// they were made.
    void close();
    bool running() const noexcept { return running_; }
    /// The loop that runs on this thread, null if there is none.
    static Loop* current() noexcept;
    bool closed() const noexcept { return state_ == State::closed; }
    /// From the begin of `close` on: everything that is still pending is aborted.
    bool closing() const noexcept { return state_ != State::open; }

    // Time and callbacks.
    /// What the clock shows, read anew each time: what is due a while from `now()` counts from now,
    /// however long the callback that asks has run. Once the loop is closed, what it showed last.
    TimePoint now() noexcept { return kernel_ ? kernel_->now() : now_; }
    /// `now() + delay`, or never where that is beyond the clock: the one way to make a deadline of
    /// a delay.
    TimePoint deadline_in(Duration delay) noexcept { return add_saturated(now(), delay); }
    /// Runs `function` in the next turn, in order of the calls.
    template<class F>
    Handle call_soon(F&& function, std::source_location location = std::source_location::current());
    /// Runs `function` when `delay` has passed from this call on, never before. Destroying the
    /// timer cancels it.
    [[nodiscard]] Timer
    call_later(Duration delay, Function<void()> function,
               std::source_location location = std::source_location::current()) {
        return call_at(deadline_in(delay), std::move(function), location);
    }
    [[nodiscard]] Timer call_at(TimePoint when, Function<void()> function,
                                std::source_location location = std::source_location::current());
    /// Runs `function` every `interval`, the first time after one. Ticks that were missed are not
    /// made up for: the next is at the next multiple. An interval of 0 is once per turn;
    /// `UsageError` for a negative one.
    [[nodiscard]] Timer call_every(Duration interval, Function<void()> function,
                                   std::source_location location = std::source_location::current());
    /// Runs `function` in the loop; from any thread, also this one, never before returning. Calls
    /// of one thread keep their order. `Errc::closed` from the begin of `close` on; a handle from
    /// `remote()` outlives the loop.
    std::error_code post(Function<void()> function,
                         std::source_location location = std::source_location::current()) {
        return mailbox_->post(std::move(function), location);
    }
    /// What other threads may keep: its `post` is safe whatever has become of the loop.
    RemoteLoop remote() const noexcept { return RemoteLoop(mailbox_); }

    // The outside.
    /// Watches a descriptor that is not weft's, level-triggered. The descriptor stays the caller's,
    /// who ends the watch before closing it. Errors: `Errc::not_an_event_fd` for files, EEXIST if
    /// weft already knows it, EBADF.
    Result<Watch> watch(int fd, std::source_location location = std::source_location::current());
    /// Calls `function` in the loop after signal `number` came, at least once after the last of a
    /// burst. Any number of watches per signal and loop. Destroying the last restores the previous
    /// disposition. EINVAL: not catchable.
    Result<SignalWatch> on_signal(int number, Function<void()> function,
                                  std::source_location location = std::source_location::current());
    /// Runs `function` on a thread of the default executor, or of `pool`, and completes the future
    /// in the loop. Cancelling it before it started prevents it; afterwards its outcome is dropped.
    /// Fails with `Errc::queue_full`. A `Cancelled` that the function throws cancels the future.
    template<class F>
    auto run_in_executor(F function) -> Future<std::invoke_result_t<F&>>;
    template<class F>
    auto run_in_executor(ThreadPool& pool, F function) -> Future<std::invoke_result_t<F&>>;
    /// The default executor, started on first use.
    ThreadPool& executor();
    /// Receives what nobody caught; the default logs it, as `log_limited` does, since peers can
    /// cause it. What the handler itself throws is logged, too, and so is what goes wrong while it
    /// runs. It may replace itself.
    void on_unhandled(Function<void(const Unhandled&)> handler);
    /// Logs what others can cause as often as they like: `LogLimit::usual` messages a second pass,
    /// the rest is counted.
    void log_limited(LogLevel level, std::string_view text) noexcept;

    // Embedding in a foreign main loop.
    /// Readable whenever a `step` would find something to do: I/O, timers, posts, signals. It may
    /// be watched level- or edge-triggered: whatever a step leaves is told anew when it ends. While
    /// the loop runs it is not readable, so that a host's main loop inside a callback of this loop
    /// stays quiet. ENOTSUP on kernels without such a descriptor (poll, sim). The loop keeps it,
    /// and it stays the same descriptor; in a forked child, after `after_fork`, it is another file
    /// under that number, which an epoll set of the host has to be told of.
    Result<int> pollable_fd();
    /// What one step may do. Everything counts as one: an event (with one read, or one accepted
    /// connection), a timer, a callback, a resumed coroutine, a flush, a closing with its
    /// `connection_lost`. Each is at most one call of the user, who may take as long as that takes.
    struct Budget {
        /// Looked at before each but the first, so that every step gets somewhere: with 0 or less
        /// it is the first alone.
        Duration time = std::chrono::milliseconds(10);
        std::size_t count = 1000; ///< 0: only looks what there is, which `more_ready` then tells
    };
    /// Handles what is ready, within the budget, and never waits. `UsageError` inside a callback of
    /// this loop, or its hook; inside one of another loop it is fine.
    ///
    /// From the first call on the loop belongs to the calling thread also between steps. Another
    /// thread may take it over when the two agree on that (a lock, a queue), between steps: by
    /// stepping or running it. Whose it is then is all that changes: callbacks, `Loop::current`,
    /// coroutines and thread-local variables are those of the new thread, debug mode refuses the
    /// old one, and what a callback keeps per thread (errno, a locale) does not come along.
    StepResult step(Budget budget);
    StepResult step() { return step(Budget{}); }
    /// When the next timer is due; `TimePoint::min()` if work waits, `max()` without a timer, and
    /// while the loop runs.
    TimePoint next_deadline() noexcept;
    /// Called on the loop's thread when, outside a step, `next_deadline()` became earlier or work
    /// was queued: for hosts that sleep until `next_deadline()` instead of polling the descriptor.
    /// Posts from other threads show at the descriptor alone. Not called again before the next step
    /// for what is no earlier than what was told; may not step.
    void on_wake(Function<void()> hook);

    /// In a forked child that goes on using the loop: starts the kernel over, with every descriptor
    /// still watched. The child then shares its sockets with the parent. Executor jobs run in the
    /// parent alone; here they are aborted. Without this a child can do nothing with its copy but
    /// let go of it: calls fail with `Errc::forked`, and closing the loop, or what is in it, closes
    /// descriptors and nothing else. After it, what was open at the fork may be used, but its end
    /// remains the parent's: a server that is closed leaves its socket file, and a connection that
    /// is aborted is closed without a reset.
    Result<void> after_fork();

    bool debug() const noexcept { return debug_; }
    /// Counts of what is alive; all are 0 when everything has been ended.
    struct Stats {
        std::size_t sources = 0; ///< transports, listeners, watches, connection attempts
        std::size_t timers = 0;
        std::size_t signals = 0;
        std::size_t callbacks = 0; ///< queued
        std::size_t jobs = 0;      ///< in executors
        std::uint64_t turns = 0;
        std::uint64_t stale_events = 0; ///< events for what was closed in the meantime, dropped
    };
    Stats stats() const noexcept;

    // For transports.
    const std::shared_ptr<detail::Mailbox>& mailbox() const noexcept { return mailbox_; }
    Kernel& kernel() noexcept { return *kernel_; }
    const LoopOptions& options() const noexcept { return options_; }
    /// A slot for `source`, counted as alive until `remove_source`.
    Token add_source(detail::Source& source);
    void remove_source(Token token) noexcept;
    /// Events for `token` go to `source` from now on.
    void replace_source(Token token, detail::Source& source) noexcept;
    detail::Source* find_source(Token token) noexcept;
    /// `on_ready(ready)` again in the next turn.
    void again(Token token, std::uint32_t ready);
    /// `on_finish()` in this turn's closing phase, or the next one's.
    void finish_later(detail::Source& source);
    /// `on_flush()` in this turn's flush phase; outside a turn, the next one's.
    void flush_later(detail::Source& source);
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
    /// Something happens now. The clock is read when the turn ends, once for all of them: what
    /// blocks the turn, a callback that computes, does not count as time in which nothing happened.
    void note_activity(detail::Activity& activity) noexcept {
        if (!in_turn_) {
            activity.at = now();
        } else if (!activity.linked()) {
            active_.push_back(activity);
        }
    }
    /// Whether the kernel may know of more events than this turn was told of: who has not been
    /// heard may still be.
    bool more_events() const noexcept { return more_events_; }
    /// Whether this turn has been going on for so long that bulk waits for a later one.
    bool turn_is_long() noexcept { return kernel_->now() - now_ >= options_.bulk_time_per_turn; }
    detail::TimerQueue& timers() noexcept { return timers_; }
    void arm(detail::TimerNode& node, TimePoint when);
    void recycle(detail::TimerRecord* record) noexcept;
    /// The buffer that input is received into, for whoever asks next: nobody keeps any of it.
    MutableBytes receive_buffer() {
        if (receive_kept_) [[unlikely]]
            renew_receive_buffer();
        return {const_cast<std::byte*>(receive_.data()), receive_.size()};
    }
    /// In debug mode: what was received last is gone.
    void spoil_receive_buffer(std::size_t size) noexcept {
        if (!receive_kept_) std::memset(const_cast<std::byte*>(receive_.data()), 0xDD, size);
    }
    /// An owner of `bytes`: without a copy if they lie in the receive buffer and are a good part of
    /// it.
    Buffer keep(Bytes bytes);
    /// Fewer bytes are not worth the block that they would keep.
    static constexpr std::size_t worth_a_block = 8 * 1024;
    std::size_t receive_buffer_size() const noexcept { return receive_.size(); }
    /// Whether `bytes` lie in the receive buffer, and so stay there until it is asked for again.
    bool received(Bytes bytes) const noexcept {
        return bytes.data() >= receive_.data() && bytes.data() < receive_.data() + receive_.size();
    }
    /// Blocks for input and for output that waits.
    detail::BlockPool& blocks() noexcept { return *blocks_; }
    /// Small writes of one connection gather here.
    detail::Cork& cork() noexcept { return cork_; }
    /// What has been gathered leaves, and nobody gathers any more.
    void uncork() {
        if (cork_.is_open()) cork_.owner()->on_uncork();
    }
    /// Whether something was queued for the next turn since the front-end's phase began.
    bool work_queued() const noexcept { return work_queued_; }
    /// Signal watches that a front-end made for itself, and that do not count as something to wait
    /// for.
    void set_own_signals(std::size_t count) noexcept { own_signals_ = count; }
    /// How many watches of this signal there are.
    int signal_watches(int number) const noexcept {
        return static_cast<int>(signal_uses_[static_cast<std::size_t>(number)]);
    }
    detail::FrontEnd* front_end() const noexcept { return front_end_.get(); }
    /// `FrontEnd::run` in this turn's phase for it, or the next one's.
    void run_front_end() noexcept {
        front_end_ready_ = true;
        if (!in_turn_) outside_change();
    }
    void set_front_end(std::unique_ptr<detail::FrontEnd> front_end) noexcept {
        front_end_ = std::move(front_end);
    }
    /// What the datagram endpoints share: made by the first of them and gone with the last.
    std::weak_ptr<void>& datagram_memory() noexcept { return datagram_memory_; }
    /// To be called in a catch block: rethrows a `FatalError`, hands anything else to
    /// `on_unhandled`.
    void report_exception(std::string_view message, std::source_location scheduled = no_location());
    void report(const Unhandled& unhandled) noexcept;
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
    static std::source_location no_location() noexcept { return {}; }
    detail::StdWatcher& std_watcher();
    void begin_future(detail::ListNode& state);
    void begin_job(std::shared_ptr<detail::JobBase> job) noexcept;
    /// Takes it out of the list; whoever still needs it keeps what is returned.
    std::shared_ptr<detail::JobBase> end_job(detail::JobBase& job) noexcept;

private:
    friend struct detail::TimerRecord;
    friend class detail::WatchedFd;
    friend class detail::WatchedSignal;
    enum class State : std::uint8_t { open, closing, closed };
    struct Slot {
        detail::Source* source = nullptr;
        std::uint32_t generation = 0;
        std::uint32_t next_free = 0;
    };
    struct CallQueue {
        detail::CallNode* head = nullptr;
        detail::CallNode* tail = nullptr;
        std::size_t size = 0;
        void push(detail::CallNode* node) noexcept;
        detail::CallNode* pop() noexcept;
        void append(CallQueue& other) noexcept;
    };
    /// What a turn may still do. `run` has no bound; `step` hands it out one by one, to look at the
    /// clock each time.
    struct Allowance {
        std::size_t left = SIZE_MAX; ///< may be spent without asking
        std::size_t in_reserve = 0;  ///< may be moved to `left` while there is time
        TimePoint until = TimePoint::max();
        std::size_t spent = 0; ///< of the reserve
    };
    /// Sources that want a call in one phase, of those that are there when the phase begins.
    struct SourceQueue {
        std::vector<detail::Source*> coming;
        std::vector<detail::Source*> now;
        std::size_t next = 0; ///< of `now`
        bool empty() const noexcept { return coming.empty() && next == now.size(); }
    };
    template<class Each>
    bool call_each(SourceQueue& queue, Each each);
    class Entered;
    enum class Phase : std::uint8_t { wait, events, timers, callbacks, coroutines, flush, closing };

    void turn(TimePoint wait_until);
    bool go_on();
    void wait(TimePoint until);
    TimePoint sleep_until(TimePoint until);
    void collect();
    void look_ahead() const noexcept;
    bool dispatch_events();
    bool fire_timers();
    bool run_callbacks();
    bool run_coroutines();
    void forget_posted() noexcept;
    bool flush();
    bool finish_closing();
    void settle_activity() noexcept;

    bool refill() noexcept;
    bool may_skip_poll() noexcept;
    void watched_call(Function<void()>& function, std::string_view what,
                      std::source_location location) {
        call_guarded(function, what, location);
    }
    void check_duration(TimePoint start, std::string_view what,
                        std::source_location scheduled) const;
    void note_signals();
    bool deliver_signals();
    void renew_receive_buffer();
    TimePoint trim_blocks(TimePoint until) noexcept;
    void outside_change();
    void hand_to_host() noexcept;
    void arm_kernel(TimePoint next) noexcept;
    void end_everything() noexcept;
    void abort_jobs(bool running_too) noexcept;
    std::size_t running_jobs() const noexcept;
    void abandon_futures() noexcept;
    void end_callbacks() noexcept;
    bool anything_alive() const noexcept;
    bool could_call_back() const noexcept;
    void note_stale(bool by_kernel);
    Result<void> rebuild_kernel();
    void run_turns(bool until_idle);
    void end_sources();
    bool leftovers() const noexcept { return phase_ != Phase::wait; }
    std::size_t make_turn(TimePoint wait_until);
    bool ready_now() const noexcept;
    detail::CallNode* new_node();
    void recycle(detail::CallNode* node) noexcept;
    void run_until_done(detail::FutureStateBase& state);
    bool idle() const noexcept;

    // Hot: touched every turn, kept together.
    struct CloseBlocks {
        void operator()(detail::BlockPool* pool) const noexcept { pool->close(); }
    };
    std::unique_ptr<detail::BlockPool, CloseBlocks> blocks_{detail::BlockPool::make()};
    std::unique_ptr<Kernel> kernel_;
    std::vector<Event> events_;
    std::size_t event_next_ = 0;
    std::size_t event_end_ = 0;
    std::size_t fresh_events_ = 0; // the first ones are the kernel's, the others those of `again_`
    std::vector<Slot> slots_;
    std::vector<Event> again_;
    bool work_queued_ = false;
    CallQueue soon_;
    CallQueue batch_;
    std::vector<detail::Posted> posted_; // this turn's, of which the first `posted_next_` have run
    std::size_t posted_next_ = 0;
    detail::TimerQueue timers_;
    detail::ListNode due_;
    detail::ListNode active_; // since the turn began
    SourceQueue closing_;
    SourceQueue flushing_;
    TimePoint now_{};
    Allowance allowance_;
    std::shared_ptr<detail::Mailbox> mailbox_;
    Buffer receive_;
    bool receive_kept_ = true; // a part of it has another owner, or it is still to be made
    detail::Cork cork_;
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
    bool embedded_ = false;
    State state_ = State::open;

    LoopOptions options_;
    std::uint32_t free_slot_ = 0; // 0: none; slot 0 is never used
    std::size_t sources_ = 0;
    detail::ListNode jobs_;
    std::size_t job_count_ = 0;
    detail::ListNode pending_futures_;
    detail::ListNode futures_of_running_jobs_; // while the loop is being closed
    std::uint64_t sequence_ = 0;
    std::vector<detail::TimerRecord*> timer_records_; // all there are, in use or not
    detail::TimerRecord* free_timers_ = nullptr;
    detail::CallNode* free_nodes_ = nullptr;
    std::uint64_t stale_events_ = 0;
    int stale_turns_ = 0;
    std::uint64_t stale_turn_ = 0;
    bool rebuild_wanted_ = false;
    TimePoint polled_at_{};
    TimePoint trim_at_ = TimePoint::max(); // when blocks that nobody needs go back to the system
    // what the host of an embedded loop knows to be the next deadline
    TimePoint announced_ = TimePoint::max();
    // when the kernel makes the pollable descriptor readable
    TimePoint armed_ = TimePoint::max();
    bool in_hook_ = false;
    detail::ListNode signals_;
    std::size_t signal_count_ = 0;
    std::uint16_t signal_uses_[65] = {}; // watches per signal number
    bool signals_due_ = false;
    std::unique_ptr<ThreadPool> executor_;
    std::unique_ptr<detail::StdWatcher> std_watcher_;
    std::weak_ptr<void> datagram_memory_;
    std::unique_ptr<detail::FrontEnd> front_end_;
    std::size_t own_signals_ = 0;
    Function<void(const Unhandled&)> unhandled_;
    LogLimit unhandled_limit_;
    LogLimit peers_limit_;
    std::uint64_t unhandled_changes_ = 0;
    Function<void()> wake_hook_;
    std::uint64_t hook_changes_ = 0;
};

inline RemoteLoop::RemoteLoop(const Loop& loop) noexcept : mailbox_(loop.mailbox()) {}

} // namespace weft

#pragma GCC visibility pop

#include <weft/reactor/loop_inline.hpp>
