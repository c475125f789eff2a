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

TEST_CASE("a value is moved out of a task once", "[s34][coro]") {
    run_on(simulated_kernels().front(), [] {
        auto task = coro::spawn([] { return std::make_unique<int>(7); });
        CHECK(*task.join() == 7);
        CHECK_THROWS_AS(task.join(), UsageError);
        CHECK_THROWS_AS(task.result(), UsageError);
        CHECK_THROWS_AS(coro::gather(task), UsageError);
        auto number = coro::spawn([] { return 1; });
        CHECK(std::get<0>(coro::gather(number)) == 1); // copied: it is the caller's
        CHECK(number.join() == 1);
        CHECK_THROWS_AS(number.join(), UsageError);
        auto nothing = coro::spawn([] {});
        nothing.join();
        nothing.join();
        CHECK(coro::spawn([] { return std::string("gone with its handle"); }).result() ==
              "gone with its handle");
    });
}

TEST_CASE("callbacks for a task's end come in the loop, in order, also for one that has ended",
          "[s17][coro]") {
    run_on(simulated_kernels().front(), [] {
        Trace trace;
        auto task = coro::spawn([&] { trace("ran"); });
        const auto note = [&](const char* event) {
            return [&trace, &task, event] {
                CHECK_FALSE(coro::current_task());
                CHECK(task.done());
                trace(event);
            };
        };
        task.on_done(note("first"));
        task.on_done(note("second"));
        task.join();
        task.on_done(note("third"));
        trace("joined");
        coro::wait_all_blocked();
        CHECK((trace.text == "ran joined first second third" ||
               trace.text == "ran first second joined third"));
    });
}

TEST_CASE("arguments of a spawned function are the task's own", "[s24][coro]") {
    run_on(simulated_kernels().front(), [] {
        std::string text = "kept in the task";
        auto add = [](std::string a, int b, std::unique_ptr<int> c) {
            coro::yield();
            return a + std::to_string(b + *c);
        };
        auto task = coro::spawn(add, text, 1, std::make_unique<int>(2));
        text.clear();
        CHECK(task.join() == "kept in the task3");
        int changed = 0;
        coro::spawn([](int& by) { by = 5; }, std::ref(changed)).join();
        CHECK(changed == 5);
    });
}
