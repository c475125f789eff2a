#include "sync_support.hpp"

using namespace weft;
using namespace weft::test;
using Catch::Matchers::Contains;

namespace {

/// A task that holds `lock` for two turns, and says so: "+name" and "-name".
coro::Task<void> holder(coro::RwLock& lock, Trace& trace, std::string name, bool to_write) {
    return coro::spawn([&lock, &trace, name = std::move(name), to_write] {
        auto guard = to_write ? lock.write() : lock.read();
        trace("+" + name);
        turns(2);
        trace("-" + name);
    });
}

} // namespace

TEST_CASE("readers hold a lock together, and a writer alone", "[s70][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_unshuffled_on(kernel_kind, [&] {
        coro::RwLock lock;
        auto a = holder(lock, trace, "r1", false);
        auto b = holder(lock, trace, "r2", false);
        auto c = holder(lock, trace, "w", true);
        a.wait();
        b.wait();
        c.wait();
        CHECK_FALSE(lock.writing());
        CHECK(lock.readers() == 0);
    });
    CHECK(trace.text == "+r1 +r2 -r1 -r2 +w -w");
}

TEST_CASE(
    "a reader that comes after a waiting writer queues behind it, and readers in a row go together",
    "[s70][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_unshuffled_on(kernel_kind, [&] {
        coro::RwLock lock;
        auto a = holder(lock, trace, "r1", false);
        auto b = holder(lock, trace, "w", true);
        auto c = holder(lock, trace, "r2", false);
        auto d = holder(lock, trace, "r3", false);
        turns();
        CHECK_FALSE(lock.try_read());
        CHECK_FALSE(lock.try_write());
        for (auto* task : {&a, &b, &c, &d})
            task->wait();
        CHECK(lock.try_write());
        CHECK(lock.try_read());
    });
    CHECK(trace.text == "+r1 -r1 +w -w +r2 +r3 -r2 -r3");
}

TEST_CASE("readers behind a writer that gives up join those that read", "[s71][F41][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_unshuffled_on(kernel_kind, [] {
        coro::RwLock lock;
        auto guard = lock.read();
        auto writer = coro::spawn([&] { auto mine = lock.write(); });
        auto late = coro::spawn([&] { CHECK_THROWS_AS(lock.write(1ms), coro::TimeoutError); });
        auto reader = coro::spawn([&] { auto mine = lock.read(); });
        turns();
        writer.cancel();
        turns(2);
        CHECK_FALSE(reader.done());
        late.wait();
        reader.wait();
        CHECK(lock.readers() == 1);
    });
}

TEST_CASE("a writer that was handed the lock before it was cancelled owns it, and hands it on",
          "[s72][F41][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_unshuffled_on(kernel_kind, [&] {
        coro::RwLock lock;
        auto guard = lock.write();
        auto first = holder(lock, trace, "w", true);
        auto second = holder(lock, trace, "r", false);
        turns();
        guard.unlock();
        CHECK(lock.writing());
        first.cancel();
        first.wait();
        second.wait();
        CHECK(first.cancelled());
    });
    CHECK(trace.text == "+w +r -r");
}

TEST_CASE("a lock for reading and writing tells of its misuse", "[s70][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_unshuffled_on(kernel_kind, [] {
        coro::RwLock lock;
        auto guard = lock.write();
        CHECK_THROWS_WITH(lock.write(), Contains("'main'"));
        CHECK_THROWS_WITH(lock.read(), Contains("'main'"));
        auto other = coro::spawn(
            [&] { CHECK_THROWS_WITH(guard.unlock(), Contains("'thief'") && Contains("'main'")); },
            {.name = "thief"});
        other.wait();
        guard.unlock();
        CHECK_THROWS_AS(guard.unlock(), UsageError);
        auto moved = lock.read();
        guard = std::move(moved);
        CHECK_FALSE(moved);
        CHECK(lock.readers() == 1);
    });
}

TEST_CASE("no lock for reading or writing is lost or doubled, whichever is cancelled when",
          "[s71][s72][F41][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    for (std::size_t victim = 0; victim < 4; ++victim)
        sweep(kernel_kind, 10, [&](std::size_t after) {
            coro::RwLock lock;
            int done = 0;
            std::vector<coro::Task<void>> tasks;
            for (int i = 0; i < 4; ++i)
                tasks.push_back(coro::spawn([&, i] {
                    for (int round = 0; round < 2; ++round) {
                        auto guard = (i + round) % 2 == 0 ? lock.write() : lock.read();
                        CHECK(lock.writing() == (lock.readers() == 0));
                        coro::yield();
                    }
                    ++done;
                }));
            turns(after);
            const bool too_late = !tasks[victim].cancel();
            for (auto& task : tasks)
                task.wait();
            CHECK(done == (too_late ? 4 : 3));
            CHECK(lock.try_write());
        });
}

TEST_CASE("a storm of readers, writers and cancellations leaves the lock free",
          "[s71][s72][F41][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    storm(kernel_kind, 40, [](auto random) {
        coro::RwLock lock;
        std::vector<coro::Task<void>> tasks;
        for (int i = 0; i < 24; ++i) {
            const bool to_write = random(3) == 0;
            tasks.push_back(coro::spawn([&, to_write] {
                auto guard = to_write ? lock.write() : lock.read();
                CHECK(lock.writing() == to_write);
                turns(random(3));
                CHECK(lock.writing() == to_write);
            }));
        }
        for (int i = 0; i < 16; ++i) {
            turns(random(2));
            tasks[random(tasks.size())].cancel();
        }
        for (auto& task : tasks)
            task.wait();
        CHECK(lock.try_write());
    });
}

TEST_CASE("waiting for a lock for reading or writing allocates nothing", "[s70][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_unshuffled_on(kernel_kind, [] {
        coro::RwLock lock;
        const auto rounds = [&](int count) {
            for (int i = 0; i < count; ++i) {
                auto guard = i % 2 == 0 ? lock.write() : lock.read();
                coro::yield();
            }
        };
        auto other = coro::spawn([&] { rounds(400); });
        rounds(100);
        const AllocationCount count;
        rounds(100);
        CHECK(count.count() == 0);
        other.wait();
    });
}
