#include "support/kernels.hpp"

#include <atomic>
#include <csignal>
#include <functional>
#include <poll.h>
#include <thread>
#include <unistd.h>

using namespace std::chrono_literals;
using namespace weft::test;
using weft::Loop;
using weft::TimePoint;
using weft::Timer;
using weft::UsageError;

namespace {

/// The main loop of an application: sleeps in poll(2) on the reactor's descriptor and steps when it
/// is readable.
class Host {
public:
    explicit Host(TestLoop& loop) : loop_(loop.loop), fd_(loop->pollable_fd().value()) {}

    /// Whether the descriptor is readable within `milliseconds`.
    bool readable(int milliseconds = 0) const {
        pollfd entry{fd_, POLLIN, 0};
        return poll(&entry, 1, milliseconds) == 1;
    }
    /// Sleeps and steps until `done()`, but no more than `most` times. Never sleeps without end: a
    /// lost wake-up is a failure and not a hang.
    template<class Done>
    void run_until(Done done, int most = 1'000'000) {
        while (!done()) {
            REQUIRE(wake_ups < most);
            REQUIRE(readable(5000));
            ++wake_ups;
            ran += loop_.step(budget).ran;
        }
    }

    Loop::Budget budget;
    int wake_ups = 0;
    std::size_t ran = 0;

private:
    Loop& loop_;
    int fd_;
};

} // namespace

TEST_CASE("The pollable descriptor is quiet until something is due: a callback, a post, a timer, "
          "I/O, a signal") {
    WEFT_TEST_KERNEL(pollable_kernels);
    TestLoop loop(kernel_kind);
    SocketPair pair(loop.kernel);
    Host host(loop);
    CHECK(!host.readable());
    int ran = 0;
    const auto step_and_expect = [&](int expected) {
        const auto result = loop->step();
        CHECK(result.ran == 1);
        CHECK(!result.more_ready);
        CHECK(ran == expected);
        CHECK(!host.readable());
    };
    loop->call_soon([&] { ++ran; });
    CHECK(host.readable());
    step_and_expect(1);
    loop->post([&] { ++ran; });
    CHECK(host.readable());
    step_and_expect(2);
    std::thread([&, remote = loop->remote()] { (void)remote->post([&] { ++ran; }, {}); }).join();
    CHECK(host.readable());
    step_and_expect(3);
    auto timer = loop->call_later(1ms, [&] { ++ran; });
    CHECK(loop->next_deadline() == timer.when());
    CHECK(host.readable(5000));
    CHECK(loop.kernel.now() >= timer.when());
    step_and_expect(4);
    auto watch = loop->watch(pair.near).value();
    watch.on_readable([&] {
        ++ran;
        pair.receive();
    });
    CHECK(!host.readable());
    pair.send("x");
    CHECK(host.readable());
    step_and_expect(5);
    auto signal = loop->on_signal(SIGUSR1, [&] { ++ran; }).value();
    CHECK(!host.readable());
    kill(getpid(), SIGUSR1);
    CHECK(host.readable());
    step_and_expect(6);
    CHECK(loop->next_deadline() == TimePoint::max());
}

TEST_CASE("What was there before the descriptor was asked for makes it readable at once") {
    WEFT_TEST_KERNEL(pollable_kernels);
    TestLoop loop(kernel_kind);
    int ran = 0;
    loop->call_soon([&] { ++ran; });
    loop->post([&] { ++ran; });
    auto timer = loop->call_later(-1s, [&] { ++ran; });
    Host host(loop);
    CHECK(host.readable());
    CHECK(loop->next_deadline() == TimePoint::min());
    host.run_until([&] { return ran == 3; }, 2);
    CHECK(!host.readable());
}

TEST_CASE("A step stops at its count, says what is left, and the descriptor stays readable") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    int ran = 0;
    for (int i = 0; i < 10; ++i)
        loop->call_soon([&] { ++ran; });
    std::vector<Timer> timers;
    for (int i = 0; i < 10; ++i)
        timers.push_back(loop->call_later(-1s, [&] { ++ran; }));
    auto result = loop->step({1h, 4});
    CHECK(result.ran == 4);
    CHECK(ran == 4);
    CHECK(result.more_ready);
    CHECK(loop->next_deadline() == TimePoint::min());
    if (const auto fd = loop->pollable_fd(); fd.ok()) {
        Host host(loop);
        CHECK(host.readable());
    } else {
        CHECK(fd.error().code == std::errc::not_supported);
        CHECK_THAT(fd.error().message(), Catch::Contains(std::string(kernel_kind.name)));
    }
    result = loop->step({1h, 100});
    CHECK(result.ran == 16);
    CHECK(!result.more_ready);
    CHECK(loop->step({1h, 0}).ran == 0);
}

