#include "coro_support.hpp"

#include <weft/coro/tasks/threads.hpp>

#include <future>
#include <stdexcept>
#include <thread>

using namespace weft;
using namespace weft::test;

namespace {

/// Runs `body(RemoteLoop)` on another thread while main waits for its end.
template<class F>
void from_a_thread(const KernelKind& kind, F&& body) {
    const ResourceGuard guard;
    coro::run(
        [&] {
            std::thread thread;
            Promise<void> done(coro::this_loop());
            const weft::RemoteLoop loop(coro::this_loop());
            thread = std::thread([&, mailbox = coro::this_loop().remote()] {
                body(loop);
                (void)mailbox->post([&] { done.set_value(); }, {});
            });
            coro::await(done.future());
            thread.join();
        },
        options_on(kind));
}

} // namespace

TEST_CASE("another thread starts tasks and has their values and errors", "[s23][coro]") {
    WEFT_TEST_KERNEL(waking_kernels);
    from_a_thread(kernel_kind, [](const weft::RemoteLoop& loop) {
        auto value = coro::start(loop, [] {
            coro::yield();
            return std::this_thread::get_id();
        });
        CHECK(value.get() != std::this_thread::get_id());
        auto name =
            coro::start(loop, [] { return coro::current_task()->name; }, {.name = "remote"});
        CHECK(name.get() == "remote");
        auto fails = coro::start(loop, []() -> int { throw std::out_of_range("there"); });
        CHECK_THROWS_AS(fails.get(), std::out_of_range);
        auto nothing = coro::start(loop, [] { coro::sleep(1ms); });
        nothing.get();
    });
}

TEST_CASE("another thread may wait for a limited time and go on waiting", "[s23][coro]") {
    WEFT_TEST_KERNEL(waking_kernels);
    from_a_thread(kernel_kind, [](const weft::RemoteLoop& loop) {
        std::promise<void> gate;
        auto task =
            coro::start(loop, [opened = std::make_shared<std::future<void>>(gate.get_future())] {
                coro::run_in_executor([opened] { opened->wait(); });
                return 1;
            });
        CHECK_FALSE(task.wait_for(1ms));
        gate.set_value();
        CHECK(task.get() == 1);
    });
}

TEST_CASE("a task that another thread cancels is cancelled in the loop and shows so",
          "[s23][coro]") {
    WEFT_TEST_KERNEL(waking_kernels);
    std::atomic<bool> cancelled = false;
    from_a_thread(kernel_kind, [&](const weft::RemoteLoop& loop) {
        std::promise<void> begun;
        auto task = coro::start(loop, [&] {
            begun.set_value();
            try {
                coro::sleep_forever();
            } catch (const Cancelled&) {
                cancelled = true;
                throw;
            }
        });
        begun.get_future().wait();
        task.cancel();
        try {
            task.get();
            FAIL_CHECK("it must throw");
        } catch (const std::system_error& error) {
            CHECK(error.code() == std::errc::operation_canceled);
        }
        task.cancel(); // harmless
        auto itself = coro::start(loop, [] { throw Cancelled(); });
        CHECK_THROWS_WITH(itself.get(), Catch::Contains("cancelled"));
    });
    CHECK(cancelled);
}

TEST_CASE("what is cancelled from outside before it begins never runs", "[s23][s25][coro]") {
    WEFT_TEST_KERNEL(waking_kernels);
    run_on(kernel_kind, [] {
        bool ran = false;
        auto capture = std::make_shared<int>();
        const weft::RemoteLoop loop(coro::this_loop());
        auto task = coro::start(loop, [&ran, capture] { ran = true; });
        task.cancel();
        coro::yield();
        coro::sleep(1ms);
        CHECK_FALSE(ran);
        CHECK(capture.use_count() == 1);
        CHECK_THROWS_AS(task.get(), UsageError); // it would block the loop
        CHECK_THROWS_AS(std::move(task).to_std().get(), std::system_error);
    });
}

