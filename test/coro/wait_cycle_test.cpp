#include "sync_support.hpp"

#include <catch2/catch.hpp>

using namespace weft;
using namespace weft::test;

namespace {

/// "cycle" for a UsageError that names all of `names`, else what became of `function`.
template<class F>
std::string outcome(F&& function, std::initializer_list<const char*> names = {}) {
    try {
        function();
        return "returned";
    } catch (const Cancelled&) {
        return "cancelled";
    } catch (const coro::TimeoutError&) {
        return "timed out";
    } catch (const UsageError& error) {
        for (const char* name : names)
            if (std::string(error.what()).find(name) == std::string::npos) return error.what();
        return "cycle";
    }
}

} // namespace

TEST_CASE("two that wait for each other are seen when the second does, however the first waits",
          "[s131][coro]") {
    const auto wait = GENERATE(0, 1, 2, 3, 4, 5);
    CAPTURE(wait);
    run_on(simulated_kernels().front(), [&] {
        coro::Task<int> a, b;
        std::string of_a, of_b;
        a = coro::spawn(
            [&] {
                coro::yield();
                of_a = outcome([&] {
                    if (wait == 0) (void)coro::gather(b);
                    if (wait == 1) (void)coro::wait_for(b, 100ms);
                    if (wait == 2) (void)coro::shield(b);
                    if (wait == 3)
                        coro::task_group(
                            [&](coro::TaskGroup& group) { group.spawn([&] { b.wait(); }); });
                    if (wait == 4) {
                        coro::Generator<int> items([&](auto& yield) { yield(b.result()); });
                        (void)items.next();
                    }
                    if (wait == 5) {
                        std::vector<coro::TaskRef> all{coro::TaskRef(b)};
                        all.front().wait();
                    }
                });
                return 1;
            },
            {.name = "anna"});
        b = coro::spawn(
            [&] {
                coro::wait_all_blocked();
                of_b = outcome([&] { (void)a.result(); }, {"anna", "berta"});
                return 2;
            },
            {.name = "berta"});
        coro::sleep(1s);
        CHECK(of_b == "cycle");
        CHECK(of_a == "returned");
        CHECK(a.done());
        CHECK(b.done());
    });
}

TEST_CASE("a group that is waited for by one of its own is ended by the one that can be refused",
          "[s131][coro]") {
    run_on(simulated_kernels().front(), [] {
        std::string of_child;
        coro::Task<void> owner;
        owner = coro::spawn([&] {
            coro::task_group([&](coro::TaskGroup& group) {
                group.spawn([&] { of_child = outcome([&] { owner.wait(); }); });
                coro::wait_all_blocked(); // the child waits before the group does
            });
        });
        owner.wait();
        CHECK(of_child == "cycle");
    });
}

TEST_CASE("a body that waits for its consumer is refused", "[s131][coro]") {
    run_on(simulated_kernels().front(), [] {
        coro::Task<void> task;
        std::string of_body, of_consumer;
        task = coro::spawn([&] {
            coro::Generator<int> items([&](auto&) { of_body = outcome([&] { task.wait(); }); });
            of_consumer = outcome([&] { (void)items.next(); });
        });
        coro::yield();
        coro::yield();
        task.wait();
        CHECK(of_body == "cycle");
        CHECK(of_consumer == "returned");
    });
}

TEST_CASE("a lock is not waited for when its owner waits for the one that would", "[s131][coro]") {
    run_on(simulated_kernels().front(), [] {
        coro::Mutex mutex;
        coro::RwLock lock;
        const auto held = mutex.lock();
        const auto writing = lock.write();
        auto other = coro::spawn([&] {
            CHECK(outcome([&] { (void)mutex.lock(); }, {"Mutex::lock", "main"}) == "cycle");
            CHECK(outcome([&] { (void)lock.read(); }) == "cycle");
            CHECK(outcome([&] { (void)mutex.lock(5ms); }) == "timed out"); // as it was asked to
            CHECK(outcome([&] { coro::with_timeout(5ms, [&] { (void)mutex.lock(); }); }) ==
                  "timed out");
        });
        other.join();
        coro::Generator<int> items([&](auto& yield) {
            CHECK(outcome([&] { (void)mutex.lock(); }) == "cycle"); // its consumer holds it
            yield(1);
        });
        CHECK(items.next() == 1);
    });
}

