#include "sync_support.hpp"

#include <memory>
#include <ranges>
#include <stdexcept>

using namespace weft;
using namespace weft::test;
using Catch::Matchers::Contains;

static_assert(std::ranges::input_range<coro::Generator<int>>);

namespace {

/// Says so when it goes.
struct Leaving {
    Trace& trace;
    const char* event;
    ~Leaving() { trace(event); }
};

coro::Generator<int> count_to(int end) {
    return coro::Generator<int>([end](auto& yield) {
        for (int i = 0; i < end; ++i)
            yield(i);
    });
}

} // namespace

TEST_CASE("a generator gives its items in order, and then ends", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        std::vector<int> items;
        for (const int item : count_to(4))
            items.push_back(item);
        CHECK(items == std::vector{0, 1, 2, 3});
        for (const int item : count_to(0))
            FAIL("got " << item);
        auto two = count_to(2);
        CHECK(two.next() == 0);
        CHECK(two.next() == 1);
        CHECK_FALSE(two.next());
        CHECK_FALSE(two.next());
    });
}

TEST_CASE("a generator runs only when an item is asked for, and may go on for ever", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::Generator<int> numbers([&](auto& yield) {
            const Leaving leaving{trace, "unwound"};
            for (int i = 0;; ++i) {
                trace("make" + std::to_string(i));
                yield(i);
            }
        });
        turns(2);
        trace("begin");
        for (const int item : numbers) {
            trace("got" + std::to_string(item));
            if (item == 1) break;
        }
        turns(2);
        trace("again");
        for (const int item : numbers) {
            trace("got" + std::to_string(item));
            if (item == 2) break;
        }
        trace("leave");
    });
    CHECK(trace.text == "begin make0 got0 make1 got1 again make2 got2 leave unwound");
}

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

TEST_CASE("what a generator throws reaches whoever asked, and ends it", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        const bool wait_before = GENERATE(false, true);
        coro::Generator<int> generator([&](auto& yield) {
            yield(1);
            if (wait_before) coro::sleep(1ms);
            throw std::out_of_range("too far");
        });
        CHECK(generator.next() == 1);
        CHECK_THROWS_MATCHES(generator.next(), std::out_of_range, Catch::Message("too far"));
        CHECK_FALSE(generator.next());
        CHECK(generator.begin() == generator.end());
    });
}

TEST_CASE("a generator may wait for anything, and its consumer waits with it", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::Channel<int> channel;
        auto sender = coro::spawn([&] {
            for (int i = 0; i < 3; ++i) {
                coro::sleep(1ms);
                trace("send");
                channel.send(i);
            }
            channel.close();
        });
        coro::Generator<std::string> texts([&](auto& yield) {
            for (const int item : channel) {
                coro::yield();
                yield(std::to_string(item));
            }
            coro::spawn([&] { trace("child"); }).wait();
        });
        for (const std::string& text : texts)
            trace(text);
        sender.wait();
    });
    CHECK(trace.text == "send 0 send 1 send 2 child");
}

TEST_CASE("generators that consume generators walk a tree", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    struct Walk {
        static coro::Generator<int> below(int from, int to) {
            return coro::Generator<int>([from, to](auto& yield) {
                if (from == to) return;
                const int middle = from + (to - from) / 2;
                for (const int item : below(from, middle))
                    yield(item);
                if (middle % 3 == 0) coro::yield();
                yield(middle);
                for (const int item : below(middle + 1, to))
                    yield(item);
            });
        }
    };
    run_on(kernel_kind, [] {
        int expected = 0;
        for (const int item : Walk::below(0, 30))
            CHECK(item == expected++);
        CHECK(expected == 30);
        for (const int item : Walk::below(0, 30))
            if (item == 11) break;
    });
}

