#include "coro_support.hpp"

#include <array>
#include <functional>
#include <source_location>
#include <stdexcept>

using namespace weft;
using namespace weft::test;

namespace {

/// A function that sleeps and returns.
template<class T>
auto after(Duration time, T value) {
    return [time, value] {
        coro::sleep(time);
        return value;
    };
}

auto fails_after(Duration time, const char* text) {
    return [time, text]() -> int {
        coro::sleep(time);
        throw std::runtime_error(text);
    };
}

} // namespace

TEST_CASE("gather returns values in the order of its arguments", "[s34][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        const TimePoint start = coro::this_loop().now();
        auto task = coro::spawn(after(2s, 3));
        Promise<std::unique_ptr<int>> promise(coro::this_loop());
        coro::this_loop().call_soon([&] { promise.set_value(std::make_unique<int>(4)); });
        auto [a, b, c, d, e] = coro::gather(
            after(3s, std::string("a")), [] { return 2; }, task, promise.future(),
            [] { coro::yield(); });
        CHECK(a == "a");
        CHECK(b == 2);
        CHECK(c == 3);
        CHECK(*d == 4);
        CHECK(e == std::monostate());
        CHECK(task.result() == 3); // it is the caller's still
        CHECK(since(start) == "3.000000 s");
        CHECK(coro::gather() == std::tuple<>());
    });
}

TEST_CASE("gather takes a range of functions, tasks or futures, also an empty one", "[s34][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        std::vector<Function<int()>> functions;
        std::vector<coro::Task<std::unique_ptr<int>>> tasks;
        std::vector<Future<int>> futures;
        for (int i = 0; i < 5; ++i) {
            functions.push_back([i] { return i; });
            tasks.push_back(coro::spawn([i] { return std::make_unique<int>(i); }));
            futures.push_back(make_ready_future(coro::this_loop(), i));
        }
        CHECK(coro::gather(std::move(functions)) == std::vector{0, 1, 2, 3, 4});
        CHECK(coro::gather(futures) == std::vector{0, 1, 2, 3, 4});
        const auto moved = coro::gather(std::move(tasks));
        REQUIRE(moved.size() == 5);
        CHECK(*moved[3] == 3);
        CHECK(coro::gather(std::vector<coro::Task<void>>()).empty());
    });
}

TEST_CASE("what is gathered twice runs once and shows twice", "[s34][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        int runs = 0;
        auto task = coro::spawn([&] {
            coro::yield();
            return ++runs;
        });
        auto [a, b] = coro::gather(task, task);
        CHECK(a == 1);
        CHECK(b == 1);
        Promise<int> promise(coro::this_loop());
        coro::this_loop().call_soon([&] { promise.set_value(7); });
        CHECK(coro::gather(std::array{promise.future(), promise.future()}) == std::vector{7, 7});
    });
}

TEST_CASE("the first error leaves gather, and the rest run on until the caller ends",
          "[s34][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        const TimePoint start = coro::this_loop().now();
        Trace trace;
        auto caller = coro::spawn([&] {
            CHECK_THROWS_MATCHES(coro::gather(
                                     fails_after(1s, "first"),
                                     [&trace] {
                                         coro::sleep(2s);
                                         trace("rest");
                                     },
                                     [&trace] {
                                         try {
                                             coro::sleep_forever();
                                         } catch (const Cancelled&) {
                                             trace("cut");
                                             throw;
                                         }
                                     }),
                                 std::runtime_error, Catch::Message("first"));
            CHECK(since(start) == "1.000000 s");
            coro::sleep(2s);
            trace("caller");
        });
        caller.join();
        CHECK(trace.text == "rest caller cut");
    });
}

TEST_CASE("one that is cancelled by itself leaves gather as a cancellation", "[s34][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto victim = coro::spawn([] { coro::sleep_forever(); });
        auto other = coro::spawn([] { coro::sleep(1ms); });
        coro::this_loop().call_soon([&] { victim.cancel(); });
        CHECK_THROWS_AS(coro::gather(victim, other), Cancelled);
        CHECK_FALSE(other.done());
        other.join();
    });
}

