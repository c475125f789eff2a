#include "sync_support.hpp"

#include <algorithm>
#include <memory>
#include <numeric>

using namespace weft;
using namespace weft::test;

namespace {

template<class Queue>
std::vector<int> drain(Queue& queue) {
    std::vector<int> items;
    while (auto item = queue.try_get())
        items.push_back(*item);
    return items;
}

template<class Queue>
void fill(Queue& queue, std::initializer_list<int> items) {
    for (const int item : items)
        REQUIRE_FALSE(queue.try_put(item));
}

} // namespace

TEST_CASE("a queue gives the first item first, the last, or the smallest", "[s79][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Queue<int> fifo;
        fill(fifo, {3, 1, 2});
        CHECK(drain(fifo) == std::vector{3, 1, 2});
        coro::LifoQueue<int> lifo;
        fill(lifo, {3, 1, 2});
        CHECK(drain(lifo) == std::vector{2, 1, 3});
        coro::PriorityQueue<int> priority;
        fill(priority, {3, 1, 2, 1});
        CHECK(drain(priority) == std::vector{1, 1, 2, 3});
    });
}

TEST_CASE("items of equal priority come in the order in which they were put", "[s79][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    struct ByTens {
        bool operator()(int a, int b) const { return a / 10 < b / 10; }
    };
    run_on(kernel_kind, [] {
        coro::PriorityQueue<int, ByTens> queue;
        fill(queue, {25, 11, 23, 19, 12, 21, 10});
        CHECK(drain(queue) == std::vector{11, 19, 12, 10, 25, 23, 21});
    });
}

TEST_CASE("a queue without a capacity takes any number of items at once", "[s79][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Queue<int> queue(0);
        for (int i = 0; i < 1000; ++i)
            queue.put(i);
        CHECK(queue.size() == 1000);
        CHECK_FALSE(queue.full());
        for (int i = 0; i < 1000; ++i)
            REQUIRE(queue.get() == i);
        CHECK(queue.empty());
    });
}

TEST_CASE("putting into a full queue waits, and each item that is got lets exactly one in",
          "[s79][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::Queue<int> queue(1);
        std::vector<coro::Task<void>> tasks;
        for (int i = 0; i < 3; ++i)
            tasks.push_back(begun([&, i] {
                queue.put(i);
                trace("put" + std::to_string(i));
            }));
        coro::wait_all_blocked();
        CHECK(queue.full());
        for (int i = 0; i < 3; ++i) {
            CHECK(queue.get() == i);
            coro::wait_all_blocked();
            trace("got");
        }
        for (auto& task : tasks)
            task.wait();
    });
    CHECK(trace.text == "put0 put1 got put2 got got");
}

TEST_CASE("those that get are served in the order in which they came", "[s79][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_unshuffled_on(kernel_kind, [&] {
        coro::Queue<int> queue;
        std::vector<coro::Task<void>> tasks;
        for (const char* name : {"a", "b"})
            tasks.push_back(coro::spawn([&, name] { trace(name + std::to_string(queue.get())); }));
        coro::wait_all_blocked();
        coro::this_loop().call_soon([&] { fill(queue, {1, 2}); });
        for (auto& task : tasks)
            task.wait();
    });
    CHECK(trace.text == "a1 b2");
}

TEST_CASE("getting and putting without waiting tell by a code why it was in vain", "[s80][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Queue<std::unique_ptr<int>> queue(1);
        CHECK(queue.try_get().error().code == std::errc::resource_unavailable_try_again);
        auto item = std::make_unique<int>(1);
        CHECK_FALSE(queue.try_put(std::move(item)));
        item = std::make_unique<int>(2);
        CHECK(queue.try_put(std::move(item)) == Errc::queue_full);
        REQUIRE(item);
        CHECK(*item == 2);
        CHECK(**queue.try_get() == 1);
        queue.close();
        CHECK(queue.try_put(std::move(item)) == Errc::closed);
        CHECK(item);
        CHECK(queue.try_get().error().code == Errc::closed);
    });
}

