#include "support/heap.hpp"
#include "support/kernels.hpp"

#include <weft/reactor/loop_core.hpp>

#include <functional>
#include <thread>

using namespace std::chrono_literals;
using namespace weft::test;
using weft::Errc;
using weft::FatalError;
using weft::Loop;
using weft::Timer;
using weft::UsageError;

TEST_CASE(
    "Callbacks run in the order of queueing, and what they queue runs in the next turn [s1]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    std::vector<int> order;
    loop->call_soon([&] {
        order.push_back(1);
        loop->call_soon([&] { order.push_back(4); });
        CHECK(!loop->post([&] { order.push_back(5); }));
    });
    CHECK(!loop->post([&] { order.push_back(3); }));
    loop->call_soon([&] { order.push_back(2); });
    CHECK(loop->run_once() == 3);
    CHECK(order == std::vector{1, 2, 3});
    CHECK(loop->run_once() == 2);
    CHECK(order == std::vector{1, 2, 3, 4, 5});
    CHECK(loop->run_once() == 0);
}

TEST_CASE("A cancelled callback never runs and its captures are destroyed at once [s2]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    auto capture = std::make_shared<int>(0);
    bool ran = false;
    auto handle = loop->call_soon([&ran, capture] { ran = true; });
    CHECK(handle.pending());
    CHECK(capture.use_count() == 2);
    CHECK(handle.cancel());
    CHECK(capture.use_count() == 1);
    CHECK(!handle.pending());
    CHECK(!handle.cancel());
    loop->run_once();
    CHECK(!ran);

    handle = loop->call_soon([&ran] { ran = true; });
    loop->run_once();
    CHECK(ran);
    CHECK(!handle.cancel());
    // The node of the old one serves a new callback: the old handle does not refer to it.
    auto other = loop->call_soon([&ran] { ran = false; });
    CHECK(!handle.cancel());
    CHECK(!handle.pending());
    CHECK(other.pending());
    loop->run_once();
    CHECK(!ran);
    CHECK(!weft::Handle().cancel());
}

TEST_CASE("A callback may cancel another of its batch, and itself to no effect [s2]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    weft::Handle first, second;
    int ran = 0;
    first = loop->call_soon([&] {
        ++ran;
        CHECK(!first.cancel());
        CHECK(second.cancel());
    });
    second = loop->call_soon([&] { ran += 10; });
    loop->run_until_idle();
    CHECK(ran == 1);
}

TEST_CASE(
    "A throwing callback reaches the handler with its place, and the batch goes on [s6] [F28]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    std::vector<int> order;
    std::source_location seen;
    std::string text;
    loop->on_unhandled([&](const weft::Unhandled& what) {
        text = TestLoop::text_of(what);
        seen = what.scheduled;
    });
    const auto here = std::source_location::current();
    loop->call_soon([&] { throw std::runtime_error("oops"); });
    loop->call_soon([&] { order.push_back(1); });
    loop->post([&] { throw 42; });
    loop->call_soon([&] { order.push_back(2); });
    loop->run_once();
    CHECK(order == std::vector{1, 2});
    CHECK(text == "a queued callback: something");
    CHECK(seen.line() == here.line() + 3);
    auto timer = loop->call_later(0s, [&] { throw std::runtime_error("timer"); });
    loop->run_until_idle();
    CHECK(text == "a timer's callback: timer");
    CHECK(seen.line() == here.line() + 9);
    CHECK(std::string(seen.file_name()) == here.file_name());
}

TEST_CASE("A handler that throws is logged together with what it was given [s6] [F28]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    LogCapture log;
    loop->on_unhandled([](const weft::Unhandled&) { throw std::runtime_error("in the handler"); });
    loop->call_soon([] { throw std::runtime_error("in the callback"); });
    int ran = 0;
    loop->call_soon([&] { ++ran; });
    loop->run_once();
    CHECK(ran == 1);
    const auto text = log.text();
    CHECK_THAT(text, Catch::Contains("in the handler"));
    CHECK_THAT(text, Catch::Contains("in the callback"));
    CHECK_THAT(text, Catch::Contains("loop_test.cpp"));
}

TEST_CASE("A handler may replace itself, and without one errors are logged [s6]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    LogCapture log;
    std::string text;
    auto capture = std::make_shared<std::string>("first");
    loop->on_unhandled([&, capture](const weft::Unhandled&) {
        loop->on_unhandled([&](const weft::Unhandled&) { text += "second "; });
        text += *capture + " ";
    });
    for (int i = 0; i < 3; ++i)
        loop->call_soon([] { throw 1; });
    loop->run_once();
    CHECK(text == "first second second ");
    CHECK(capture.use_count() == 1);
    loop->on_unhandled(nullptr);
    loop->call_soon([] { throw std::runtime_error("nobody listens"); });
    loop->run_once();
    CHECK_THAT(log.text(), Catch::Contains("nobody listens"));
}

