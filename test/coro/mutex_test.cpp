#include "sync_support.hpp"

using namespace weft;
using namespace weft::test;
using Catch::Matchers::Contains;

TEST_CASE("a mutex goes to waiters in the order in which they came", "[s70][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::Mutex mutex;
        auto guard = mutex.lock();
        std::vector<coro::Task<void>> tasks;
        for (const char* name : {"a", "b", "c"})
            tasks.push_back(begun([&, name] {
                auto mine = mutex.lock();
                trace(name);
                coro::yield();
            }));
        coro::wait_all_blocked();
        trace("unlock");
        guard.unlock();
        for (auto& task : tasks)
            task.wait();
        CHECK_FALSE(mutex.locked());
    });
    CHECK(trace.text == "unlock a b c");
}

TEST_CASE("a coroutine that locks a mutex that was just released queues behind those that waited",
          "[s70][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::Mutex mutex;
        auto guard = mutex.lock();
        auto waiter = coro::spawn([&] {
            auto mine = mutex.lock();
            trace("waiter");
        });
        coro::wait_all_blocked();
        guard.unlock();
        CHECK(mutex.locked());
        CHECK_FALSE(mutex.try_lock());
        auto again = mutex.lock();
        trace("main");
        waiter.wait();
    });
    CHECK(trace.text == "waiter main");
}

TEST_CASE("a guard that holds nothing refuses to unlock", "[s70][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Mutex mutex;
        auto guard = mutex.lock();
        auto moved = std::move(guard);
        CHECK_FALSE(guard);
        CHECK_THROWS_AS(guard.unlock(), UsageError);
        moved.unlock();
        CHECK_THROWS_AS(moved.unlock(), UsageError);
        CHECK_FALSE(mutex.locked());
    });
}

TEST_CASE("unlocking for another coroutine is refused, and both are named", "[s70][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Mutex mutex;
        auto guard = mutex.lock();
        auto other = coro::spawn(
            [&] {
                CHECK_THROWS_WITH(guard.unlock(), Contains("'thief'") && Contains("'main'"));
                CHECK(mutex.locked());
            },
            {.name = "thief"});
        other.wait();
        CHECK_THROWS_WITH(mutex.lock(), Contains("'main'") && Contains("already"));
        CHECK(guard);
    });
}

TEST_CASE("a guard releases its mutex wherever it is destroyed", "[s70][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Mutex mutex;
        std::optional<coro::Mutex::Guard> kept;
        coro::spawn([&] { kept = mutex.lock(); }).wait();
        CHECK(mutex.locked());
        CHECK_FALSE(mutex.try_lock());
        auto waiter = coro::spawn([&] { auto mine = mutex.lock(); });
        coro::wait_all_blocked();
        coro::this_loop().call_soon([&] { kept.reset(); });
        waiter.wait();
        CHECK(mutex.try_lock());
    });
}

TEST_CASE("a waiter that is cancelled while the owner releases does not get the mutex, and the "
          "next one does",
          "[s71][F41][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::Mutex mutex;
        auto guard = mutex.lock();
        auto first = coro::spawn([&] {
            auto mine = mutex.lock();
            trace("first");
        });
        auto second = coro::spawn([&] {
            auto mine = mutex.lock();
            trace("second");
        });
        coro::wait_all_blocked();
        first.cancel();
        guard.unlock();
        first.wait();
        second.wait();
        CHECK(first.cancelled());
        CHECK_FALSE(mutex.locked());
    });
    CHECK(trace.text == "second");
}

TEST_CASE("a waiter that was handed the mutex before it was cancelled owns it, and hands it on",
          "[s68][s72][F41][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::Mutex mutex;
        auto guard = mutex.lock();
        auto first = begun([&] {
            auto mine = mutex.lock();
            trace("first");
            coro::yield();
            trace("not reached");
        });
        auto second = begun([&] {
            auto mine = mutex.lock();
            trace("second");
        });
        coro::wait_all_blocked();
        guard.unlock();
        first.cancel();
        first.wait();
        second.wait();
        CHECK(first.cancelled());
        CHECK_FALSE(mutex.locked());
    });
    CHECK(trace.text == "first second");
}

TEST_CASE("a deadline ends the wait for a mutex and takes the waiter out", "[s70][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Mutex mutex;
        auto guard = mutex.lock();
        auto waiter = coro::spawn([&] { CHECK_THROWS_AS(mutex.lock(1ms), coro::TimeoutError); });
        waiter.wait();
        guard.unlock();
        CHECK_FALSE(mutex.locked());
        CHECK(mutex.lock(1ms));
    });
}

TEST_CASE("a mutex is held by one coroutine at most, whichever is cancelled when",
          "[s70][s71][s72][F41][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    for (std::size_t victim = 0; victim < 3; ++victim)
        sweep(kernel_kind, 10, [&](std::size_t after) {
            coro::Mutex mutex;
            int holders = 0;
            int most = 0;
            std::vector<coro::Task<int>> tasks;
            for (int i = 0; i < 3; ++i)
                tasks.push_back(coro::spawn([&] {
                    for (int round = 0; round < 2; ++round) {
                        auto guard = mutex.lock();
                        most = std::max(most, ++holders);
                        try {
                            coro::yield();
                        } catch (...) {
                            --holders;
                            throw;
                        }
                        --holders;
                    }
                    return 1;
                }));
            turns(after);
            tasks[victim].cancel();
            for (auto& task : tasks)
                task.wait();
            CHECK(most == 1);
            CHECK(holders == 0);
            CHECK_FALSE(mutex.locked());
            for (std::size_t i = 0; i < tasks.size(); ++i)
                if (i != victim) CHECK(tasks[i].result() == 1);
        });
}

TEST_CASE("a storm of locks and cancellations leaves the mutex free", "[s71][s72][F41][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    storm(kernel_kind, 40, [](auto random) {
        coro::Mutex mutex;
        int holders = 0;
        std::vector<coro::Task<void>> tasks;
        for (int i = 0; i < 20; ++i) {
            const bool impatient = random(3) == 0;
            tasks.push_back(coro::spawn([&, impatient] {
                auto guard =
                    impatient ? mutex.lock(std::chrono::microseconds(random(50))) : mutex.lock();
                CHECK(++holders == 1);
                struct Leave {
                    int& holders;
                    ~Leave() { --holders; }
                } leave{holders};
                turns(random(3));
            }));
        }
        for (int i = 0; i < 15; ++i) {
            turns(random(2));
            tasks[random(tasks.size())].cancel();
        }
        for (auto& task : tasks) {
            task.wait();
            if (!task.cancelled() && task.exception())
                CHECK_THROWS_AS(task.result(), coro::TimeoutError);
        }
        CHECK_FALSE(mutex.locked());
    });
}

TEST_CASE("handing over a mutex allocates nothing", "[s70][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_unshuffled_on(kernel_kind, [] {
        coro::Mutex mutex;
        std::size_t allocations = 0;
        const auto rounds = [&] {
            for (int i = 0; i < 200; ++i) {
                auto guard = mutex.lock();
                coro::yield();
            }
        };
        auto other = coro::spawn([&] {
            rounds();
            const AllocationCount count;
            rounds();
            allocations = count.count();
        });
        rounds();
        rounds();
        other.wait();
        CHECK(allocations == 0);
    });
}

TEST_CASE("a mutex can not be locked outside of a coroutine", "[coro]") {
    coro::Mutex mutex;
    CHECK_THROWS_AS(mutex.lock(), UsageError);
    CHECK_THROWS_AS(mutex.try_lock(), UsageError);
}
