#include "coro_support.hpp"

#include <weft/coro/core/stack_usage.hpp>

#include <algorithm>

using namespace weft;
using namespace weft::test;

namespace {

template<std::size_t Bytes>
[[gnu::noinline]] void use() {
    volatile char frame[Bytes];
    for (volatile char& byte : frame)
        byte = 1;
}

} // namespace

TEST_CASE("the use of stacks is measured per place that spawns, with a size to suggest",
          "[F37][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        Loop& loop = coro::this_loop();
        CHECK(coro::stack_usage(loop).empty());
        auto before = coro::spawn([] { coro::yield(); }); // is not measured
        coro::measure_stacks(loop);
        for (int i = 0; i < 3; ++i)
            coro::spawn([i] { i == 1 ? use<40'000>() : use<100>(); }, {.stack_size = 128 * 1024})
                .join();
        const unsigned line = __LINE__ - 2;
        coro::spawn([] { use<100>(); }).join();
        before.join();
        coro::measure_stacks(loop, false);
        coro::spawn([] { use<100>(); }).join();

        const auto usage = coro::stack_usage(loop);
        REQUIRE(usage.size() == 2);
        CHECK(usage[0].spawned.line() == line);
        CHECK(usage[0].count == 3);
        CHECK(usage[0].used > 40'000);
        CHECK(usage[0].used < 60'000);
        CHECK(usage[0].size > 120 * 1024);
        CHECK(usage[0].suggested == 128 * 1024);
        CHECK(usage[1].count == 1);
        CHECK(usage[1].used < 40'000);
        const std::string text = coro::describe(usage);
        CHECK(text.find("stack_usage_test.cpp:" + std::to_string(line) + ": 3 coroutines") !=
              text.npos);
        CHECK(std::count(text.begin(), text.end(), '\n') == 2);
    });
}

TEST_CASE("measuring gets along with every kind of guard", "[F37][F38][coro]") {
    using coro::detail::Guard;
    const Guard guard = GENERATE(Guard::automatic, Guard::protect, Guard::canary);
    Loop loop;
    coro::detail::Scheduler::of(loop).stacks().set_guard(guard);
    coro::measure_stacks(loop);
    for (int i = 0; i < 3; ++i) {
        auto task = coro::spawn(loop, [] { use<1000>(); });
        loop.run_until_idle();
        CHECK(task.done());
    }
    const auto usage = coro::stack_usage(loop);
    REQUIRE(usage.size() == 1);
    CHECK(usage[0].count == 3);
    CHECK(usage[0].used > 1000);
}
