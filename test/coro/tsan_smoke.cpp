// What ThreadSanitizer is to see: switches between stacks that it knows, and everything that
// crosses from one thread to another ordered. Its record of who has called whom holds 65536 calls
// per stack: taken for those of one, the calls of all these coroutines would overflow it. [F44]

#include <weft/coro/coro.hpp>
#include <weft/coro/tasks/threads.hpp>

#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace weft;
using namespace std::chrono_literals;

constexpr int tasks = 500;
constexpr int depth = 200;

// Suspends at the end of a chain of calls, and throws through all of it.
[[gnu::noinline]] int wait_below(int calls, coro::Event& event) { // NOLINT(misc-no-recursion)
    if (calls != 0) return 1 + wait_below(calls - 1, event);
    event.wait();
    throw std::runtime_error("from below");
}

bool deep_waits() {
    coro::Event event;
    std::vector<coro::Task<bool>> waiting;
    for (int i = 0; i < tasks; ++i)
        waiting.push_back(coro::spawn([&] {
            try {
                return wait_below(depth, event) < 0;
            } catch (const std::runtime_error&) {
                coro::yield();
                return true;
            }
        }));
    coro::sleep(1ms);
    event.set();
    for (auto& task : waiting)
        if (!task.join()) return false;
    return true;
}

// Plain memory that goes from thread to thread with the jobs, tasks and their outcomes.
bool handed_from_thread_to_thread() {
    std::vector<int> numbers;
    for (int i = 0; i < 100; ++i)
        coro::run_in_executor([&] { numbers.push_back(i); });
    bool right = numbers.size() == 100;

    const weft::RemoteLoop remote(coro::this_loop());
    Promise<void> ended(coro::this_loop());
    std::thread other([&, mailbox = coro::this_loop().remote()] {
        for (int i = 0; i < 100; ++i) {
            auto task = coro::start(remote, [&numbers] {
                coro::yield();
                numbers.push_back(0);
                return std::to_string(numbers.size());
            });
            const std::string told = task.get();
            right = right && told == std::to_string(numbers.size());
        }
        (void)mailbox->post([&] { ended.set_value(); }, {});
    });
    coro::await(ended.future());
    other.join();
    return right && numbers.size() == 200;
}

} // namespace

int main() {
    coro::RunOptions options;
    options.report_overflow = false;
    const bool right = coro::run([] { return deep_waits() && handed_from_thread_to_thread(); },
                                 std::move(options));
    std::puts(right ? "as it should be" : "wrong results");
    return right ? 0 : 1;
}
