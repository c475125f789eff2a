#include "support/child.hpp"
#include "sync_support.hpp"

#include <weft/reactor/future.hpp>

#include <catch2/catch.hpp>
#include <functional>

// Users' code that the library calls, and the end of tasks.

using namespace weft;
using namespace weft::test;

namespace {

/// Calls something when it goes, once.
struct Last {
    explicit Last(std::function<void()> f) : function(std::move(f)) {}
    Last(Last&& other) noexcept : function(std::exchange(other.function, nullptr)) {}
    Last& operator=(Last&& other) noexcept {
        std::swap(function, other.function);
        return *this;
    }
    ~Last() {
        if (function) function();
    }
    std::function<void()> function;
};

coro::TaskLocal<std::shared_ptr<Last>> local;

} // namespace

TEST_CASE("what goes at a task's end may lock, spawn, wait and ask which task it is",
          "[s130][coro]") {
    const auto place = GENERATE(0, 1, 2);
    const bool cancelled = GENERATE(false, true);
    CAPTURE(place, cancelled);
    run_on(simulated_kernels().front(), [&] {
        coro::Mutex mutex;
        int called = 0, spawned = 0;
        const auto last = [&] {
            return Last([&] {
                ++called;
                CHECK(coro::current_task()->name == "a task with a name of its own");
                const auto guard = mutex.lock(); // somebody holds it
                coro::sleep(1ms);
                coro::spawn([&] { ++spawned; }).detach();
                auto child = coro::spawn([&] { ++spawned; });
                child.join();
            });
        };
        const coro::SpawnOptions named{.name = "a task with a name of its own"};
        auto held = std::optional(mutex.lock());
        if (place == 0) {
            auto task = coro::spawn(
                [&] {
                    local.set(std::make_shared<Last>(last()));
                    if (cancelled) coro::sleep_forever();
                },
                named);
            coro::yield();
            if (cancelled) task.cancel();
            task.detach();
        } else if (place == 1) {
            auto task = coro::spawn(
                [&, captured = last()] {
                    if (cancelled) coro::sleep_forever();
                },
                named);
            coro::yield();
            if (cancelled) task.cancel();
            task.detach();
        } else {
            coro::spawn([&] { return last(); }, named).detach();
        }
        coro::sleep(1ms);
        held.reset();
        coro::sleep(10ms);
        CHECK(called == 1);
        CHECK(spawned == 2);
        CHECK(coro::all_tasks().size() == 1);
    });
}

TEST_CASE("the handler of what nobody caught may lock and spawn when a task fails",
          "[s130][coro]") {
    run_on(simulated_kernels().front(), [] {
        coro::Mutex log;
        int called = 0;
        coro::this_loop().on_unhandled([&](const Unhandled&) {
            const auto guard = log.lock();
            CHECK(coro::current_task()->name == "a failing task with a name of its own");
            coro::spawn([] {}).detach();
            auto child = coro::spawn([] {});
            ++called;
        });
        auto held = std::optional(log.lock());
        coro::spawn([] { throw std::runtime_error("x"); },
                    {.name = "a failing task with a name of its own"})
            .detach();
        coro::sleep(1ms);
        held.reset();
        coro::sleep(1ms);
        CHECK(called == 1);
        CHECK(coro::all_tasks().size() == 1);
        coro::this_loop().on_unhandled(nullptr);
    });
}

TEST_CASE("a hook for cancellations that would wait is refused, and holds up nobody",
          "[s130][coro]") {
    run_on(simulated_kernels().front(), [] {
        UnhandledLog unhandled;
        Promise<int> promise(coro::this_loop());
        bool spawned = false;
        promise.on_cancel([&] {
            coro::spawn(coro::this_loop(), [&] { spawned = true; }).detach();
            coro::sleep(500ms);
        });
        auto waiter = coro::spawn([&] { coro::await(promise.future()); });
        coro::yield();
        auto canceller = coro::spawn([&] { waiter.cancel(); });
        coro::yield();
        const TimePoint start = coro::this_loop().now();
        (void)coro::move_on_after(10ms, [] { coro::sleep(1h); });
        CHECK(coro::this_loop().now() - start == 10ms);
        REQUIRE(unhandled.texts.size() == 1);
        CHECK(unhandled.texts.front().find("Promise::on_cancel, which must not wait") !=
              std::string::npos);
        CHECK(spawned);
        coro::yield(); // the canceller itself is as it was
        CHECK(canceller.done());
        CHECK_FALSE(canceller.cancelled());
    });
}

