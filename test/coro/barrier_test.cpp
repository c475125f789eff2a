#include "sync_support.hpp"

#include <algorithm>

using namespace weft;
using namespace weft::test;

namespace {

bool is_aborted(const std::system_error& error) {
    return error.code() == Errc::aborted;
}

} // namespace

TEST_CASE("a barrier releases all when the last one comes, and numbers them", "[s78][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Barrier barrier(3);
        std::vector<coro::Task<std::size_t>> tasks;
        for (int i = 0; i < 2; ++i)
            tasks.push_back(begun([&] { return barrier.wait(); }));
        coro::wait_all_blocked();
        CHECK(barrier.waiting() == 2);
        CHECK_FALSE(tasks[0].done());
        CHECK(barrier.wait() == 2);
        CHECK(tasks[0].join() == 0);
        CHECK(tasks[1].join() == 1);
        CHECK(barrier.waiting() == 0);
    });
}

TEST_CASE("a barrier for nobody is refused", "[s78][coro]") {
    CHECK_THROWS_AS(coro::Barrier(0), UsageError);
}

TEST_CASE("a task that comes back to a barrier while a round leaves it waits for a new round",
          "[s78][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Barrier barrier(3);
        int at_once = 0;
        std::vector<coro::Task<std::vector<std::size_t>>> tasks;
        for (int i = 0; i < 3; ++i)
            tasks.push_back(coro::spawn([&] {
                std::vector<std::size_t> indices;
                for (int round = 0; round < 5; ++round) {
                    ++at_once;
                    indices.push_back(barrier.wait());
                    CHECK(at_once >= 3 * (round + 1));
                }
                return indices;
            }));
        std::vector<std::vector<std::size_t>> all;
        for (auto& task : tasks)
            all.push_back(task.join());
        for (std::size_t round = 0; round < 5; ++round) {
            std::vector<std::size_t> indices{all[0][round], all[1][round], all[2][round]};
            std::sort(indices.begin(), indices.end());
            CHECK(indices == std::vector<std::size_t>{0, 1, 2});
        }
    });
}

TEST_CASE("resetting a barrier fails those that wait, and it can be used again", "[s78][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Barrier barrier(2);
        auto task = coro::spawn([&] {
            CHECK_THROWS_MATCHES(barrier.wait(), std::system_error,
                                 Catch::Predicate<std::system_error>(is_aborted));
        });
        coro::wait_all_blocked();
        coro::this_loop().call_soon([&] { barrier.reset(); });
        task.wait();
        auto other = coro::spawn([&] { return barrier.wait(); });
        coro::wait_all_blocked();
        CHECK(barrier.wait() == 1);
        CHECK(other.join() == 0);
    });
}

TEST_CASE("an aborted barrier fails everybody until it is reset", "[s78][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Barrier barrier(2);
        auto task = coro::spawn([&] { CHECK_THROWS_AS(barrier.wait(), std::system_error); });
        coro::wait_all_blocked();
        barrier.abort();
        CHECK(barrier.aborted());
        task.wait();
        CHECK_THROWS_AS(barrier.wait(), std::system_error);
        barrier.reset();
        auto other = coro::spawn([&] { return barrier.wait(); });
        coro::wait_all_blocked();
        CHECK(barrier.wait() == 1);
        other.wait();
    });
}

TEST_CASE("one that is cancelled or late at a barrier does not disturb the others", "[s78][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Barrier barrier(3);
        auto cancelled = coro::spawn([&] { barrier.wait(); });
        auto late = coro::spawn([&] { CHECK_THROWS_AS(barrier.wait(1ms), coro::TimeoutError); });
        coro::wait_all_blocked();
        cancelled.cancel();
        cancelled.wait();
        late.wait();
        CHECK(barrier.waiting() == 0);
        auto a = coro::spawn([&] { return barrier.wait(); });
        auto b = coro::spawn([&] { return barrier.wait(); });
        coro::wait_all_blocked();
        CHECK(barrier.wait() == 2);
        CHECK(a.join() + b.join() == 1);
    });
}

TEST_CASE("one that is cancelled after the barrier has opened has passed it", "[s68][s78][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Barrier barrier(2);
        std::size_t index = 7;
        auto task = coro::spawn([&] { index = barrier.wait(); });
        coro::wait_all_blocked();
        CHECK(barrier.wait() == 1);
        task.cancel();
        task.wait();
        CHECK(index == 0);
    });
}

TEST_CASE("a barrier that is destroyed tells those that wait at it", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto barrier = std::make_unique<coro::Barrier>(2);
        auto task = coro::spawn([&] { CHECK_THROWS_AS(barrier->wait(), UsageError); });
        coro::wait_all_blocked();
        barrier.reset();
        task.wait();
        CHECK_FALSE(task.exception());
    });
}

TEST_CASE("waiting at a barrier allocates nothing", "[s78][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_unshuffled_on(kernel_kind, [] {
        coro::Barrier barrier(2);
        auto other = coro::spawn([&] {
            for (int i = 0; i < 200; ++i)
                barrier.wait();
        });
        for (int i = 0; i < 100; ++i)
            barrier.wait();
        const AllocationCount count;
        for (int i = 0; i < 100; ++i)
            barrier.wait();
        CHECK(count.count() == 0);
        other.wait();
    });
}
