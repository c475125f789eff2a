#include "coro_support.hpp"

#include <stdexcept>

using namespace weft;
using namespace weft::test;

namespace {

/// Fails `failures` times, and then returns how often it was called.
auto fails(int failures, std::vector<Duration>* when = nullptr) {
    return [=, calls = 0, start = coro::this_loop().now()]() mutable {
        if (when != nullptr) when->push_back(coro::this_loop().now() - start);
        if (calls++ < failures) throw std::runtime_error("failure " + std::to_string(calls));
        return calls;
    };
}

} // namespace

TEST_CASE("a function is called again after pauses that grow, until it returns", "[coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        std::vector<Duration> when;
        const coro::RetryPolicy policy{
            .attempts = 6, .pause = 1s, .factor = 2, .longest_pause = 5s, .jitter = 0};
        CHECK(coro::retry(policy, fails(5, &when)) == 6);
        CHECK(when == std::vector<Duration>{0s, 1s, 3s, 7s, 12s, 17s});
        CHECK(coro::retry(policy, [] { return 1; }) == 1);
    });
}

TEST_CASE("the last failure is thrown when there are no attempts left", "[coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        CHECK_THROWS_WITH(coro::retry({.attempts = 3}, fails(10)), "failure 3");
        CHECK_THROWS_WITH(coro::retry({.attempts = 1}, fails(10)), "failure 1");
        CHECK(coro::retry({.attempts = 0, .longest_pause = 1s}, fails(50)) == 51);
    });
}

TEST_CASE("no pause reaches beyond the deadline", "[coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        const TimePoint start = coro::this_loop().now();
        CHECK_THROWS_WITH(
            coro::retry({.attempts = 0, .pause = 1s, .factor = 1, .jitter = 0, .deadline = 3500ms},
                        fails(100)),
            "failure 4");
        CHECK(since(start) == "3.000000 s");
    });
}

TEST_CASE("only what the predicate wants is tried again, misuse and cancellation never", "[coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        int calls = 0;
        const auto throws = [&](auto error) {
            return [&calls, error] {
                ++calls;
                throw error;
            };
        };
        const auto system = coro::retry_on<std::system_error, std::out_of_range>;
        CHECK_THROWS_AS(coro::retry({}, throws(std::runtime_error("x")), system),
                        std::runtime_error);
        CHECK(calls == 1);
        CHECK_THROWS_AS(
            coro::retry({}, throws(coro::TimeoutError("derived from system_error")), system),
            coro::TimeoutError);
        CHECK(calls == 4);
        CHECK_THROWS_AS(coro::retry({}, throws(UsageError("x"))), UsageError);
        CHECK_THROWS_AS(coro::retry({}, throws(FatalError("x"))), FatalError);
        CHECK_THROWS_AS(coro::retry({}, throws(Cancelled())), Cancelled);
        CHECK(calls == 7);
        for (const coro::RetryPolicy& wrong :
             {coro::RetryPolicy{.pause = -1s}, coro::RetryPolicy{.factor = 0.5},
              coro::RetryPolicy{.jitter = 2}})
            CHECK_THROWS_AS(coro::retry(wrong, [] {}), UsageError);
    });
}

TEST_CASE("cancelling ends the pause between two attempts", "[coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        std::vector<Duration> when;
        CHECK_FALSE(
            coro::move_on_after(1s, [&] { (void)coro::retry({.pause = 1h}, fails(10, &when)); }));
        CHECK(when.size() == 1);
        CHECK(coro::this_loop().stats().timers == 0);
    });
}

TEST_CASE("jitter shortens pauses by lot, the same for the same seed", "[s120][coro]") {
    const auto pauses = [] {
        std::vector<Duration> when;
        run_on(simulated_kernels().front(), [&] {
            (void)coro::retry({.attempts = 0, .pause = 1s, .factor = 1, .jitter = 0.5},
                              fails(50, &when));
        });
        return when;
    };
    const auto first = pauses();
    CHECK(first == pauses());
    REQUIRE(first.size() == 51);
    int short_ones = 0;
    for (std::size_t i = 1; i < first.size(); ++i) {
        const Duration pause = first[i] - first[i - 1];
        CHECK(pause >= 500ms);
        CHECK(pause <= 1s);
        if (pause < 750ms) ++short_ones;
    }
    CHECK(short_ones > 10);
    CHECK(short_ones < 40);
}

TEST_CASE("a ticker keeps to the multiples of its interval and tells which were missed", "[coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        const TimePoint start = coro::this_loop().now();
        coro::Ticker ticker(10s);
        CHECK(ticker.tick() == 0);
        CHECK(since(start) == "10.000000 s");
        coro::sleep(4s);
        CHECK(ticker.tick() == 0);
        CHECK(since(start) == "20.000000 s");
        coro::sleep(35s); // over the ticks at 30, 40 and 50
        CHECK(ticker.tick() == 3);
        CHECK(since(start) == "60.000000 s");
        CHECK_FALSE(coro::move_on_after(1s, [&] { (void)ticker.tick(); }));
        CHECK(ticker.tick() == 0);
        CHECK(since(start) == "70.000000 s");
        coro::sleep(10s); // due right now is not missed
        CHECK(ticker.tick() == 0);
        CHECK(since(start) == "80.000000 s");
        CHECK_THROWS_AS(coro::Ticker(0s), UsageError);
    });
}

TEST_CASE("a periodic function runs at every tick until it says that it is enough", "[coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        const TimePoint start = coro::this_loop().now();
        std::vector<std::uint64_t> missed;
        coro::every(1s, [&](std::uint64_t count) {
            missed.push_back(count);
            if (missed.size() == 2) coro::sleep(2500ms);
            return missed.size() < 4;
        });
        CHECK(missed == std::vector<std::uint64_t>{0, 0, 2, 0});
        CHECK(since(start) == "6.000000 s");
        int runs = 0;
        CHECK_FALSE(coro::move_on_after(5500ms, [&] { coro::every(1s, [&] { ++runs; }); }));
        CHECK(runs == 5);
    });
}
