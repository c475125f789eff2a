// What State Threads' threads cost, with stacks of 16 KiB. The tree of skynet is a tenth of the
// others': each stack is a mapping, and a process may not have a million.

#include "../figures.hpp"

#include <functional>
#include <st.h>

namespace {

constexpr int stack_size = 16 * 1024;
using Task = std::function<void()>;

void* run_task(void* task) {
    (*static_cast<Task*>(task))();
    return nullptr;
}

/// `task` has to outlive the thread.
st_thread_t launch(Task& task) {
    st_thread_t thread = st_thread_create(run_task, &task, 1, stack_size);
    if (!thread) std::abort();
    return thread;
}

void yield_among(bench::Figures& figures, std::size_t many) {
    const std::size_t each = 1'000'000 / many;
    Task yield = [each] {
        for (std::size_t n = 0; n < each; ++n)
            st_usleep(0);
    };
    // Of two, there and back counts as one.
    const bool pair = many == 2;
    const std::string name = pair ? "yield and back, 2 coroutines"
                                  : "yield, one of " + std::to_string(many) + " coroutines";
    figures.measure(name, pair ? each : each * many, CLOCK_THREAD_CPUTIME_ID, [&] {
        std::vector<st_thread_t> all;
        for (std::size_t i = 0; i < many; ++i)
            all.push_back(launch(yield));
        for (st_thread_t thread : all)
            st_thread_join(thread, nullptr);
    });
}

void spawn_and_join(bench::Figures& figures) {
    constexpr std::size_t count = 200'000;
    Task nothing = [] {};
    figures.measure("spawn and join, one at a time", count, CLOCK_THREAD_CPUTIME_ID, [&] {
        for (std::size_t n = 0; n < count; ++n)
            st_thread_join(launch(nothing), nullptr);
    });
}

std::size_t skynet(std::size_t first, std::size_t leaves) {
    if (leaves == 1) return first;
    std::size_t sums[10];
    Task tasks[10];
    st_thread_t children[10];
    for (std::size_t i = 0; i < 10; ++i) {
        tasks[i] = [&sums, i, first, leaves] {
            sums[i] = skynet(first + i * leaves / 10, leaves / 10);
        };
        children[i] = launch(tasks[i]);
    }
    std::size_t sum = 0;
    for (std::size_t i = 0; i < 10; ++i) {
        st_thread_join(children[i], nullptr);
        sum += sums[i];
    }
    return sum;
}

void suspended(bench::Figures& figures) {
    constexpr std::size_t count = 20'000;
    st_cond_t over = st_cond_new();
    Task wait = [over] { st_cond_wait(over); };
    const double before = bench::resident_bytes();
    std::vector<st_thread_t> all;
    for (std::size_t i = 0; i < count; ++i)
        all.push_back(launch(wait));
    st_usleep(0);
    figures.record("20000 suspended, each", (bench::resident_bytes() - before) / count);
    st_cond_broadcast(over);
    for (st_thread_t thread : all)
        st_thread_join(thread, nullptr);
    st_cond_destroy(over);
}

} // namespace

int main(int argc, char** argv) {
    st_set_eventsys(ST_EVENTSYS_ALT);
    if (st_get_eventsys() != ST_EVENTSYS_ALT) st_set_eventsys(ST_EVENTSYS_POLL);
    if (st_init() != 0) return 1;
    return bench::figures_main(argc, argv, [](bench::Figures& figures) {
        suspended(figures); // before anything has filled the pool of stacks
        yield_among(figures, 2);
        yield_among(figures, 1000);
        spawn_and_join(figures);
        figures.measure("skynet, the same again", 111'110, CLOCK_THREAD_CPUTIME_ID,
                        [] { skynet(0, 100'000); });
    });
}
