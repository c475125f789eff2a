#include "support/heap.hpp"
#include "support/kernels.hpp"

#include <thread>

using namespace std::chrono_literals;
using namespace weft::test;
using weft::CallbackId;
using weft::Cancelled;
using weft::Errc;
using weft::Future;
using weft::Promise;
using weft::UsageError;

namespace {

std::exception_ptr failure(const char* text) {
    return std::make_exception_ptr(std::runtime_error(text));
}

} // namespace

TEST_CASE("A future becomes a value, an error or cancelled, once [s15] [s16]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Promise<int> promise(loop);
    auto future = promise.future();
    CHECK(future.valid());
    CHECK(!future.done());
    CHECK_THROWS_AS(future.result(), UsageError);
    CHECK_THROWS_AS(future.exception(), UsageError);
    CHECK_THROWS_AS(future.take(), UsageError);
    CHECK(future.error_code() == Errc::invalid_state);
    promise.set_value(7);
    CHECK(future.done());
    CHECK(future.result() == 7);
    CHECK(future.exception() == nullptr);
    CHECK(!future.error_code());
    CHECK_THROWS_AS(promise.set_value(8), UsageError);
    CHECK_THROWS_AS(promise.set_exception(failure("late")), UsageError);
    CHECK_THROWS_AS(promise.set_error({Errc::aborted, "late"}), UsageError);
    CHECK(!promise.set_value_if_pending(8));
    CHECK(!promise.set_exception_if_pending(failure("late")));
    CHECK(!promise.set_error_if_pending({Errc::aborted, "late"}));
    CHECK(!future.cancel());
    CHECK(future.result() == 7);

    Promise<void> failing(loop);
    failing.set_error(
        {std::make_error_code(std::errc::connection_refused), "connect to 1.2.3.4:5"});
    CHECK(failing.future().error_code() == std::errc::connection_refused);
    CHECK_THROWS_WITH(failing.future().result(), Catch::Contains("1.2.3.4:5"));

    Promise<std::unique_ptr<int>> moving(loop);
    CHECK(moving.set_value_if_pending(std::make_unique<int>(9)));
    CHECK(*moving.future().take() == 9);

    CHECK_THROWS_AS(Future<int>().done(), UsageError);
    CHECK(!Future<int>().valid());
}

TEST_CASE("cancel is true only if it changed something, and tells the operation [s16] [s20]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Promise<int> promise(loop);
    auto future = promise.future();
    int told = 0;
    promise.on_cancel([&] {
        CHECK(future.cancelled());
        CHECK(!future.cancel());
        CHECK(!promise.set_value_if_pending(1));
        ++told;
    });
    CHECK(future.cancel());
    CHECK(!future.cancel());
    CHECK(told == 1);
    CHECK(future.cancelled());
    CHECK(!promise.pending());
    CHECK_THROWS_AS(future.result(), Cancelled);
    CHECK_THROWS_AS(future.exception(), Cancelled);
    CHECK(future.error_code() == std::errc::operation_canceled);
    CHECK_THROWS_AS(promise.set_value(1), UsageError);
}

TEST_CASE("Done callbacks are queued in the loop, in order, also when added afterwards [s17]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Promise<int> promise(loop);
    auto future = promise.future();
    std::vector<int> order;
    const auto note = [&](int id) {
        return [&order, id](Future<int> done) {
            CHECK(done.done());
            CHECK(done.result() == 5);
            order.push_back(id);
        };
    };
    future.add_done_callback(note(1));
    future.add_done_callback([&, id = 2](Future<int> done) {
        order.push_back(id);
        done.add_done_callback(note(6)); // for the next turn
        loop->call_soon([&] { order.push_back(7); });
    });
    promise.set_value(5);
    loop->call_soon([&] { order.push_back(3); });
    future.add_done_callback(note(4));
    loop->call_soon([&] { order.push_back(5); });
    CHECK(order.empty());
    loop->run_once();
    CHECK(order == std::vector{1, 2, 3, 4, 5});
    loop->run_once();
    CHECK(order == std::vector{1, 2, 3, 4, 5, 6, 7});
}

