#include "coro_support.hpp"
#include "support/child.hpp"

#include <weft/coro/tasks/testing.hpp>

#include <csignal>
#include <stdexcept>
#include <unistd.h>

using namespace weft;
using namespace weft::test;

TEST_CASE("run returns what main returns and throws what it throws", "[s118][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    CHECK(run_on(kernel_kind, [] { return std::make_unique<int>(3); }) != nullptr);
    CHECK_THROWS_AS(run_on(kernel_kind, [] { throw std::out_of_range("x"); }), std::out_of_range);
    CHECK_THROWS_AS(run_on(kernel_kind, [] { throw Cancelled(); }), Cancelled);
}

TEST_CASE("run cancels the tasks that are left, awaits them and reports them by name",
          "[s118][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    LogCapture log;
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::spawn(
            [&] {
                try {
                    coro::sleep_forever();
                } catch (const Cancelled&) {
                    coro::shield([] { coro::sleep(1ms); });
                    trace("left");
                    throw std::runtime_error("while ending");
                }
            },
            {.name = "straggler"})
            .detach();
        coro::wait_all_blocked();
        trace("main");
    });
    CHECK(trace.text == "main left");
    const std::string text = log.text();
    CHECK_THAT(text, Catch::Contains("'straggler'") && Catch::Contains("sleep_forever"));
    CHECK_THAT(text, Catch::Contains("while ending"));
}

TEST_CASE("run inside a coroutine or a callback is an error", "[s118][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        CHECK_THROWS_WITH(coro::run([] {}, options_on(kernel_kind)),
                          Catch::Contains("a loop is running on this thread already"));
    });
}

TEST_CASE("a task that has not ended when its loop goes is unwound and reported by name",
          "[s38][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    LogCapture log;
    Trace trace;
    {
        LoopOptions options;
        options.kernel = kernel_kind.make();
        Loop loop(std::move(options));
        struct Says {
            Trace& trace;
            ~Says() { trace("unwound"); }
        };
        coro::spawn(loop,
                    [&] {
                        const Says says{trace};
                        coro::sleep_forever();
                    },
                    {.name = "sleeper"})
            .detach();
        coro::spawn(loop, [&] { trace("never"); }, {.name = "unborn"}).detach();
        loop.run_once();
    }
    // What runs first depends on the order; what has begun is unwound.
    CHECK_THAT(log.text(), Catch::Contains("'sleeper'"));
    CHECK_THAT(trace.text, Catch::Contains("unwound"));
}

TEST_CASE("a task that has not begun when its loop goes never does", "[s25][s38][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    LogCapture log;
    bool ran = false;
    {
        LoopOptions options;
        options.kernel = kernel_kind.make();
        Loop loop(std::move(options));
        coro::spawn(loop, [&] { ran = true; }, {.name = "unborn"}).detach();
    }
    CHECK_FALSE(ran);
    CHECK_THAT(log.text(), Catch::Contains("'unborn'"));
}

TEST_CASE("the order drawn from a seed is always the same, and another seed's another",
          "[s120][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    const auto order_of = [&](std::uint64_t seed) {
        Trace trace;
        auto options = options_on(kernel_kind);
        options.shuffle = seed;
        coro::run(
            [&] {
                coro::task_group([&](coro::TaskGroup& group) {
                    for (int i = 0; i < 8; ++i)
                        (void)group.spawn([&trace, i] {
                            for (int step = 0; step < 3; ++step) {
                                trace(std::to_string(i));
                                coro::yield();
                            }
                        });
                });
            },
            std::move(options));
        return trace.text;
    };
    const std::string first_come = order_of(0);
    CHECK(first_come.starts_with("0 1 2 3 4 5 6 7 0 1"));
    CHECK(order_of(0) == first_come);
    CHECK(order_of(1) == order_of(1));
    CHECK(order_of(12345) == order_of(12345));
    CHECK(order_of(1) != order_of(12345));
    CHECK(order_of(1) != first_come);
}
