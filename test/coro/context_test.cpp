#include "coro_support.hpp"

#include <cerrno>
#include <cfenv>
#include <stdexcept>
#include <thread>

using namespace weft;
using namespace weft::test;

namespace {

// Functions of their own: where `errno` lies is looked up in each.
[[gnu::noinline]] int read_errno() {
    return errno;
}
[[gnu::noinline]] void write_errno(int value) {
    errno = value;
}

} // namespace

TEST_CASE("errno belongs to the coroutine that set it", "[F42][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto other = coro::spawn([] {
            CHECK(errno == 0);
            errno = ENOENT;
            coro::yield();
            CHECK(errno == ENOENT);
            coro::sleep(1ms);
            CHECK(errno == ENOENT);
        });
        errno = EPERM;
        coro::yield();
        CHECK(errno == EPERM);
        other.join();
        CHECK(errno == EPERM);
    });
}

TEST_CASE("what a coroutine keeps in registers is there after others have run", "[coro][context]") {
    WEFT_TEST_KERNEL(all_kernels);
    // More values than there are registers, of both kinds, in use across each switch.
    const auto mix = [](unsigned seed) {
        unsigned a = seed, b = seed + 1, c = seed + 2, d = seed + 3, e = seed + 4, f = seed + 5;
        unsigned g = seed + 6, h = seed + 7;
        double x = seed, y = seed + 0.5, z = seed + 0.25;
        for (int i = 0; i < 200; ++i) {
            a = b * 3 + h;
            coro::yield();
            b = c ^ g, c = d + f, d = e * 5;
            x = y + 1, y = z * 0.5;
            if (i % 7 == 0) coro::sleep(1us);
            e = f - a, f = g + b, g = h ^ c, h = a + 1;
            z = x * 0.25 + y;
        }
        return std::pair(a ^ b ^ c ^ d ^ e ^ f ^ g ^ h, x + y + z);
    };
    std::vector<std::pair<unsigned, double>> alone, together;
    for (unsigned seed = 0; seed < 8; ++seed)
        alone.push_back(run_on(kernel_kind, [&] { return mix(seed); }));
    run_on(kernel_kind, [&] {
        std::vector<coro::Task<std::pair<unsigned, double>>> tasks;
        for (unsigned seed = 0; seed < 8; ++seed)
            tasks.push_back(coro::spawn([&mix, seed] { return mix(seed); }));
        for (auto& task : tasks)
            together.push_back(task.join());
    });
    CHECK(alone == together);
}

TEST_CASE("yield lets the others run in their order, and callbacks that are queued",
          "[coro][context]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_unshuffled_on(kernel_kind, [&] {
        const auto twice = [&](const char* name) {
            return [&trace, name] {
                trace(name);
                coro::yield();
                trace(name);
            };
        };
        auto a = coro::spawn(twice("a"));
        auto b = coro::spawn(twice("b"));
        coro::this_loop().call_soon([&] { trace("callback"); });
        coro::yield();
        trace("main");
        a.join();
        b.join();
    });
    CHECK(trace.text == "callback a b main a b");
}

TEST_CASE("a coroutine that only yields does not keep the loop from its timers and posts",
          "[coro][context]") {
    WEFT_TEST_KERNEL(real_kernels);
    run_on(kernel_kind, [] {
        bool fired = false, posted = false;
        auto timer = coro::this_loop().call_later(1ms, [&] { fired = true; });
        CHECK_FALSE(coro::this_loop().post([&] { posted = true; }));
        while (!fired || !posted)
            coro::yield();
        auto others = std::vector<coro::Task<void>>();
        fired = posted = false;
        timer = coro::this_loop().call_later(1ms, [&] { fired = true; });
        CHECK_FALSE(coro::this_loop().post([&] { posted = true; }));
        for (int i = 0; i < 3; ++i)
            others.push_back(coro::spawn([&] {
                while (!fired || !posted)
                    coro::yield();
            }));
        for (auto& other : others)
            other.join();
    });
}

TEST_CASE("yielding refuses what it can not do, by name", "[F40][F43][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    CHECK_THROWS_MATCHES(
        coro::yield(), UsageError,
        Catch::Message(
            "yield: called outside of a coroutine; start one with coro::run or coro::spawn"));
    run_on(kernel_kind, [] {
        auto task = coro::spawn([] {
            for (;;)
                coro::yield();
        });
        coro::yield();
        CHECK(task.cancel());
        task.wait();
        CHECK(task.cancelled());
    });
}

TEST_CASE("errno is each coroutine's own, also in another thread", "[s39][coro]") {
    Loop loop;
    int seen = 0;
    coro::Event go;
    auto task = coro::spawn(loop, [&] {
        write_errno(EDOM);
        go.wait();
        seen = read_errno();
    });
    auto other = coro::spawn(loop, [&] { write_errno(ERANGE); });
    loop.run_once();
    go.set();
    std::thread([&] { loop.run_once(); }).join();
    CHECK(seen == EDOM);
}
