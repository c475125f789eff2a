#include "support/instrumented.hpp"
#include "support/kernels.hpp"

#include <weft/reactor/co_await.hpp>

using namespace weft::test;
using weft::Errc;
using weft::Future;
using weft::Loop;
using weft::Promise;

// Each link that took frames of its own would take a hundred bytes at least, and several times that
// where frames are not optimized: the stack ends long before.
namespace {

constexpr int links = shortened(100'000, 20'000);

/// Links that each wait for the one before.
Future<int> linear(Loop&, Future<int> from) {
    for (int i = 0; i < links; ++i)
        from = from.then([](int n) { return n + 1; });
    return from;
}

/// Links that each return a future for the rest.
struct Rounds {
    Loop& loop;
    int left;
    Future<int> next() {
        Promise<int> promise(loop);
        auto future = promise.future();
        loop.call_soon(
            [promise = std::move(promise)]() mutable { promise.set_value_if_pending(1); });
        return future.then([this](int n) -> Future<int> {
            if (--left == 0) return weft::make_ready_future(loop, n);
            return next();
        });
    }
};

Future<int> awaited(Loop&, Future<int> inner) {
    co_return co_await inner + 1;
}

Future<int> coroutines(Loop& loop, Future<int> from) {
    for (int i = 0; i < links; ++i)
        from = awaited(loop, std::move(from));
    return from;
}

using Make = Future<int> (*)(Loop&, Future<int>);

} // namespace

TEST_CASE("A very long chain of futures comes to its value, link by link [s17]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    const Make make = GENERATE(Make(linear), Make(coroutines));
    TestLoop loop(kernel_kind);
    Promise<int> promise(loop);
    auto end = make(loop, promise.future());
    loop->run_until_idle();
    promise.set_value(0);
    CHECK(loop->run_until(end) == links);
    Rounds rounds{loop, links};
    CHECK(loop->run_until(rounds.next()) == 1);
}

TEST_CASE("A very long chain of futures is cancelled as a whole, on any stack [s17] [s20]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    const Make make = GENERATE(Make(linear), Make(coroutines));
    TestLoop loop(kernel_kind);
    Promise<int> promise(loop);
    auto end = make(loop, promise.future());
    loop->run_until_idle();
    CHECK(end.cancel());
    CHECK(promise.future().cancelled());
    loop->run_until_idle();
    Rounds rounds{loop, links};
    auto last = rounds.next();
    while (rounds.left > links / 2)
        loop->run_once();
    CHECK(last.cancel());
    loop->run_until_idle();
    CHECK(loop.unhandled.empty());
}

TEST_CASE(
    "A very long chain of futures ends with its loop, its promise or its last future [s17] [F34]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    const Make make = GENERATE(Make(linear), Make(coroutines));
    const std::string how = GENERATE("closed", "broken", "dropped");
    INFO(how);
    TestLoop loop(kernel_kind);
    Future<int> end;
    {
        Promise<int> promise(loop);
        end = make(loop, promise.future());
        loop->run_until_idle();
        if (how == "dropped") end = {};
        if (how != "broken") {
            loop->close();
            CHECK(promise.future().error_code() == Errc::aborted);
        }
    }
    if (how == "closed") CHECK(end.error_code() == Errc::aborted);
    if (how == "broken") {
        loop->run_until_idle();
        CHECK(end.error_code() == Errc::broken_promise);
    }
}

TEST_CASE("A loop of futures that return their rest ends with the event loop, dropped or not [s17] "
          "[F34]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    const bool dropped = GENERATE(false, true);
    TestLoop loop(kernel_kind);
    Rounds rounds{loop, links};
    auto end = rounds.next();
    while (rounds.left > links / 2)
        loop->run_once();
    if (dropped) end = {};
    loop->close();
    CHECK((dropped || end.error_code() == Errc::aborted));
}

TEST_CASE("Values that hold futures of the same kind are freed on any stack [s17]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    TestLoop loop(kernel_kind);
    struct Node {
        Future<std::unique_ptr<Node>> rest;
    };
    auto list = weft::make_ready_future(loop, std::unique_ptr<Node>());
    for (int i = 0; i < links; ++i)
        list = weft::make_ready_future(loop, std::make_unique<Node>(Node{std::move(list)}));
    list = {};
    CHECK(loop.unhandled.empty());
}
