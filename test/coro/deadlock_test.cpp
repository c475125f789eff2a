#include "coro_support.hpp"

using namespace weft;
using namespace weft::test;

namespace weft::test {

/// Those that know when nobody can wake them. ThreadSanitizer has a thread of its own, and for all
/// that a real kernel knows any thread may post.
std::vector<KernelKind> closed_kernels() {
#ifdef __SANITIZE_THREAD__
    return simulated_kernels();
#else
    return all_kernels();
#endif
}

} // namespace weft::test

namespace {

/// What `run` says of `main`, which must not be able to end.
template<class F>
std::string deadlock_of(const KernelKind& kind, F&& main) {
    const ResourceGuard guard;
    try {
        coro::run(std::forward<F>(main), options_on(kind));
    } catch (const std::system_error& error) {
        CHECK(error.code() == Errc::deadlock);
        return error.what();
    }
    return "it ended";
}

} // namespace

TEST_CASE("a deadlock is reported with every coroutine and what it waits for", "[F43][coro]") {
    WEFT_TEST_KERNEL(closed_kernels);
    LogCapture log;
    const std::string text = deadlock_of(kernel_kind, [] {
        Promise<int> never(coro::this_loop());
        auto one = coro::spawn([] { coro::sleep_forever(); }, {.name = "one"});
        auto two = coro::spawn([&] { coro::await(never.future()); }, {.name = "two"});
        one.join();
    });
    CHECK_THAT(text, Catch::Contains("'main' (spawned at deadlock_test.cpp:"));
    CHECK_THAT(text, Catch::Contains("waits for the end of the task 'one'"));
    CHECK_THAT(text, Catch::Contains("'one'") && Catch::Contains("sleep_forever"));
    CHECK_THAT(text, Catch::Contains("'two'") && Catch::Contains("a future"));
}

TEST_CASE("a deadlock that holds against cancelling is reported, too", "[F43][coro]") {
    WEFT_TEST_KERNEL(closed_kernels);
    LogCapture log;
    bool unwound = false;
    const std::string text = deadlock_of(kernel_kind, [&] {
        struct Says {
            bool& flag;
            ~Says() { flag = true; }
        } says{unwound};
        coro::shield([] { coro::sleep_forever(); });
    });
    CHECK_THAT(text, Catch::Contains("'main'"));
    CHECK(unwound);
    CHECK_THAT(log.text(), Catch::Contains("can not be ended"));
}

TEST_CASE("what something outside may still wake is no deadlock", "[F43][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::sleep(1ms); // a timer
        auto [near, far] = coro::stream_pair();
        auto reader = coro::spawn([&, peer = &near] {
            std::array<std::byte, 4> buffer;
            return peer->read_some(buffer);
        });
        coro::wait_all_blocked();
        far.close();
        CHECK(reader.join() == 0);
        Promise<void> promise(coro::this_loop());
        coro::this_loop().call_soon([&] { promise.set_value(); });
        coro::await(promise.future());
    });
}

TEST_CASE("main may go on after a deadlock was reported to it, and run throws it all the same",
          "[F43][coro]") {
    WEFT_TEST_KERNEL(closed_kernels);
    Trace trace;
    const std::string text = deadlock_of(kernel_kind, [&] {
        try {
            coro::sleep_forever();
        } catch (const Cancelled&) {
            trace("cleaned");
        }
    });
    CHECK(trace.text == "cleaned");
    CHECK_THAT(text, Catch::Contains("nothing can ever wake"));
}
