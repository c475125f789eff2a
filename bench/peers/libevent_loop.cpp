// What libevent's timers cost.

#include "../figures.hpp"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <random>

namespace {

std::mt19937 generator{1};
timeval some_timeout() {
    return {10 + static_cast<time_t>(generator() % 50),
            static_cast<suseconds_t>(generator() % 1'000'000)};
}

void on_timer(int, short, void*) {}

void add_and_cancel(bench::Figures& figures, std::size_t live) {
    event_base* base = event_base_new();
    std::vector<event> others(live);
    for (event& other : others) {
        event_assign(&other, base, -1, 0, on_timer, nullptr);
        const timeval timeout = some_timeout();
        event_add(&other, &timeout);
    }
    std::vector<timeval> timeouts(100'000);
    for (timeval& timeout : timeouts)
        timeout = some_timeout();
    event timer;
    event_assign(&timer, base, -1, 0, on_timer, nullptr);
    figures.measure("timer, add and cancel, " + std::to_string(live) + " others", timeouts.size(),
                    CLOCK_THREAD_CPUTIME_ID, [&] {
                        for (const timeval& timeout : timeouts) {
                            event_add(&timer, &timeout);
                            event_del(&timer);
                        }
                    });
    for (event& other : others)
        event_del(&other);
    event_base_free(base);
}

void add_and_fire(bench::Figures& figures) {
    event_base* base = event_base_new();
    std::vector<event> timers(1'000'000);
    for (event& timer : timers)
        event_assign(&timer, base, -1, 0, on_timer, nullptr);
    figures.measure("timer, add and fire, 1000000 in 200 ms", timers.size(),
                    CLOCK_THREAD_CPUTIME_ID, [&] {
                        for (event& timer : timers) {
                            const timeval delay{0, static_cast<suseconds_t>(generator() % 200'000)};
                            event_add(&timer, &delay);
                        }
                        event_base_dispatch(base);
                    });
    event_base_free(base);
}

} // namespace

int main(int argc, char** argv) {
    return bench::figures_main(argc, argv, [](bench::Figures& figures) {
        for (std::size_t live : {0, 1'000, 100'000, 1'000'000})
            add_and_cancel(figures, live);
        add_and_fire(figures);
    });
}
