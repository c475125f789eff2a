// What the loop's own operations cost, without sockets: timers, queued callbacks, posts from other
// threads. Figures of one thread are its processor time, so that a busy machine moves them little;
// each is the median of several repetitions.

#include <weft/reactor/loop.hpp>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <future>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

double seconds(clockid_t clock) {
    timespec time;
    ::clock_gettime(clock, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Median nanoseconds for one of `operations` that `body` does, by `clock`.
double measure(int repetitions, std::size_t operations, clockid_t clock,
               const std::function<void()>& body) {
    body(); // pools and caches are filled by the first
    std::vector<double> times;
    for (int i = 0; i < repetitions; ++i) {
        double start = seconds(clock);
        body();
        times.push_back(1e9 * (seconds(clock) - start) / static_cast<double>(operations));
    }
    std::nth_element(times.begin(), times.begin() + repetitions / 2, times.end());
    return times[repetitions / 2];
}

struct Figure {
    std::string name;
    double nanoseconds;
};

class LoopBench {
public:
    explicit LoopBench(int repetitions) : repetitions_(repetitions) {}

    std::vector<Figure> run() {
        for (std::size_t live : {0, 1'000, 100'000, 1'000'000})
            add_and_cancel(live);
        expire();
        batch();
        chain();
        for (int producers : {1, 4})
            flood(producers);
        ping_pong();
        return figures_;
    }

private:
    void record(std::string name, double nanoseconds) {
        figures_.push_back({std::move(name), nanoseconds});
    }

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
        double cost = measure(repetitions_, timeouts.size(), CLOCK_THREAD_CPUTIME_ID, [&] {
            for (weft::Duration timeout : timeouts)
                weft::Timer timer = loop.call_at(now + timeout, [] {});
        });
        record("timer, add and cancel, " + std::to_string(live) + " others", cost);
    }

    /// Deadlines spread over the next 200 ms, which pass while they are being run.
    void expire() {
        constexpr std::size_t count = 1'000'000;
        weft::Loop loop;
        std::size_t fired = 0;
        double cost = measure(repetitions_, count, CLOCK_THREAD_CPUTIME_ID, [&] {
            weft::TimePoint now = loop.now();
            for (std::size_t i = 0; i < count; ++i) {
                auto delay = std::chrono::nanoseconds(random_() % 200'000'000);
                loop.call_at(now + delay, [&] { ++fired; }).detach();
            }
            loop.run_until_idle();
        });
        require(fired % count == 0, "not every timer fired once");
        record("timer, add and fire, 1000000 in 200 ms", cost);
    }

    void batch() {
        constexpr std::size_t count = 10'000;
        weft::Loop loop;
        std::size_t ran = 0;
        double cost = measure(20 * repetitions_, count, CLOCK_THREAD_CPUTIME_ID, [&] {
            for (std::size_t i = 0; i < count; ++i)
                loop.call_soon([&] { ++ran; });
            loop.run_once();
        });
        require(ran % count == 0, "not every callback ran in one turn");
        record("call_soon, in a batch of 10000", cost);
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
        double cost = measure(repetitions_, count, CLOCK_THREAD_CPUTIME_ID, [&] {
            left = count;
            loop.call_soon(Link{loop, left});
            loop.run();
        });
        record("call_soon, each queues the next", cost);
    }

    /// Wall time from the first post to the last callback: the slower of the two sides sets it.
    void flood(int producers) {
        constexpr std::size_t count = 1'000'000;
        double cost = measure(repetitions_, count, CLOCK_MONOTONIC, [&] {
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
        record("post, " + std::to_string(producers) + " producing", cost);
    }

    /// Two loops that post to each other; each sleeps when the other's post comes.
    void ping_pong() {
        constexpr std::size_t count = 20'000;
        double cost = measure(repetitions_, count, CLOCK_MONOTONIC, [&] {
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
        record("post, there and back between two threads", cost);
    }

    template<class F>
    static void post(weft::Loop& loop, F function) {
        require(!loop.post(std::move(function)), "a loop refused a post");
    }

    static void require(bool condition, const char* what) {
        if (!condition) throw std::runtime_error(what);
    }

    int repetitions_;
    std::mt19937 random_{1};
    std::vector<Figure> figures_;
};

std::string as_json(const std::vector<Figure>& figures) {
    std::string text;
    for (const Figure& figure : figures)
        text += (text.empty() ? "{\"" : ",\n \"") + figure.name +
                "\": " + std::to_string(figure.nanoseconds);
    return text + "}";
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app("What the loop's operations cost, in nanoseconds for one");
    int repetitions = 7;
    bool json = false;
    app.add_option("--repetitions", repetitions, "the median of so many is reported")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_flag("--json", json, "print JSON instead of a table");
    CLI11_PARSE(app, argc, argv);
    try {
        std::vector<Figure> figures = LoopBench(repetitions).run();
        if (json) std::cout << as_json(figures) << '\n';
        for (const Figure& figure : figures)
            if (!json) std::printf("%-44s %10.1f ns\n", figure.name.c_str(), figure.nanoseconds);
    } catch (const std::exception& error) {
        std::cerr << "bench-loop: " << error.what() << '\n';
        return 1;
    }
}