TEST_CASE("collecting all tells how each ended", "[s34][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto [a, b, c] = coro::gather_outcomes(after(1ms, 1), fails_after(0ms, "b"),
                                               []() -> int { throw Cancelled(); });
        CHECK(a);
        CHECK(a.value() == 1);
        CHECK_FALSE(b);
        CHECK_THROWS_WITH(b.value(), "b");
        CHECK(b.error());
        CHECK(c.cancelled());
        CHECK_THROWS_AS(c.value(), Cancelled);
        std::vector<coro::Task<void>> tasks;
        tasks.push_back(coro::spawn([] {}));
        tasks.push_back(coro::spawn([] { throw std::out_of_range("x"); }));
        auto outcomes = coro::gather_outcomes(tasks);
        CHECK(outcomes[0]);
        CHECK_FALSE(outcomes[1]);
    });
}

TEST_CASE("cancelling gather cancels all of them and waits for their ends", "[s34][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        int ended = 0;
        const auto slow = [&] {
            try {
                coro::sleep_forever();
            } catch (const Cancelled&) {
                coro::shield([] { coro::sleep(1s); });
                ++ended;
                throw;
            }
        };
        Promise<void> promise(coro::this_loop());
        auto elsewhere = coro::spawn(coro::this_loop(), slow);
        auto caller = coro::spawn([&] {
            try {
                coro::gather(slow, slow, elsewhere, promise.future());
            } catch (const Cancelled&) {
                CHECK(ended == 3);
                throw;
            }
        });
        coro::sleep(1s);
        caller.cancel();
        caller.wait();
        CHECK(caller.cancelled());
        CHECK(ended == 3);
        CHECK(promise.future().cancelled());
    });
}

TEST_CASE("a shielded gather is not cancelled", "[s34][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        int sum = 0;
        auto caller = coro::spawn([&] {
            sum = coro::shield([] {
                auto [a, b] = coro::gather(after(2s, 1), after(3s, 2));
                return a + b;
            });
        });
        coro::sleep(1s);
        caller.cancel();
        caller.wait();
        CHECK(sum == 3);
    });
}

TEST_CASE("wait ends with the first, with the first error, or with all", "[s35][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        using Places = std::vector<std::size_t>;
        const TimePoint start = coro::this_loop().now();
        std::vector<coro::Task<int>> tasks;
        tasks.push_back(coro::spawn(after(3s, 1)));
        tasks.push_back(coro::spawn(after(1s, 2)));
        tasks.push_back(coro::spawn(fails_after(2s, "x")));
        auto first = coro::wait(tasks, coro::WaitUntil::first_completed);
        CHECK(first.done == Places{1});
        CHECK(first.pending == Places{0, 2});
        auto error = coro::wait(tasks, coro::WaitUntil::first_exception);
        CHECK(error.done == Places{1, 2});
        CHECK(since(start) == "2.000000 s");
        // Also when it has failed before.
        CHECK(coro::wait(tasks, coro::WaitUntil::first_exception).pending == Places{0});
        CHECK(since(start) == "2.000000 s");
        auto late = coro::wait(tasks, coro::WaitUntil::all, 500ms);
        CHECK(late.pending == Places{0}); // nothing was thrown, nothing cancelled
        auto all = coro::wait(tasks);
        CHECK(all.done == Places{0, 1, 2});
        CHECK(since(start) == "3.000000 s");
        CHECK(tasks[0].join() == 1);
        CHECK_THROWS(tasks[2].join());
        CHECK_THROWS_AS(coro::wait(std::vector<Future<int>>()), UsageError);
        CHECK_THROWS_AS(coro::wait(std::vector<Future<int>>(1)), UsageError);
    });
}

TEST_CASE("cancelling the task that waits for several cancels none of them", "[s35][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        std::vector<coro::Task<int>> tasks;
        tasks.push_back(coro::spawn(after(3s, 1)));
        CHECK_FALSE(coro::move_on_after(1s, [&] { (void)coro::wait(tasks); }));
        CHECK(tasks[0].join() == 1);
    });
}

TEST_CASE("tasks come in the order in which they end, each once", "[s36][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        std::vector<coro::Task<int>> tasks;
        for (const auto time : {3s, 1s, 2s, 0s})
            tasks.push_back(coro::spawn(after(time, static_cast<int>(time.count()))));
        std::vector<int> order;
        for (coro::Task<int>& task : coro::as_completed(tasks))
            order.push_back(task.result());
        CHECK(order == std::vector{0, 1, 2, 3});

        Promise<int> promise(coro::this_loop());
        promise.set_value(1);
        std::vector<Future<int>> futures{promise.future(), promise.future()};
        int seen = 0;
        for (Future<int>& future : coro::as_completed(futures))
            seen += future.result();
        CHECK(seen == 1);

        std::vector<coro::Task<int>> slow;
        slow.push_back(coro::spawn(after(1s, 1)));
        slow.push_back(coro::spawn(after(10s, 2)));
        order.clear();
        try {
            for (coro::Task<int>& task : coro::as_completed(slow, 5s))
                order.push_back(task.result());
            FAIL_CHECK("the time must be up");
        } catch (const coro::TimeoutError& error) {
            CHECK_THAT(error.what(), Catch::Contains("1 have not ended"));
        }
        CHECK(order == std::vector{1});
        CHECK(slow[1].join() == 2);
        std::vector<coro::Task<int>> none;
        for (coro::Task<int>& task : coro::as_completed(none))
            (void)task.cancel();
    });
}

