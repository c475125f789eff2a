// What libuv's loop costs without sockets: timers, and posts from other threads, for which it has
// uv_async_t and the program a queue with a mutex.

#include "../figures.hpp"

#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <uv.h>

namespace {

std::mt19937 generator{1};
std::uint64_t some_timeout() {
    return 10'000 + generator() % 50'000;
}

void close_all(uv_loop_t& loop) {
    uv_walk(
        &loop,
        [](uv_handle_t* handle, void*) {
            if (!uv_is_closing(handle)) uv_close(handle, nullptr);
        },
        nullptr);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
}

void add_and_cancel(bench::Figures& figures, std::size_t live) {
    uv_loop_t loop;
    uv_loop_init(&loop);
    std::vector<uv_timer_t> others(live);
    for (uv_timer_t& timer : others) {
        uv_timer_init(&loop, &timer);
        uv_timer_start(
            &timer, [](uv_timer_t*) {}, some_timeout(), 0);
    }
    uv_timer_t timer;
    uv_timer_init(&loop, &timer);
    std::vector<std::uint64_t> timeouts(100'000);
    for (std::uint64_t& timeout : timeouts)
        timeout = some_timeout();
    figures.measure("timer, add and cancel, " + std::to_string(live) + " others", timeouts.size(),
                    CLOCK_THREAD_CPUTIME_ID, [&] {
                        for (std::uint64_t timeout : timeouts) {
                            uv_timer_start(
                                &timer, [](uv_timer_t*) {}, timeout, 0);
                            uv_timer_stop(&timer);
                        }
                    });
    close_all(loop);
}

void add_and_fire(bench::Figures& figures) {
    uv_loop_t loop;
    uv_loop_init(&loop);
    std::vector<uv_timer_t> timers(1'000'000);
    for (uv_timer_t& timer : timers)
        uv_timer_init(&loop, &timer);
    figures.measure("timer, add and fire, 1000000 in 200 ms", timers.size(),
                    CLOCK_THREAD_CPUTIME_ID, [&] {
                        uv_update_time(&loop);
                        for (uv_timer_t& timer : timers)
                            uv_timer_start(
                                &timer, [](uv_timer_t*) {}, generator() % 200, 0);
                        uv_run(&loop, UV_RUN_DEFAULT);
                    });
    close_all(loop);
}

/// A loop with a queue that other threads add to.
class Mailbox {
public:
    Mailbox() {
        uv_loop_init(&loop_);
        uv_async_init(&loop_, &async_,
                      [](uv_async_t* async) { static_cast<Mailbox*>(async->data)->run_posted(); });
        async_.data = this;
    }
    ~Mailbox() { close_all(loop_); }

    void post(std::function<void()> function) {
        {
            const std::lock_guard lock(mutex_);
            queue_.push_back(std::move(function));
        }
        uv_async_send(&async_);
    }
    void run() { uv_run(&loop_, UV_RUN_DEFAULT); }
    void stop() { uv_stop(&loop_); }

private:
    void run_posted() {
        {
            const std::lock_guard lock(mutex_);
            running_.swap(queue_);
        }
        for (auto& function : running_)
            function();
        running_.clear();
    }

    uv_loop_t loop_;
    uv_async_t async_;
    std::mutex mutex_;
    std::vector<std::function<void()>> queue_;
    std::vector<std::function<void()>> running_;
};

void flood(bench::Figures& figures, int producers) {
    constexpr std::size_t count = 1'000'000;
    const std::string name = "post, " + std::to_string(producers) + " producing";
    figures.measure(name, count, CLOCK_MONOTONIC, [&] {
        Mailbox mailbox;
        std::size_t left = count;
        std::vector<std::thread> threads;
        for (int i = 0; i < producers; ++i)
            threads.emplace_back([&] {
                for (std::size_t n = 0; n < count / producers; ++n)
                    mailbox.post([&] {
                        if (--left == 0) mailbox.stop();
                    });
            });
        mailbox.run();
        for (std::thread& thread : threads)
            thread.join();
    });
}

void ping_pong(bench::Figures& figures) {
    constexpr std::size_t count = 20'000;
    figures.measure("post, there and back between two threads", count, CLOCK_MONOTONIC, [] {
        Mailbox here;
        Mailbox there;
        std::thread other([&] { there.run(); });
        std::size_t left = count;
        std::function<void()> serve = [&] {
            if (left-- == 0) {
                there.post([&] { there.stop(); });
                here.stop();
            } else {
                there.post([&] { here.post([&] { serve(); }); });
            }
        };
        here.post([&] { serve(); });
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
        flood(figures, 1);
        flood(figures, 4);
        ping_pong(figures);
    });
}
