#include <weft/coro/core/scheduler.hpp>
#include <weft/coro/tasks/sleep.hpp>
#include <weft/coro/tasks/task_ref.hpp>

namespace weft::coro {
namespace {

TaskInfo info_of(const detail::Coroutine& coroutine) {
    const detail::TaskBase& task = coroutine.task;
    return {task.name ? *task.name : std::string(), task.spawned,
            coroutine.wait != nullptr ? coroutine.wait->describe() : std::string(), &task,
            TaskRef(&coroutine.task)};
}

} // namespace

TaskRef this_task() {
    return TaskRef(&detail::running("this_task").task);
}

std::optional<TaskInfo> current_task() {
    if (detail::current == nullptr) return {};
    return info_of(*detail::current);
}

std::vector<TaskInfo> all_tasks(Loop& loop) {
    std::vector<TaskInfo> tasks;
    if (detail::Scheduler* scheduler = detail::Scheduler::find(loop))
        for (detail::ListNode* link = scheduler->all().next; link != &scheduler->all();
             link = link->next)
            tasks.push_back(info_of(detail::coroutine_of(*link)));
    return tasks;
}

std::vector<TaskInfo> all_tasks() {
    return all_tasks(this_loop());
}

} // namespace weft::coro
