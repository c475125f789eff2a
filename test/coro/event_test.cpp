#include "sync_support.hpp"

using namespace weft;
using namespace weft::test;

TEST_CASE("setting an event wakes all that wait for it, in order", "[s73][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_unshuffled_on(kernel_kind, [&] {
        coro::Event event;
        std::vector<coro::Task<void>> tasks;
        for (const char* name : {"a", "b", "c"})
            tasks.push_back(coro::spawn([&, name] {
                event.wait();
                trace(name);
            }));
        coro::wait_all_blocked();
        trace("set");
        event.set();
        for (auto& task : tasks)
            task.wait();
    });
    CHECK(trace.text == "set a b c");
}

TEST_CASE("waiting for an event that is set does not suspend", "[s73][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Event event;
        bool other_ran = false;
        event.set();
        coro::yield();
        auto other = coro::spawn([&] { other_ran = true; });
        event.wait();
        CHECK_FALSE(other_ran);
        CHECK(event.is_set());
        other.wait();
    });
}

TEST_CASE("an event that is cleared before its waiters run has released them", "[s73][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Event event;
        auto early = coro::spawn([&] { event.wait(); });
        coro::wait_all_blocked();
        event.set();
        event.clear();
        auto late = coro::spawn([&] { event.wait(); });
        early.wait();
        coro::wait_all_blocked();
        CHECK_FALSE(late.done());
        event.set();
        late.wait();
    });
}

TEST_CASE("a waiter that is cancelled or late leaves nothing in the event", "[s73][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Event event;
        auto cancelled = coro::spawn([&] { event.wait(); });
        auto late = coro::spawn([&] { CHECK_THROWS_AS(event.wait(1ms), coro::TimeoutError); });
        coro::wait_all_blocked();
        cancelled.cancel();
        cancelled.wait();
        late.wait();
        event.set();
        CHECK(cancelled.cancelled());
    });
}

TEST_CASE("an event that was set before the waiter was cancelled has released it",
          "[s68][s73][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Event event;
        bool released = false;
        auto task = coro::spawn([&] {
            event.wait();
            released = true;
            coro::check_cancelled();
        });
        coro::wait_all_blocked();
        event.set();
        task.cancel();
        task.wait();
        CHECK(released);
        CHECK(task.cancelled());
    });
}

TEST_CASE("a plain callback sets an event", "[s73][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Event event;
        coro::this_loop().call_soon([&] { event.set(); });
        event.wait();
        CHECK_FALSE(coro::current_task()->name.empty());
    });
}

TEST_CASE("an event that is destroyed tells those that wait for it", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto event = std::make_unique<coro::Event>();
        auto task = coro::spawn([&] { CHECK_THROWS_AS(event->wait(), UsageError); });
        coro::wait_all_blocked();
        event.reset();
        task.wait();
        CHECK_FALSE(task.exception());
    });
}

TEST_CASE("waiting for an event allocates nothing", "[s73][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_unshuffled_on(kernel_kind, [] {
        coro::Event there;
        coro::Event back;
        const auto rounds = [&] {
            for (int i = 0; i < 100; ++i) {
                there.set();
                back.wait();
                back.clear();
            }
        };
        auto other = coro::spawn([&] {
            for (int i = 0; i < 200; ++i) {
                there.wait();
                there.clear();
                back.set();
            }
        });
        rounds();
        const AllocationCount count;
        rounds();
        CHECK(count.count() == 0);
        other.wait();
    });
}
