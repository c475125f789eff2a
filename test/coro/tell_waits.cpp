// What the coroutines of a case that does not end wait for; and such a case, for
// test/deadline_test.py.

#include "coro_support.hpp"

#include <cstdio>

using namespace weft;
using namespace weft::test;

namespace {

const bool told = [] {
    tell_waits = [](int fd) {
        Loop* loop = Loop::current();
        if (loop == nullptr) return;
        for (const coro::TaskInfo& task : coro::all_tasks(*loop))
            dprintf(fd, "  task %s, spawned at %s:%u, %s%s\n", task.name.c_str(),
                    task.spawned.file_name(), task.spawned.line(),
                    task.waiting_for.empty() ? "is ready or runs" : "waits for ",
                    task.waiting_for.c_str());
    };
    return true;
}();

} // namespace

TEST_CASE("A case whose coroutines wait for ever", "[.stuck]") {
    WEFT_TEST_KERNEL(real_kernels);
    run_on(kernel_kind, [] {
        auto task = coro::spawn([] { coro::sleep(std::chrono::hours(1)); }, {.name = "waiter"});
        task.join();
    });
}
