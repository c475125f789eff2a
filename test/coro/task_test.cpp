#include "coro_support.hpp"

#include <stdexcept>

using namespace weft;
using namespace weft::test;

TEST_CASE("a task's value is what its function returned", "[s24][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    const int value = run_on(kernel_kind, [] {
        auto task = coro::spawn([] { return 42; });
        return task.join();
    });
    CHECK(value == 42);
}

TEST_CASE("an exception keeps its type and its text on the way to the task that joins", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto task = coro::spawn([] { throw std::out_of_range("too far"); });
        CHECK_THROWS_MATCHES(task.join(), std::out_of_range, Catch::Message("too far"));
    });
}

TEST_CASE("a task starts when its parent suspends, and not before", "[s24][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        auto task = coro::spawn([&] { trace("child"); });
        trace("parent");
        task.wait();
        trace("joined");
    });
    CHECK(trace.text == "parent child joined");
}

TEST_CASE("a task that is cancelled before it begins never runs, and its captures are destroyed",
          "[s25][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    auto capture = std::make_shared<int>(1);
    bool ran = false;
    run_on(kernel_kind, [&] {
        auto task = coro::spawn([&ran, capture] { ran = true; });
        CHECK(task.cancel());
        task.wait();
        CHECK(task.cancelled());
        CHECK(capture.use_count() == 1);
        CHECK_THROWS_AS(task.result(), Cancelled);
    });
    CHECK_FALSE(ran);
}

TEST_CASE("cancelling cuts a sleep short and takes its timer out", "[s26][s37][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        auto task = coro::spawn([&] {
            try {
                coro::sleep(1h);
            } catch (const Cancelled&) {
                trace("cancelled");
                throw;
            }
        });
        coro::wait_all_blocked();
        CHECK(coro::this_loop().stats().timers == 1);
        task.cancel();
        task.wait();
        CHECK(coro::this_loop().stats().timers == 0);
    });
    CHECK(trace.text == "cancelled");
}

TEST_CASE("a task's name and its parent's task-locals are there before it starts", "[s24][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    static coro::TaskLocal<std::string> request{std::string("none")};
    run_on(kernel_kind, [] {
        request.set("first");
        auto task = coro::spawn(
            [] {
                CHECK(*request.get() == "first");
                request.set("the child's own");
                return coro::current_task()->name;
            },
            {.name = "child"});
        CHECK(*task.name() == "child");
        request.set("second"); // what a child starts with is a copy
        CHECK(task.join() == "child");
        CHECK(*request.get() == "second");
        request.reset();
        CHECK(*request.get() == "none");
    });
}

TEST_CASE("cancelling ends the awaited operation before it throws", "[s26][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        Promise<int> promise(coro::this_loop());
        promise.on_cancel([&] { trace("operation"); });
        auto task = coro::spawn([&] {
            try {
                coro::await(promise.future());
            } catch (const Cancelled&) {
                trace("waiter");
                throw;
            }
        });
        coro::wait_all_blocked();
        CHECK(task.cancel());
        trace("asked");
        task.wait();
        CHECK(promise.future().cancelled());
    });
    CHECK(trace.text == "operation asked waiter");
}

TEST_CASE("a task that catches its cancellation and returns is done with its value",
          "[s27][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        auto task = coro::spawn([&] {
            try {
                coro::sleep(1h);
            } catch (const Cancelled&) {
            }
            return 7;
        });
        coro::wait_all_blocked();
        task.cancel();
        CHECK(task.join() == 7);
        CHECK_FALSE(task.cancelled());
    });
}

TEST_CASE("a cancelled task can go on waiting once it has taken the request back",
          "[s27][s30][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        coro::Task<int> task;
        task = coro::spawn([&] {
            try {
                coro::sleep(1h);
            } catch (const Cancelled&) {
                CHECK(task.cancelling() == 2);
                CHECK(task.uncancel() == 1);
                CHECK_THROWS_AS(coro::yield(), Cancelled);
                CHECK(task.uncancel() == 0);
            }
            coro::sleep(1ms);
            coro::yield();
            return 7;
        });
        coro::wait_all_blocked();
        task.cancel();
        task.cancel();
        CHECK(task.join() == 7);
    });
}

TEST_CASE("a cancelled task is cancelled at every suspension, but where it is shielded",
          "[s59][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        auto task = coro::spawn([&] {
            try {
                coro::sleep(1h);
            } catch (const Cancelled&) {
                CHECK_THROWS_AS(coro::sleep(1ms), Cancelled);
                coro::shield([&] {
                    coro::sleep(1ms);
                    trace("cleaned");
                });
                CHECK_THROWS_AS(coro::yield(), Cancelled);
                throw;
            }
        });
        coro::wait_all_blocked();
        task.cancel();
        task.wait();
        CHECK(task.cancelled());
    });
    CHECK(trace.text == "cleaned");
}

