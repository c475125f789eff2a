#include "sync_support.hpp"

using namespace weft;
using namespace weft::test;
using Catch::Matchers::Contains;

TEST_CASE("waiting for a condition releases the mutex and gets it back", "[s74][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::Mutex mutex;
        coro::Condition condition(mutex);
        auto waiter = coro::spawn([&] {
            auto guard = mutex.lock();
            condition.wait();
            trace("woken");
            CHECK_FALSE(mutex.try_lock());
        });
        coro::wait_all_blocked();
        CHECK_FALSE(mutex.locked());
        auto guard = mutex.lock();
        condition.notify();
        coro::wait_all_blocked();
        trace("unlock");
        guard.unlock();
        waiter.wait();
        CHECK_FALSE(mutex.locked());
    });
    CHECK(trace.text == "unlock woken");
}

TEST_CASE("a condition can not be used without its mutex", "[s74][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Mutex mutex;
        coro::Condition condition(mutex);
        CHECK_THROWS_AS(condition.wait(), UsageError);
        CHECK_THROWS_AS(condition.wait([] { return true; }), UsageError);
        CHECK_THROWS_AS(condition.notify(), UsageError);
        auto guard = mutex.lock();
        auto other = coro::spawn(
            [&] {
                CHECK_THROWS_WITH(condition.notify_all(),
                                  Contains("'other'") && Contains("'main'"));
            },
            {.name = "other"});
        other.wait();
    });
}

TEST_CASE("notifications wake in the order of waiting, and may be more than there are waiters",
          "[s74][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::Mutex mutex;
        coro::Condition condition(mutex);
        std::vector<coro::Task<void>> tasks;
        for (const char* name : {"a", "b", "c", "d"})
            tasks.push_back(begun([&, name] {
                auto guard = mutex.lock();
                condition.wait();
                trace(name);
            }));
        coro::wait_all_blocked();
        auto guard = mutex.lock();
        condition.notify(2);
        guard.unlock();
        coro::wait_all_blocked();
        trace("|");
        guard = mutex.lock();
        condition.notify(10);
        condition.notify_all();
        guard.unlock();
        for (auto& task : tasks)
            task.wait();
    });
    CHECK(trace.text == "a b | c d");
}

TEST_CASE("waiting for a predicate checks it again after each notification", "[s74][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Mutex mutex;
        coro::Condition condition(mutex);
        int value = 0;
        int checks = 0;
        auto waiter = coro::spawn([&] {
            auto guard = mutex.lock();
            condition.wait([&] { return ++checks, value == 3; });
            CHECK(value == 3);
        });
        for (int i = 0; i < 3; ++i) {
            coro::wait_all_blocked();
            auto guard = mutex.lock();
            ++value;
            condition.notify();
        }
        waiter.wait();
        CHECK(checks == 4);
    });
}

TEST_CASE(
    "a task that is cancelled while it waits for a condition holds the mutex when it hears of it",
    "[s74][F41][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::Mutex mutex;
        coro::Condition condition(mutex);
        auto waiter = coro::spawn([&] {
            auto guard = mutex.lock();
            try {
                condition.wait();
            } catch (const Cancelled&) {
                trace("cancelled");
                CHECK_FALSE(mutex.try_lock());
                throw;
            }
        });
        coro::wait_all_blocked();
        auto guard = mutex.lock();
        waiter.cancel();
        coro::wait_all_blocked();
        trace("unlock");
        guard.unlock();
        waiter.wait();
        CHECK(waiter.cancelled());
        CHECK_FALSE(mutex.locked());
        guard = mutex.lock();
        condition.notify();
    });
    CHECK(trace.text == "unlock cancelled");
}

TEST_CASE("a deadline ends the wait for a condition with the mutex held", "[s74][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Mutex mutex;
        coro::Condition condition(mutex);
        auto guard = mutex.lock();
        CHECK_THROWS_AS(condition.wait(1ms), coro::TimeoutError);
        CHECK(mutex.locked());
        CHECK_THROWS_AS(condition.wait([] { return false; }, 1ms), coro::TimeoutError);
        // When the time is up the predicate has the last word.
        int checks = 0;
        condition.wait([&] { return ++checks == 2; }, 1ms);
        CHECK(checks == 2);
        guard.unlock();
    });
}

