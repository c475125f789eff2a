#include "family.hpp"

#include <weft/coro/coro.hpp>
#include <weft/reactor/log.hpp>

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

namespace {

/// A callable that is run once or destroyed unrun, and counted.
class Counted {
public:
    explicit Counted(std::atomic<int>& alive) : alive_(&alive) { ++*alive_; }
    Counted(Counted&& other) noexcept : alive_(std::exchange(other.alive_, nullptr)) {}
    Counted& operator=(Counted&&) = delete;
    ~Counted() {
        if (alive_ != nullptr) --*alive_;
    }
    void operator()() {
        RANDOM_CHECK(!ran_);
        ran_ = true;
    }

private:
    std::atomic<int>* alive_;
    bool ran_ = false;
};

/// What other threads may do with a loop whatever has become of it.
void use(Round& round, Random random, const weft::RemoteLoop& remote, std::atomic<int>& alive) {
    std::vector<coro::RemoteTask<int>> tasks;
    const std::size_t count = 20 + random.below(60);
    for (std::size_t i = 0; i < count; ++i) {
        switch (random.below(7)) {
        case 0:
        case 1:
            round.operation("post");
            (void)remote.post(Counted(alive));
            break;
        case 2:
        case 3: {
            const auto kind = random.below(4);
            round.operation("start a task of kind %", static_cast<std::int64_t>(kind));
            tasks.push_back(coro::start(remote, [kind, captured = Counted(alive)]() mutable {
                captured();
                if (kind == 1) coro::yield();
                if (kind == 2) coro::sleep_forever();
                if (kind == 3) coro::run_in_executor_to_end([] { std::this_thread::yield(); });
                return 7;
            }));
            // One that sleeps for ever has to be ended by somebody.
            if (kind == 2) tasks.back().cancel();
            break;
        }
        case 4:
            if (tasks.empty()) break;
            round.operation("cancel");
            random.pick(tasks).cancel();
            break;
        case 5:
            if (tasks.empty()) break;
            round.operation("wait a little");
            if (auto& task = random.pick(tasks); task.valid()) (void)task.wait_for(100us);
            break;
        default:
            round.operation("log");
            log(LogLevel::debug, "from a thread");
        }
    }
    for (auto& task : tasks) {
        round.operation("wait for a task");
        try {
            RANDOM_EQUAL(task.get(), 7);
        } catch (const std::system_error& error) {
            const bool known =
                error.code() == std::errc::operation_canceled || error.code() == Errc::aborted;
            RANDOM_CHECK(known, error.what());
        }
    }
}

void play(Round& round) {
    std::atomic<int> alive{0};
    std::vector<std::thread> threads;
    {
        LoopOptions options;
        options.kernel = round.make_kernel();
        options.executor_threads = 2;
        std::optional<Loop> loop(std::in_place, std::move(options));
        loop->on_unhandled([](const Unhandled&) {});
        const weft::RemoteLoop remote(*loop);
        const std::size_t count = 1 + round.random.below(4);
        for (std::size_t i = 0; i < count; ++i)
            threads.emplace_back([&round, &alive, remote, random = round.random.split()] {
                use(round, random, remote, alive);
            });
        const std::size_t turns = round.random.size(200);
        for (std::size_t i = 0; i < turns; ++i) {
            switch (round.random.below(4)) {
            case 0:
                (void)loop->step({.time = 1ms, .count = 1 + round.random.size(100)});
                break;
            case 1:
                (void)loop->run_in_executor(Counted(alive));
                break;
            default:
                loop->run_once();
            }
        }
        round.operation("close");
        loop.reset();
    }
    for (auto& thread : threads)
        thread.join();
    RANDOM_EQUAL(alive.load(), 0);
}

const RegisterFamily
    family({"threads", "threads that post, start, cancel, wait and log while a loop runs and ends",
            &play, false, true});

} // namespace
