#include "sync_support.hpp"

using namespace weft;
using namespace weft::test;
using Catch::Matchers::Contains;

TEST_CASE("a semaphore may begin with no permits, but not with fewer", "[s76][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    CHECK_THROWS_WITH(coro::Semaphore(-1), Contains("-1"));
    CHECK_THROWS_WITH(coro::Semaphore(3, 2), Contains("3") && Contains("2"));
    run_on(kernel_kind, [] {
        coro::Semaphore semaphore(0);
        auto task = coro::spawn([&] { semaphore.acquire(); });
        coro::wait_all_blocked();
        CHECK_FALSE(task.done());
        semaphore.release();
        task.wait();
        CHECK(semaphore.available() == 0);
    });
}

TEST_CASE("a permit that is released goes to the first that waits, however fast the next one asks",
          "[s76][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::Semaphore semaphore(1);
        semaphore.acquire();
        std::vector<coro::Task<void>> tasks;
        for (const char* name : {"a", "b"})
            tasks.push_back(begun([&, name] {
                semaphore.acquire();
                trace(name);
                semaphore.release();
            }));
        coro::wait_all_blocked();
        semaphore.release();
        CHECK_FALSE(semaphore.try_acquire());
        semaphore.acquire();
        trace("main");
        semaphore.release();
        for (auto& task : tasks)
            task.wait();
        CHECK(semaphore.available() == 1);
    });
    CHECK(trace.text == "a b main");
}

TEST_CASE("a bounded semaphore refuses more permits than it is for", "[s76][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Semaphore semaphore(2, 2);
        CHECK_THROWS_AS(semaphore.release(), UsageError);
        semaphore.acquire();
        CHECK_THROWS_AS(semaphore.release(2), UsageError);
        CHECK_THROWS_AS(semaphore.release(-1), UsageError);
        CHECK(semaphore.available() == 1);
        semaphore.release();
        CHECK(semaphore.available() == 2);
    });
}

TEST_CASE("a permit in a guard goes back with it", "[s76][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Semaphore semaphore(2, 2);
        {
            auto permit = semaphore.permit();
            auto moved = std::move(permit);
            CHECK_FALSE(permit);
            CHECK(semaphore.available() == 1);
            auto second = semaphore.permit();
            second.release();
            second.release();
            CHECK(semaphore.available() == 1);
        }
        CHECK(semaphore.available() == 2);
    });
}

TEST_CASE("a cancelled waiter at the head does not strand a permit", "[s77][F41][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    const bool release_first = GENERATE(false, true);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::Semaphore semaphore(1, 1);
        auto permit = semaphore.permit();
        auto first = begun([&] {
            auto mine = semaphore.permit();
            trace("first");
            coro::yield();
        });
        auto second = begun([&] {
            auto mine = semaphore.permit();
            trace("second");
        });
        coro::wait_all_blocked();
        if (release_first) permit.release();
        first.cancel();
        permit.release();
        first.wait();
        second.wait();
        CHECK(first.cancelled());
        CHECK(semaphore.available() == 1);
    });
    CHECK(trace.text == (release_first ? "first second" : "second"));
}

TEST_CASE("several permits at once wake as many waiters, and the rest is kept", "[s76][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Semaphore semaphore(0);
        int got = 0;
        std::vector<coro::Task<void>> tasks;
        for (int i = 0; i < 2; ++i)
            tasks.push_back(coro::spawn([&] {
                semaphore.acquire();
                ++got;
            }));
        coro::wait_all_blocked();
        coro::this_loop().call_soon([&] { semaphore.release(5); });
        for (auto& task : tasks)
            task.wait();
        CHECK(got == 2);
        CHECK(semaphore.available() == 3);
        CHECK_THROWS_AS(
            (semaphore.acquire(), semaphore.acquire(), semaphore.acquire(), semaphore.acquire(1ms)),
            coro::TimeoutError);
        CHECK(semaphore.available() == 0);
    });
}

TEST_CASE("no permit is lost or doubled, whichever is cancelled when", "[s77][F41][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    for (std::size_t victim = 0; victim < 4; ++victim)
        sweep(kernel_kind, 8, [&](std::size_t after) {
            coro::Semaphore semaphore(2, 2);
            std::vector<coro::Task<void>> tasks;
            for (int i = 0; i < 4; ++i)
                tasks.push_back(coro::spawn([&] {
                    for (int round = 0; round < 2; ++round) {
                        auto permit = semaphore.permit();
                        coro::yield();
                    }
                }));
            turns(after);
            tasks[victim].cancel();
            for (auto& task : tasks)
                task.wait();
            CHECK(semaphore.available() == 2);
        });
}

TEST_CASE("a storm of acquisitions and cancellations ends with the permits it began with",
          "[s77][F41][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    storm(kernel_kind, 40, [](auto random) {
        const auto permits = static_cast<std::ptrdiff_t>(1 + random(4));
        coro::Semaphore semaphore(permits, permits);
        std::ptrdiff_t held = 0;
        std::vector<coro::Task<void>> tasks;
        for (int i = 0; i < 30; ++i) {
            const bool impatient = random(3) == 0;
            tasks.push_back(coro::spawn([&, impatient] {
                auto permit = impatient ? semaphore.permit(std::chrono::microseconds(random(50)))
                                        : semaphore.permit();
                CHECK(++held <= permits);
                struct Leave {
                    std::ptrdiff_t& held;
                    ~Leave() { --held; }
                } leave{held};
                turns(random(3));
            }));
        }
        for (int i = 0; i < 25; ++i) {
            turns(random(2));
            tasks[random(tasks.size())].cancel();
        }
        for (auto& task : tasks) {
            task.wait();
            if (!task.cancelled() && task.exception())
                CHECK_THROWS_AS(task.result(), coro::TimeoutError);
        }
        CHECK(semaphore.available() == permits);
        CHECK(held == 0);
    });
}

TEST_CASE("a semaphore that is destroyed tells those that wait for it", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto semaphore = std::make_unique<coro::Semaphore>(0);
        auto task = coro::spawn([&] { CHECK_THROWS_AS(semaphore->acquire(), UsageError); });
        coro::wait_all_blocked();
        semaphore.reset();
        task.wait();
        CHECK_FALSE(task.exception());
    });
}

TEST_CASE("waiting for a permit allocates nothing", "[s76][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_unshuffled_on(kernel_kind, [] {
        coro::Semaphore there(0);
        coro::Semaphore back(0);
        const auto rounds = [&] {
            for (int i = 0; i < 100; ++i) {
                there.release();
                back.acquire();
            }
        };
        auto other = coro::spawn([&] {
            for (int i = 0; i < 200; ++i) {
                there.acquire();
                back.release();
            }
        });
        rounds();
        const AllocationCount count;
        rounds();
        CHECK(count.count() == 0);
        other.wait();
    });
}
