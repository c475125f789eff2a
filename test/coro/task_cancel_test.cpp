#include "coro_support.hpp"

#include <stdexcept>

using namespace weft;
using namespace weft::test;

TEST_CASE("a task that is cancelled before it begins never runs, and its captures are destroyed",
          "[s25][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    auto capture = std::make_shared<int>(1);
    bool ran = false;
    run_on(kernel_kind, [&] {
        auto task = coro::spawn([&ran, capture] { ran = true; });
        CHECK(task.cancel());
        task.wait();
        CHECK(task.cancelled());
        CHECK(capture.use_count() == 1);
        CHECK_THROWS_AS(task.result(), Cancelled);
    });
    CHECK_FALSE(ran);
}

TEST_CASE("cancelling cuts a sleep short and takes its timer out", "[s26][s37][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        auto task = coro::spawn([&] {
            try {
                coro::sleep(1h);
            } catch (const Cancelled&) {
                trace("cancelled");
                throw;
            }
        });
        coro::wait_all_blocked();
        CHECK(coro::this_loop().stats().timers == 1);
        task.cancel();
        task.wait();
        CHECK(coro::this_loop().stats().timers == 0);
    });
    CHECK(trace.text == "cancelled");
}

TEST_CASE("cancelling ends the awaited operation before it throws", "[s26][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        Promise<int> promise(coro::this_loop());
        promise.on_cancel([&] { trace("operation"); });
        auto task = coro::spawn([&] {
            try {
                coro::await(promise.future());
            } catch (const Cancelled&) {
                trace("waiter");
                throw;
            }
        });
        coro::wait_all_blocked();
        CHECK(task.cancel());
        trace("asked");
        task.wait();
        CHECK(promise.future().cancelled());
    });
    CHECK(trace.text == "operation asked waiter");
}

TEST_CASE("a task that catches its cancellation and returns is done with its value",
          "[s27][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        auto task = coro::spawn([&] {
            try {
                coro::sleep(1h);
            } catch (const Cancelled&) {
            }
            return 7;
        });
        coro::wait_all_blocked();
        task.cancel();
        CHECK(task.join() == 7);
        CHECK_FALSE(task.cancelled());
    });
}

TEST_CASE("a cancelled task can go on waiting once it has taken the request back",
          "[s27][s30][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        coro::Task<int> task;
        task = coro::spawn([&] {
            try {
                coro::sleep(1h);
            } catch (const Cancelled&) {
                CHECK(task.cancelling() == 2);
                CHECK(task.uncancel() == 1);
                CHECK_THROWS_AS(coro::yield(), Cancelled);
                CHECK(task.uncancel() == 0);
            }
            coro::sleep(1ms);
            coro::yield();
            return 7;
        });
        coro::wait_all_blocked();
        task.cancel();
        task.cancel();
        CHECK(task.join() == 7);
    });
}

TEST_CASE("a cancelled task is cancelled at every suspension, but where it is shielded",
          "[s59][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        auto task = coro::spawn([&] {
            try {
                coro::sleep(1h);
            } catch (const Cancelled&) {
                CHECK_THROWS_AS(coro::sleep(1ms), Cancelled);
                coro::shield([&] {
                    coro::sleep(1ms);
                    trace("cleaned");
                });
                CHECK_THROWS_AS(coro::yield(), Cancelled);
                throw;
            }
        });
        coro::wait_all_blocked();
        task.cancel();
        task.wait();
        CHECK(task.cancelled());
    });
    CHECK(trace.text == "cleaned");
}

TEST_CASE("a task that cancels itself is cancelled at its next suspension, or when it returns",
          "[s28][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::Task<void> suspends, returns;
        suspends = coro::spawn([&] {
            suspends.cancel();
            trace("on");
            coro::yield();
            trace("never");
        });
        suspends.wait();
        CHECK(suspends.cancelled());
        returns = coro::spawn([&] { returns.cancel(); });
        returns.wait();
        CHECK(returns.cancelled());
    });
    CHECK(trace.text == "on");
}

TEST_CASE("cancelling a task cancels the one it waits for, whose value counts if it has one",
          "[s29][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        Loop& loop = coro::this_loop();
        auto swallows = coro::spawn(loop, [] {
            try {
                coro::sleep(1h);
            } catch (const Cancelled&) {
            }
            return 5;
        });
        auto ends = coro::spawn(loop, [] { coro::sleep(1h); });
        auto first = coro::spawn([&] { return swallows.join() + 1; });
        auto second = coro::spawn([&] { ends.join(); });
        coro::wait_all_blocked();
        CHECK(first.cancel());
        CHECK(second.cancel());
        CHECK(first.join() == 6);
        second.wait();
        CHECK(second.cancelled());
        CHECK(ends.cancelled());
    });
}