TEST_CASE("a task that cancels itself is cancelled at its next suspension, or when it returns",
          "[s28][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::Task<void> suspends, returns;
        suspends = coro::spawn([&] {
            suspends.cancel();
            trace("on");
            coro::yield();
            trace("never");
        });
        suspends.wait();
        CHECK(suspends.cancelled());
        returns = coro::spawn([&] { returns.cancel(); });
        returns.wait();
        CHECK(returns.cancelled());
    });
    CHECK(trace.text == "on");
}

TEST_CASE("cancelling a task cancels the one it waits for, whose value counts if it has one",
          "[s29][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        Loop& loop = coro::this_loop();
        auto swallows = coro::spawn(loop, [] {
            try {
                coro::sleep(1h);
            } catch (const Cancelled&) {
            }
            return 5;
        });
        auto ends = coro::spawn(loop, [] { coro::sleep(1h); });
        auto first = coro::spawn([&] { return swallows.join() + 1; });
        auto second = coro::spawn([&] { ends.join(); });
        coro::wait_all_blocked();
        CHECK(first.cancel());
        CHECK(second.cancel());
        CHECK(first.join() == 6);
        second.wait();
        CHECK(second.cancelled());
        CHECK(ends.cancelled());
    });
}

TEST_CASE("cancelling a task that is done is refused and harmless", "[s31][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        auto task = coro::spawn([] { return 1; });
        task.wait();
        CHECK_FALSE(task.cancel());
        CHECK(task.result() == 1);
        CHECK(task.cancelling() == 0);
    });
}

TEST_CASE("what a task throws while it is being cancelled is its outcome", "[s32][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        auto task = coro::spawn([] {
            try {
                coro::sleep(1h);
            } catch (const Cancelled&) {
                std::throw_with_nested(std::runtime_error("cleaning failed"));
            }
        });
        coro::wait_all_blocked();
        task.cancel();
        try {
            task.join();
            FAIL_CHECK("it must throw");
        } catch (const std::runtime_error& error) {
            CHECK(std::string(error.what()) == "cleaning failed");
            CHECK_THROWS_AS(std::rethrow_if_nested(error), Cancelled);
        }
    });
}

TEST_CASE("a shielded task goes on when the one that waits for it is cancelled", "[s33][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::Event go;
        auto outer = coro::spawn([&] {
            auto inner = coro::spawn([&] {
                go.wait();
                trace("inner");
            });
            try {
                coro::shield(inner);
            } catch (const Cancelled&) {
                trace("outer");
                throw;
            }
        });
        coro::wait_all_blocked();
        outer.cancel();
        coro::wait_all_blocked();
        go.set();
        outer.wait();
        trace("joined");
    });
    CHECK(trace.text == "outer inner joined");
}

TEST_CASE("a shielded task that is cancelled itself shows as cancelled", "[s33][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        auto inner = coro::spawn([] { coro::sleep_forever(); });
        auto outer = coro::spawn([&] { coro::shield(inner); });
        coro::wait_all_blocked();
        inner.cancel();
        outer.wait();
        CHECK(outer.cancelled());
    });
}

TEST_CASE("a shielded task's error is reported when the one that waited is gone", "[s33][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        UnhandledLog unhandled;
        coro::Event go;
        auto outer = coro::spawn([&] {
            auto inner = coro::spawn([&] {
                go.wait();
                throw std::runtime_error("too late");
            });
            coro::shield(inner);
        });
        coro::wait_all_blocked();
        outer.cancel();
        coro::wait_all_blocked();
        go.set();
        outer.wait();
        REQUIRE(unhandled.texts.size() == 1);
        CHECK_THAT(unhandled.texts.front(), Catch::Contains("too late"));
    });
}

TEST_CASE("sleeping for no time lets each of the others run once", "[s37][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    auto options = options_on(kernel_kind);
    options.shuffle = 0;
    coro::run(
        [&] {
            const auto twice = [&](const char* name) {
                return coro::spawn([&trace, name] {
                    trace(name);
                    coro::sleep(0s);
                    trace(name);
                });
            };
            auto a = twice("a"), b = twice("b");
            coro::sleep(0s);
            trace("main");
            a.wait();
            b.wait();
        },
        std::move(options));
    CHECK(trace.text == "a b main a b");
}

