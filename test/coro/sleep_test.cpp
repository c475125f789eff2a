#include "coro_support.hpp"

using namespace weft;
using namespace weft::test;

TEST_CASE("sleeping for no time lets each of the others run once", "[s37][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    auto options = options_on(kernel_kind);
    options.shuffle = 0;
    coro::run(
        [&] {
            const auto twice = [&](const char* name) {
                return coro::spawn([&trace, name] {
                    trace(name);
                    coro::sleep(0s);
                    trace(name);
                });
            };
            auto a = twice("a"), b = twice("b");
            coro::sleep(0s);
            trace("main");
            a.wait();
            b.wait();
        },
        std::move(options));
    CHECK(trace.text == "a b main a b");
}

TEST_CASE("a callback queued in the loop runs between two yields", "[s37][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        bool called = false;
        coro::this_loop().call_soon([&] { called = true; });
        coro::yield();
        CHECK(called);
    });
}

TEST_CASE("sleeping never ends early, and equal deadlines end in order", "[s37][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    Trace trace;
    auto options = options_on(kernel_kind);
    options.shuffle = 0;
    coro::run(
        [&] {
            Loop& loop = coro::this_loop();
            const TimePoint start = loop.now();
            auto second = coro::spawn([&] {
                coro::sleep_until(start + 2s);
                trace("b");
            });
            auto first = coro::spawn([&] {
                coro::sleep(1s);
                trace("a");
            });
            coro::sleep(2s);
            trace("main");
            first.wait();
            second.wait();
            CHECK(since(start) == "2.000000 s");
        },
        std::move(options));
    CHECK(trace.text == "a main b");
}
