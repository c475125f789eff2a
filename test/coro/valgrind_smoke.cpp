// What Valgrind is to see: switches between stacks that it knows, with exceptions in flight,
// stacks that are used again and given back, and no error and no leak in any of it. [F44]

#include <weft/coro/coro.hpp>

#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace std::chrono_literals;

int fib(int n) {
    if (n < 2) return n;
    auto child = weft::coro::spawn([n] { return fib(n - 1); });
    const int other = fib(n - 2);
    return child.join() + other;
}

std::string caught_across_waits(int i) {
    try {
        throw std::runtime_error("error " + std::to_string(i));
    } catch (const std::exception& e) {
        weft::coro::yield();
        weft::coro::sleep(1us * i);
        return e.what();
    }
}

// As much of the stack as is safe to use, so that marks of what was there would be found.
[[gnu::noinline]] std::size_t fill_stack() {
    volatile char frame[20'000];
    for (volatile char& byte : frame)
        byte = 1;
    return sizeof frame;
}

bool run_all() {
    if (fib(12) != 144) return false;
    std::vector<weft::coro::Task<std::string>> tasks;
    for (int i = 0; i < 40; ++i)
        tasks.push_back(weft::coro::spawn([i] {
            fill_stack();
            return caught_across_waits(i);
        }));
    auto endless = weft::coro::spawn([] {
        const std::string on_heap(1000, 'x');
        weft::coro::sleep_forever();
    });
    for (int i = 0; i < 40; ++i)
        if (tasks[static_cast<std::size_t>(i)].join() != "error " + std::to_string(i)) return false;
    endless.cancel();
    endless.wait();
    return endless.cancelled();
}

} // namespace

int main() {
    weft::coro::RunOptions options;
    options.report_overflow = false; // Valgrind has a report of its own
    const bool right = weft::coro::run(&run_all, std::move(options));
    std::puts(right ? "as it should be" : "wrong results");
    return right ? 0 : 1;
}