TEST_CASE("cancelling a task that is done is refused and harmless", "[s31][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        auto task = coro::spawn([] { return 1; });
        task.wait();
        CHECK_FALSE(task.cancel());
        CHECK(task.result() == 1);
        CHECK(task.cancelling() == 0);
    });
}

TEST_CASE("what a task throws while it is being cancelled is its outcome", "[s32][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        auto task = coro::spawn([] {
            try {
                coro::sleep(1h);
            } catch (const Cancelled&) {
                std::throw_with_nested(std::runtime_error("cleaning failed"));
            }
        });
        coro::wait_all_blocked();
        task.cancel();
        try {
            task.join();
            FAIL_CHECK("it must throw");
        } catch (const std::runtime_error& error) {
            CHECK(std::string(error.what()) == "cleaning failed");
            CHECK_THROWS_AS(std::rethrow_if_nested(error), Cancelled);
        }
    });
}

TEST_CASE("a shielded task goes on when the one that waits for it is cancelled", "[s33][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::Event go;
        auto outer = coro::spawn([&] {
            auto inner = coro::spawn([&] {
                go.wait();
                trace("inner");
            });
            try {
                coro::shield(inner);
            } catch (const Cancelled&) {
                trace("outer");
                throw;
            }
        });
        coro::wait_all_blocked();
        outer.cancel();
        coro::wait_all_blocked();
        go.set();
        outer.wait();
        trace("joined");
    });
    CHECK(trace.text == "outer inner joined");
}

TEST_CASE("a shielded task that is cancelled itself shows as cancelled", "[s33][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        auto inner = coro::spawn([] { coro::sleep_forever(); });
        auto outer = coro::spawn([&] { coro::shield(inner); });
        coro::wait_all_blocked();
        inner.cancel();
        outer.wait();
        CHECK(outer.cancelled());
    });
}

TEST_CASE("a shielded task's error is reported when the one that waited is gone", "[s33][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        UnhandledLog unhandled;
        coro::Event go;
        auto outer = coro::spawn([&] {
            auto inner = coro::spawn([&] {
                go.wait();
                throw std::runtime_error("too late");
            });
            coro::shield(inner);
        });
        coro::wait_all_blocked();
        outer.cancel();
        coro::wait_all_blocked();
        go.set();
        outer.wait();
        REQUIRE(unhandled.texts.size() == 1);
        CHECK_THAT(unhandled.texts.front(), Catch::Contains("too late"));
    });
}

TEST_CASE("a cancellation that is swallowed again and again is reported once and thrown again",
          "[F40][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        UnhandledLog unhandled;
        int caught = 0;
        auto task = coro::spawn(
            [&] {
                while (caught < 10) {
                    try {
                        coro::sleep(1h);
                    } catch (...) {
                        ++caught;
                    }
                }
            },
            {.name = "deaf"});
        coro::wait_all_blocked();
        task.cancel();
        task.wait();
        CHECK(caught == 10);
        REQUIRE(unhandled.texts.size() == 1);
        CHECK_THAT(unhandled.texts.front(),
                   Catch::Contains("'deaf'") && Catch::Contains("has caught a weft::Cancelled"));
    });
}

TEST_CASE("a job that has not begun is prevented by cancelling the task that waits for it",
          "[s117][coro]") {
    WEFT_TEST_KERNEL(real_kernels);
    auto options = options_on(kernel_kind);
    options.loop.executor_threads = 1;
    coro::run(
        [&] {
            Loop& loop = coro::this_loop();
            std::promise<void> gate;
            auto holds = loop.run_in_executor([&, wait = gate.get_future()] { wait.wait(); });
            std::atomic<bool> ran = false;
            auto task = coro::spawn([&] { coro::run_in_executor([&] { ran = true; }); });
            auto unwilling = coro::spawn([&] { coro::run_in_executor_to_end([] { return 1; }); });
            coro::wait_all_blocked();
            task.cancel();
            unwilling.cancel();
            task.wait();
            CHECK(task.cancelled());
            CHECK_FALSE(unwilling.done()); // un-cancellable work delays it
            gate.set_value();
            unwilling.wait();
            coro::await(holds);
            CHECK_FALSE(ran);
            CHECK(coro::run_in_executor([] { return 42; }) == 42);
            CHECK_THROWS_AS(coro::run_in_executor([] { throw std::out_of_range("x"); }),
                            std::out_of_range);
        },
        std::move(options));
}