TEST_CASE("Removing takes every callback with the id and says how many [s18]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Promise<void> promise(loop);
    auto future = promise.future();
    std::vector<int> order;
    const auto note = [&](int id) {
        return [&order, id](const Future<void>&) { order.push_back(id); };
    };
    const CallbackId mine{1};
    future.add_done_callback(note(1), mine);
    const auto second = future.add_done_callback(note(2));
    future.add_done_callback(note(3), mine);
    const auto fourth = future.add_done_callback(note(4));
    CHECK(second != fourth);
    CHECK(future.remove_done_callback(mine) == 2);
    CHECK(future.remove_done_callback(mine) == 0);
    CHECK(future.remove_done_callback(fourth) == 1);
    promise.set_value();
    CHECK(future.remove_done_callback(second) == 0); // on its way
    loop->run_once();
    CHECK(order == std::vector{2});
}

TEST_CASE("Callbacks may be added and removed while they run, and one that throws stops none [s18] "
          "[F28]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Promise<void> promise(loop);
    auto future = promise.future();
    std::vector<int> order;
    for (int i = 0; i < 20; ++i) {
        future.add_done_callback(
            [&, i](Future<void> done) {
                order.push_back(i);
                CHECK(done.remove_done_callback(CallbackId{1}) == 0);
                for (int j = 0; j < 10; ++j)
                    done.add_done_callback([&](const Future<void>&) { order.push_back(100); });
                if (i % 2 == 0) throw std::runtime_error(std::to_string(i));
                if (i == 7) throw weft::FatalError("seven");
            },
            CallbackId{1});
    }
    promise.set_value();
    CHECK_THROWS_WITH(loop->run(), "seven");
    loop->run_until_idle();
    REQUIRE(order.size() == 220);
    int last = -1;
    for (const int id : order)
        if (id != 100) CHECK(id == ++last);
    CHECK(last == 19);
    CHECK(loop.unhandled.size() == 10);
    CHECK(loop.unhandled[1] == "a future's done callback: 2");
}

TEST_CASE("A callback's captures holding the last reference are no danger [s18]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    int ran = 0;
    {
        auto promise = std::make_shared<Promise<int>>(loop);
        promise->future().add_done_callback([&ran, promise](const Future<int>&) { ++ran; });
        promise->on_cancel([promise] {});
        promise->set_value(1);
    }
    loop->run_until_idle();
    CHECK(ran == 1);
    auto promise = std::make_shared<Promise<int>>(loop);
    auto future = promise->future();
    const auto id = future.add_done_callback([promise, future](const Future<int>&) {});
    promise.reset();
    CHECK(future.remove_done_callback(id) == 1); // the promise breaks meanwhile
    CHECK(future.error_code() == Errc::broken_promise);
}

TEST_CASE("An error that nobody fetched is reported once, when the last reference goes [s19]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    {
        Promise<int> promise(loop);
        auto future = promise.future();
        auto copy = future;
        promise.set_exception(failure("lost"));
        future = {};
        loop->run_once();
        CHECK(loop.unhandled.empty());
    }
    CHECK(loop.unhandled.empty()); // not inside a destructor
    loop->run_until_idle();
    CHECK(loop.unhandled == std::vector<std::string>{"a future's error was never retrieved: lost"});
}

