#include <weft/coro/core/scheduler.hpp>
#include <weft/coro/core/stack_usage.hpp>

#include <algorithm>

namespace weft::coro {

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