TEST_CASE("two locks that are taken in either order are seen by the second that waits",
          "[s131][coro]") {
    run_on(simulated_kernels().front(), [] {
        coro::Mutex first, second;
        std::string refused;
        auto one = begun([&] {
            const auto a = first.lock();
            coro::wait_all_blocked(1ms);
            const auto b = second.lock();
        });
        auto other = begun([&] {
            const auto b = second.lock();
            coro::wait_all_blocked(2ms);
            refused = outcome([&] { const auto a = first.lock(); });
        });
        one.join();
        other.join();
        CHECK(refused == "cycle");
    });
}

TEST_CASE("a long cycle is named as a whole", "[s131][coro]") {
    run_on(simulated_kernels().front(), [] {
        std::vector<coro::Task<void>> tasks(5);
        std::string refused;
        for (std::size_t i = 0; i < tasks.size(); ++i)
            tasks[i] = coro::spawn(
                [&, i] {
                    if (i == 0) coro::wait_all_blocked();
                    const std::string what = outcome([&] { tasks[(i + 1) % tasks.size()].wait(); },
                                                     {"t0", "t1", "t2", "t3", "t4"});
                    if (i == 0) refused = what;
                },
                {.name = "t" + std::to_string(i)});
        for (auto& task : tasks)
            task.wait();
        CHECK(refused == "cycle");
    });
}

TEST_CASE("chains of joins are linear, from whichever end they are built and whatever else waits",
          "[s131][s40][coro]") {
    const bool gathered = GENERATE(false, true);
    const bool backwards = GENERATE(false, true);
    run_on(simulated_kernels().front(), [&] {
        // Quadratic, this would be a thousand million steps.
        constexpr std::size_t count = 30000;
        std::vector<coro::Task<void>> tasks(count);
        coro::Event go;
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t at = backwards ? count - 1 - i : i;
            tasks[at] = coro::spawn(
                [&, at] {
                    if (at == 0) return go.wait();
                    coro::yield();
                    tasks[at - 1].wait();
                },
                {.stack_size = 16 * 1024});
        }
        auto all = coro::spawn([&] {
            if (gathered) (void)coro::wait(tasks);
        });
        coro::wait_all_blocked();
        go.set();
        all.join();
        tasks.back().join();
    });
}

TEST_CASE("cancelling the end of a long chain of joins ends all of it", "[s29][s131][coro]") {
    run_on(simulated_kernels().front(), [] {
        constexpr std::size_t count = 10000;
        std::vector<coro::Task<void>> tasks(count);
        for (std::size_t i = 0; i < count; ++i)
            tasks[i] = coro::spawn(
                [&, i] {
                    if (i == 0) coro::sleep_forever();
                    tasks[i - 1].wait();
                    coro::check_cancelled();
                },
                {.stack_size = 16 * 1024});
        coro::wait_all_blocked();
        tasks.back().cancel();
        (void)coro::wait(tasks);
        for (auto& task : tasks)
            CHECK(task.cancelled());
    });
}

TEST_CASE(
    "a timeout around a join holds when one inside the joined task passes in the same instant",
    "[s42][s68][coro]") {
    run_on(simulated_kernels().front(), [] {
        const TimePoint at = coro::this_loop().now() + 10ms;
        auto task = coro::spawn([&] {
            (void)coro::move_on_after(at, [] { coro::sleep(1h); });
            coro::sleep(500ms);
        });
        coro::yield();
        CHECK(outcome([&] { coro::with_timeout(at, [&] { task.join(); }); }) == "timed out");
        CHECK(coro::this_loop().now() == at);
    });
}
