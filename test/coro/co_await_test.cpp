#include "coro_support.hpp"

#include <weft/coro/tasks/co_await.hpp>

#include <stdexcept>
#include <thread>

using namespace weft;
using namespace weft::test;

namespace {

Future<int> twice(Loop&, Future<int> value) {
    co_return 2 * co_await value;
}

Future<std::string> number_as_text(Loop& loop, Future<int> value) {
    const int doubled = co_await twice(loop, value);
    co_return std::to_string(doubled);
}

Future<void> fails(Loop&) {
    throw std::out_of_range("inside");
    co_return;
}

/// An awaitable of somebody else's that is resumed by a thread of its own.
struct OnAThread {
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> frame) {
        thread = std::thread([this, frame] {
            ran_on = std::this_thread::get_id();
            frame.resume();
        });
    }
    std::thread::id await_resume() const noexcept { return ran_on; }
    std::thread thread;
    std::thread::id ran_on;
};

/// One that is resumed by hand.
struct ByHand {
    bool await_ready() const noexcept { return ready; }
    void await_suspend(std::coroutine_handle<> given) noexcept { frame = given; }
    int await_resume() const {
        if (value < 0) throw std::out_of_range("negative");
        return value;
    }
    bool ready = false;
    int value = 0;
    std::coroutine_handle<> frame;
};

} // namespace

TEST_CASE("C++20 coroutines await futures and return them", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Promise<int> promise(loop);
    auto text = number_as_text(loop, promise.future());
    loop->call_soon([&] { promise.set_value(21); });
    CHECK(loop->run_until(text) == "42");
    CHECK_THROWS_AS(loop->run_until(fails(loop)), std::out_of_range);
}

TEST_CASE("a C++20 coroutine starts in the next turn, in the loop that runs unless told",
          "[s24][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    const auto body = [](Trace& trace) -> Future<int> {
        trace("begun");
        co_return 1;
    };
    Trace trace;
    CHECK_THROWS_AS(body(trace), UsageError);
    CHECK(trace.text.empty());
    loop->call_soon([&] {
        auto value = body(trace);
        trace("called");
        value.add_done_callback([&](Future<int>) { loop->stop(); });
    });
    loop->run();
    CHECK(trace.text == "called begun");
}

TEST_CASE("cancelling a C++20 coroutine's future cancels what it awaits", "[s26][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Promise<int> promise(loop);
    bool unwound = false;
    const auto body = [](Loop&, Future<int> value, bool& flag) -> Future<void> {
        try {
            (void)co_await value;
        } catch (const Cancelled&) {
            flag = true;
            throw;
        }
    };
    auto running = body(loop, promise.future(), unwound);
    auto unborn = body(loop, promise.future(), unwound);
    unborn.cancel();
    loop->run_once();
    CHECK_FALSE(unwound);
    CHECK(running.cancel());
    CHECK(promise.future().cancelled());
    loop->run_once();
    CHECK(unwound);
}

TEST_CASE("a C++20 coroutine that is suspended when its loop goes is destroyed", "[s38][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    auto capture = std::make_shared<int>();
    {
        TestLoop loop(kernel_kind);
        Promise<int> promise(loop);
        const auto body = [](Loop&, Future<int> value, std::shared_ptr<int>) -> Future<void> {
            (void)co_await std::move(value);
        };
        auto waits = body(loop, promise.future(), capture);
        loop->run_once();
        auto unborn = body(loop, promise.future(), capture);
        CHECK(capture.use_count() > 1);
        loop->close();
        CHECK(waits.error_code() == Errc::aborted);
    }
    CHECK(capture.use_count() == 1);
}

TEST_CASE("awaiting a future of another loop in a C++20 coroutine is an error", "[s21][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    LoopOptions options;
    options.kernel = kernel_kind.make();
    Loop other(std::move(options));
    Promise<int> promise(other);
    CHECK_THROWS_AS(loop->run_until(twice(loop, promise.future())), UsageError);
}

TEST_CASE("stackful coroutines and C++20 coroutines await each other", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        Loop& loop = coro::this_loop();
        Promise<int> promise(loop);
        auto setter = coro::spawn([&] {
            coro::sleep(1ms);
            promise.set_value(4);
        });
        CHECK(coro::await(twice(loop, promise.future())) == 8);
        // Cancelling reaches through.
        Promise<int> never(loop);
        CHECK_FALSE(coro::move_on_after(1ms, [&] { coro::await(twice(loop, never.future())); }));
        CHECK(never.future().cancelled());
    });
}

TEST_CASE("a stackful coroutine awaits any C++20 awaitable", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        ByHand ready{.ready = true, .value = 3, .frame = {}};
        CHECK(coro::await(ready) == 3);
        ready.value = -1;
        CHECK_THROWS_AS(coro::await(ready), std::out_of_range);
        coro::await(std::suspend_never());
        ByHand later;
        coro::this_loop().call_soon([&] {
            later.value = 5;
            later.frame.resume();
        });
        CHECK(coro::await(later) == 5);
    });
    ByHand outside;
    CHECK_THROWS_AS(coro::await(outside), UsageError);
}

TEST_CASE("an awaitable may resume on another thread, and its waiter goes on in its loop",
          "[coro]") {
    WEFT_TEST_KERNEL(waking_kernels);
    run_on(kernel_kind, [] {
        OnAThread awaitable;
        const auto there = coro::await(awaitable);
        CHECK(there != std::this_thread::get_id());
        awaitable.thread.join();
    });
}

TEST_CASE("a cancellation waits for the end of an awaitable, and is not lost", "[s69][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        ByHand slow;
        int value = 0;
        auto task = coro::spawn([&] {
            value = coro::await(slow);
            coro::yield();
        });
        coro::wait_all_blocked();
        task.cancel();
        coro::wait_all_blocked();
        CHECK_FALSE(task.done());
        slow.value = 6;
        slow.frame.resume();
        task.wait();
        CHECK(task.cancelled());
        CHECK(value == 6);
    });
}

TEST_CASE("what was awaited is not lost when its caller is cancelled meanwhile",
          "[s67][s68][coro]") {
    struct Cancelling {
        coro::CancelScope& scope;
        bool await_ready() const noexcept {
            scope.cancel();
            return true;
        }
        void await_suspend(std::coroutine_handle<>) const noexcept {}
        int await_resume() const noexcept { return 7; }
    };
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        int got = 0;
        coro::CancelScope scope;
        CHECK_FALSE(scope.run([&] {
            got = coro::await(Cancelling{scope});
            coro::yield();
        }));
        CHECK(got == 7);
    });
}