TEST_CASE("a waiter that is cancelled after it was notified returns with the mutex, and the "
          "notification is not lost",
          "[s75][F41][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::Mutex mutex;
        coro::Condition condition(mutex);
        const auto body = [&](const char* name) {
            auto guard = mutex.lock();
            condition.wait();
            CHECK_FALSE(mutex.try_lock());
            trace(name);
            coro::check_cancelled();
        };
        auto first = begun([&] { body("first"); });
        auto second = begun([&] { body("second"); });
        coro::wait_all_blocked();
        auto guard = mutex.lock();
        condition.notify();
        first.cancel();
        coro::wait_all_blocked();
        guard.unlock();
        first.wait();
        CHECK(first.cancelled());
        coro::wait_all_blocked();
        CHECK_FALSE(second.done());
        guard = mutex.lock();
        condition.notify();
        guard.unlock();
        second.wait();
    });
    CHECK(trace.text == "first second");
}

TEST_CASE("a notification whose first waiter was cancelled before wakes the next one",
          "[s75][F41][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Mutex mutex;
        coro::Condition condition(mutex);
        const auto body = [&] {
            auto guard = mutex.lock();
            condition.wait();
        };
        auto first = coro::spawn(body);
        auto second = coro::spawn(body);
        coro::wait_all_blocked();
        auto guard = mutex.lock();
        first.cancel();
        condition.notify();
        guard.unlock();
        first.wait();
        second.wait();
        CHECK(first.cancelled());
        CHECK_FALSE(second.cancelled());
    });
}

TEST_CASE("a deadline that passes after the notification is too late", "[s75][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        coro::Mutex mutex;
        coro::Condition condition(mutex);
        auto waiter = coro::spawn([&] {
            auto guard = mutex.lock();
            CHECK_NOTHROW(condition.wait(2ms));
        });
        coro::wait_all_blocked();
        auto guard = mutex.lock();
        condition.notify();
        coro::sleep(4ms);
        guard.unlock();
        waiter.wait();
    });
}

TEST_CASE("a buffer behind a condition loses and doubles nothing, whichever is cancelled when",
          "[s75][F41][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    for (std::size_t victim = 0; victim < 3; ++victim)
        sweep(kernel_kind, 12, [&](std::size_t after) {
            coro::Mutex mutex;
            coro::Condition condition(mutex);
            int stored = 0;
            int taken = 0;
            std::vector<coro::Task<void>> takers;
            for (int i = 0; i < 3; ++i)
                takers.push_back(coro::spawn([&] {
                    for (;;) {
                        auto guard = mutex.lock();
                        condition.wait([&] { return stored > 0; });
                        --stored;
                        ++taken;
                    }
                }));
            auto giver = coro::spawn([&] {
                for (int i = 0; i < 6; ++i) {
                    auto guard = mutex.lock();
                    ++stored;
                    condition.notify();
                    guard.unlock();
                    coro::yield();
                }
            });
            turns(after);
            takers[victim].cancel();
            giver.wait();
            coro::wait_all_blocked();
            CHECK(taken == 6);
            CHECK(stored == 0);
            CHECK_FALSE(mutex.locked());
            for (auto& taker : takers) {
                taker.cancel();
                taker.wait();
            }
        });
}

TEST_CASE("waiting for a condition allocates nothing", "[s74][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_unshuffled_on(kernel_kind, [] {
        coro::Mutex mutex;
        coro::Condition condition(mutex);
        bool turn = false;
        const auto rounds = [&](bool mine, int count) {
            auto guard = mutex.lock();
            for (int i = 0; i < count; ++i) {
                condition.wait([&] { return turn == mine; });
                turn = !turn;
                condition.notify();
            }
        };
        auto other = coro::spawn([&] { rounds(false, 200); });
        rounds(true, 100);
        const AllocationCount count;
        rounds(true, 100);
        CHECK(count.count() == 0);
        other.wait();
    });
}
