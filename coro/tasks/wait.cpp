#include <weft/coro/tasks/wait.hpp>

namespace weft::coro::detail {

WaitResult wait_for_some(std::vector<Awaited> items, WaitUntil until, TimePoint deadline) {
    if (items.empty()) throw UsageError("wait: there is nothing to wait for");
    Collector collector("wait", std::move(items));
    if (until == WaitUntil::first_completed) {
        (void)collector.next(deadline);
    } else {
        (void)collector.wait_for_all(until == WaitUntil::first_exception, deadline);
    }
    WaitResult result;
    for (std::size_t i = 0; i < collector.items().size(); ++i)
        (collector.items()[i].done() ? result.done : result.pending).push_back(i);
    return result;
}

bool join_until(TaskBase& task, TimePoint deadline) {
    const bool late =
        (!task.done() && deadline <= this_loop().now()) || !task.join("wait_for", true, deadline);
    if (!late || task.done()) return false;
    task.cancel();
    task.join("wait_for", false);
    return true;
}

} // namespace weft::coro::detail