TEST_CASE("a get that is cancelled drops no item, and a put that is cancelled inserts none",
          "[s80][F41][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Queue<std::unique_ptr<int>> queue(1);
        auto getter = coro::spawn([&] { queue.get(); });
        coro::wait_all_blocked();
        getter.cancel();
        queue.put(std::make_unique<int>(1));
        getter.wait();
        CHECK(getter.cancelled());
        CHECK(queue.size() == 1);
        auto item = std::make_unique<int>(2);
        auto putter = coro::spawn([&] { queue.put(std::move(item)); });
        coro::wait_all_blocked();
        putter.cancel();
        CHECK(*queue.get() == 1);
        putter.wait();
        CHECK(putter.cancelled());
        CHECK(item);
        CHECK(queue.empty());
        CHECK(queue.unfinished() == 1);
    });
}

TEST_CASE("a waiter that was served before it was cancelled has got or put its item",
          "[s68][s80][F41][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Queue<int> queue(1);
        int got = 0;
        auto getter = coro::spawn([&] {
            got = queue.get();
            coro::check_cancelled();
        });
        coro::wait_all_blocked();
        queue.put(7);
        getter.cancel();
        getter.wait();
        CHECK(got == 7);
        CHECK(getter.cancelled());
        bool put = false;
        queue.put(1);
        auto putter = coro::spawn([&] {
            queue.put(2);
            put = true;
        });
        coro::wait_all_blocked();
        CHECK(queue.get() == 1);
        putter.cancel();
        putter.wait();
        CHECK(put);
        CHECK(queue.get() == 2);
    });
}

TEST_CASE("a wait that timed out leaves nobody in the queue", "[s80][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Queue<int> queue(1);
        CHECK_THROWS_AS(queue.get(1ms), coro::TimeoutError);
        queue.put(1);
        CHECK(queue.size() == 1);
        CHECK_THROWS_AS(queue.put(2, 1ms), coro::TimeoutError);
        CHECK_THROWS_AS(queue.join(1ms), coro::TimeoutError);
        CHECK(queue.get() == 1);
        CHECK(queue.empty());
        queue.task_done();
        queue.join();
    });
}

TEST_CASE("joining a queue waits until every item is done", "[s81][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::Queue<int> queue(2);
        queue.join();
        CHECK_THROWS_AS(queue.task_done(), UsageError);
        auto worker = coro::spawn([&] {
            for (const int item : queue) {
                coro::yield();
                trace(std::to_string(item));
                queue.task_done();
            }
            trace("end");
        });
        for (int i = 0; i < 5; ++i)
            queue.put(i);
        queue.join();
        trace("joined");
        CHECK_THROWS_AS(queue.task_done(), UsageError);
        queue.close();
        worker.wait();
    });
    CHECK(trace.text == "0 1 2 3 4 joined end");
}

TEST_CASE("an item that was handed over counts as put before the coroutine that put it runs again",
          "[s81][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Queue<int> queue(1);
        queue.put(1);
        auto putter = coro::spawn([&] { queue.put(2); });
        coro::wait_all_blocked();
        queue.get();
        queue.get();
        CHECK(queue.unfinished() == 2);
        queue.task_done();
        queue.task_done();
        queue.join();
        putter.wait();
    });
}

TEST_CASE("after closing a queue its items can be got, and putting fails", "[s81][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        const auto closed = Catch::Predicate<std::system_error>(
            [](const std::system_error& error) { return error.code() == Errc::closed; });
        coro::Queue<int> queue(2);
        queue.put(1);
        queue.put(2);
        auto putter =
            coro::spawn([&] { CHECK_THROWS_MATCHES(queue.put(3), std::system_error, closed); });
        coro::wait_all_blocked();
        coro::this_loop().call_soon([&] { queue.close(); });
        putter.wait();
        CHECK(queue.closed());
        CHECK_THROWS_MATCHES(queue.put(4), std::system_error, closed);
        CHECK(queue.get() == 1);
        CHECK(queue.get() == 2);
        CHECK_THROWS_MATCHES(queue.get(), std::system_error, closed);
    });
}

TEST_CASE("closing an empty queue ends the wait of those that get", "[s81][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Queue<int> queue;
        auto getter = coro::spawn([&] { CHECK_THROWS_AS(queue.get(), std::system_error); });
        auto loop = coro::spawn([&] {
            for (const int item : queue)
                FAIL("got " << item);
        });
        coro::wait_all_blocked();
        queue.close();
        getter.wait();
        loop.wait();
        CHECK_FALSE(getter.exception());
        CHECK_FALSE(loop.exception());
    });
}