TEST_CASE("a closed loop refuses tasks, and ends those that it has not run or finished",
          "[s23][coro]") {
    WEFT_TEST_KERNEL(waking_kernels);
    const ResourceGuard guard;
    LogCapture log;
    LoopOptions options;
    options.kernel = kernel_kind.make();
    auto loop = std::make_unique<Loop>(std::move(options));
    const weft::RemoteLoop remote(*loop);
    auto running = coro::start(remote, [] { coro::sleep_forever(); });
    for (int i = 0; i < 10; ++i)
        loop->run_once();
    bool ran = false;
    auto never = coro::start(remote, [&] { ran = true; });
    loop.reset();
    auto refused = coro::start(remote, [&] { ran = true; });
    const auto code_of = [](coro::RemoteTask<void>& task) {
        try {
            task.get();
        } catch (const std::system_error& error) {
            return error.code();
        }
        return std::error_code();
    };
    CHECK(code_of(running) == std::errc::operation_canceled);
    CHECK(code_of(never) == Errc::aborted);
    CHECK(code_of(refused) == Errc::aborted);
    refused.cancel();
    CHECK_FALSE(ran);
}

namespace {

/// The code that `get` throws, empty if it returns.
template<class T>
std::error_code code_of(coro::RemoteTask<T>& task) {
    try {
        task.get();
    } catch (const std::system_error& error) {
        return error.code();
    }
    return {};
}

} // namespace

TEST_CASE("what is cancelled after it was spawned and before its first step is told as cancelled",
          "[s23][s25][coro]") {
    WEFT_TEST_KERNEL(waking_kernels);
    const ResourceGuard guard;
    LoopOptions options;
    options.kernel = kernel_kind.make();
    Loop loop(std::move(options));
    const weft::RemoteLoop remote(loop);
    bool ran = false;
    auto capture = std::make_shared<int>();
    auto task = coro::start(remote, [&ran, capture] {
        ran = true;
        coro::sleep_forever();
    });
    task.cancel(); // noticed when it is to be spawned
    auto spawned = coro::start(remote, [&ran, capture] {
        ran = true;
        coro::sleep_forever();
    });
    // Its cancellation follows in the same batch: it is spawned then, and has not run.
    spawned.cancel();
    for (int i = 0; i < 3; ++i)
        loop.run_once();
    CHECK_FALSE(ran);
    CHECK(capture.use_count() == 1);
    CHECK(code_of(task) == std::errc::operation_canceled);
    CHECK(code_of(spawned) == std::errc::operation_canceled);
    task.cancel();
    spawned.cancel();
    spawned.cancel();
    loop.run_once();
}

TEST_CASE("a task that was cancelled while it waited to be run may be cancelled again",
          "[s23][s25][coro]") {
    WEFT_TEST_KERNEL(waking_kernels);
    run_unshuffled_on(kernel_kind, [] {
        bool ran = false;
        const weft::RemoteLoop remote(coro::this_loop());
        auto task = coro::start(remote, [&ran] { ran = true; });
        // From the same batch of callbacks as the one that spawns it.
        (void)remote.post([&] { CHECK(coro::all_tasks(coro::this_loop()).size() == 2); });
        (void)remote.post([&] { task.cancel(); });
        (void)remote.post([&] {
            for (auto& other : coro::all_tasks(coro::this_loop()))
                (void)other;
            task.cancel();
        });
        coro::sleep(1ms);
        task.cancel();
        coro::sleep(1ms);
        // It either ran before its cancellation came, or was told of it.
        auto outcome = std::move(task).to_std();
        if (ran)
            outcome.get();
        else
            CHECK_THROWS_WITH(outcome.get(), Catch::Contains("cancelled"));
    });
}

TEST_CASE("an empty RemoteTask refuses to be asked, and has nothing to cancel", "[s23][coro]") {
    WEFT_TEST_KERNEL(waking_kernels);
    from_a_thread(kernel_kind, [](const weft::RemoteLoop& loop) {
        coro::RemoteTask<int> empty;
        empty.cancel();
        CHECK_THROWS_AS(empty.get(), UsageError);
        CHECK_THROWS_AS(empty.wait_for(1ms), UsageError);
        CHECK_THROWS_AS(std::move(empty).to_std(), UsageError);
        auto task = coro::start(loop, [] { return 5; });
        auto moved = std::move(task);
        task.cancel();
        CHECK_THROWS_AS(task.get(), UsageError);
        CHECK(moved.wait_for(std::chrono::hours::max()));
        CHECK(moved.get() == 5);
        CHECK_THROWS_AS(moved.get(), UsageError);
        moved.cancel();
    });
}