TEST_CASE("Errors that were fetched, cancelled or passed on are never reported [s19]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    const auto with_failed = [&](auto&& use) {
        Promise<int> promise(loop);
        auto future = promise.future();
        use(future, promise);
        if (promise.pending()) promise.set_exception(failure("seen"));
        loop->run_once();
    };
    with_failed([](auto& future, auto& promise) {
        promise.set_exception(failure("seen"));
        CHECK_THROWS(future.result());
    });
    with_failed([](auto& future, auto& promise) {
        promise.set_exception(failure("seen"));
        CHECK(future.exception() != nullptr);
    });
    with_failed([](auto& future, auto& promise) {
        promise.set_exception(failure("seen"));
        CHECK(future.error_code());
    });
    with_failed([](auto& future, auto&) { future.cancel(); });
    with_failed([](auto& future, auto&) {
        future.add_done_callback([](Future<int> done) { done.exception(); });
    });
    with_failed(
        [](auto& future, auto&) { future.or_else([](const std::exception_ptr&) { return 1; }); });
    with_failed([&](auto& future, auto&) { future.to_std(); });
    with_failed([](auto& future, auto&) {
        auto next = future.then([](int n) { return n; });
        next.add_done_callback([](Future<int> done) { done.exception(); });
    });
    loop->run_until_idle();
    CHECK(loop.unhandled.empty());
    // Passed on to a future that nobody looks at: once, not twice.
    with_failed([](auto& future, auto&) { future.then([](int n) { return n; }).then([](int) {}); });
    loop->run_until_idle();
    CHECK(loop.unhandled.size() == 1);
}

TEST_CASE("Many waiters see the same outcome [s21]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Promise<std::string> promise(loop);
    std::vector<std::string> seen;
    std::vector<Future<std::size_t>> sizes;
    for (int i = 0; i < 5; ++i) {
        promise.future().add_done_callback(
            [&](Future<std::string> done) { seen.push_back(done.result()); });
        sizes.push_back(promise.future().then([](const std::string& text) { return text.size(); }));
    }
    promise.set_value("hello");
    loop->run_until_idle();
    CHECK(seen == std::vector<std::string>(5, "hello"));
    for (auto& size : sizes)
        CHECK(size.result() == 5);
}

TEST_CASE("Waiting for oneself or for another loop's future is an error [s21]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    TestLoop other(kernel_kind);
    Promise<int> promise(loop);
    Future<int> self;
    self = promise.future().then([&](int) { return self; });
    Promise<int> foreign(other);
    auto wrong = promise.future().then([&](int) { return foreign.future(); });
    auto empty = promise.future().then([](int) { return Future<int>(); });
    promise.set_value(1);
    loop->run_until_idle();
    REQUIRE(self.done());
    CHECK_THROWS_AS(self.result(), UsageError);
    self = {};
    REQUIRE(wrong.done());
    CHECK_THROWS_AS(wrong.result(), UsageError);
    REQUIRE(empty.done());
    CHECK_THROWS_AS(empty.result(), UsageError);
    CHECK_THROWS_AS(loop->run_until(foreign.future()), UsageError);
    CHECK_THROWS_AS(loop->run_until(Future<int>()), UsageError);
}

TEST_CASE("A promise destroyed without an outcome breaks its future, also during unwinding [s22]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Future<int> future, other;
    {
        Promise<int> promise(loop);
        future = promise.future();
    }
    CHECK(future.error_code() == Errc::broken_promise);
    CHECK_THROWS_AS(future.result(), std::system_error);
    try {
        Promise<int> promise(loop);
        other = promise.future();
        throw 1;
    } catch (int) {
        CHECK(other.error_code() == Errc::broken_promise);
    }
    Promise<int> first(loop), second(loop);
    future = first.future();
    first = std::move(second);
    CHECK(future.error_code() == Errc::broken_promise);
    CHECK(first.pending());
    CHECK(!second.pending());
    CHECK(!second.set_value_if_pending(1));
}