TEST_CASE("a queue that is destroyed tells those that wait", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto empty = std::make_unique<coro::Queue<int>>();
        auto full = std::make_unique<coro::Queue<int>>(1);
        full->put(1);
        std::vector<coro::Task<void>> tasks;
        tasks.push_back(coro::spawn([&] { CHECK_THROWS_AS(empty->get(), UsageError); }));
        tasks.push_back(coro::spawn([&] { CHECK_THROWS_AS(full->put(2), UsageError); }));
        tasks.push_back(coro::spawn([&] { CHECK_THROWS_AS(full->join(), UsageError); }));
        coro::wait_all_blocked();
        empty.reset();
        full.reset();
        for (auto& task : tasks) {
            task.wait();
            CHECK_FALSE(task.exception());
        }
    });
}

TEST_CASE("no item of a queue is lost or doubled, whichever is cancelled when",
          "[s80][F41][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    const std::size_t capacity = GENERATE(1u, 3u);
    for (std::size_t victim = 0; victim < 4; ++victim)
        sweep(kernel_kind, 12, [&](std::size_t after) {
            coro::Queue<std::unique_ptr<int>> queue(capacity);
            std::vector<int> put;
            std::vector<int> got;
            std::vector<coro::Task<void>> tasks;
            for (int who = 0; who < 2; ++who) {
                tasks.push_back(coro::spawn([&, who] {
                    for (int i = 0; i < 5; ++i) {
                        queue.put(std::make_unique<int>(who * 10 + i));
                        put.push_back(who * 10 + i);
                        if (i == 2) coro::yield();
                    }
                }));
                tasks.push_back(coro::spawn([&] {
                    for (auto& item : queue) {
                        got.push_back(*item);
                        if (got.size() % 3 == 0) coro::yield();
                    }
                }));
            }
            turns(after);
            tasks[victim].cancel();
            coro::wait_all_blocked();
            queue.close();
            for (auto& task : tasks) {
                task.wait();
                if (!task.cancelled()) (void)task.exception();
            }
            while (auto item = queue.try_get())
                got.push_back(**item);
            std::sort(put.begin(), put.end());
            std::sort(got.begin(), got.end());
            CHECK(put == got);
            CHECK(put.size() >= 5);
        });
}

TEST_CASE("a storm over a queue loses and doubles nothing", "[s80][F41][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    storm(kernel_kind, 30, [](auto random) {
        coro::PriorityQueue<int> queue(1 + random(3));
        std::vector<int> put;
        std::vector<int> got;
        std::vector<coro::Task<void>> tasks;
        for (int i = 0; i < 40; ++i) {
            const coro::Deadline deadline =
                random(3) == 0 ? coro::Deadline(std::chrono::microseconds(random(40)))
                               : coro::Deadline();
            if (i % 2 == 0)
                tasks.push_back(coro::spawn([&, i, deadline] {
                    turns(random(3));
                    queue.put(i, deadline);
                    put.push_back(i);
                }));
            else
                tasks.push_back(coro::spawn([&, deadline] {
                    turns(random(3));
                    got.push_back(queue.get(deadline));
                }));
        }
        for (int i = 0; i < 15; ++i) {
            turns(random(2));
            tasks[random(tasks.size())].cancel();
        }
        coro::wait_all_blocked();
        queue.close();
        for (auto& task : tasks) {
            task.wait();
            if (!task.cancelled()) (void)task.exception();
        }
        for (const int item : drain(queue))
            got.push_back(item);
        std::sort(put.begin(), put.end());
        std::sort(got.begin(), got.end());
        CHECK(put == got);
    });
}

TEST_CASE("waiting for a queue allocates nothing", "[s79][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_unshuffled_on(kernel_kind, [] {
        coro::Queue<int> there(1);
        coro::PriorityQueue<int> back(2);
        auto other = coro::spawn([&] {
            for (const int item : there)
                back.put(item);
        });
        const auto rounds = [&] {
            int sum = 0;
            for (int i = 0; i < 100; ++i) {
                there.put(i);
                there.put(i);
                there.put(i);
                sum += back.get() + back.get() + back.get();
            }
            return sum;
        };
        rounds();
        const AllocationCount count;
        const int sum = rounds();
        const bool empty = !there.try_get();
        const std::size_t allocations = count.count();
        CHECK(allocations == 0);
        CHECK(sum == 3 * 4950);
        CHECK(empty);
        there.close();
        other.wait();
    });
}
