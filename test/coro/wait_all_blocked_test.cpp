#include "coro_support.hpp"

using namespace weft;
using namespace weft::test;

TEST_CASE("waiting until all others are blocked takes no time", "[s119][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [&] {
        const TimePoint start = coro::this_loop().now();
        int steps = 0;
        auto busy = coro::spawn([&] {
            for (int i = 0; i < 100; ++i) {
                ++steps;
                coro::yield();
            }
            coro::sleep(1s);
            ++steps;
        });
        coro::wait_all_blocked();
        CHECK(steps == 100);
        CHECK(since(start) == "0.000000 s");
        coro::wait_all_blocked(2s);
        CHECK(steps == 101);
        CHECK(coro::this_loop().now() >= start + 2s);
    });
}

TEST_CASE("waiting until all others are blocked includes what they send each other",
          "[s119][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        auto [near, far] = coro::stream_pair();
        bool answered = false;
        auto echo = coro::spawn([&, peer = &far] {
            std::array<std::byte, 16> buffer;
            while (const auto n = peer->read_some(buffer))
                peer->write(Bytes(buffer).first(n));
        });
        auto asks = coro::spawn([&, peer = &near] {
            std::array<std::byte, 16> buffer{};
            for (int i = 0; i < 5; ++i) {
                peer->write(buffer);
                (void)peer->read_some(buffer);
            }
            answered = true;
            coro::sleep_forever();
        });
        coro::wait_all_blocked();
        CHECK(answered);
    });
}

TEST_CASE("time jumps only when everybody waits", "[s119][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [&] {
        const TimePoint start = coro::this_loop().now();
        auto sleeper = coro::spawn([&] { coro::sleep(1h); });
        for (int i = 0; i < 1000; ++i)
            coro::yield();
        CHECK(since(start) == "0.000000 s");
        sleeper.wait();
        CHECK(since(start) == "3600.000000 s");
    });
}

TEST_CASE("any number may wait for all others to be blocked", "[s119][coro]") {
    const KernelKind kind = GENERATE(from_range(all_kernels()));
    run_on(kind, [] {
        Trace trace;
        auto a = coro::spawn([&] {
            coro::wait_all_blocked();
            trace("a");
        });
        auto b = coro::spawn([&] {
            coro::wait_all_blocked();
            trace("b");
        });
        auto c = coro::spawn([&] {
            coro::wait_all_blocked(1ms);
            trace("c");
        });
        auto cancelled = coro::spawn([&] { coro::wait_all_blocked(5s); });
        a.join();
        b.join();
        c.join();
        CHECK((trace.text == "a b c" || trace.text == "b a c"));
        cancelled.cancel();
        cancelled.wait();
        coro::wait_all_blocked();
    });
}

TEST_CASE("a cushion counts from the last time that somebody did something", "[s119][coro]") {
    run_on(simulated_kernels().front(), [] {
        const TimePoint start = coro::this_loop().now();
        auto other = coro::spawn([] {
            coro::sleep(40ms);
            coro::yield();
            coro::sleep(1h);
        });
        coro::wait_all_blocked(50ms);
        CHECK(coro::this_loop().now() - start == 90ms);
        other.cancel();
    });
}
