#include "sync_support.hpp"

#include <memory>
#include <ranges>
#include <stdexcept>

using namespace weft;
using namespace weft::test;
using Catch::Matchers::Contains;

static_assert(std::ranges::input_range<coro::Generator<int>>);

namespace {

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
        coro::wait_all_blocked();
        trace("begin");
        for (const int item : numbers) {
            trace("got" + std::to_string(item));
            if (item == 1) break;
        }
        coro::wait_all_blocked();
        trace("again");
        for (const int item : numbers) {
            trace("got" + std::to_string(item));
            if (item == 2) break;
        }
        trace("leave");
    });
    CHECK(trace.text == "begin make0 got0 make1 got1 again make2 got2 leave unwound");
}

TEST_CASE("what a generator throws reaches its consumer, and ends it", "[coro]") {
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

TEST_CASE("only one coroutine asks a generator at a time", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Event go;
        coro::Generator<int> generator([&](auto& yield) {
            go.wait();
            yield(1);
        });
        auto first = coro::spawn([&] { return generator.next(); }, {.name = "first"});
        coro::wait_all_blocked();
        CHECK_THROWS_WITH(generator.next(), Contains("'first'"));
        go.set();
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

TEST_CASE("an item of a generator allocates nothing", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_unshuffled_on(kernel_kind, [] {
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

TEST_CASE("an item that comes after a deadline is the next one", "[s80][coro]") {
    run_on(simulated_kernels().front(), [] {
        coro::Generator<int> items([](auto& yield) {
            for (int i = 1; i <= 3; ++i) {
                coro::sleep(10ms);
                yield(i);
            }
            throw std::runtime_error("over");
        });
        CHECK_THROWS_AS(items.next(5ms), coro::TimeoutError);
        CHECK_THROWS_AS(items.next(1ms), coro::TimeoutError);
        CHECK(items.next(1s) == 1);
        CHECK_THROWS_AS(items.next(1ms), coro::TimeoutError);
        coro::sleep(1s);
        CHECK(items.next(0s) == 2);
        CHECK(items.next() == 3);
        CHECK_THROWS_AS(items.next(), std::runtime_error);
        CHECK_FALSE(items.next());
        coro::Generator<int> left([](auto& yield) {
            coro::sleep(10ms);
            yield(1);
        });
        CHECK_THROWS_AS(left.next(1ms), coro::TimeoutError);
    });
}

TEST_CASE("a generator's body has locks and task-locals of its own", "[s39][coro]") {
    static coro::TaskLocal<int> number(0);
    run_on(simulated_kernels().front(), [] {
        number.set(1);
        coro::Mutex mutex;
        coro::Generator<int> items([&](auto& yield) {
            const auto guard = mutex.lock();
            for (;;) {
                yield(*number.get());
                number.set(*number.get() + 10);
            }
        });
        CHECK(items.next() == 1);
        number.set(2);
        CHECK(items.next() == 11);
        CHECK(*number.get() == 2);
        CHECK_FALSE(mutex.try_lock()); // it is not the consumer's
        CHECK(mutex.locked());
    });
}
