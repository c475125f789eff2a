#include "support/kernels.hpp"

#include <functional>
#include <limits>

using namespace std::chrono_literals;
using namespace weft::test;
using weft::Duration;
using weft::TimePoint;
using weft::Timer;

// "For ever", in every way in which people write it.
static_assert(Duration(std::chrono::hours::max()) == Duration::max());
static_assert(Duration(std::chrono::seconds::max()) == Duration::max());
static_assert(Duration(std::chrono::nanoseconds::max()) == Duration::max());
static_assert(Duration(std::chrono::years(300)) == Duration::max());
static_assert(Duration(std::chrono::years(-300)) == Duration::min());
static_assert(Duration(std::chrono::hours::min()) == Duration::min());
static_assert(Duration(std::chrono::duration<double>(std::numeric_limits<double>::infinity())) ==
              Duration::max());
static_assert(Duration(std::chrono::duration<double>(std::numeric_limits<double>::quiet_NaN())) ==
              Duration::max());
static_assert(Duration(std::chrono::duration<double>(1e-10)) == 1ns);
static_assert(Duration(std::chrono::duration<float>(-1)) == -1s);
static_assert(weft::difference(TimePoint::max(), TimePoint::min()) == Duration::max());
static_assert(weft::difference(TimePoint::min(), TimePoint::max()) == Duration::min());
static_assert(weft::difference(TimePoint(5ns), TimePoint(7ns)) == -2ns);

namespace {

std::vector<Duration> huge_durations() {
    return {Duration::max(), std::chrono::seconds::max(), std::chrono::hours::max(),
            std::chrono::years(300)};
}

} // namespace

TEST_CASE("A delay counts from the call, however long the callback that asks has run [s121]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    TestLoop loop(kernel_kind);
    TimePoint asked{};
    Duration after{-1};
    std::vector<Timer> timers;
    const auto fired = [&] {
        after = loop.kernel.now() - asked;
        loop->stop();
    };
    const auto ask = [&] {
        loop.sim().advance(60ms); // it computes
        asked = loop.kernel.now();
        CHECK(loop->now() == asked);
        CHECK(loop->deadline_in(1s) == asked + 1s);
        timers.push_back(loop->call_later(50ms, fired));
    };
    SECTION("in a queued callback") {
        loop->call_soon(ask);
    }
    SECTION("in a posted one") {
        (void)loop->post(ask);
    }
    SECTION("in a timer's") {
        timers.push_back(loop->call_later(1ms, ask));
    }
    SECTION("in a repeating timer's") {
        timers.push_back(loop->call_every(1h, [&, once = false]() mutable {
            if (!std::exchange(once, true)) ask();
        }));
    }
    SECTION("in a signal's") {
        auto watch = loop->on_signal(10, ask).value();
        loop.sim().deliver_signal(10);
        loop->run();
    }
    SECTION("of a repeating timer") {
        loop->call_soon([&] {
            loop.sim().advance(60ms);
            asked = loop.kernel.now();
            timers.push_back(loop->call_every(50ms, fired));
        });
    }
    if (after < Duration::zero()) loop->run();
    CHECK(after == 50ms);
}

TEST_CASE("A repeating timer that is late keeps to its multiples, also to those before the clock's "
          "beginning [s121]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    TestLoop loop(kernel_kind);
    int ticks = 0;
    Timer timer = loop->call_every(1h, [&] { ++ticks; });
    CHECK(timer.reschedule(TimePoint::min())); // as late as can be
    loop->run_once();
    CHECK(ticks == 1);
    CHECK(timer.when() >= loop->now());
    CHECK(timer.when() <= loop->now() + 1h);
}

TEST_CASE(
    "A timer that is to fire never never does, and keeps nothing else from happening [s121]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    bool fired = false;
    std::vector<Timer> timers;
    for (const Duration huge : huge_durations()) {
        timers.push_back(loop->call_later(huge, [&] { fired = true; }));
        timers.push_back(loop->call_every(huge, [&] { fired = true; }));
    }
    for (const Timer& timer : timers)
        CHECK(timer.when() == TimePoint::max());
    int steps = 0;
    for (const Duration huge : huge_durations()) {
        loop->call_soon([&] { ++steps; });
        CHECK(loop->step({huge, 10}).ran == 1);
    }
    CHECK(steps == 4);
    auto end = loop->call_later(1ms, [&] { loop->stop(); });
    loop->run();
    CHECK(!fired);
    CHECK(loop->next_deadline() == TimePoint::max());
}

TEST_CASE("A simulated clock that is moved as far as it goes stands there [s121]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    TestLoop loop(kernel_kind);
    bool fired = false;
    auto timer = loop->call_later(std::chrono::years(250), [&] { fired = true; });
    loop.sim().advance(std::chrono::hours::max());
    CHECK(loop->now() == TimePoint::max());
    loop->run_once();
    CHECK(fired);
    loop.sim().advance(Duration::max());
    CHECK(loop->now() == TimePoint::max());
}
