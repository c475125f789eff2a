#include "support/kernels.hpp"

#include <weft/reactor/thread_pool.hpp>

#include <algorithm>
#include <atomic>
#include <functional>
#include <future>
#include <thread>

using namespace std::chrono_literals;
using namespace weft::test;
using weft::Errc;
using weft::Future;
using weft::ThreadPool;

namespace {

/// Holds jobs up until it is opened.
class Gate {
public:
    void open() { promise_.set_value(); }
    void wait() const { future_.wait(); }

private:
    std::promise<void> promise_;
    std::shared_future<void> future_ = promise_.get_future().share();
};

weft::LoopOptions one_thread() {
    weft::LoopOptions options;
    options.executor_threads = 1;
    return options;
}

} // namespace

TEST_CASE("A job runs on another thread, its value or error comes back to the loop [s117]") {
    WEFT_TEST_KERNEL(waking_kernels);
    TestLoop loop(kernel_kind);
    const auto own = std::this_thread::get_id();
    std::thread::id ran_on, delivered_on;
    auto future = loop->run_in_executor([&] {
        ran_on = std::this_thread::get_id();
        return std::make_unique<int>(6);
    });
    future.add_done_callback([&](const auto&) { delivered_on = std::this_thread::get_id(); });
    CHECK(loop->stats().jobs == 1);
    CHECK(*loop->run_until(future) == 6);
    CHECK(ran_on != own);
    CHECK(ran_on != std::thread::id());
    CHECK(delivered_on == own);
    CHECK_THROWS_WITH(loop->run_until(loop->run_in_executor(
                          []() -> int { throw std::runtime_error("in a job"); })),
                      "in a job");
    loop->run_until(loop->run_in_executor([] {}));
    CHECK(loop->stats().jobs == 0);
}

TEST_CASE("Cancelling a job before it starts prevents it, afterwards its outcome is dropped [s117] "
          "[F33]") {
    WEFT_TEST_KERNEL(waking_kernels);
    TestLoop loop(kernel_kind, one_thread());
    Gate started, go;
    auto capture = std::make_shared<int>();
    bool ran = false;
    auto running = loop->run_in_executor([&] {
        started.open();
        go.wait();
        return 1;
    });
    auto queued = loop->run_in_executor([&ran, capture] { ran = true; });
    started.wait();
    CHECK(queued.cancel());
    CHECK(running.cancel());
    CHECK(running.cancelled());
    go.open();
    loop->run_until_idle();
    CHECK(!ran);
    CHECK(capture.use_count() == 1);
    CHECK(loop->stats().jobs == 0);
    CHECK(loop.unhandled.empty());
}

TEST_CASE("A full queue refuses a job and destroys it [F33]") {
    WEFT_TEST_KERNEL(waking_kernels);
    TestLoop loop(kernel_kind);
    ThreadPool pool(ThreadPool::Options{1, 2});
    Gate started, go;
    auto running = loop->run_in_executor(pool, [&] {
        started.open();
        go.wait();
    });
    started.wait();
    auto first = loop->run_in_executor(pool, [] {});
    auto second = loop->run_in_executor(pool, [] {});
    CHECK(pool.queued() == 2);
    auto capture = std::make_shared<int>();
    auto refused = loop->run_in_executor(pool, [capture] {});
    CHECK(refused.error_code() == Errc::queue_full);
    CHECK(first.cancel()); // which makes room
    auto third = loop->run_in_executor(pool, [] {});
    CHECK(!third.done());
    go.open();
    loop->run_until_idle();
    CHECK(second.done());
    CHECK(third.done());
    CHECK(capture.use_count() == 1);
}

TEST_CASE(
    "A pool of one thread serves jobs that go back and forth between it and the loop [s117]") {
    WEFT_TEST_KERNEL(waking_kernels);
    TestLoop loop(kernel_kind, one_thread());
    int depth = 0;
    std::function<Future<int>()> deeper = [&]() -> Future<int> {
        return loop->run_in_executor([] { return 1; }).then([&](int n) {
            if (++depth == 20) return weft::make_ready_future(loop, n);
            return deeper().then([n](int inner) { return n + inner; });
        });
    };
    CHECK(loop->run_until(deeper()) == 20);
}

