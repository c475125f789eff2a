// What Boost.Fiber's fibers cost, with stacks of 16 KiB from a pool. The tree of skynet is a
// tenth of the others': a million stacks at once are too much.

#include "../figures.hpp"

#include <boost/fiber/all.hpp>

namespace {

namespace fibers = boost::fibers;

/// Makes a fiber that runs when the present one next waits.
template<class F>
fibers::fiber launch(F function) {
    static boost::context::pooled_fixedsize_stack stacks(16 * 1024);
    return fibers::fiber(fibers::launch::post, std::allocator_arg, stacks, std::move(function));
}

void yield_among(bench::Figures& figures, std::size_t many) {
    const std::size_t each = 1'000'000 / many;
    // Of two, there and back counts as one.
    const bool pair = many == 2;
    const std::string name = pair ? "yield and back, 2 coroutines"
                                  : "yield, one of " + std::to_string(many) + " coroutines";
    figures.measure(name, pair ? each : each * many, CLOCK_THREAD_CPUTIME_ID, [&] {
        std::vector<fibers::fiber> all;
        for (std::size_t i = 0; i < many; ++i)
            all.push_back(launch([each] {
                for (std::size_t n = 0; n < each; ++n)
                    boost::this_fiber::yield();
            }));
        for (fibers::fiber& one : all)
            one.join();
    });
}

void hand_off(bench::Figures& figures) {
    constexpr std::size_t count = 200'000;
    figures.measure("channel, hand-off", 2 * count, CLOCK_THREAD_CPUTIME_ID, [] {
        fibers::unbuffered_channel<int> there;
        fibers::unbuffered_channel<int> back;
        fibers::fiber other = launch([&] {
            for (int value : there)
                back.push(value);
        });
        for (std::size_t n = 0; n < count; ++n) {
            there.push(1);
            back.value_pop();
        }
        there.close();
        other.join();
    });
}

void spawn_and_join(bench::Figures& figures) {
    constexpr std::size_t count = 200'000;
    figures.measure("spawn and join, one at a time", count, CLOCK_THREAD_CPUTIME_ID, [] {
        for (std::size_t n = 0; n < count; ++n)
            launch([] {}).join();
    });
}

std::size_t skynet(std::size_t first, std::size_t leaves) {
    if (leaves == 1) return first;
    std::array<std::size_t, 10> sums{};
    std::array<fibers::fiber, 10> children;
    for (std::size_t i = 0; i < 10; ++i)
        children[i] = launch(
            [&sums, i, first, leaves] { sums[i] = skynet(first + i * leaves / 10, leaves / 10); });
    std::size_t sum = 0;
    for (std::size_t i = 0; i < 10; ++i) {
        children[i].join();
        sum += sums[i];
    }
    return sum;
}

void suspended(bench::Figures& figures) {
    constexpr std::size_t count = 20'000;
    fibers::mutex mutex;
    fibers::condition_variable condition;
    bool over = false;
    const double before = bench::resident_bytes();
    std::vector<fibers::fiber> all;
    for (std::size_t i = 0; i < count; ++i)
        all.push_back(launch([&] {
            std::unique_lock lock(mutex);
            condition.wait(lock, [&] { return over; });
        }));
    boost::this_fiber::yield();
    figures.record("20000 suspended, each", (bench::resident_bytes() - before) / count);
    over = true;
    condition.notify_all();
    for (fibers::fiber& one : all)
        one.join();
}

} // namespace

int main(int argc, char** argv) {
    return bench::figures_main(argc, argv, [](bench::Figures& figures) {
        suspended(figures); // before anything has filled the pool of stacks
        yield_among(figures, 2);
        yield_among(figures, 1000);
        hand_off(figures);
        spawn_and_join(figures);
        figures.measure("skynet, the same again", 111'110, CLOCK_THREAD_CPUTIME_ID,
                        [] { skynet(0, 100'000); });
    });
}