TEST_CASE("a generator can be moved while it is being consumed", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto first = count_to(4);
        auto at = first.begin();
        CHECK(*at == 0);
        auto second = std::move(first);
        ++at;
        CHECK(*at == 1);
        CHECK(second.next() == 2);
        CHECK_THROWS_AS(first.next(), UsageError);
        CHECK_THROWS_AS(first.begin(), UsageError);
        second = count_to(1);
        CHECK(second.next() == 0);
        CHECK_FALSE(second.next());
    });
}

TEST_CASE("items that can only be moved are given without a copy", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Generator<std::unique_ptr<int>> generator([](auto& yield) {
            for (int i = 0; i < 3; ++i)
                yield(std::make_unique<int>(i));
        });
        int expected = 0;
        for (auto& item : generator) {
            const std::unique_ptr<int> mine = std::move(item);
            CHECK(*mine == expected++);
        }
        CHECK(expected == 3);
    });
}

TEST_CASE("a generator that nobody asks needs no coroutine, and gives back its captures",
          "[coro]") {
    auto capture = std::make_shared<int>(1);
    {
        coro::Generator<int> generator([capture](auto& yield) { yield(*capture); });
        CHECK(capture.use_count() == 2);
        CHECK_THROWS_AS(generator.next(), UsageError);
    }
    CHECK(capture.use_count() == 1);
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        coro::Generator<int> generator([capture](auto& yield) { yield(*capture); });
        CHECK(generator.next() == 1);
        CHECK(capture.use_count() == 2);
        CHECK_FALSE(generator.next());
        CHECK(capture.use_count() == 1);
    });
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
        turns(2);
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
            coro::yield(); // the request was delivered
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

TEST_CASE("only one coroutine asks a generator at a time", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Generator<int> generator([](auto& yield) {
            coro::sleep(1ms);
            yield(1);
        });
        auto first = coro::spawn([&] { return generator.next(); }, {.name = "first"});
        turns();
        CHECK_THROWS_WITH(generator.next(), Contains("'first'"));
        CHECK(first.join() == 1);
        CHECK_FALSE(generator.next());
    });
}

TEST_CASE("only the function of a generator may call its yield", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Generator<int> generator([](auto& yield) {
            auto other = coro::spawn([&] { CHECK_THROWS_WITH(yield(1), Contains("'thief'")); },
                                     {.name = "thief"});
            other.wait();
            yield(2);
        });
        CHECK(generator.next() == 2);
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
        std::optional<coro::Generator<int>> generator;
        generator.emplace([&](auto& yield) {
            const Leaving leaving{trace, "unwound"};
            for (;;)
                yield(1);
        });
        CHECK(generator->next() == 1);
        coro::this_loop().call_soon([&] { generator.reset(); });
        turns(3);
        trace("end");
    });
    CHECK(trace.text == "unwound end");
}

TEST_CASE("a generator that outlives its loop is unwound when that is closed", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    const LogCapture log;
    Trace trace;
    std::optional<coro::Generator<int>> generator;
    run_on(kernel_kind, [&] {
        generator.emplace([&](auto& yield) {
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
                    throw std::runtime_error("stubborn");
                }
            });
            generator.next();
        }
        REQUIRE(unhandled.texts.size() == 1);
        CHECK_THAT(unhandled.texts[0], Contains("stubborn"));
    });
}

TEST_CASE("a loop over a generator that never waits lets others have their turn", "[s67][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        bool other_ran = false;
        auto other = coro::spawn([&] { other_ran = true; });
        for (const int item : count_to(1000))
            if (other_ran || item == 999) break;
        CHECK(other_ran);
    });
}

TEST_CASE("whoever is cancelled when, a generator's items come once and in order",
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

TEST_CASE("an item of a generator allocates nothing", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Generator<int> generator([](auto& yield) {
            for (int i = 0;; ++i) {
                if (i % 2 == 0) coro::yield();
                yield(i);
            }
        });
        for (int i = 0; i < 100; ++i)
            generator.next();
        const AllocationCount count;
        int sum = 0;
        for (int i = 0; i < 100; ++i)
            sum += *generator.next();
        const std::size_t allocations = count.count();
        CHECK(allocations == 0);
        CHECK(sum == 14950);
    });
}
