// What Asio's io_context costs without sockets: timers, handlers posted on its own thread and from
// others.

#include "../figures.hpp"

#include <asio.hpp>
#include <functional>
#include <random>
#include <thread>

namespace {

using Timer = asio::steady_timer;
std::mt19937 generator{1};
std::chrono::microseconds some_timeout() {
    return std::chrono::microseconds(10'000'000 + generator() % 50'000'000);
}

void add_and_cancel(bench::Figures& figures, std::size_t live) {
    asio::io_context context(1);
    std::vector<Timer> others;
    others.reserve(live);
    for (std::size_t i = 0; i < live; ++i)
        others.emplace_back(context, some_timeout()).async_wait([](auto) {});
    std::vector<std::chrono::microseconds> timeouts(100'000);
    for (auto& timeout : timeouts)
        timeout = some_timeout();
    Timer timer(context);
    figures.measure("timer, add and cancel, " + std::to_string(live) + " others", timeouts.size(),
                    CLOCK_THREAD_CPUTIME_ID, [&] {
                        const auto now = Timer::clock_type::now();
                        std::size_t cancelled = 0;
                        for (auto timeout : timeouts) {
                            timer.expires_at(now + timeout);
                            timer.async_wait([](auto) {});
                            timer.cancel();
                            // Handlers are told of the cancellation, here in batches.
                            if (++cancelled % 100 == 0) context.poll();
                        }
                    });
}

void add_and_fire(bench::Figures& figures) {
    asio::io_context context(1);
    std::vector<Timer> timers;
    for (std::size_t i = 0; i < 1'000'000; ++i)
        timers.emplace_back(context);
    std::size_t fired = 0;
    figures.measure("timer, add and fire, 1000000 in 200 ms", timers.size(),
                    CLOCK_THREAD_CPUTIME_ID, [&] {
                        const auto now = Timer::clock_type::now();
                        for (Timer& timer : timers) {
                            const auto delay = generator() % 200'000'000;
                            timer.expires_at(now + std::chrono::nanoseconds(delay));
                            timer.async_wait([&](auto) { ++fired; });
                        }
                        context.run();
                        context.restart();
                    });
}

void batch(bench::Figures& figures) {
    constexpr std::size_t count = 10'000;
    asio::io_context context(1);
    std::size_t ran = 0;
    figures.measure("call_soon, in a batch of 10000", count, CLOCK_THREAD_CPUTIME_ID, [&] {
        for (std::size_t i = 0; i < count; ++i)
            asio::post(context, [&] { ++ran; });
        context.run();
        context.restart();
    });
}

struct Link {
    asio::io_context& context;
    std::size_t& left;
    void operator()() const {
        if (--left) asio::post(context, *this);
    }
};

void chain(bench::Figures& figures) {
    constexpr std::size_t count = 1'000'000;
    asio::io_context context(1);
    figures.measure("call_soon, each queues the next", count, CLOCK_THREAD_CPUTIME_ID, [&] {
        std::size_t left = count;
        asio::post(context, Link{context, left});
        context.run();
        context.restart();
    });
}

void flood(bench::Figures& figures, int producers) {
    constexpr std::size_t count = 1'000'000;
    const std::string name = "post, " + std::to_string(producers) + " producing";
    figures.measure(name, count, CLOCK_MONOTONIC, [&] {
        asio::io_context context; // without the hint of one thread: there are several
        const auto work = asio::make_work_guard(context);
        std::size_t left = count;
        std::vector<std::thread> threads;
        for (int i = 0; i < producers; ++i)
            threads.emplace_back([&] {
                for (std::size_t n = 0; n < count / producers; ++n)
                    asio::post(context, [&] {
                        if (--left == 0) context.stop();
                    });
            });
        context.run();
        for (std::thread& thread : threads)
            thread.join();
    });
}

void ping_pong(bench::Figures& figures) {
    constexpr std::size_t count = 20'000;
    figures.measure("post, there and back between two threads", count, CLOCK_MONOTONIC, [] {
        asio::io_context here;
        asio::io_context there;
        const auto work = asio::make_work_guard(here);
        const auto more_work = asio::make_work_guard(there);
        std::thread other([&] { there.run(); });
        std::size_t left = count;
        std::function<void()> serve = [&] {
            if (left-- == 0) {
                there.stop();
                here.stop();
            } else {
                asio::post(there, [&] { asio::post(here, [&] { serve(); }); });
            }
        };
        asio::post(here, [&] { serve(); });
        here.run();
        other.join();
    });
}

} // namespace

int main(int argc, char** argv) {
    return bench::figures_main(argc, argv, [](bench::Figures& figures) {
        for (std::size_t live : {0, 1'000, 100'000, 1'000'000})
            add_and_cancel(figures, live);
        add_and_fire(figures);
        batch(figures);
        chain(figures);
        flood(figures, 1);
        flood(figures, 4);
        ping_pong(figures);
    });
}
