#include "support/heap.hpp"
#include "support/kernels.hpp"

#include <functional>

using namespace std::chrono_literals;
using namespace weft::test;
using weft::Duration;
using weft::TimePoint;
using weft::Timer;
using weft::UsageError;

TEST_CASE("Timers fire in the order of their deadlines, equal ones in the order of creation [s3]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    std::vector<int> order;
    const auto note = [&](int id) { return [&order, id] { order.push_back(id); }; };
    const TimePoint start = loop->now();
    std::vector<Timer> timers;
    timers.push_back(loop->call_at(start + 2ms, note(5)));
    timers.push_back(loop->call_at(start - 1s, note(2)));
    timers.push_back(loop->call_at(start - 2s, note(1)));
    timers.push_back(loop->call_at(start + 1ms, note(3)));
    timers.push_back(loop->call_at(start + 1ms, note(4)));
    timers.push_back(loop->call_at(start + 2ms, note(6)));
    loop->run_until_idle();
    CHECK(order == std::vector{1, 2, 3, 4, 5, 6});
}

TEST_CASE("A timer never fires early [s3] [F27]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    const auto delay = GENERATE(Duration(1ns), Duration(999ns), Duration(50us), Duration(999'999ns),
                                Duration(2ms));
    const TimePoint before = loop.kernel.now();
    TimePoint fired{}, known{};
    auto timer = loop->call_later(delay, [&] {
        fired = loop.kernel.now();
        known = loop->now();
    });
    CHECK(timer.when() >= before + delay);
    loop->run_until_idle();
    CHECK(fired >= before + delay);
    CHECK(known >= before + delay);
}

TEST_CASE("A timer that is made in the first turn of a run counts from then [s3] [F27]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    const TimePoint before = loop.kernel.now();
    Timer timer;
    bool fired = false;
    loop->call_soon([&] { timer = loop->call_later(1h, [&] { fired = true; }); });
    for (int i = 0; i < 3; ++i)
        loop->run_once(false);
    CHECK_FALSE(fired);
    CHECK(timer.when() >= before + 1h);
}

TEST_CASE("A delay that is no whole number of nanoseconds is rounded up [s3]") {
    WEFT_TEST_KERNEL(simulated_kernels); // whose clock stands still
    TestLoop loop(kernel_kind);
    loop->call_soon([&] {
        using Picoseconds = std::chrono::duration<long, std::pico>;
        CHECK(loop->call_later(Picoseconds(1500), [] {}).when() == loop->now() + 2ns);
        CHECK(loop->call_later(std::chrono::duration<double>(0.5), [] {}).when() ==
              loop->now() + 500ms);
    });
    loop->run_once();
    CHECK(loop.unhandled.empty());
}