TEST_CASE("A FatalError leaves run unchanged, and running again goes on with the same batch [s7]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    struct Stop final : FatalError {
        using FatalError::FatalError;
    };
    std::vector<int> order;
    loop->call_soon([&] { throw Stop("the end"); });
    loop->call_soon([&] {
        order.push_back(3);
        loop->stop();
    });
    auto timer = loop->call_later(-1s, [&] {
        order.push_back(1);
        throw Stop("a timer's");
    });
    auto other = loop->call_later(0s, [&] { order.push_back(2); });
    CHECK_THROWS_AS(loop->run(), Stop);
    CHECK(order == std::vector{1});
    CHECK(!loop->running());
    CHECK_THROWS_WITH(loop->run(), "the end");
    CHECK(order == std::vector{1, 2});
    loop->run();
    CHECK(order == std::vector{1, 2, 3});
    CHECK(loop.unhandled.empty());
}

TEST_CASE("stop inside a callback lets the batch finish, stop before run makes one turn [s8]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    std::vector<int> order;
    loop->call_soon([&] {
        order.push_back(1);
        loop->stop();
        loop->call_soon([&] { order.push_back(3); });
    });
    loop->call_soon([&] { order.push_back(2); });
    loop->run();
    CHECK(order == std::vector{1, 2});
    loop->stop();
    loop->run();
    CHECK(order == std::vector{1, 2, 3});
    const auto turns = loop->stats().turns;
    auto timer = loop->call_later(1h, [&] { order.push_back(4); });
    loop->stop();
    loop->run();
    CHECK(loop->stats().turns == turns + 1);
    CHECK(order.size() == 3);
    // It held for that run alone.
    loop->call_soon([&] { loop->call_soon([&] { loop->stop(); }); });
    loop->run();
    CHECK(loop->stats().turns == turns + 3);
}

TEST_CASE("A stop within run_once or a step does not last [s8]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    int ran = 0;
    loop->call_soon([&] { loop->stop(); });
    loop->run_once();
    loop->call_soon([&] { loop->stop(); });
    loop->step();
    loop->call_soon([&] {
        loop->call_soon([&] {
            ++ran;
            loop->stop();
        });
    });
    loop->run();
    CHECK(ran == 1);
}

TEST_CASE("A loop runs once at a time, and one per thread [s9]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    TestLoop other(kernel_kind);
    int refused = 0;
    const auto refuse = [&refused](auto&& call) {
        try {
            call();
        } catch (const UsageError&) {
            ++refused;
        }
    };
    loop->call_soon([&] {
        refuse([&] { loop->run(); });
        refuse([&] { loop->run_once(); });
        refuse([&] { loop->run_until_idle(); });
        refuse([&] { (void)loop->step(); });
        refuse([&] { loop->close(); });
        refuse([&] { (void)loop->after_fork(); });
        refuse([&] { other->run(); });
        (void)other->step(); // alone does not wait
        CHECK(loop->running());
    });
    loop->run_once();
    CHECK(refused == 7);
    CHECK(loop.unhandled.empty());
    other->call_soon([&] { other->stop(); });
    other->run();
    // On another thread the other loop may run.
    loop->call_soon([&] {
        std::thread([&] {
            other->stop();
            other->run();
        }).join();
    });
    loop->run_once();
    CHECK(loop.unhandled.empty());
}

TEST_CASE("After close every use is an error, and closing twice is not [s9]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    auto remote = loop->remote();
    loop->close();
    loop->close();
    CHECK(loop->closed());
    CHECK_THROWS_AS(loop->run(), UsageError);
    CHECK_THROWS_AS(loop->run_once(), UsageError);
    CHECK_THROWS_AS(loop->run_until_idle(), UsageError);
    CHECK_THROWS_AS(loop->step(), UsageError);
    CHECK_THROWS_AS(loop->call_soon([] {}), UsageError);
    CHECK_THROWS_AS(loop->call_later(1s, [] {}), UsageError);
    CHECK_THROWS_AS(loop->call_every(1s, [] {}), UsageError);
    CHECK_THROWS_AS(loop->watch(0), UsageError);
    CHECK_THROWS_AS(loop->on_signal(2, [] {}), UsageError);
    CHECK_THROWS_AS(loop->executor(), UsageError);
    CHECK_THROWS_AS(loop->run_in_executor([] {}), UsageError);
    CHECK_THROWS_AS(loop->pollable_fd(), UsageError);
    CHECK_THROWS_AS(loop->after_fork(), UsageError);
    CHECK_THROWS_AS(weft::Promise<int>(loop), UsageError);
    CHECK(loop->post([] {}) == Errc::closed);
    CHECK(remote->post([] {}, {}) == Errc::closed);
    CHECK(loop->next_deadline() == weft::TimePoint::max());
    loop->stop();
}

