#include "coro_support.hpp"

#include <weft/reactor/loop_core.hpp>

#include <array>

using namespace weft;
using namespace weft::test;

namespace {

/// Computes for so long: the loop does not hear of it.
void compute(Duration time) {
    dynamic_cast<sim::SimKernel&>(weft::detail::core_of(coro::this_loop()).kernel()).advance(time);
}

std::vector<Duration> huge_durations() {
    return {Duration::max(), std::chrono::seconds::max(), std::chrono::hours::max(),
            std::chrono::years(300)};
}

} // namespace

TEST_CASE("A coroutine that has computed sleeps for no less than it asks [s121]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        const auto timed = [](auto&& call) {
            compute(100ms);
            const TimePoint begun = weft::detail::core_of(coro::this_loop()).kernel().now();
            call();
            return Duration(weft::detail::core_of(coro::this_loop()).kernel().now() - begun);
        };
        for (int i = 0; i < 3; ++i) {
            CHECK(timed([] { coro::sleep(50ms); }) == 50ms);
            CHECK(timed([] { coro::move_on_after(50ms, [] { coro::sleep_forever(); }); }) == 50ms);
            CHECK(timed([] { coro::with_timeout(50ms, [] { coro::sleep(20ms); }); }) == 20ms);
            coro::Queue<int> queue;
            CHECK(timed([&] { CHECK_THROWS_AS(queue.get(50ms), coro::TimeoutError); }) == 50ms);
        }
        coro::Ticker ticker(1s);
        compute(2500ms);
        const TimePoint begun = weft::detail::core_of(coro::this_loop()).kernel().now();
        CHECK(ticker.tick() == 2);
        CHECK(weft::detail::core_of(coro::this_loop()).kernel().now() - begun == 500ms);
        int calls = 0;
        CHECK(timed([&] {
                  coro::retry({.attempts = 2, .pause = 50ms, .jitter = 0}, [&] {
                      if (++calls == 1) throw std::runtime_error("once");
                  });
              }) == 50ms);
    });
}

TEST_CASE("Another that computes in the same turn shortens nobody's sleep [s121]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        auto other = coro::spawn([] {
            coro::sleep(1ms);
            compute(100ms);
        });
        coro::sleep(1ms);
        const TimePoint begun = weft::detail::core_of(coro::this_loop()).kernel().now();
        coro::sleep(50ms);
        CHECK(weft::detail::core_of(coro::this_loop()).kernel().now() - begun >= 50ms);
    });
}

TEST_CASE("A coroutine's huge limits never pass [s121]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        for (const Duration huge : huge_durations()) {
            CHECK(coro::Deadline(huge).never());
            coro::with_timeout(huge, [] { coro::sleep(100h); });
            CHECK(!coro::move_on_after(1h, [&] { coro::sleep(huge); }));
            coro::Ticker ticker(huge);
            CHECK(!coro::move_on_after(1h, [&] { ticker.tick(); }));
            CHECK(!coro::move_on_after(1h, [&] {
                coro::retry({.attempts = 0, .pause = huge, .longest_pause = huge, .jitter = 0},
                            [&] { throw std::runtime_error("always"); });
            }));
            CHECK(!coro::move_on_after(1h, [&] { coro::wait_all_blocked(huge); }));
        }
    });
}
