#pragma once

#include "coro_support.hpp"
#include "support/heap.hpp"

#include <cstdint>

/// What the tests of primitives share.
namespace weft::test {

/// Says so when it goes.
struct Leaving {
    Trace& trace;
    const char* event;
    ~Leaving() { trace(event); }
};

/// Starts `function()` as a task and lets it run until it waits: those that are begun one after the
/// other wait in that order.
template<class F>
auto begun(F&& function) {
    auto task = coro::spawn(std::forward<F>(function));
    coro::wait_all_blocked();
    return task;
}

/// Runs `scenario(turns)` as main with 0 to `most`, for scenarios that cancel somebody after so
/// many turns: at each of the places where it may be suspended.
template<class F>
void sweep(const KernelKind& kind, std::size_t most, F&& scenario) {
    for (std::size_t after = 0; after <= most; ++after) {
        INFO("cancelled after " << after << " turns");
        run_on(kind, [&] { scenario(after); });
    }
}

/// Runs `scenario(random)` as main with coroutines that are ready in an order drawn from each of
/// `seeds` seeds; `random(n)` gives a number below n.
template<class F>
void storm(const KernelKind& kind, std::uint64_t seeds, F&& scenario) {
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        INFO("seed " << seed);
        std::uint64_t state = seed;
        const auto random = [&](std::size_t below) {
            state = state * 6364136223846793005u + 1442695040888963407u; // Knuth's MMIX
            return static_cast<std::size_t>(state >> 33) % below;
        };
        const ResourceGuard guard;
        coro::RunOptions options = options_on(kind);
        options.shuffle = seed;
        coro::run([&] { scenario(random); }, std::move(options));
    }
}

} // namespace weft::test