TEST_CASE(
    "Closing the loop waits for running jobs and cancels the queued ones [s117] [F33] [F34]") {
    WEFT_TEST_KERNEL(waking_kernels);
    std::atomic<bool> finished{false};
    std::atomic<int> ran{0};
    auto capture = std::make_shared<int>();
    Future<void> running;
    std::vector<Future<void>> queued;
    {
        TestLoop loop(kernel_kind, one_thread());
        Gate started;
        weft::Promise<void> closing(loop); // breaks when the loop closes, and no earlier
        running = loop->run_in_executor([&, closed = closing.future().to_std()] {
            started.open();
            closed.wait();
            finished = true;
        });
        for (int i = 0; i < 10'000; ++i)
            queued.push_back(loop->run_in_executor([&ran, capture] { ++ran; }));
        started.wait();
    }
    CHECK(finished);
    CHECK(ran == 0);
    CHECK(capture.use_count() == 1);
    CHECK(running.error_code() == Errc::aborted);
    const auto aborted = std::count_if(queued.begin(), queued.end(), [](const auto& future) {
        return future.error_code() == Errc::aborted;
    });
    CHECK(aborted == 10'000);
}

TEST_CASE("A running job that waits for the loop does not hang its close [s23] [s117]") {
    WEFT_TEST_KERNEL(waking_kernels);
    std::atomic<int> broken{0};
    TestLoop loop(kernel_kind);
    weft::Promise<int> promise(loop);
    Gate started;
    auto job = loop->run_in_executor([&, waiting = promise.future().to_std()]() mutable {
        started.open();
        try {
            waiting.get();
        } catch (const std::future_error&) {
            ++broken;
        }
    });
    started.wait();
    loop->close();
    CHECK(broken == 1);
}

TEST_CASE("A user's pool outlives the loop or dies before it, with jobs of any state [F34]") {
    WEFT_TEST_KERNEL(waking_kernels);
    Future<int> done, dropped, waiting;
    Gate started, go;
    {
        ThreadPool pool(ThreadPool::Options{1, 100});
        {
            weft::LoopOptions options;
            options.kernel = kernel_kind.make();
            weft::Loop loop(std::move(options));
            waiting = loop.run_in_executor(pool, [&] {
                started.open();
                go.wait();
                return 1;
            });
            started.wait();
            dropped = loop.run_in_executor(pool, [] { return 2; });
        } // the loop does not wait for a pool that is not its own
        CHECK(waiting.error_code() == Errc::aborted);
        CHECK(dropped.error_code() == Errc::aborted);
        go.open();
    }
    TestLoop loop(kernel_kind);
    {
        ThreadPool pool(ThreadPool::Options{1, 100});
        done = loop->run_in_executor(pool, [] { return 3; });
        loop->run_until(done.then([](int) {}));
        Gate second_started;
        waiting = loop->run_in_executor(pool, [&] {
            second_started.open();
            return 4;
        });
        second_started.wait();
        dropped = loop->run_in_executor(pool, [] { return 5; });
        dropped.cancel();
    }
    Future<int> late;
    {
        ThreadPool pool;
        pool.shutdown();
        late = loop->run_in_executor(pool, [] { return 6; });
    }
    CHECK(late.error_code() == Errc::closed);
    CHECK(waiting.cancel()); // the pool is gone; the outcome is on its way and dropped
    loop->run_until_idle();
    CHECK(done.result() == 3);
}

TEST_CASE("A pool's own jobs can be queued and cancelled without a loop [F33]") {
    ResourceGuard guard;
    ThreadPool pool(ThreadPool::Options{1, 10});
    Gate started, go;
    std::atomic<int> ran{0};
    CHECK(!pool.submit([&] {
        started.open();
        go.wait();
    }));
    started.wait();
    ThreadPool::JobId first = 0, second = 0;
    CHECK(!pool.submit([&] { ++ran; }, &first));
    CHECK(!pool.submit([&] { ran += 10; }, &second));
    CHECK(pool.cancel(first));
    CHECK(!pool.cancel(first));
    CHECK(!pool.cancel(999));
    std::promise<void> last;
    CHECK(!pool.submit([&] { last.set_value(); }));
    go.open();
    last.get_future().wait();
    CHECK(!pool.cancel(second));
    CHECK(ran == 10);
    pool.shutdown();
    pool.shutdown();
    CHECK(pool.submit([] {}) == Errc::closed);
}
