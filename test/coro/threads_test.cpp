#include "coro_support.hpp"

#include <weft/coro/threads.hpp>

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
            const coro::RemoteLoop loop(coro::this_loop());
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
    from_a_thread(kernel_kind, [](const coro::RemoteLoop& loop) {
        auto value = loop.start([] {
            coro::yield();
            return std::this_thread::get_id();
        });
        CHECK(value.get() != std::this_thread::get_id());
        auto name = loop.start([] { return coro::current_task()->name; }, {.name = "remote"});
        CHECK(name.get() == "remote");
        auto fails = loop.start([]() -> int { throw std::out_of_range("there"); });
        CHECK_THROWS_AS(fails.get(), std::out_of_range);
        auto nothing = loop.start([] { coro::sleep(1ms); });
        nothing.get();
    });
}

TEST_CASE("another thread may wait for a limited time and go on waiting", "[s23][coro]") {
    WEFT_TEST_KERNEL(waking_kernels);
    from_a_thread(kernel_kind, [](const coro::RemoteLoop& loop) {
        std::promise<void> gate;
        auto task = loop.start([opened = std::make_shared<std::future<void>>(gate.get_future())] {
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
    from_a_thread(kernel_kind, [&](const coro::RemoteLoop& loop) {
        std::promise<void> begun;
        auto task = loop.start([&] {
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
        auto itself = loop.start([] { throw Cancelled(); });
        CHECK_THROWS_WITH(itself.get(), Catch::Contains("cancelled"));
    });
    CHECK(cancelled);
}

TEST_CASE("what is cancelled from outside before it begins never runs", "[s23][s25][coro]") {
    WEFT_TEST_KERNEL(waking_kernels);
    run_on(kernel_kind, [] {
        bool ran = false;
        auto capture = std::make_shared<int>();
        const coro::RemoteLoop loop(coro::this_loop());
        auto task = loop.start([&ran, capture] { ran = true; });
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
    const coro::RemoteLoop remote(*loop);
    auto running = remote.start([] { coro::sleep_forever(); });
    for (int i = 0; i < 10; ++i)
        loop->run_once();
    bool ran = false;
    auto never = remote.start([&] { ran = true; });
    loop.reset();
    auto refused = remote.start([&] { ran = true; });
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