TEST_CASE("Very long delays neither overflow nor fire early [s4]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    bool early = false;
    std::vector<Timer> timers;
    timers.push_back(loop->call_later(std::chrono::hours(1'000'000'000), [&] { early = true; }));
    timers.push_back(loop->call_later(std::chrono::seconds(1'000'000'000), [&] { early = true; }));
    timers.push_back(loop->call_later(std::chrono::milliseconds(std::int64_t(INT32_MAX) + 1),
                                      [&] { early = true; }));
    timers.push_back(loop->call_later(Duration::max(), [&] { early = true; }));
    timers.push_back(loop->call_later(std::chrono::duration<double>(1e300), [&] { early = true; }));
    timers.push_back(loop->call_at(TimePoint::max(), [&] { early = true; }));
    auto soon = loop->call_later(1ms, [&] { loop->stop(); });
    loop->run();
    CHECK(!early);
    CHECK(loop->stats().timers == 6);
    CHECK(timers[0].when() == TimePoint::max());
    bool past = false;
    auto never_too_late = loop->call_later(Duration::min(), [&] { past = true; });
    loop->run_once();
    CHECK(past);
}

TEST_CASE("Cancelling destroys the captures now, twice is a no-op [s2]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    auto capture = std::make_shared<int>();
    bool ran = false;
    auto timer = loop->call_later(1h, [&ran, capture] { ran = true; });
    CHECK(timer.active());
    CHECK(timer.cancel());
    CHECK(capture.use_count() == 1);
    CHECK(!timer.active());
    CHECK(timer.when() == TimePoint::max());
    CHECK(!timer.cancel());
    CHECK(!timer.reschedule(loop->now()));
    {
        auto dropped = loop->call_later(0s, [&ran, capture] { ran = true; });
    }
    CHECK(capture.use_count() == 1);
    timer = loop->call_later(0s, [&ran, capture] { ran = true; });
    timer = loop->call_later(0s, [capture] {}); // assigning ends the old one
    CHECK(capture.use_count() == 2);
    loop->run_until_idle();
    CHECK(!ran);
    CHECK(capture.use_count() == 1);
    CHECK(!timer.active());
    CHECK(!timer.cancel());
    CHECK(!Timer().cancel());
}

TEST_CASE("A timer may end and replace itself in its own callback [F7]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    auto capture = std::make_shared<int>(0);
    std::optional<Timer> timer;
    timer = loop->call_every(0s, [&, capture] {
        timer.reset();
        ++*capture; // the captures live until it returns
    });
    loop->run_until_idle();
    CHECK(*capture == 1);
    CHECK(capture.use_count() == 1);
    timer = loop->call_every(0s, [&, capture] {
        CHECK(timer->active());
        CHECK(timer->cancel());
        CHECK(!timer->cancel());
        ++*capture;
    });
    loop->run_until_idle();
    CHECK(*capture == 2);
    CHECK(capture.use_count() == 1);
    Timer one;
    one = loop->call_later(0s, [&, capture] {
        CHECK(!one.active());
        CHECK(!one.reschedule(loop->now()));
        one = loop->call_later(0s, [capture] { ++*capture; });
        ++*capture;
    });
    loop->run_until_idle();
    CHECK(*capture == 4);
    CHECK(capture.use_count() == 1);
}

TEST_CASE("A timer's callback may end another that is due in the same turn [F7] [s2]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    int ran = 0;
    Timer second, third;
    auto first = loop->call_later(0s, [&] {
        ++ran;
        CHECK(second.cancel());
        CHECK(third.reschedule(loop->now() + 1ms));
    });
    second = loop->call_at(first.when(), [&] { ran += 10; });
    third = loop->call_at(first.when(), [&] { ran += 100; });
    while (ran == 0)
        loop->run_once(true);
    CHECK(ran == 1);
    loop->run_until_idle();
    CHECK(ran == 101);
}

TEST_CASE("A timer set in a timer's callback fires in a later turn, however short [s1] [F25]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    std::vector<std::uint64_t> turns;
    Timer next;
    std::function<void()> again = [&] {
        turns.push_back(loop->stats().turns);
        if (turns.size() < 4) next = loop->call_later(-1s, [&] { again(); });
    };
    next = loop->call_later(0s, [&] { again(); });
    loop->run_until_idle();
    REQUIRE(turns.size() == 4);
    for (std::size_t i = 1; i < turns.size(); ++i)
        CHECK(turns[i] > turns[i - 1]);
}

TEST_CASE("A repeating timer keeps to its multiples and skips what it missed [F27]") {
    WEFT_TEST_KERNEL(simulated_kernels); // exact times need the virtual clock
    TestLoop loop(kernel_kind);
    const TimePoint start = loop->now();
    std::vector<Duration> at;
    Timer timer;
    timer = loop->call_every(10ms, [&] {
        at.push_back(loop->now() - start);
        CHECK(timer.when() == start + (at.size() == 2 ? 30ms : 10ms * (at.size() == 1 ? 2 : 7)));
        if (at.size() == 3) loop->stop();
        if (at.size() == 2) loop.sim().advance(45ms);
    });
    loop->run();
    // At 65 ms the ticks of 30 to 60 are overdue: they come as one, at once; the next is at 70.
    CHECK(at == std::vector<Duration>{10ms, 20ms, 65ms});
    CHECK_THROWS_AS(loop->call_every(-1ms, [] {}), UsageError);
}

TEST_CASE("reschedule moves a deadline, detach lets it fire unheld") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    std::vector<int> order;
    auto first = loop->call_later(1h, [&] { order.push_back(1); });
    auto second = loop->call_later(1ms, [&] { order.push_back(2); });
    CHECK(second.reschedule(loop->now() + 3ms));
    CHECK(first.reschedule(loop->now() + 2ms));
    loop->call_later(0s, [&] { order.push_back(0); }).detach();
    loop->run_until_idle();
    CHECK(order == std::vector{0, 1, 2});
    Timer().detach();
}

TEST_CASE("A million timers set and cancelled leave memory flat [s3]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    std::array<Timer, 8> window;
    const auto cycle = [&](int count) {
        for (int i = 0; i < count; ++i)
            window[static_cast<std::size_t>(i) % window.size()] =
                loop->call_later(1h + i * 1us, [] {});
    };
    cycle(100);
    const auto before = heap().live_bytes;
    const AllocationCount allocations;
    cycle(1'000'000);
    CHECK(allocations.count() == 0);
    CHECK(heap().live_bytes == before);
}

TEST_CASE("A throwing repeating timer goes on [F28]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    int ran = 0;
    auto timer = loop->call_every(0s, [&] {
        if (++ran == 3) loop->stop();
        throw std::runtime_error("again");
    });
    loop->run();
    CHECK(ran == 3);
    CHECK(loop.unhandled == std::vector<std::string>(3, "a timer's callback: again"));
}

TEST_CASE("Timers may outlive their loop, and their captures do not [F34]") {
    WEFT_TEST_KERNEL(all_kernels);
    auto capture = std::make_shared<int>();
    Timer armed, repeating, fired, cancelled;
    {
        TestLoop loop(kernel_kind);
        armed = loop->call_later(1h, [capture] {});
        repeating = loop->call_every(1h, [capture] {});
        loop->call_later(1h, [capture] {}).detach();
        fired = loop->call_later(0s, [] {});
        cancelled = loop->call_later(0s, [] {});
        cancelled.cancel();
        loop->run_once();
    }
    CHECK(capture.use_count() == 1);
    CHECK(!armed.active());
    CHECK(!armed.cancel());
    CHECK(!repeating.reschedule(TimePoint()));
    CHECK(armed.when() == TimePoint::max());
    repeating.detach();
}