TEST_CASE("a callback queued in the loop runs between two yields", "[s37][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        bool called = false;
        coro::this_loop().call_soon([&] { called = true; });
        coro::yield();
        CHECK(called);
    });
}

TEST_CASE("sleeping never ends early, and equal deadlines end in order", "[s37][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    Trace trace;
    auto options = options_on(kernel_kind);
    options.shuffle = 0;
    coro::run(
        [&] {
            Loop& loop = coro::this_loop();
            const TimePoint start = loop.now();
            auto second = coro::spawn([&] {
                coro::sleep_until(start + 2s);
                trace("b");
            });
            auto first = coro::spawn([&] {
                coro::sleep(1s);
                trace("a");
            });
            coro::sleep(2s);
            trace("main");
            first.wait();
            second.wait();
            CHECK(since(start) == "2.000000 s");
        },
        std::move(options));
    CHECK(trace.text == "a main b");
}

TEST_CASE("the error of a detached task is reported once, by name", "[s38][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        UnhandledLog unhandled;
        coro::spawn([] { throw std::runtime_error("lost"); }, {.name = "stray"}).detach();
        coro::wait_all_blocked();
        REQUIRE(unhandled.texts.size() == 1);
        CHECK_THAT(unhandled.texts.front(), Catch::Contains("'stray'") && Catch::Contains("lost"));
    });
}

TEST_CASE("a detached task outlives its parent", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        auto parent = coro::spawn([&] {
            coro::spawn([&] {
                coro::sleep(1ms);
                trace("child");
            }).detach();
            trace("parent");
        });
        parent.wait();
        CHECK(coro::all_tasks().size() == 2);
        coro::sleep(2ms);
    });
    CHECK(trace.text == "parent child");
}

TEST_CASE("a task joins its children before it ends, and cancels them", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        auto parent = coro::spawn([&] {
            auto child = coro::spawn([&] {
                try {
                    coro::sleep_forever();
                } catch (const Cancelled&) {
                    coro::shield([&] { coro::sleep(1ms); });
                    trace("child");
                    throw;
                }
            });
            coro::wait_all_blocked();
            return 3;
        });
        CHECK(parent.join() == 3);
        trace("parent");
    });
    CHECK(trace.text == "child parent");
}

TEST_CASE("dropping a handle cancels its task", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    bool cancelled = false;
    run_on(kernel_kind, [&] {
        {
            auto task = coro::spawn([&] {
                try {
                    coro::sleep_forever();
                } catch (const Cancelled&) {
                    cancelled = true;
                    throw;
                }
            });
            coro::wait_all_blocked();
        }
        coro::wait_all_blocked();
        CHECK(cancelled);
    });
}

TEST_CASE("the current task is right while tasks alternate, and none in plain callbacks",
          "[s39][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        const auto checks = [](std::string name) {
            return coro::spawn(
                [name] {
                    for (int i = 0; i < 5; ++i) {
                        CHECK(coro::current_task()->name == name);
                        coro::yield();
                    }
                },
                {.name = name});
        };
        auto a = checks("a"), b = checks("b");
        bool in_callback = true;
        coro::this_loop().call_soon([&] { in_callback = coro::current_task().has_value(); });
        a.wait();
        b.wait();
        CHECK(coro::current_task()->name == "main");
        CHECK_FALSE(in_callback);
    });
    CHECK_FALSE(coro::current_task());
}

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int deep = 2'000; // stacks that sanitizers need are larger
constexpr std::size_t deep_stack = 64 * 1024;
constexpr int many = 20'000;
#else
constexpr int deep = 100'000;
constexpr std::size_t deep_stack = 16 * 1024;
constexpr int many = 1'000'000;
#endif

void chain(int left, const coro::Task<void>*& last) {
    if (left == 0) return coro::sleep_forever();
    auto next = coro::spawn([left, &last] { chain(left - 1, last); }, {.stack_size = deep_stack});
    if (left == 1) last = &next;
    next.join();
}

} // namespace

TEST_CASE("a very deep chain of tasks that await each other ends, and is cancelled",
          "[s40][s65][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [&] {
        const coro::Task<void>* last = nullptr;
        auto first = coro::spawn([&] { chain(deep, last); });
        while (last == nullptr)
            coro::yield();
        coro::wait_all_blocked();
        CHECK(coro::all_tasks().size() == static_cast<std::size_t>(deep) + 2);
        first.cancel();
        first.wait();
        CHECK(first.cancelled());
        CHECK(coro::all_tasks().size() == 1);
    });
}

