// Coroutines that wait for descriptors of others.

#include "coro_support.hpp"

#include <weft/coro/tasks/testing.hpp>
#include <weft/reactor/loop_core.hpp>

#include <cstdio>
#include <fcntl.h>
#include <unistd.h>

using namespace weft;
using namespace weft::test;

TEST_CASE("A coroutine waits for somebody else's descriptor, in both directions", "[s18][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        SocketPair pair(weft::detail::core_of(coro::this_loop()).kernel());
        coro::Descriptor descriptor(pair.near);
        CHECK(descriptor.fd() == pair.near);
        descriptor.wait_writable();
        Trace trace;
        auto reader = coro::spawn([&] {
            for (int i = 0; i < 3; ++i) {
                descriptor.wait_readable();
                trace(pair.receive());
            }
        });
        for (const char* text : {"a", "b", "c"}) {
            coro::wait_all_blocked();
            pair.send(text);
        }
        reader.join();
        CHECK(trace.text == "a b c");
        pair.close_far();
        descriptor.wait_readable();
        CHECK(pair.receive().empty());
    });
}

TEST_CASE(
    "All that wait for a direction go on together, and cancelling one leaves the others alone",
    "[s68][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        SocketPair pair(weft::detail::core_of(coro::this_loop()).kernel());
        coro::Descriptor descriptor(pair.near);
        int woken = 0;
        const auto wait = [&] { descriptor.wait_readable(), ++woken; };
        auto first = coro::spawn(wait), second = coro::spawn(wait), third = coro::spawn(wait);
        coro::wait_all_blocked();
        first.cancel();
        CHECK_THROWS_AS(first.join(), Cancelled);
        pair.send("x");
        second.join();
        third.join();
        CHECK(woken == 2);
        CHECK_FALSE(pair.receive().empty());
        CHECK_THROWS_AS(descriptor.wait_readable(1ms), coro::TimeoutError);
        // The one that left was the only one: what comes then disturbs nobody.
        pair.send("y");
        turns(3);
        descriptor.wait_readable();
        CHECK(pair.receive() == "y");
    });
}

TEST_CASE("Nothing is watched while nobody waits", "[s18][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        SocketPair pair(weft::detail::core_of(coro::this_loop()).kernel());
        coro::Descriptor descriptor(pair.near);
        pair.send("x");
        descriptor.wait_readable();
        turns(2);
        const std::uint64_t before = coro::this_loop().stats().turns;
        coro::sleep(5ms); // a descriptor that is ready and watched would turn the loop all the time
        CHECK(coro::this_loop().stats().turns - before < 5);
    });
}

TEST_CASE("Those that wait hear that the object has gone, and what cannot be waited for is refused",
          "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        SocketPair pair(weft::detail::core_of(coro::this_loop()).kernel());
        auto descriptor = std::make_unique<coro::Descriptor>(pair.near);
        std::error_code code;
        auto waiting = coro::spawn([&] {
            try {
                descriptor->wait_readable();
            } catch (const std::system_error& error) {
                code = error.code();
            }
        });
        coro::wait_all_blocked();
        descriptor.reset();
        waiting.join();
        CHECK(code == Errc::closed);
        CHECK_THROWS_AS(coro::Descriptor(-1), std::system_error);
    });
}