TEST_CASE("run_until_idle ends when nothing is left that could call back") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    loop->run_until_idle();
    std::vector<int> order;
    auto timer = loop->call_later(1ms, [&] {
        order.push_back(2);
        loop->post([&] { order.push_back(3); });
    });
    loop->call_soon([&] { order.push_back(1); });
    loop->run_until_idle();
    CHECK(order == std::vector{1, 2, 3});
    Timer repeating;
    repeating = loop->call_every(1ms, [&] {
        if (order.size() == 6) repeating.cancel();
        order.push_back(4);
    });
    loop->run_until_idle();
    CHECK(order.size() == 7);
    CHECK(loop->stats().timers == 0);
}

TEST_CASE("Neither chains of callbacks nor a zero-delay timer keep events and timers waiting [s14] "
          "[F25]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    SocketPair pair(loop.kernel);
    std::function<void()> chain = [&] { loop->call_soon([&] { chain(); }); };
    std::function<void()> posts = [&] { loop->post([&] { posts(); }); };
    chain();
    posts();
    int ticks = 0;
    auto always = loop->call_every(0s, [&] { ++ticks; });
    auto watch = loop->watch(pair.near).value();
    int events = 0;
    watch.on_readable([&] { ++events; }); // never read: it stays ready
    pair.send("x");
    bool overtaken = true;
    auto late = loop->call_later(-1s, [&] { overtaken = false; });
    constexpr int turns = 2000;
    for (int i = 0; i < turns; ++i)
        loop->run_once();
    // Some turns in a row may go by without a look at the kernel, and so at the clock.
    const int looks = turns / (weft::detail::core_of(*loop).options().turns_per_poll + 1);
    CHECK(events >= looks);
    CHECK(ticks >= looks);
    CHECK(!overtaken);
}

TEST_CASE("An idle loop with only a far timer makes no wake-ups [s14]") {
    WEFT_TEST_KERNEL(waking_kernels);
    TestLoop loop(kernel_kind);
    std::vector<Timer> far;
    for (int i = 0; i < 200; ++i)
        far.push_back(loop->call_later(1000h + i * 1s, [] {}));
    const auto turns = loop->stats().turns;
    if (loop.simulated()) {
        auto first = loop->call_later(1h, [&] { loop->stop(); });
        loop->run();
    } else {
        auto first = loop->call_later(5ms, [&] { loop->stop(); });
        loop->run();
    }
    // The timer's own turn, and those in which a crowd of timers is spread over finer buckets.
    CHECK(loop->stats().turns - turns <= 12);
}

TEST_CASE("A loop that nothing can ever wake says so under the simulator") {
    WEFT_TEST_KERNEL(simulated_kernels);
    TestLoop loop(kernel_kind);
    try {
        loop->run();
        FAIL("run returned");
    } catch (const std::system_error& error) {
        CHECK(error.code() == Errc::deadlock);
    }
    loop->call_soon([&] { loop->stop(); });
    loop->run();
}

TEST_CASE("Queueing callbacks, timers and events allocate nothing once warmed up") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    SocketPair pair(loop.kernel);
    auto watch = loop->watch(pair.near).value();
    int left = 0;
    watch.on_readable([&] { --left; });
    pair.send("x");
    const auto cycle = [&](int rounds) {
        left = rounds;
        Timer kept;
        while (left > 0) {
            for (int i = 0; i < 8; ++i)
                loop->call_soon([&left] { --left; });
            kept = loop->call_later(0s, [&left] { --left; });
            auto dropped = loop->call_later(1h, [&left] { --left; });
            auto cancelled = loop->call_later(1h, [&left] { --left; });
            cancelled.cancel();
            loop->run_once();
        }
    };
    cycle(100);
    const AllocationCount allocations;
    cycle(10'000);
    CHECK(allocations.count() == 0);
}

TEST_CASE("The first turn of a run knows the time although work was queued before", "[s3]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    weft::TimePoint seen{};
    loop->call_soon([&] {
        seen = loop->now();
        loop->stop();
    });
    const weft::TimePoint before = loop.kernel.now();
    loop->run();
    CHECK(seen >= before);
    loop->call_soon([&] { seen = loop->now(); });
    if (loop.simulated()) loop.sim().advance(std::chrono::hours(1));
    const weft::TimePoint later = loop.kernel.now();
    loop->run_once();
    CHECK(seen >= later);
}