TEST_CASE("an item handed over in the instant of the limit is returned", "[s48][s68][coro]") {
    run_on(simulated_kernels().front(), [] {
        coro::Queue<int> queue;
        coro::Channel<int> channel;
        coro::Mutex mutex;
        const TimePoint at = coro::this_loop().now() + 10ms;
        auto held = std::optional(mutex.lock());
        auto producer = coro::spawn([&] {
            coro::sleep_until(at);
            queue.put(42);
            channel.send(43);
        });
        auto releaser = coro::this_loop().call_at(at, [&] { held.reset(); });
        coro::yield();
        auto got = coro::spawn(
            [&] { return coro::wait_for([&] { return channel.receive().value_or(0); }, at); });
        auto locked = coro::spawn(
            [&] { return coro::wait_for([&] { return static_cast<bool>(mutex.lock()); }, at); });
        CHECK(coro::wait_for([&] { return queue.get(); }, at) == 42);
        CHECK(got.join() == 43);
        CHECK(locked.join());
    });
}

TEST_CASE(
    "a task that is cancelled right after it was handed something has it, and its value counts",
    "[s68][coro]") {
    run_on(simulated_kernels().front(), [] {
        coro::Queue<int> queue;
        auto getter = begun([&] { return queue.get(); });
        queue.put(7);
        CHECK(getter.cancel());
        CHECK(getter.join() == 7);
        CHECK(queue.empty());
    });
}

TEST_CASE("a body that joins its tasks is left alone when its consumer is cancelled",
          "[s130][s53][coro]") {
    const bool kept = GENERATE(false, true);
    run_on(simulated_kernels().front(), [&] {
        const TimePoint start = coro::this_loop().now();
        const auto body = [](auto&) {
            auto child = coro::spawn([] { coro::shield([] { coro::sleep(100ms); }); });
            coro::yield();
        };
        coro::Generator<int> outer(body);
        CHECK_FALSE(coro::move_on_after(20ms, [&] {
            if (kept) {
                (void)outer.next();
            } else {
                coro::Generator<int> inner(body);
                (void)inner.next();
            }
        }));
        CHECK(coro::this_loop().now() - start == (kept ? 20ms : 100ms));
        const TimePoint again = coro::this_loop().now();
        coro::sleep(1s);
        CHECK(coro::this_loop().now() - again == 1s);
        CHECK_FALSE(outer.next());
    });
}

TEST_CASE("a shielded or detached task goes on while it waits for an item", "[s33][coro]") {
    const bool detached = GENERATE(false, true);
    run_on(simulated_kernels().front(), [&] {
        coro::Task<int> task;
        int got = 0;
        (void)coro::move_on_after(20ms, [&] {
            task = coro::spawn([&] {
                coro::Generator<int> items([](auto& yield) {
                    coro::sleep(50ms);
                    yield(1);
                });
                return got = *items.next();
            });
            coro::yield();
            if (detached) {
                task.detach();
                coro::sleep_forever();
            }
            (void)coro::shield(task);
        });
        coro::sleep(100ms);
        CHECK(got == 1);
    });
}

TEST_CASE("many cancellations may be swallowed while others go on", "[s59][coro]") {
    run_on(simulated_kernels().front(), [] {
        UnhandledLog unhandled;
        int others = 0;
        auto other = coro::spawn([&] {
            for (;;) {
                ++others;
                coro::yield();
            }
        });
        int swallowed = 0;
        (void)coro::move_on_after(0s, [&] { // the clock stands still while others run
            for (int i = 0; i < 1500; ++i) {
                try {
                    coro::sleep(1h);
                } catch (const Cancelled&) {
                    ++swallowed;
                }
            }
        });
        CHECK(swallowed == 1500);
        CHECK(others > 1000);
        CHECK(unhandled.texts.size() == 1);
    });
}

TEST_CASE("one that swallows what is to end everything, for ever, ends the process",
          "[s59][s118][coro]") {
    const ChildEnd end = in_child([] {
        coro::run([] {
            coro::spawn(
                [] {
                    for (;;) {
                        try {
                            coro::sleep_forever();
                        } catch (const Cancelled&) {
                        }
                    }
                },
                {.name = "unwilling"})
                .detach();
            coro::yield();
        });
        return 0;
    });
    CHECK(end.died_of(SIGABRT));
    CHECK(end.errors.find("'unwilling'") != std::string::npos);
}
