// Coroutines of a loop that a host steps.

#include "coro_support.hpp"

#include <vector>

using namespace weft;
using namespace weft::test;

TEST_CASE(
    "A step counts each coroutine that it resumes, and looks at the clock after each [s127]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    TestLoop loop(kernel_kind);
    int resumed = 0;
    Duration cost{0};
    const auto work = [&] {
        ++resumed;
        if (cost > Duration::zero()) loop.sim().advance(cost);
    };
    constexpr int many = 100;
    coro::Event event;
    std::vector<coro::Task<void>> tasks;
    for (int i = 0; i < many; ++i)
        tasks.push_back(coro::spawn(loop, [&] {
            work();
            coro::yield();
            work();
            event.wait();
            work();
        }));
    const auto in_tens = [&](int begin, int end) {
        CHECK(resumed == begin);
        while (resumed < end) {
            const int before = resumed;
            const StepResult result = loop->step({1h, 10});
            CHECK(resumed - before <= 10);
            CHECK(resumed - before >= 9); // or what had set the event
            CHECK(result.more_ready == (resumed < end));
            CHECK(result.alive);
        }
        CHECK(resumed == end);
        CHECK(loop->step({1h, 10}).ran == 0);
    };
    SECTION("by number") {
        in_tens(0, 2 * many);
        loop->call_soon([&] { event.set(); });
        while (resumed < 3 * many) {
            const int before = resumed;
            (void)loop->step({1h, 10});
            CHECK(resumed - before <= 10);
        }
        CHECK(!loop->step().alive);
    }
    SECTION("by time") {
        cost = 1ms;
        for (int i = 1; i <= 3; ++i) {
            const TimePoint begin = loop->now();
            (void)loop->step({5ms, 1000});
            CHECK(loop->now() - begin == 5ms);
            CHECK(resumed == 5 * i);
        }
        (void)loop->step({0s, 1000});
        CHECK(resumed == 16);
        cost = Duration(0);
        while (loop->step().more_ready) {
        }
        CHECK(resumed == 2 * many);
        event.set();
        while (loop->step().more_ready) {
        }
        CHECK(resumed == 3 * many);
    }
    loop->run_until_idle();
    CHECK(loop.unhandled.empty());
}

TEST_CASE("One that an event resumes lets nobody else run beyond the budget [s127]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    TestLoop loop(kernel_kind);
    int resumed = 0;
    std::vector<coro::Task<void>> tasks;
    tasks.push_back(coro::spawn(loop, [&] {
        auto [near, far] = coro::stream_pair();
        coro::Event ready;
        auto others = coro::spawn([&] {
            coro::task_group([&](coro::TaskGroup& group) {
                for (int i = 0; i < 50; ++i)
                    (void)group.spawn([&] {
                        ready.wait();
                        ++resumed;
                    });
            });
        });
        auto reader = coro::spawn([&] {
            char byte;
            (void)far.read_some(std::as_writable_bytes(std::span(&byte, 1)));
            ++resumed;
            ready.set();
        });
        coro::sleep(1s);
        near.write("x");
        reader.join();
        others.join();
    }));
    for (int steps = 0; !tasks[0].done(); ++steps) {
        REQUIRE(steps < 10'000);
        const int before = resumed;
        const StepResult result = loop->step({1h, 3});
        CHECK(resumed - before <= 3);
        if (!result.more_ready && result.next_deadline != TimePoint::max())
            loop.sim().advance(difference(result.next_deadline, loop->now()));
    }
    CHECK(resumed == 51);
    CHECK(loop.unhandled.empty());
}

TEST_CASE("Another loop may be stepped inside a coroutine, and runs coroutines of its own [s128]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop outer(kernel_kind), inner(kernel_kind);
    std::string trace;
    auto theirs = coro::spawn(inner, [&] {
        CHECK(&coro::this_loop() == &inner.loop);
        trace += "a";
        coro::yield();
        trace += "b";
        coro::sleep(1ms);
        trace += "c";
    });
    auto mine = coro::spawn(outer, [&] {
        CHECK(&coro::this_loop() == &outer.loop);
        coro::sleep(1ms);
        while (!theirs.done()) {
            inner->call_soon([&] { CHECK_THROWS_AS(coro::yield(), UsageError); }); // which is none
            const StepResult result = inner->step();
            CHECK(&coro::this_loop() == &outer.loop);
            CHECK(Loop::current() == &outer.loop);
            coro::sleep(1ms); // it still is a coroutine
            if (inner.simulated() && result.next_deadline != TimePoint::max())
                inner.sim().advance(1ms);
        }
        trace += "d";
    });
    outer->run_until_idle();
    CHECK(mine.done());
    CHECK(trace == "abcd");
    CHECK(outer.unhandled.empty());
    CHECK(inner.unhandled.empty());
}

TEST_CASE(
    "A server's grace and a policy's pauses that can not be meant are refused by name [s122]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        CHECK_THROWS_WITH(coro::serve("127.0.0.1:0", [](coro::Stream&) {}, {.grace = -1ns}),
                          "ServeOptions: grace is -1 ns, and can not be negative");
        CHECK_THROWS_WITH(coro::retry({.longest_pause = -1ns}, [] {}),
                          "retry: the longest pause is negative");
    });
}