TEST_CASE("then and or_else pass values, errors and cancellation along") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Promise<int> promise(loop), inner(loop);
    auto doubled = promise.future().then([](int n) { return 2 * n; });
    auto nested = doubled.then([&](int) { return inner.future(); });
    auto thrown = doubled.then([](int) -> int { throw std::runtime_error("then"); });
    auto skipped = thrown.then([](int n) { return n + 1; });
    auto rescued = skipped.or_else([](const std::exception_ptr& error) {
        try {
            std::rethrow_exception(error);
        } catch (const std::exception& e) {
            return e.what() == std::string("then") ? 77 : 0;
        }
    });
    auto untouched = doubled.or_else([](const std::exception_ptr&) { return -1; });
    auto nothing = doubled.then([](int) {});
    promise.set_value(4);
    loop->run_until_idle();
    CHECK(doubled.result() == 8);
    CHECK(!nested.done());
    inner.set_value(5);
    loop->run_until_idle();
    CHECK(nested.result() == 5);
    CHECK_THROWS_WITH(thrown.result(), "then");
    CHECK_THROWS_WITH(skipped.result(), "then");
    CHECK(rescued.result() == 77);
    CHECK(untouched.result() == 8);
    CHECK(nothing.done());
}

TEST_CASE("Cancelling the end of a chain cancels what it waits for [s20]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Promise<int> source(loop), inner(loop);
    bool told = false, inner_told = false;
    source.on_cancel([&] { told = true; });
    inner.on_cancel([&] { inner_told = true; });
    auto end = source.future().then([](int) { return 1; }).or_else([](const std::exception_ptr&) {
        return 2;
    });
    CHECK(end.cancel());
    CHECK(told);
    CHECK(source.future().cancelled());
    auto waiting = weft::make_ready_future(loop, 1).then([&](int) { return inner.future(); });
    loop->run_until_idle();
    CHECK(!waiting.done());
    CHECK(waiting.cancel());
    CHECK(inner_told);
    loop->run_until_idle();
    CHECK(loop.unhandled.empty());
    // And the other way: a cancelled source cancels the end.
    Promise<int> third(loop);
    auto last = third.future().then([](int n) { return n; }).then([](int n) { return n; });
    third.future().cancel();
    loop->run_until_idle();
    CHECK(last.cancelled());
}

TEST_CASE("run_until returns the value or throws the error, and leaves nothing behind [s10]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Promise<std::unique_ptr<int>> promise(loop);
    loop->call_soon([&] { promise.set_value(std::make_unique<int>(3)); });
    CHECK(*loop->run_until(promise.future()) == 3);
    Promise<void> failing(loop);
    auto timer = loop->call_later(1ms, [&] { failing.set_exception(failure("failed")); });
    CHECK_THROWS_WITH(loop->run_until(failing.future()), "failed");
    Promise<void> cancelled(loop);
    loop->call_soon([&] { cancelled.future().cancel(); });
    CHECK_THROWS_AS(loop->run_until(cancelled.future()), Cancelled);
    CHECK(loop->run_until(weft::make_ready_future(loop, 6)) == 6);
    loop->run_until(weft::make_ready_future(loop));
}

TEST_CASE("A run_until that was stopped leaves the future pending and can be repeated [s10]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Promise<int> promise(loop);
    auto future = promise.future();
    loop->call_soon([&] { loop->stop(); });
    try {
        loop->run_until(future);
        FAIL("run_until returned");
    } catch (const std::system_error& error) {
        CHECK(error.code() == Errc::aborted);
    }
    CHECK(!future.done());
    loop->call_soon([&] {
        promise.set_value(1);
        loop->stop(); // in the same turn: its own stop is queued and must not end the next run
    });
    CHECK(loop->run_until(future) == 1);
    int turns = 0;
    loop->call_soon([&] {
        ++turns;
        loop->call_soon([&] {
            ++turns;
            loop->stop();
        });
    });
    loop->run();
    CHECK(turns == 2);
}

