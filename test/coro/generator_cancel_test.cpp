#include "sync_support.hpp"

#include <memory>
#include <stdexcept>

using namespace weft;
using namespace weft::test;
using Catch::Matchers::Contains;

TEST_CASE("leaving a loop early unwinds the generator before anything else happens", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        auto other = coro::spawn([&] { trace("other"); });
        for (const int item : coro::Generator<int>([&](auto& yield) {
                 const Leaving leaving{trace, "unwound"};
                 try {
                     for (int i = 0;; ++i)
                         yield(i);
                 } catch (const Cancelled&) {
                     trace("cancelled");
                     CHECK_THROWS_AS(yield(7), Cancelled);
                     CHECK_THROWS_AS(coro::sleep(1h), Cancelled);
                     throw;
                 }
             }))
            if (item == 3) break;
        trace("left");
        other.wait();
    });
    CHECK(trace.text == "cancelled unwound left other");
}

TEST_CASE("an exception that leaves the loop unwinds the generator, too", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        const auto consume = [&] {
            for (const int item : coro::Generator<int>([&](auto& yield) {
                     const Leaving leaving{trace, "unwound"};
                     for (int i = 0;; ++i)
                         yield(i);
                 }))
                if (item == 2) throw std::runtime_error("enough");
        };
        CHECK_THROWS_WITH(consume(), "enough");
        trace("caught");
    });
    CHECK(trace.text == "unwound caught");
}

TEST_CASE("what cancels the consumer cancels what the generator waits for", "[s68][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    const bool by_scope = GENERATE(false, true);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::CancelScope scope;
        auto task = coro::spawn([&] {
            (void)scope.run([&] {
                try {
                    for (const int item : coro::Generator<int>([&](auto& yield) {
                             const Leaving leaving{trace, "body"};
                             yield(1);
                             coro::sleep(1h);
                         }))
                        trace(std::to_string(item));
                } catch (const Cancelled&) {
                    trace("consumer");
                    throw;
                }
            });
            trace("end");
            coro::yield();
        });
        coro::wait_all_blocked();
        if (by_scope)
            scope.cancel();
        else
            task.cancel();
        task.wait();
        CHECK(task.cancelled() == !by_scope);
        CHECK(coro::this_loop().stats().timers == 0);
    });
    CHECK(trace.text == (by_scope ? "1 body consumer end" : "1 body consumer"));
}

TEST_CASE("a generator that cancels its consumer ends with it, once", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::Task<void> task;
        task = coro::spawn([&] {
            coro::Generator<int> generator([&](auto& yield) {
                yield(1);
                task.cancel();
                coro::sleep(1h);
            });
            CHECK(generator.next() == 1);
            try {
                generator.next();
            } catch (const Cancelled&) {
                trace("cancelled");
            }
            CHECK(task.cancelling() == 1); // the request was delivered once
            task.uncancel();
            coro::yield();
            trace("end");
        });
        task.wait();
    });
    CHECK(trace.text == "cancelled end");
}

TEST_CASE(
    "a deadline around the consumer ends the generator's wait, and one in the generator its own",
    "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Generator<int> generator([](auto& yield) {
            yield(1);
            const bool whole = coro::move_on_after(1ms, [&] {
                for (int i = 2;; ++i) {
                    yield(i);
                    coro::sleep(10us);
                }
            });
            yield(whole ? -2 : -1);
            coro::sleep(1h);
        });
        CHECK(generator.next() == 1);
        CHECK(generator.next() == 2);
        coro::sleep(2ms);
        // The time was up while nobody asked.
        CHECK(generator.next() == -1);
        CHECK_THROWS_AS(coro::with_timeout(1ms, [&] { return generator.next(); }),
                        coro::TimeoutError);
        CHECK_FALSE(generator.next());
    });
}

