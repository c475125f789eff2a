#include <weft/coro/tasks/run.hpp>
#include <weft/coro/tasks/task_ref.hpp>
#include <weft/reactor/log.hpp>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <mutex>

namespace weft::coro::detail {
namespace {

std::uint64_t shuffle_wanted(const std::optional<std::uint64_t>& option) {
    if (option) return *option;
    const char* value = std::getenv("WEFT_SHUFFLE");
    return value != nullptr ? std::strtoull(value, nullptr, 0) : 0;
}

// --- A second SIGINT ---
//
// The loop's handler tells the loop, which does not hear of it as long as a coroutine does not give
// way. So there is one above it, that counts, and calls it. All of `run` in a process share it.

std::mutex interrupt_lock;
int interrupt_users = 0;
struct sigaction below_interrupt {};
// the loop has heard of the first, and main is cancelled
std::atomic<bool> was_told{false};
std::atomic<std::int64_t> unheard_since{0}; // of one that no loop has heard of
// Some programs send one to the process and one to its group, in one breath.
constexpr std::int64_t one_breath = 50'000'000;
static_assert(std::atomic<bool>::is_always_lock_free &&
              std::atomic<std::int64_t>::is_always_lock_free);

void on_interrupt(int number) noexcept {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    const std::int64_t now = std::int64_t(time.tv_sec) * 1'000'000'000 + time.tv_nsec + 1;
    std::int64_t since = 0;
    if (unheard_since.compare_exchange_strong(since, now)) since = now;
    if (was_told.load() || now - since >= one_breath) {
        std::signal(number, SIG_DFL);
        std::raise(number); // when this returns
        return;
    }
    if (below_interrupt.sa_handler != SIG_DFL && below_interrupt.sa_handler != SIG_IGN)
        below_interrupt.sa_handler(number);
}

void handle_interrupts() noexcept {
    const std::lock_guard lock(interrupt_lock);
    if (interrupt_users++ != 0) return;
    was_told = false;
    unheard_since = 0;
    if (sigaction(SIGINT, nullptr, &below_interrupt) != 0) return;
    struct sigaction above = below_interrupt;
    if ((above.sa_flags & SA_SIGINFO) != 0) return; // not the loop's, as it should be
    above.sa_handler = &on_interrupt;
    sigaction(SIGINT, &above, nullptr);
}

void leave_interrupts_alone() noexcept {
    const std::lock_guard lock(interrupt_lock);
    if (--interrupt_users != 0) return;
    struct sigaction now {};
    if (sigaction(SIGINT, nullptr, &now) == 0 && now.sa_handler == &on_interrupt)
        sigaction(SIGINT, &below_interrupt, nullptr);
}

} // namespace

Runner::Runner(RunOptions options) : options_(std::move(options)), loop_(std::move(options_.loop)) {
    if (Loop::current() != nullptr)
        throw UsageError("coro::run: a loop is running on this thread already");
    if (options_.report_overflow) overflow_.emplace();
    Scheduler& scheduler = Scheduler::of(loop_);
    if (const std::uint64_t seed = shuffle_wanted(options_.shuffle); seed != 0)
        scheduler.shuffle(seed);
    if (options_.detect_deadlock) scheduler.on_deadlock([this] { deadlocked(); });
    if (options_.handle_interrupt) {
        // Kernels without signals (simulated ones) do without.
        if (auto watch = loop_.on_signal(SIGINT, [this] { interrupted(); })) {
            interrupt_ = std::move(*watch);
            weft::detail::core_of(loop_).signals().set_own(1);
            // A simulated signal has no handler.
            struct sigaction now {};
            handling_ = sigaction(SIGINT, nullptr, &now) == 0 && now.sa_handler != SIG_DFL &&
                        now.sa_handler != SIG_IGN;
            if (handling_) handle_interrupts();
        }
    }
}

Runner::~Runner() {
    stop_handling();
}

// Before the loop is closed: that puts back what was there before its own handler.
void Runner::stop_handling() noexcept {
    if (std::exchange(handling_, false)) leave_interrupts_alone();
    interrupt_ = SignalWatch();
    weft::detail::core_of(loop_).signals().set_own(0);
}

void Runner::interrupted() {
    unheard_since = 0;
    if (weft::detail::core_of(loop_).signals().watching(SIGINT) > 1)
        return; // somebody else's business
    was_told = true;
    if (std::exchange(was_interrupted_, true)) {
        // Somebody who asks twice has lost patience.
        std::signal(SIGINT, SIG_DFL);
        std::raise(SIGINT);
    }
    if (main_ != nullptr) main_->cancel();
}

void Runner::deadlocked() {
    if (!weft::detail::core_of(loop_).kernel().alone()) return;
    if (handling_ && main_ != nullptr && Scheduler::of(loop_).endless != 0) return;
    if (deadlock_.empty() && main_ != nullptr) {
        deadlock_ = "nothing can ever wake any of the coroutines:";
        for (const TaskInfo& task : all_tasks(loop_))
            deadlock_ += "\n  " + static_cast<const TaskBase*>(task.id)->describe() +
                         " waits for " + task.waiting_for;
        Scheduler::of(loop_).root_scope().cancel();
        if (Scheduler::of(loop_).any_ready() || loop_.stats().callbacks != 0) return;
    }
    // They were cancelled, and wait all the same for what is shielded or cannot be cancelled.
    for (const TaskInfo& task : all_tasks(loop_))
        weft::detail::core_of(loop_).log_limited(
            LogLevel::error, "the task " + static_cast<const TaskBase*>(task.id)->describe() +
                                 " can not be ended: it waits for " + task.waiting_for);
    loop_.stop();
}

void Runner::run(TaskBase& main) {
    main_ = &main;
    Scheduler::of(loop_).stop_loop_after(&main);
    loop_.run();
    main_ = nullptr;
    const bool stopped = !main.done();
    end_leftovers();
    if (was_interrupted_ && main.phase == TaskBase::Phase::cancelled) {
        // Everything is unwound; now the signal does what it does to a program without a handler.
        std::signal(SIGINT, SIG_DFL);
        std::raise(SIGINT);
    }
    if (stopped && deadlock_.empty())
        throw std::system_error(make_error_code(Errc::aborted),
                                "coro::run: the loop was stopped before main had ended");
    if (!deadlock_.empty()) {
        main.error_seen = true;
        throw std::system_error(make_error_code(Errc::deadlock), deadlock_);
    }
}

void Runner::end_leftovers() {
    Scheduler& scheduler = Scheduler::of(loop_);
    for (const TaskInfo& task : all_tasks(loop_))
        weft::detail::core_of(loop_).log_limited(
            LogLevel::warning,
            "main has ended, and the task " + static_cast<const TaskBase*>(task.id)->describe() +
                " is cancelled" +
                (task.waiting_for.empty() ? "" : ", which waits for " + task.waiting_for));
    scheduler.root_scope().cancel();
    if (scheduler.root().children.linked()) {
        scheduler.stop_loop_after(nullptr);
        loop_.run();
    }
    stop_handling();
    loop_.close();
}

} // namespace weft::coro::detail

namespace weft::coro {

void cancel_all(Loop& loop) noexcept {
    if (detail::Scheduler* scheduler = detail::Scheduler::find(loop))
        scheduler->root_scope().cancel();
}

} // namespace weft::coro
