#include "coro_support.hpp"
#include "support/heap.hpp"

#include <fstream>

using namespace weft;
using namespace weft::test;

namespace {

std::size_t mappings() {
    std::ifstream maps("/proc/self/maps");
    std::size_t count = 0;
    for (std::string line; std::getline(maps, line);)
        ++count;
    return count;
}

/// Resident memory and page tables.
std::size_t memory() {
    std::ifstream status("/proc/self/status");
    std::size_t bytes = 0;
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("VmRSS:") || line.starts_with("VmPTE:"))
            bytes += 1024 * std::stoul(line.substr(6));
    return bytes;
}

} // namespace

TEST_CASE("a crowd of guarded coroutines waits in few mappings, with a page for each",
          "[F38][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
#if defined(__SANITIZE_THREAD__)
    // ThreadSanitizer takes coroutines for threads, of which it knows 8000, and maps memory for
    // each.
    WARN("left out under ThreadSanitizer, which maps memory of its own for each stack");
    return;
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    // Sanitizers have memory of their own for each stack, and more of it where they look for uses
    // of what a function has left.
    constexpr std::size_t count = 10'000, most_each = 128 * 1024;
#else
    constexpr std::size_t count = 100'000, most_each = 4700;
#endif
    run_on(kernel_kind, [] {
        auto& pool = coro::detail::Scheduler::of(coro::this_loop()).stacks();
        // With two mappings for each guard their number is bounded by the system.
        const bool markers = pool.guard() == coro::detail::Guard::marker;
        const std::size_t number = markers ? count : count / 10;
        const std::size_t maps = mappings(), before = memory();
        std::vector<coro::Task<void>> tasks;
        tasks.reserve(number);
        for (std::size_t i = 0; i < number; ++i)
            tasks.push_back(coro::spawn([] { coro::sleep_forever(); }));
        coro::yield();
        CHECK(pool.stats().in_use == number + 1);
        CHECK(coro::all_tasks().size() == number + 1);
        if (markers) CHECK(mappings() < maps + 100);
        CHECK(pool.stats().guards_by_protection == (markers ? 0 : number + 1));
        CHECK(memory() - before < number * most_each);
        for (auto& task : tasks)
            task.cancel();
        for (auto& task : tasks)
            task.wait();
        CHECK(pool.stats().in_use == 1);
        // The crowd's pages go when it has been gone for a while, some at a time.
        coro::sleep(1h);
        CHECK(pool.stats().idle <= 65);
    });
}

TEST_CASE("coroutines leave nothing on the heap, and their stacks in the pool", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto& pool = coro::detail::Scheduler::of(coro::this_loop()).stacks();
        const auto round = [] {
            std::vector<coro::Task<std::string>> tasks;
            for (int i = 0; i < 50; ++i)
                tasks.push_back(coro::spawn(
                    [i] {
                        coro::sleep(1ms * (i % 3));
                        if (i % 5 == 0) throw std::runtime_error("on purpose");
                        return std::string(200, 'x');
                    },
                    {.name = "one of fifty"}));
            tasks[7].cancel();
            int joined = 0;
            for (auto& task : tasks) {
                try {
                    joined += task.join().size() == 200;
                } catch (const std::runtime_error&) {
                } catch (const Cancelled&) {
                }
            }
            CHECK(joined == 39);
        };
        round(); // fills what is kept for the next time
        round();
        const std::size_t bytes = heap().live_bytes;
        const auto before = pool.stats();
        for (int i = 0; i < 5; ++i)
            round();
        CHECK(heap().live_bytes == bytes);
        const auto after = pool.stats();
        CHECK(after.in_use == before.in_use);
        CHECK(after.idle == before.idle);
        CHECK(after.reserved == before.reserved);
    });
}
