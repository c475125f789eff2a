#include "coro_support.hpp"

#include <stdexcept>

using namespace weft;
using namespace weft::test;

TEST_CASE("a task's value is what its function returned", "[s24][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    const int value = run_on(kernel_kind, [] {
        auto task = coro::spawn([] { return 42; });
        return task.join();
    });
    CHECK(value == 42);
}

TEST_CASE("an exception keeps its type and its text on the way to whoever joins", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto task = coro::spawn([] { throw std::out_of_range("too far"); });
        CHECK_THROWS_MATCHES(task.join(), std::out_of_range, Catch::Message("too far"));
    });
}

TEST_CASE("a task starts when its parent suspends, and not before", "[s24][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        auto task = coro::spawn([&] { trace("child"); });
        trace("parent");
        task.wait();
        trace("joined");
    });
    CHECK(trace.text == "parent child joined");
}

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
        coro::yield();
        CHECK(coro::this_loop().stats().timers == 1);
        task.cancel();
        task.wait();
        CHECK(coro::this_loop().stats().timers == 0);
    });
    CHECK(trace.text == "cancelled");
}