TEST_CASE("a task that cannot be started says why, and not that the loop was closed",
          "[s23][coro]") {
    WEFT_TEST_KERNEL(waking_kernels);
    from_a_thread(kernel_kind, [](const weft::RemoteLoop& loop) {
        auto capture = std::make_shared<int>();
        auto task = coro::start(loop, [capture] {}, {.stack_size = std::size_t{1} << 50});
        std::string text = "nothing";
        try {
            task.get();
        } catch (const std::exception& error) {
            text = error.what();
        }
        CHECK_THAT(text, !Catch::Contains("closed") && !Catch::Contains("nothing"));
        CHECK(capture.use_count() == 1);
    });
}

TEST_CASE("what a remote task has captured is gone when its outcome is there", "[s23][coro]") {
    WEFT_TEST_KERNEL(waking_kernels);
    from_a_thread(kernel_kind, [](const weft::RemoteLoop& loop) {
        for (int i = 0; i < 20; ++i) {
            auto capture = std::make_shared<int>();
            coro::start(loop, [capture] {}).get();
            CHECK(capture.use_count() == 1);
            auto throws = coro::start(loop, [capture] { throw std::out_of_range("there"); });
            CHECK_THROWS_AS(throws.get(), std::out_of_range);
            CHECK(capture.use_count() == 1);
        }
    });
}

TEST_CASE("RemoteTask::get on the thread that steps an embedded loop is a UsageError",
          "[s23][s127][coro]") {
    WEFT_TEST_KERNEL(real_kernels);
    const ResourceGuard guard;
    LoopOptions options;
    options.kernel = kernel_kind.make();
    Loop loop(std::move(options));
    loop.step();
    auto task = coro::start(loop.remote(), [] { return 42; });
    CHECK_THROWS_AS(task.get(), UsageError);
    CHECK_THROWS_AS(task.wait_for(100ms), UsageError);
    std::thread([&] { CHECK_FALSE(task.wait_for(0ms)); }).join();
    while (loop.stats().callbacks != 0 || !coro::all_tasks(loop).empty() || loop.stats().turns < 5)
        loop.step();
    int value = 0;
    std::thread([&] { value = task.get(); }).join();
    CHECK(value == 42);
}

TEST_CASE("a job may wait for a task that sleeps, also where the clock is simulated",
          "[s117][s119][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        const weft::RemoteLoop remote(coro::this_loop());
        const auto before = coro::this_loop().now();
        const int value = coro::run_in_executor([remote] {
            auto task = coro::start(remote, [] {
                coro::sleep(20ms);
                return 7;
            });
            while (!task.wait_for(1ms)) {
            }
            return task.get();
        });
        CHECK(value == 7);
        CHECK(coro::this_loop().now() - before >= 20ms);
        coro::run_in_executor([remote] { coro::start(remote, [] { coro::sleep(20ms); }).get(); });
    });
}

TEST_CASE("closing the loop waits for a job that refers to its coroutine's frame",
          "[s69][s117][F34][coro]") {
    WEFT_TEST_KERNEL(waking_kernels);
    const ResourceGuard guard;
    LogCapture log;
    std::atomic<bool> frame{false}, seen{false};
    bool returned = false, joined = false;
    {
        LoopOptions options;
        options.kernel = kernel_kind.make();
        Loop loop(std::move(options));
        std::promise<void> started;
        auto worker = coro::spawn(loop, [&] {
            struct Frame {
                explicit Frame(std::atomic<bool>& f) : alive(f) { alive = true; }
                ~Frame() { alive = false; }
                std::atomic<bool>& alive;
            } local(frame);
            const int value = coro::run_in_executor_to_end([&, closing = loop.remote()] {
                started.set_value();
                while (!closing.closed())
                    std::this_thread::yield();
                for (int i = 0; i < 1000; ++i)
                    std::this_thread::yield();
                seen = local.alive.load();
                return 3;
            });
            returned = value == 3;
            coro::sleep(1h); // which the closing cancels
        });
        coro::spawn(loop, [&] {
            try {
                worker.join();
            } catch (const Cancelled&) {
                joined = true;
                throw;
            }
        }).detach();
        for (int i = 0; i < 5; ++i)
            loop.run_once();
        started.get_future().wait();
        loop.close();
        CHECK(worker.done());
    }
    CHECK(seen);
    CHECK_FALSE(frame);
    CHECK(returned);
    CHECK(joined);
}