TEST_CASE("a generator goes on in another scope than it began in", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Generator<int> generator([](auto& yield) {
            for (int i = 0;; ++i) {
                coro::yield();
                yield(i);
            }
        });
        coro::CancelScope scope;
        CHECK(scope.run([&] { return generator.next(); }).value() == 0);
        scope.cancel();
        CHECK(generator.next() == 1);
        CHECK(coro::shield([&] { return generator.next(); }) == 2);
        coro::CancelScope cancelled;
        cancelled.cancel();
        CHECK_FALSE(cancelled.run([&] { return generator.next(); }));
        CHECK(generator.next() == 3);
        auto other = coro::spawn([&] { return generator.next(); });
        CHECK(other.join() == 4);
    });
}

TEST_CASE(
    "destroying a generator waits for what its function shields and for the tasks it has spawned",
    "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    const bool unwinding = GENERATE(false, true);
    Trace trace;
    run_on(kernel_kind, [&] {
        const auto consume = [&] {
            coro::Generator<int> generator([&](auto& yield) {
                auto child = coro::spawn([&] {
                    const Leaving leaving{trace, "child"};
                    coro::sleep_forever();
                });
                try {
                    coro::yield();
                    yield(1);
                } catch (const Cancelled&) {
                    coro::shield([&] { coro::sleep(1ms); });
                    trace("shielded");
                    throw;
                }
            });
            CHECK(generator.next() == 1);
            if (unwinding) throw std::runtime_error("enough");
        };
        if (unwinding)
            CHECK_THROWS_WITH(consume(), "enough");
        else
            consume();
        trace("destroyed");
    });
    CHECK(trace.text == "child shielded destroyed");
}

TEST_CASE("a generator that a plain callback destroys is unwound soon after", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        std::unique_ptr<coro::Generator<int>> generator;
        generator = std::make_unique<coro::Generator<int>>([&](auto& yield) {
            const Leaving leaving{trace, "unwound"};
            for (;;)
                yield(1);
        });
        CHECK(generator->next() == 1);
        coro::this_loop().call_soon([&] { generator.reset(); });
        coro::wait_all_blocked();
        trace("end");
    });
    CHECK(trace.text == "unwound end");
}

TEST_CASE("a generator that outlives its loop is unwound when that is closed", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    const LogCapture log;
    Trace trace;
    std::unique_ptr<coro::Generator<int>> generator;
    run_on(kernel_kind, [&] {
        generator = std::make_unique<coro::Generator<int>>([&](auto& yield) {
            const Leaving leaving{trace, "unwound"};
            for (;;)
                yield(1);
        });
        CHECK(generator->next() == 1);
    });
    CHECK(trace.text == "unwound");
    generator.reset();
}

TEST_CASE("what a generator throws while it is unwound is reported", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        const UnhandledLog unhandled;
        {
            coro::Generator<int> generator([](auto& yield) {
                try {
                    yield(1);
                } catch (const Cancelled&) {
                    throw std::runtime_error("unwilling");
                }
            });
            generator.next();
        }
        REQUIRE(unhandled.texts.size() == 1);
        CHECK_THAT(unhandled.texts[0], Contains("unwilling"));
    });
}

TEST_CASE("whichever is cancelled when, a generator's items come once and in order",
          "[s68][F41][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    sweep(kernel_kind, 15, [](std::size_t after) {
        coro::Mutex mutex;
        std::vector<int> items;
        auto task = coro::spawn([&] {
            coro::Generator<int> outer([&](auto& yield) {
                coro::Generator<int> inner([&](auto& yield_inner) {
                    for (int i = 0; i < 6; ++i) {
                        auto guard = mutex.lock();
                        coro::yield();
                        yield_inner(i);
                    }
                });
                for (const int item : inner) {
                    if (item % 2 == 0) coro::yield();
                    yield(item);
                }
            });
            for (const int item : outer) {
                items.push_back(item);
                if (item % 3 == 0) coro::yield();
            }
        });
        turns(after);
        task.cancel();
        task.wait();
        for (std::size_t i = 0; i < items.size(); ++i)
            CHECK(items[i] == static_cast<int>(i));
        CHECK_FALSE(mutex.locked());
        CHECK(coro::all_tasks().size() == 1);
    });
}