TEST_CASE("with no time left what is done has a value, and what has not begun does not begin",
          "[s47][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        auto done = coro::spawn([] { return 1; });
        done.wait();
        CHECK(coro::wait_for(done, 0s) == 1);
        auto ready = make_ready_future(coro::this_loop(), 2);
        CHECK(coro::wait_for(ready, -1s) == 2);
        bool ran = false;
        CHECK_THROWS_AS(coro::wait_for([&] { ran = true; }, 0s), coro::TimeoutError);
        coro::wait_all_blocked();
        CHECK_FALSE(ran);
        auto running = coro::spawn([] { coro::sleep_forever(); });
        coro::yield();
        CHECK_THROWS_AS(coro::wait_for(running, 0s), coro::TimeoutError);
        CHECK(running.cancelled());
        Promise<int> promise(coro::this_loop());
        auto pending = promise.future();
        CHECK_THROWS_AS(coro::wait_for(pending, 1s), coro::TimeoutError);
        CHECK(pending.cancelled());
        CHECK(coro::wait_for(after(1s, 3), 2s) == 3);
    });
}

TEST_CASE("waiting for a limited time ends when the cancelled task has ended", "[s48][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        const TimePoint start = coro::this_loop().now();
        const auto cleans = [](auto then) {
            return [then] {
                try {
                    coro::sleep_forever();
                } catch (const Cancelled&) {
                    coro::shield([] { coro::sleep(2s); });
                    return then();
                }
            };
        };
        CHECK_THROWS_AS(coro::wait_for(cleans([]() -> int { throw Cancelled(); }), 1s),
                        coro::TimeoutError);
        CHECK(since(start) == "3.000000 s");
        CHECK(coro::wait_for(cleans([] { return 5; }), 1s) == 5);
        CHECK_THROWS_AS(
            coro::wait_for(cleans([]() -> int { throw std::out_of_range("cleaning"); }), 1s),
            std::out_of_range);
        CHECK(since(start) == "9.000000 s");
        // And can be cancelled meanwhile.
        auto unwilling = coro::spawn(coro::this_loop(), cleans([] { return 6; }));
        CHECK_FALSE(coro::move_on_after(2s, [&] { coro::wait_for(unwilling, 1s); }));
        CHECK(since(start) == "11.000000 s");
        CHECK_FALSE(unwilling.done());
        CHECK(unwilling.join() == 6);
    });
}

TEST_CASE("what is gathered is named for the caller's line", "[s34][coro]") {
    run_on(simulated_kernels().front(), [] {
        std::vector<std::source_location> places;
        const auto note = [&] { places.push_back(coro::current_task()->spawned); };
        const unsigned line = __LINE__ + 1;
        (void)coro::gather(note, note);
        std::vector<std::function<void()>> several{note};
        (void)coro::gather(several);
        (void)coro::gather_outcomes(note);
        REQUIRE(places.size() == 4);
        CHECK(places[0].line() == line);
        CHECK(places[1].line() == line);
        CHECK(places[2].line() == line + 2);
        CHECK(places[3].line() == line + 3);
        CHECK(std::string(places[3].file_name()).find("combine_test") != std::string::npos);
    });
}

TEST_CASE("stacks of what is gathered and waited for have the size that is asked for",
          "[s34][s47][coro]") {
    run_on(simulated_kernels().front(), [] {
        const auto deep = [] {
            volatile char room[600 * 1024];
            room[0] = 1;
            return static_cast<int>(room[0]);
        };
        const coro::SpawnOptions large{.stack_size = 2 * 1024 * 1024};
        CHECK(std::get<0>(coro::gather(large, deep)) == 1);
        CHECK(coro::wait_for(deep, 1s, large) == 1);
    });
}