TEST_CASE("A step stops when its time is over, but gets at least one thing done") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    int ran = 0;
    for (int i = 0; i < 5; ++i)
        loop->call_soon([&] { ++ran; });
    for (int i = 1; i <= 5; ++i) {
        const auto result = loop->step({0ns, 1000});
        CHECK(result.ran == 1);
        CHECK(ran == i);
        CHECK(result.more_ready == (i < 5));
    }
    const auto result = loop->step({weft::Duration::max(), 1000});
    CHECK(result.ran == 0);
}

TEST_CASE("A step never waits, and a chain of callbacks does not hold it beyond its budget") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    CHECK(loop->step().ran == 0);
    auto timer = loop->call_later(1h, [] {});
    const auto result = loop->step();
    CHECK(result.ran == 0);
    CHECK(result.next_deadline == timer.when());
    int ran = 0;
    std::function<void()> chain = [&] {
        ++ran;
        loop->call_soon([&] { chain(); });
    };
    chain();
    CHECK(loop->step({1h, 50}).ran == 50);
    CHECK(ran == 51);
}

TEST_CASE("Nested calls are refused, in callbacks and in the hook") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    int refused = 0;
    const auto refuse = [&refused](auto&& call) {
        try {
            call();
        } catch (const UsageError&) {
            ++refused;
        }
    };
    const auto all = [&] {
        refuse([&] { (void)loop->step(); });
        refuse([&] { loop->run(); });
        refuse([&] { loop->run_once(); });
        refuse([&] { loop->close(); });
    };
    loop->call_soon(all);
    loop->step();
    CHECK(refused == 4);
    loop->on_wake(all);
    loop->call_soon([] {});
    CHECK(refused == 8);
    loop->step();
    CHECK(loop.unhandled.empty());
}

TEST_CASE("The hook tells of earlier deadlines and of work from outside a step, once each") {
    WEFT_TEST_KERNEL(all_kernels); // also for hosts whose kernel has no descriptor to poll
    TestLoop loop(kernel_kind);
    int told = 0;
    loop->on_wake([&] { ++told; });
    auto far = loop->call_later(2h, [] {});
    CHECK(told == 1);
    auto farther = loop->call_later(3h, [] {});
    CHECK(told == 1);
    auto near = loop->call_later(1h, [] {});
    CHECK(told == 2);
    CHECK(near.reschedule(loop->now() + 30min));
    CHECK(told == 3);
    loop->call_soon([&] {
        loop->call_soon([] {}); // inside a step: the step's result tells
        near = loop->call_later(1min, [] {});
    });
    CHECK(told == 4);
    loop->call_soon([] {});
    CHECK(told == 4); // the host knows that there is work
    CHECK(loop->next_deadline() == TimePoint::min());
    auto result = loop->step();
    CHECK(result.ran == 3);
    CHECK(result.next_deadline == near.when());
    CHECK(told == 4);
    loop->call_soon([] {});
    CHECK(told == 5);
    weft::Promise<int> promise(loop);
    promise.future().add_done_callback([](const auto&) {});
    promise.set_value(1);
    CHECK(told == 5);
    loop->step();
    CHECK(told == 5);
}

TEST_CASE("The hook may replace itself, and what it throws is reported") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    auto capture = std::make_shared<int>(0);
    loop->on_wake([&loop, capture] {
        loop->on_wake([&loop] {
            loop->call_soon([] {}); // no hook inside the hook
            throw std::runtime_error("hook");
        });
        ++*capture;
    });
    loop->call_soon([] {});
    CHECK(*capture == 1);
    CHECK(capture.use_count() == 1);
    loop->step();
    loop->call_soon([] {});
    CHECK(loop.unhandled == std::vector<std::string>{"the on_wake hook: hook"});
    loop->on_wake(nullptr);
    loop->step();
}

TEST_CASE("A foreign poll loop wakes once per timer and never in vain") {
    WEFT_TEST_KERNEL(pollable_kernels);
    TestLoop loop(kernel_kind);
    Host host(loop);
    int fired = 0;
    std::vector<Timer> timers;
    for (int i = 1; i <= 5; ++i)
        timers.push_back(loop->call_later(1ms * i, [&] { ++fired; }));
    std::vector<Timer> cancelled;
    for (int i = 1; i <= 100; ++i)
        cancelled.push_back(loop->call_later(10us * i, [&] { fired += 100; }));
    cancelled.clear(); // the earliest of them was announced: one wake-up for nothing
    host.run_until([&] { return fired == 5; });
    CHECK(fired == 5);
    CHECK(host.wake_ups <= 6);
    CHECK(!host.readable(2));
}

TEST_CASE("A timer of a timer's own deadline does not get lost between steps") {
    WEFT_TEST_KERNEL(pollable_kernels);
    TestLoop loop(kernel_kind);
    Host host(loop);
    int fired = 0;
    Timer again;
    const TimePoint when = loop->now() + 1ms;
    auto timer = loop->call_at(when, [&] {
        ++fired;
        again = loop->call_at(when, [&] { ++fired; });
    });
    host.run_until([&] { return fired == 2; }, 4);
    CHECK(!host.readable());
    auto always = loop->call_every(0s, [&] { ++fired; });
    host.run_until([&] { return fired >= 20; }, 20);
}

