#include "coro_support.hpp"
#include "support/child.hpp"

#include <csignal>
#include <cstdlib>
#include <stdexcept>

using namespace weft;
using namespace weft::test;

namespace {

struct Guarded {
    Trace& trace;
    const char* name;
    ~Guarded() { trace(name); }
};

} // namespace

TEST_CASE("cancelling unwinds a coroutine, and all destructors run in their order", "[F40][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        auto task = coro::spawn([&, captured = std::make_unique<Guarded>(trace, "capture")] {
            Guarded outer{trace, "outer"};
            const auto deeper = [&] {
                Guarded inner{trace, "inner"};
                coro::sleep_forever();
            };
            try {
                deeper();
            } catch (const std::exception&) {
                trace("caught"); // `Cancelled` is none
            }
        });
        coro::wait_all_blocked();
        CHECK(trace.text.empty());
        task.cancel();
        task.wait();
        CHECK(task.cancelled());
    });
    CHECK(trace.text == "inner outer capture");
}

TEST_CASE("closing a loop unwinds all of its coroutines, wherever they wait", "[F40][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    const ResourceGuard guard;
    std::size_t reports = 0;
    {
        LoopOptions options;
        options.kernel = kernel_kind.make();
        Loop loop(std::move(options));
        loop.on_unhandled([&](const Unhandled& what) {
            CHECK(what.message.find("the loop is closed, and the coroutine ") == 0);
            ++reports;
        });
        auto sleeping = coro::spawn(loop, [&] {
            Guarded guarded{trace, "sleeping"};
            coro::sleep(1h);
        });
        auto waiting = coro::spawn(loop, [&] {
            Guarded guarded{trace, "parent"};
            auto child = coro::spawn([&] {
                Guarded inner{trace, "child"};
                coro::sleep_forever();
            });
            child.join();
        });
        loop.run_once(false);
        loop.run_once(false);
        CHECK(trace.text == "");
        loop.close();
        CHECK(sleeping.cancelled());
        CHECK(waiting.cancelled());
    }
    CHECK(trace.text == "sleeping child parent");
    CHECK(reports == 3);
}

TEST_CASE("a cancellation that a catch block keeps is reported, and comes again", "[F40][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    LogCapture log;
    int caught = 0;
    run_on(kernel_kind, [&] {
        coro::CancelScope scope;
        auto other = coro::spawn([&] { scope.cancel(); });
        scope.run([&] {
            for (int i = 0; i < 3; ++i) {
                try {
                    coro::sleep_forever();
                } catch (...) {
                    ++caught;
                }
            }
            coro::sleep_forever();
        });
        CHECK(scope.cancelled_caught());
        other.join();
    });
    CHECK(caught == 3);
    const std::string text = log.text();
    INFO(text);
    CHECK(text.find("'main'") != text.npos);
    CHECK(text.find("catch") != text.npos);
}

TEST_CASE("a destructor that throws while its coroutine is unwound ends the process as in C++",
          "[F40][coro]") {
    const ChildEnd end = in_child([] {
        std::set_terminate([] { ::_exit(55); });
        struct Throws {
            ~Throws() noexcept(false) { throw std::runtime_error("in a destructor"); }
        };
        coro::RunOptions options;
        options.handle_interrupt = false;
        coro::run(
            [] {
                auto task = coro::spawn([] {
                    Throws throws;
                    coro::sleep_forever();
                });
                coro::wait_all_blocked();
                task.cancel();
                task.wait();
            },
            std::move(options));
        return 0;
    });
    CHECK(end.exited_with(55));
}

TEST_CASE("the outcome of a task that was unwound is there when it is joined later",
          "[F40][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto cancelled = coro::spawn([] { coro::sleep_forever(); });
        auto failing = coro::spawn([] {
            try {
                coro::sleep_forever();
            } catch (const Cancelled&) {
                throw std::domain_error("while it was cancelled");
            }
        });
        coro::wait_all_blocked();
        cancelled.cancel();
        failing.cancel();
        coro::sleep(1ms);
        CHECK(cancelled.done());
        CHECK_THROWS_AS(cancelled.join(), Cancelled);
        CHECK_THROWS_MATCHES(failing.join(), std::domain_error,
                             Catch::Message("while it was cancelled"));
    });
}

TEST_CASE("waiting for oneself, outside of a coroutine, or for another loop's is refused by name",
          "[F43][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    CHECK_THROWS_AS(coro::sleep(1ms), UsageError);
    CHECK_THROWS_AS(coro::spawn([] {}), UsageError);
    coro::Task<void> left;
    CHECK_THROWS_MATCHES(left.join(), UsageError,
                         Catch::Message("join: the task is empty (moved from or detached)"));
    const ResourceGuard guard;
    Loop other;
    auto foreign = coro::spawn(other, [] {});
    run_on(kernel_kind, [&] {
        coro::Task<void>* own = nullptr;
        std::string said;
        auto task = coro::spawn(
            [&] {
                try {
                    own->join();
                } catch (const UsageError& e) {
                    said = e.what();
                }
            },
            {.name = "narcissus"});
        own = &task;
        task.join();
        CHECK(said.starts_with("join: the task 'narcissus' (spawned at unwinding_test.cpp:"));
        CHECK(said.ends_with(" waits for itself"));
        CHECK_THROWS_AS(foreign.join(), UsageError);
        // Finished ones may be joined as often as one likes.
        task.join();
        CHECK_FALSE(task.cancel());
    });
    other.run_until_idle();
}

TEST_CASE("in debug mode a coroutine that blocks its loop is reported by name", "[F42][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    LogCapture log;
    coro::RunOptions options = options_on(kernel_kind);
    options.loop.debug = true;
    options.loop.slow_callback = 25ms;
    auto& kernel = dynamic_cast<sim::SimKernel&>(*options.loop.kernel);
    coro::run(
        [&] {
            auto blocking = coro::spawn(
                [&] {
                    kernel.advance(30ms);
                    coro::yield();
                    kernel.advance(10ms);
                },
                {.name = "blocking"});
            blocking.join();
        },
        std::move(options));
    const auto messages = log.taken();
    REQUIRE(messages.size() == 1);
    CHECK(messages[0].find("'blocking'") != std::string::npos);
    CHECK(messages[0].find("ran for 30 ms without suspending") != std::string::npos);
}