TEST_CASE("very many awaits of what is ready neither overflow nor starve others", "[s40][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [&] {
        auto ready = make_ready_future(coro::this_loop(), 1);
        int turns = 0;
        auto other = coro::spawn([&] {
            for (;;) {
                ++turns;
                coro::yield();
            }
        });
        long sum = 0;
        for (int i = 0; i < many; ++i)
            sum += coro::await(ready);
        CHECK(sum == many);
        CHECK(turns >= many / 100);
    });
}

TEST_CASE("awaiting outside of a coroutine, oneself, each other or another loop's is an error",
          "[s21][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    CHECK_THROWS_MATCHES(
        coro::yield(), UsageError,
        Catch::Message(
            "yield: called outside of a coroutine; start one with coro::run or coro::spawn"));
    CHECK_THROWS_AS(coro::spawn([] {}), UsageError);
    LoopOptions other_options;
    other_options.kernel = kernel_kind.make();
    Loop other(std::move(other_options));
    Promise<int> promise(other);
    auto theirs = coro::spawn(other, [] {});
    CHECK_THROWS_AS(theirs.wait(), UsageError);
    run_on(kernel_kind, [&] {
        coro::Task<void> self, a, b;
        self = coro::spawn([&] { self.join(); }, {.name = "mirror"});
        CHECK_THROWS_AS(self.join(), UsageError);
        CHECK_THROWS_WITH(self.join(),
                          Catch::Contains("'mirror'") && Catch::Contains("waits for itself"));
        a = coro::spawn([&] { b.join(); });
        b = coro::spawn([&] { a.join(); });
        CHECK_THROWS_WITH(a.join(), Catch::Contains("waits in turn"));
        CHECK_THROWS_WITH(coro::await(promise.future()), Catch::Contains("another loop"));
        CHECK_THROWS_WITH(theirs.join(), Catch::Contains("another loop"));
        CHECK_THROWS_WITH(coro::await(Future<int>()), Catch::Contains("empty"));
        CHECK_THROWS_WITH(coro::Task<int>().join(), Catch::Contains("empty"));
    });
}

TEST_CASE("many may await one task or future, and all have its outcome", "[s21][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        Promise<int> promise(coro::this_loop());
        auto shared = coro::spawn([&] { return coro::await(promise.future()); });
        std::vector<coro::Task<int>> waiting;
        for (int i = 0; i < 10; ++i)
            waiting.push_back(coro::spawn([&] { return shared.result(); }));
        coro::wait_all_blocked();
        promise.set_value(9);
        for (auto& task : waiting)
            CHECK(task.join() == 9);
    });
}

TEST_CASE("a cancellation that is swallowed again and again is reported once and thrown again",
          "[F40][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        UnhandledLog unhandled;
        int caught = 0;
        auto task = coro::spawn(
            [&] {
                while (caught < 10) {
                    try {
                        coro::sleep(1h);
                    } catch (...) {
                        ++caught;
                    }
                }
            },
            {.name = "deaf"});
        coro::wait_all_blocked();
        task.cancel();
        task.wait();
        CHECK(caught == 10);
        REQUIRE(unhandled.texts.size() == 1);
        CHECK_THAT(unhandled.texts.front(),
                   Catch::Contains("'deaf'") && Catch::Contains("has caught a weft::Cancelled"));
    });
}

TEST_CASE("a job that has not begun is prevented by cancelling the task that waits for it",
          "[s117][coro]") {
    WEFT_TEST_KERNEL(real_kernels);
    auto options = options_on(kernel_kind);
    options.loop.executor_threads = 1;
    coro::run(
        [&] {
            Loop& loop = coro::this_loop();
            std::promise<void> gate;
            auto holds = loop.run_in_executor([&, wait = gate.get_future()] { wait.wait(); });
            std::atomic<bool> ran = false;
            auto task = coro::spawn([&] { coro::run_in_executor([&] { ran = true; }); });
            auto unwilling = coro::spawn([&] { coro::run_in_executor_to_end([] { return 1; }); });
            coro::wait_all_blocked();
            task.cancel();
            unwilling.cancel();
            task.wait();
            CHECK(task.cancelled());
            CHECK_FALSE(unwilling.done()); // un-cancellable work delays it
            gate.set_value();
            unwilling.wait();
            coro::await(holds);
            CHECK_FALSE(ran);
            CHECK(coro::run_in_executor([] { return 42; }) == 42);
            CHECK_THROWS_AS(coro::run_in_executor([] { throw std::out_of_range("x"); }),
                            std::out_of_range);
        },
        std::move(options));
}
