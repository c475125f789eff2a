// What the loop's own operations cost, without sockets: timers, queued callbacks, posts from other
// threads.

#include "figures.hpp"

#include <weft/reactor/loop.hpp>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <future>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

class LoopBench {
public:
    explicit LoopBench(bench::Figures& figures) : figures_(figures) {}

    void run() {
        for (std::size_t live : {0, 1'000, 100'000, 1'000'000})
            add_and_cancel(live);
        expire();
        batch();
        chain();
        for (int producers : {1, 4})
            flood(producers);
        ping_pong();
    }

private:
    /// Deadlines of idle timeouts: none of them fires, and their order is not the order of setting.
    weft::Duration some_timeout() {
        return std::chrono::microseconds(10'000'000 + random_() % 50'000'000);
    }

    void add_and_cancel(std::size_t live) {
        weft::Loop loop;
        std::vector<weft::Timer> others;
        for (std::size_t i = 0; i < live; ++i)
            others.push_back(loop.call_later(some_timeout(), [] {}));
        std::vector<weft::Duration> timeouts(100'000);
        for (weft::Duration& timeout : timeouts)
            timeout = some_timeout();
        weft::TimePoint now = loop.now();
        figures_.measure("timer, add and cancel, " + std::to_string(live) + " others",
                         timeouts.size(), CLOCK_THREAD_CPUTIME_ID, [&] {
                             for (weft::Duration timeout : timeouts)
                                 weft::Timer timer = loop.call_at(now + timeout, [] {});
                         });
    }

    /// Deadlines spread over the next 200 ms, which pass while they are being run.
    void expire() {
        constexpr std::size_t count = 1'000'000;
        weft::Loop loop;
        std::size_t fired = 0;
        figures_.measure("timer, add and fire, 1000000 in 200 ms", count, CLOCK_THREAD_CPUTIME_ID,
                         [&] {
                             weft::TimePoint now = loop.now();
                             for (std::size_t i = 0; i < count; ++i) {
                                 auto delay = std::chrono::nanoseconds(random_() % 200'000'000);
                                 loop.call_at(now + delay, [&] { ++fired; }).detach();
                             }
                             loop.run_until_idle();
                         });
        require(fired % count == 0, "not every timer fired once");
    }

    void batch() {
        constexpr std::size_t count = 10'000;
        weft::Loop loop;
        std::size_t ran = 0;
        figures_.measure("call_soon, in a batch of 10000", count, CLOCK_THREAD_CPUTIME_ID, [&] {
            for (std::size_t i = 0; i < count; ++i)
                loop.call_soon([&] { ++ran; });
            loop.run_once();
        });
        require(ran % count == 0, "not every callback ran in one turn");
    }

    void chain() {
        constexpr std::size_t count = 1'000'000;
        weft::Loop loop;
        std::size_t left = 0;
        struct Link {
            weft::Loop& loop;
            std::size_t& left;
            void operator()() const { --left ? void(loop.call_soon(*this)) : loop.stop(); }
        };
        figures_.measure("call_soon, each queues the next", count, CLOCK_THREAD_CPUTIME_ID, [&] {
            left = count;
            loop.call_soon(Link{loop, left});
            loop.run();
        });
    }

    /// Wall time from the first post to the last callback: the slower of the two sides sets it.
    void flood(int producers) {
        constexpr std::size_t count = 1'000'000;
        figures_.measure("post, " + std::to_string(producers) + " producing", count,
                         CLOCK_MONOTONIC, [&] {
                             weft::Loop loop;
                             std::size_t left = count;
                             std::vector<std::thread> threads;
                             for (int i = 0; i < producers; ++i)
                                 threads.emplace_back([&] {
                                     for (std::size_t n = 0; n < count / producers; ++n)
                                         post(loop, [&] {
                                             if (--left == 0) loop.stop();
                                         });
                                 });
                             loop.run();
                             for (std::thread& thread : threads)
                                 thread.join();
                         });
    }

    /// Two loops that post to each other; each sleeps when the other's post comes.
    void ping_pong() {
        constexpr std::size_t count = 20'000;
        figures_.measure("post, there and back between two threads", count, CLOCK_MONOTONIC, [&] {
            weft::Loop here;
            std::promise<weft::Loop*> started;
            std::thread other([&] {
                weft::Loop loop;
                started.set_value(&loop);
                loop.run();
            });
            weft::Loop& there = *started.get_future().get();
            std::size_t left = count;
            std::function<void()> serve = [&] {
                if (left-- == 0) {
                    post(there, [&] { there.stop(); });
                    here.stop();
                } else {
                    post(there, [&] { post(here, [&] { serve(); }); });
                }
            };
            here.call_soon([&] { serve(); });
            here.run();
            other.join();
        });
    }

    template<class F>
    static void post(weft::Loop& loop, F function) {
        require(!loop.post(std::move(function)), "a loop refused a post");
    }

    static void require(bool condition, const char* what) {
        if (!condition) throw std::runtime_error(what);
    }

    bench::Figures& figures_;
    std::mt19937 random_{1};
};

} // namespace

int main(int argc, char** argv) try {
    return bench::figures_main(argc, argv,
                               [](bench::Figures& figures) { LoopBench(figures).run(); });
} catch (const std::exception& error) {
    std::fprintf(stderr, "bench-loop: %s\n", error.what());
    return 1;
}