TEST_CASE("Cross-thread posts wake a foreign poll loop, none is lost, and bursts cost few wake-ups "
          "[s5]") {
    WEFT_TEST_KERNEL(pollable_kernels);
    TestLoop loop(kernel_kind);
    Host host(loop);
    constexpr int threads = 3;
    constexpr int each = 20'000;
    int received = 0;
    std::vector<std::thread> producers;
    for (int i = 0; i < threads; ++i) {
        producers.emplace_back([&, remote = loop->remote()] {
            for (int n = 0; n < each; ++n)
                (void)remote->post([&] { ++received; }, {});
        });
    }
    host.run_until([&] { return received == threads * each; }, threads * each);
    for (auto& producer : producers)
        producer.join();
    CHECK(received == threads * each);
    // The last wake-up may come from a thread whose message was taken before it got to that.
    if (host.readable()) CHECK(loop->step().ran == 0);
    // One post at a time, the loop asleep: one wake-up each.
    CHECK(!host.readable());
    host.wake_ups = 0;
    for (int i = 1; i <= 100; ++i) {
        std::thread([&, remote = loop->remote()] {
            (void)remote->post([&] { ++received; }, {});
        }).join();
        host.run_until([&] { return received == threads * each + i; });
    }
    CHECK(host.wake_ups == 100);
    CHECK(!host.readable());
}

TEST_CASE("With a small budget a foreign poll loop comes back until everything is done") {
    WEFT_TEST_KERNEL(pollable_kernels);
    TestLoop loop(kernel_kind);
    SocketPair pair(loop.kernel);
    Host host(loop);
    host.budget.count = 3;
    int ran = 0;
    for (int i = 0; i < 10; ++i)
        loop->call_soon([&] { ++ran; });
    for (int i = 0; i < 10; ++i)
        loop->post([&] { ++ran; });
    std::vector<Timer> timers;
    for (int i = 0; i < 10; ++i)
        timers.push_back(loop->call_later(-1s, [&] { ++ran; }));
    auto watch = loop->watch(pair.near).value();
    watch.on_readable([&] {
        ++ran;
        pair.receive();
    });
    pair.send("x");
    auto signal = loop->on_signal(SIGUSR1, [&] { ++ran; }).value();
    kill(getpid(), SIGUSR1);
    host.run_until([&] { return ran == 32; }, 14);
    CHECK(host.ran == 32);
    while (host.readable()) {
        CHECK(loop->step(host.budget).ran == 0);
        REQUIRE(++host.wake_ups < 15);
    }
}

TEST_CASE("A FatalError leaves step, and the descriptor still tells of the rest [s7]") {
    WEFT_TEST_KERNEL(pollable_kernels);
    TestLoop loop(kernel_kind);
    Host host(loop);
    int ran = 0;
    loop->call_soon([] { throw weft::FatalError("fatal"); });
    loop->call_soon([&] { ++ran; });
    CHECK_THROWS_AS(loop->step(), weft::FatalError);
    CHECK(host.readable());
    CHECK(loop->step().ran == 1);
    CHECK(ran == 1);
    CHECK(!host.readable());
    loop->post([&] { ++ran; });
    CHECK(host.readable());
    loop->step();
}

TEST_CASE("After run returns, an embedded loop still wakes its host") {
    WEFT_TEST_KERNEL(pollable_kernels);
    TestLoop loop(kernel_kind);
    Host host(loop);
    int ran = 0;
    Timer timer;
    loop->call_soon([&] {
        timer = loop->call_later(1ms, [&] { ++ran; });
        loop->stop();
    });
    loop->run();
    CHECK(host.readable(5000));
    host.run_until([&] { return ran == 1; }, 2);
    loop->run_until(weft::make_ready_future(loop, 1).then([](int) {}));
    CHECK(!host.readable());
    std::thread([&, remote = loop->remote()] { (void)remote->post([&] { ++ran; }, {}); }).join();
    CHECK(host.readable());
    loop->step();
    CHECK(ran == 2);
}

TEST_CASE("stop ends a step after its turn, and executor jobs wake the host [s117]") {
    WEFT_TEST_KERNEL(pollable_kernels);
    TestLoop loop(kernel_kind);
    Host host(loop);
    int ran = 0;
    loop->call_soon([&] {
        loop->stop();
        loop->call_soon([&] { ++ran; });
    });
    const auto result = loop->step();
    CHECK(result.ran == 1);
    CHECK(result.more_ready);
    CHECK(host.readable());
    loop->step();
    CHECK(ran == 1);
    auto future = loop->run_in_executor([] { return 5; });
    host.run_until([&] { return future.done(); }, 3);
    CHECK(future.result() == 5);
}
