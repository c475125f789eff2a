#include <weft/coro/run.hpp>
#include <weft/reactor/log.hpp>

#include <csignal>
#include <cstdlib>

namespace weft::coro::detail {
namespace {

std::uint64_t shuffle_wanted(const std::optional<std::uint64_t>& option) {
    if (option) return *option;
    const char* value = std::getenv("WEFT_SHUFFLE");
    return value != nullptr ? std::strtoull(value, nullptr, 0) : 0;
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
            loop_.set_own_signals(1);
        }
    }
}

Runner::~Runner() = default;

void Runner::interrupted() {
    if (std::exchange(was_interrupted_, true)) {
        // Who asks twice has lost patience.
        std::signal(SIGINT, SIG_DFL);
        std::raise(SIGINT);
    }
    if (main_ != nullptr) main_->cancel();
}

void Runner::deadlocked() {
    if (!loop_.kernel().alone()) return;
    if (deadlock_.empty() && main_ != nullptr) {
        deadlock_ = "nothing can ever wake any of the coroutines:";
        for (const TaskInfo& task : all_tasks(loop_))
            deadlock_ += "\n  " + static_cast<const TaskBase*>(task.id)->describe() +
                         " waits for " + task.waiting_for;
        Scheduler::of(loop_).root_scope().cancel();
        if (Scheduler::of(loop_).any_ready() || loop_.stats().callbacks != 0) return;
    }
    // They were cancelled, and wait all the same for what is shielded or can not be cancelled.
    for (const TaskInfo& task : all_tasks(loop_))
        loop_.log_limited(LogLevel::error, "the task " + static_cast<const TaskBase*>(task.id)->describe() +
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
    if (was_interrupted_ && main.status == TaskBase::Status::cancelled) {
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
        loop_.log_limited(
            LogLevel::warning,
            "main has ended, and the task " + static_cast<const TaskBase*>(task.id)->describe() +
                " is cancelled" +
                (task.waiting_for.empty() ? "" : ", which waits for " + task.waiting_for));
    scheduler.root_scope().cancel();
    if (scheduler.root().children.linked()) {
        scheduler.stop_loop_after(nullptr);
        loop_.run();
    }
    loop_.close();
}

} // namespace weft::coro::detail
