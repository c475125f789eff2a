#include "support/kernels.hpp"

#include <weft/reactor/loop_core.hpp>
#include <weft/reactor/thread_pool.hpp>

using namespace std::chrono_literals;
using namespace weft::test;
using weft::Duration;
using weft::Function;
using weft::Loop;
using weft::LoopOptions;
using weft::ThreadPool;
using weft::Timer;
using weft::UsageError;
namespace sim = weft::sim;

namespace {

/// Something that wants to be flushed, and to be told of its end.
struct Ending final : weft::detail::Source {
    explicit Ending(TestLoop& used)
        : loop(used), token(weft::detail::core_of(*used).sources().add(*this)) {}
    void on_ready(std::uint32_t) override { note(events); }
    void on_flush() override { note(flushes); }
    void on_finish() override {
        note(ends);
        weft::detail::core_of(*loop).remove_source(token);
    }
    void on_loop_closing() override {}
    void note(int& count) {
        ++count;
        if (cost > Duration::zero()) loop.sim().advance(cost);
    }
    TestLoop& loop;
    weft::Token token;
    Duration cost{0};
    int events = 0, flushes = 0, ends = 0;
};

} // namespace

TEST_CASE("Closings, flushes and what stands in line again count, by number and by time [s127]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    TestLoop loop(kernel_kind);
    std::vector<std::unique_ptr<Ending>> all;
    for (int i = 0; i < 100; ++i)
        all.push_back(std::make_unique<Ending>(loop));
    const auto done = [&](auto what) {
        int count = 0;
        for (const auto& one : all)
            count += (*one).*what;
        return count;
    };
    auto check_in_tens = [&](auto what) {
        for (int steps = 1; done(what) < 100; ++steps) {
            const auto result = loop->step({1h, 10});
            CHECK(result.ran == 10);
            CHECK(done(what) == 10 * steps);
            CHECK(result.more_ready == (steps < 10));
        }
    };
    SECTION("closings") {
        for (auto& one : all)
            weft::detail::core_of(*loop).finish_later(*one);
        check_in_tens(&Ending::ends);
    }
    SECTION("flushes") {
        for (auto& one : all)
            weft::detail::core_of(*loop).flush_later(*one);
        check_in_tens(&Ending::flushes);
    }
    SECTION("another turn") {
        for (auto& one : all)
            weft::detail::core_of(*loop).again(one->token, 0);
        check_in_tens(&Ending::events);
    }
    SECTION("time") {
        for (auto& one : all) {
            one->cost = 1ms;
            weft::detail::core_of(*loop).finish_later(*one);
        }
        const auto begin = loop->now();
        CHECK(loop->step({5ms, 1000}).ran == 5);
        CHECK(loop->now() - begin == 5ms);
        CHECK(loop->step({0s, 1000}).ran == 1);
        CHECK(loop->step({-1s, 1000}).ran == 1);
        CHECK(loop->step({1h, 0}).ran == 0);
        CHECK(loop->step({Duration::max(), 1000}).ran == 93);
        CHECK(!loop->step().more_ready);
    }
    for (auto& one : all)
        if (one->ends == 0) weft::detail::core_of(*loop).finish_later(*one);
    while (loop->step().more_ready) {
    }
    CHECK(done(&Ending::ends) == 100);
    CHECK(!loop->step().alive);
}

TEST_CASE("However small its steps are, a loop gets to everything [s127]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    SocketPair pair(loop.kernel);
    int events = 0, ticks = 0, callbacks = 0;
    auto watch = loop->watch(pair.near).value();
    watch.on_writable([&] { ++events; }); // always
    Timer timer = loop->call_every(0s, [&] { ++ticks; });
    Function<void()>* again = nullptr;
    Function<void()> chain = [&] {
        ++callbacks;
        loop->call_soon([&] { (*again)(); });
    };
    again = &chain;
    chain();
    Ending ending(loop);
    weft::detail::core_of(*loop).flush_later(ending);
    weft::detail::core_of(*loop).finish_later(ending);
    for (int i = 0; i < 100; ++i)
        CHECK(loop->step({1h, 1}).ran == 1);
    CHECK(events > 10);
    CHECK(ticks > 10);
    CHECK(callbacks > 10);
    CHECK(ending.flushes == 1);
    CHECK(ending.ends == 1);
}

TEST_CASE("A loop that was left in the middle of its closings can be run and closed [s127]") {
    WEFT_TEST_KERNEL(all_kernels);
    const bool run = GENERATE(true, false);
    TestLoop loop(kernel_kind);
    std::vector<std::unique_ptr<Ending>> all;
    for (int i = 0; i < 10; ++i) {
        all.push_back(std::make_unique<Ending>(loop));
        weft::detail::core_of(*loop).flush_later(*all.back());
        weft::detail::core_of(*loop).finish_later(*all.back());
    }
    CHECK(loop->step({1h, 13}).ran == 13);
    int ends = 0;
    for (const auto& one : all)
        ends += one->ends;
    CHECK(ends == 3);
    if (run) {
        loop->run_until_idle();
    } else {
        loop->close();
    }
    for (const auto& one : all)
        CHECK(one->ends == 1);
}

TEST_CASE("Options of a loop that can not be meant are refused by name [s122]") {
    const auto refusal = [](auto change) -> std::string {
        LoopOptions options;
        options.kernel = std::make_unique<sim::SimKernel>();
        change(options);
        try {
            const Loop loop(std::move(options));
        } catch (const UsageError& error) {
            return error.what();
        }
        return "";
    };
    CHECK(refusal([](auto&) {}) == "");
    CHECK(refusal([](auto& o) { o.receive_buffer = 0; }) ==
          "LoopOptions: receive_buffer is 0, and must be at least 1");
    CHECK(refusal([](auto& o) { o.reads_per_turn = 0; }) ==
          "LoopOptions: reads_per_turn is 0, and must be at least 1");
    CHECK(refusal([](auto& o) { o.accepts_per_turn = -5; }) ==
          "LoopOptions: accepts_per_turn is -5, and must be at least 1");
    CHECK(refusal([](auto& o) { o.turns_per_poll = 0; }) ==
          "LoopOptions: turns_per_poll is 0, and must be at least 1");
    CHECK(refusal([](auto& o) { o.slow_callback = -1ns; }) ==
          "LoopOptions: slow_callback is -1 ns, and can not be negative");
    CHECK_THROWS_WITH(ThreadPool(ThreadPool::Options{.queue_limit = 0}),
                      "ThreadPool::Options: queue_limit is 0, and must be at least 1");
    CHECK_THROWS_WITH(sim::SimKernel(sim::SimOptions{.send_buffer = 0}),
                      "SimOptions: send_buffer is 0, and must be at least 1");
    CHECK_THROWS_WITH(sim::SimKernel(sim::SimOptions{.first_port = 10, .last_port = 9}),
                      "SimOptions: first_port is 10, and must be from 1 to last_port");
}
