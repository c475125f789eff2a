#include <weft/coro/core/scheduler.hpp>
#include <weft/coro/core/stack_usage.hpp>
#include <weft/coro/tasks/task.hpp>

#include <algorithm>
#include <cstddef>
#include <new>

namespace weft::coro {

[[gnu::no_sanitize_address]] void detail::Scheduler::measure(const detail::Coroutine& self) {
    const std::byte* deepest =
        self.stack.bottom + (self.stack.has_canary ? StackPool::canary_size : 0);
    if (*deepest != std::byte{paint}) return; // spawned before anybody measured
    while (deepest < self.stack.top && *deepest == std::byte{paint})
        ++deepest;
    const auto used = static_cast<std::size_t>(self.stack.top - deepest);
    const std::source_location& where = self.task.spawned;
    for (Usage& known : usage) {
        if (!same_place(known.spawned, where)) continue;
        ++known.count;
        known.used = std::max(known.used, used);
        known.size = std::max(known.size, self.stack.usable());
        return;
    }
    try {
        usage.push_back({where, 1, self.stack.usable(), used});
    } catch (const std::bad_alloc&) { // one less in the statistics
    }
}

void measure_stacks(Loop& loop, bool on) {
    detail::Scheduler::of(loop).measuring = on;
}

std::vector<StackUsage> stack_usage(Loop& loop) {
    std::vector<StackUsage> all;
    const detail::Scheduler* scheduler = detail::Scheduler::find(loop);
    if (scheduler == nullptr) return all;
    for (const auto& [spawned, count, size, used] : scheduler->usage)
        all.push_back({spawned, count, size, used, detail::StackPool::rounded(2 * used)});
    std::stable_sort(all.begin(), all.end(),
                     [](const StackUsage& a, const StackUsage& b) { return a.used > b.used; });
    return all;
}

std::string describe(const std::vector<StackUsage>& usage) {
    std::string text;
    for (const StackUsage& one : usage)
        text += std::string(one.spawned.file_name()) + ":" + std::to_string(one.spawned.line()) +
                ": " + std::to_string(one.count) + " coroutines used up to " +
                std::to_string(one.used) + " of " + std::to_string(one.size) +
                " bytes; a stack_size of " + std::to_string(one.suggested) + " would do\n";
    return text;
}

} // namespace weft::coro
