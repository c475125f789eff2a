#pragma once

#include <weft/coro/core/stack_overflow.hpp>
#include <weft/coro/tasks/task.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <type_traits>
#include <utility>

#pragma GCC visibility push(default)

namespace weft::coro {

/// How `run` sets things up.
struct RunOptions {
    LoopOptions loop = {};
    /// SIGINT cancels main once. If main lets the `Cancelled` out, everything is unwound and then
    /// the process dies of the signal, as its shell expects; so it does at once on a second one,
    /// also if no coroutine gives way: the handler itself sees to that. Main may also catch it and
    /// return. As long as the program watches SIGINT itself, with `Loop::on_signal`, that alone
    /// gets it.
    bool handle_interrupt = true;
    /// An overflowing stack is reported with its coroutine's name before the process dies. Installs
    /// a handler for SIGSEGV and SIGBUS for as long as `run` lasts, which hands on what is not an
    /// overflow.
    bool report_overflow = true;
    /// When nothing can ever wake any coroutine, `run` says what each of them waits for and throws
    /// instead of waiting for ever. On real kernels only while the process has no threads but the
    /// loop's executor, since any could post. Not while a coroutine is in `sleep_forever` and
    /// `handle_interrupt` is on: that is how a program waits to be interrupted.
    bool detect_deadlock = true;
    /// Not 0: coroutines that are ready run in an order drawn from this seed, to find what depends
    /// on the order. Empty: taken from the environment, `WEFT_SHUFFLE`.
    std::optional<std::uint64_t> shuffle = {};
    SpawnOptions main = {.name = "main"};
};

namespace detail {

/// A loop with its coroutines, from the first to the last.
class Runner {
public:
    explicit Runner(RunOptions options);
    ~Runner();
    Runner(const Runner&) = delete;
    Runner& operator=(const Runner&) = delete;

    Loop& loop() noexcept { return loop_; }
    /// Runs until `main` has ended, then ends what is left: cancelled, awaited, reported.
    void run(TaskBase& main);

private:
    void interrupted();
    void stop_handling() noexcept;
    void deadlocked();
    void end_leftovers();

    RunOptions options_;
    std::optional<OverflowReport> overflow_;
    Loop loop_;
    TaskBase* main_ = nullptr;
    bool was_interrupted_ = false;
    bool handling_ = false; // SIGINT, on a real kernel
    std::string deadlock_;
    SignalWatch interrupt_;
};

} // namespace detail

/// Cancels every coroutine of `loop`, those that are yet to come included. For a host that
/// embeds it: step on until `all_tasks(loop)` is empty, so that clean-up may wait, and then close
/// the loop, which by itself leaves nobody the time to. Does not suspend.
void cancel_all(Loop& loop) noexcept;

/// Runs `main()` as a coroutine in a loop of its own, and returns what it returns or throws what it
/// throws. Tasks that are left are cancelled, awaited and reported to the log; then the loop is
/// closed. `Cancelled` if main was cancelled; `std::system_error` with `Errc::deadlock` if nothing
/// could ever wake anybody. `UsageError` if a loop runs on this thread already.
template<class F>
auto run(F&& main, RunOptions options = {},
         std::source_location where = std::source_location::current()) -> detail::SpawnResult<F> {
    const SpawnOptions spawn_options = options.main;
    detail::Runner runner(std::move(options));
    auto task = spawn(runner.loop(), std::forward<F>(main), spawn_options, where);
    runner.run(*task.state());
    task.state()->check_value();
    if constexpr (!std::is_void_v<detail::SpawnResult<F>>) return std::move(*task.state()->value);
}

} // namespace weft::coro

#pragma GCC visibility pop