TEST_CASE("A foreign thread gets value, error and cancellation as a standard future [s23]") {
    WEFT_TEST_KERNEL(waking_kernels);
    TestLoop loop(kernel_kind);
    Promise<int> value(loop), error(loop), cancelled(loop), timed(loop);
    auto std_value = value.future().to_std();
    auto std_error = error.future().to_std();
    auto std_cancelled = cancelled.future().to_std();
    auto std_timed = timed.future().to_std();
    std::string seen;
    std::thread thread([&] {
        seen += std::to_string(std_value.get());
        try {
            std_error.get();
        } catch (const std::runtime_error& e) {
            seen += e.what();
        }
        try {
            std_cancelled.get();
        } catch (const std::system_error& e) {
            if (e.code() == std::errc::operation_canceled) seen += " cancelled";
        }
        if (std_timed.wait_for(0s) == std::future_status::timeout) seen += " timeout";
        if (!timed.future().cancel_from_any_thread()) seen += " asked";
    });
    loop->call_soon([&] {
        value.set_value(1);
        error.set_exception(failure(" failed"));
        cancelled.future().cancel();
    });
    timed.on_cancel([&] { loop->stop(); });
    loop->run();
    thread.join();
    CHECK(seen == "1 failed cancelled timeout asked");
    CHECK(timed.future().cancelled());
    loop->run_until_idle();
}

TEST_CASE("A standard future becomes one of the loop [s23]") {
    WEFT_TEST_KERNEL(waking_kernels);
    TestLoop loop(kernel_kind);
    std::promise<int> value, error, given_up;
    auto first = weft::from_std(loop, value.get_future());
    auto second = weft::from_std(loop, error.get_future());
    auto third = weft::from_std(loop, given_up.get_future());
    auto deferred = weft::from_std(loop, std::async(std::launch::deferred, [] { return 8; }));
    value.set_value(3);
    error.set_exception(failure("foreign"));
    CHECK(loop->run_until(first) == 3);
    CHECK_THROWS_WITH(loop->run_until(second), "foreign");
    CHECK(loop->run_until(deferred) == 8);
    CHECK(third.cancel());
    loop->run_until_idle(); // the waiting thread notices
    CHECK_THROWS_AS(weft::from_std(loop, std::future<void>()), UsageError);
    auto pending = weft::from_std(loop, std::promise<void>().get_future());
    CHECK_THROWS_AS(loop->run_until(pending), std::future_error);
    std::promise<void> unkept;
    auto open = weft::from_std(loop, unkept.get_future());
    loop->close(); // does not wait for it
    CHECK(open.error_code() == Errc::aborted);
}

TEST_CASE("Closing the loop breaks futures, even if their promise lives on [s23] [F34]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Promise<int> promise(loop), queued(loop);
    auto future = promise.future();
    auto kept = queued.future();
    auto capture = std::make_shared<int>();
    bool ran = false;
    future.add_done_callback([&ran, capture](const Future<int>&) { ran = true; });
    promise.on_cancel([&ran, capture] { ran = true; });
    auto waiting = future.to_std();
    auto on_its_way = kept.to_std();
    auto chained = future.then([](int) { return 1; });
    queued.set_value(1); // its callback waits for a turn that never comes
    loop->close();
    CHECK(future.error_code() == Errc::aborted);
    CHECK(chained.done());
    CHECK_THROWS_AS(waiting.get(), std::future_error);
    CHECK_THROWS_AS(on_its_way.get(), std::future_error);
    CHECK(capture.use_count() == 1);
    CHECK(!ran);
    CHECK(!promise.set_value_if_pending(1));
    CHECK(future.cancel_from_any_thread() == Errc::closed);
    CHECK(kept.result() == 1);
    CHECK_THROWS_AS(future.then([](int) {}), UsageError);
    kept.add_done_callback([&ran](const Future<int>&) { ran = true; });
    CHECK(!ran);
    CHECK(loop.unhandled.empty());
}

TEST_CASE("Futures allocate their state and the list of callbacks, nothing per callback run") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    int ran = 0;
    const auto cycle = [&] {
        Promise<int> promise(loop);
        promise.future().add_done_callback([&ran](const Future<int>&) { ++ran; });
        promise.set_value(1);
        loop->run_once();
    };
    cycle();
    const AllocationCount allocations;
    for (int i = 0; i < 100; ++i)
        cycle();
    CHECK(allocations.count() == 200);
    CHECK(ran == 101);
}
