#pragma once

#include <weft/reactor/call_queue.hpp>
#include <weft/reactor/clock.hpp>
#include <weft/reactor/error.hpp>
#include <weft/reactor/executor_job.hpp>
#include <weft/reactor/function.hpp>
#include <weft/reactor/future.hpp>
#include <weft/reactor/loop_options.hpp>
#include <weft/reactor/remote_loop.hpp>
#include <weft/reactor/reporter.hpp>
#include <weft/reactor/result.hpp>
#include <weft/reactor/thread_pool.hpp>
#include <weft/reactor/timer.hpp>
#include <weft/reactor/watch.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <system_error>
#include <type_traits>
#include <utility>

#pragma GCC visibility push(default)

namespace weft {

namespace detail {
class LoopCore;
/// What transports and front-ends use of a loop.
LoopCore& core_of(Loop& loop) noexcept;
const LoopCore& core_of(const Loop& loop) noexcept;
} // namespace detail

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
    bool running() const noexcept;
    /// The loop that runs on this thread, null if there is none.
    static Loop* current() noexcept;
    bool closed() const noexcept;
    /// From the begin of `close` on: everything that is still pending is aborted.
    bool closing() const noexcept;

    // Time and callbacks.
    /// What the clock shows, read anew each time: what is due a while from `now()` counts from now,
    /// however long the callback that asks has run. Once the loop is closed, what it showed last.
    TimePoint now() noexcept;
    /// `now() + delay`, or never where that is beyond the clock: the one way to make a deadline of
    /// a delay.
    TimePoint deadline_in(Duration delay) noexcept { return add_saturated(now(), delay); }
    /// Runs `function` in the next turn, in order of the calls.
    Handle call_soon(Function<void()> function,
                     std::source_location location = std::source_location::current());
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
                         std::source_location location = std::source_location::current());
    /// What other threads may keep: its `post` is safe whatever has become of the loop.
    RemoteLoop remote() const noexcept;

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
    /// Receives what nobody caught; the default logs it, `LogLimit::usual` messages a second, since
    /// peers can cause it. What the handler itself throws is logged, too, and so is what goes wrong
    /// while it runs. It may replace itself.
    void on_unhandled(Function<void(const Unhandled&)> handler);

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

    bool debug() const noexcept;
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

private:
    friend detail::LoopCore& detail::core_of(Loop& loop) noexcept;
    friend const detail::LoopCore& detail::core_of(const Loop& loop) noexcept;
    void run_until_done(detail::FutureStateBase& state);
    void check_usable(const char* what) const;
    void submit(ThreadPool& pool, const std::shared_ptr<detail::JobBase>& job);

    const std::unique_ptr<detail::LoopCore> core_;
};

inline detail::LoopCore& detail::core_of(Loop& loop) noexcept {
    return *loop.core_;
}
inline const detail::LoopCore& detail::core_of(const Loop& loop) noexcept {
    return *loop.core_;
}

template<class T>
T Loop::run_until(Future<T> future) {
    if (!future.valid()) detail::throw_no_state("run_until");
    run_until_done(*future.state_ref());
    return future.take();
}

template<class F>
auto Loop::run_in_executor(F function) -> Future<std::invoke_result_t<F&>> {
    return run_in_executor(executor(), std::move(function));
}

template<class F>
auto Loop::run_in_executor(ThreadPool& pool, F function) -> Future<std::invoke_result_t<F&>> {
    check_usable("run_in_executor");
    const auto job = std::make_shared<detail::ExecutorJob<F>>(*this, std::move(function));
    auto future = job->promise.future();
    submit(pool, job);
    return future;
}

} // namespace weft

#pragma GCC visibility pop

#include <weft/reactor/std_future.hpp>
