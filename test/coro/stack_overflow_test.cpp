#include "coro_support.hpp"
#include "support/child.hpp"

#include <weft/coro/core/stack_overflow.hpp>

#include <csignal>

using namespace weft;
using namespace weft::test;
using coro::detail::Guard;

namespace {

volatile int sink = 0;

// Frames of 200 bytes, one for each of `depth`; the recursion is not at the end.
[[gnu::noinline]] int recurse(int depth) {
    volatile char frame[200];
    frame[0] = static_cast<char>(depth);
    sink = frame[0];
    return depth == 0 ? 0 : recurse(depth - 1) + frame[0];
}

void overflow() {
    sink = recurse(100'000'000);
}

// As a frame that is a little too large would: the last bytes of the stack are written.
void overflow_slightly() {
    volatile auto* lowest =
        reinterpret_cast<volatile std::byte*>(coro::detail::current->stack.bottom);
    *lowest = std::byte{1};
}

int overflow_in_loop(Guard guard) {
    Loop loop;
    const coro::OverflowReport report;
    coro::detail::Scheduler::of(loop).stacks().set_guard(guard);
    auto task = coro::spawn(loop, &overflow, {.name = "greedy", .stack_size = 64 * 1024});
    loop.run_until_idle();
    return 0;
}

volatile std::sig_atomic_t seen = 0;
void note(int) {
    seen = 1;
}

} // namespace

TEST_CASE(
    "an overflow is reported with name, place, size and backtrace, and the process dies of it",
    "[F37][coro]") {
    const Guard guard = GENERATE(Guard::automatic, Guard::marker, Guard::protect);
    // Without markers in the kernel there is nothing to hit.
    if (guard == Guard::marker && coro::detail::StackPool().guard() != Guard::marker) return;
    const ChildEnd end = in_child([&] { return overflow_in_loop(guard); });
    INFO(end.errors);
    CHECK(end.died_of(SIGSEGV));
    CHECK(end.errors.starts_with("weft: the coroutine 'greedy' (spawned at "));
    CHECK(end.errors.find("overflow_test.cpp:") != std::string::npos);
    // A page is the guard, and its colour may take a kilobyte more.
    CHECK(end.errors.find(") has overflowed its stack of 65536 bytes") != std::string::npos);
    // Many frames of the same function, in whatever form the platform gives them.
    std::size_t lines = 0;
    for (const char c : end.errors)
        lines += c == '\n';
    CHECK(lines > 20);
}

TEST_CASE("coro::run reports overflows by itself, unless it is told not to", "[F37][coro]") {
    const auto overflow_in_run = [](bool report) {
        return in_child([report] {
            coro::RunOptions options;
            options.report_overflow = report;
            options.main.name = "deep";
            coro::run(&overflow, std::move(options));
            return 0;
        });
    };
    const ChildEnd reported = overflow_in_run(true);
    CHECK(reported.died_of(SIGSEGV));
    CHECK(reported.errors.find("'deep'") != std::string::npos);
    const ChildEnd silent = overflow_in_run(false);
    CHECK(silent.died_of(SIGSEGV));
    CHECK(silent.errors.empty());
}

TEST_CASE("without guard pages an overflow is noticed at the coroutine's end", "[F37][F38][coro]") {
    const ChildEnd end = in_child([] {
        Loop loop;
        coro::detail::Scheduler::of(loop).stacks().set_guard(Guard::canary);
        auto task = coro::spawn(loop, &overflow_slightly, {.name = "sly"});
        loop.run_until_idle();
        return 0;
    });
    INFO(end.errors);
    CHECK(end.died_of(SIGABRT));
    CHECK(end.errors.find("the coroutine 'sly' (spawned at stack_overflow_test.cpp:") !=
          std::string::npos);
    CHECK(end.errors.find("has overflowed its stack") != std::string::npos);
}

TEST_CASE("faults that are no overflow go to the handlers that were there before", "[F37][coro]") {
    // In a coroutine, and the handler leaves the process in its own way.
    const ChildEnd handled = in_child([] {
        std::signal(SIGSEGV, [](int) { ::_exit(42); });
        coro::run([] { *reinterpret_cast<volatile int*>(sink + 8) = 1; });
        return 0;
    });
    CHECK(handled.exited_with(42));
    const ChildEnd defaulted = in_child([] {
        coro::run([] { *reinterpret_cast<volatile int*>(sink + 8) = 1; });
        return 0;
    });
    CHECK(defaulted.died_of(SIGSEGV));
    CHECK(defaulted.errors.empty());
    // One that was sent does not come back by itself.
    const ChildEnd sent = in_child([] {
        coro::run([] { std::raise(SIGBUS); });
        return 0;
    });
    CHECK(sent.died_of(SIGBUS));
    const ChildEnd noted = in_child([] {
        std::signal(SIGSEGV, &note);
        coro::run([] { std::raise(SIGSEGV); });
        return seen == 1 ? 7 : 8;
    });
    CHECK(noted.exited_with(7));
}

TEST_CASE("the previous handlers and the thread's handler stack come back with the last report",
          "[F37][coro]") {
    const ResourceGuard guard; // it compares the dispositions of all signals
    stack_t before = {};
    ::sigaltstack(nullptr, &before);
    {
        const coro::OverflowReport first;
        { const coro::OverflowReport second; }
        struct sigaction action = {};
        ::sigaction(SIGSEGV, nullptr, &action);
        CHECK((action.sa_flags & SA_ONSTACK) != 0);
        stack_t during = {};
        ::sigaltstack(nullptr, &during);
        CHECK((during.ss_flags & SS_DISABLE) == 0);
    }
    stack_t after = {};
    ::sigaltstack(nullptr, &after);
    CHECK(after.ss_sp == before.ss_sp);
    CHECK(after.ss_flags == before.ss_flags);
}
