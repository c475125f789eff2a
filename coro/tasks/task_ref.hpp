#pragma once

#include <weft/coro/tasks/task.hpp>

#include <optional>
#include <source_location>
#include <string>
#include <vector>

#pragma GCC visibility push(default)

namespace weft::coro {

/// A task, whatever its type: a handle of the running one, or of one that `all_tasks` lists. Copies
/// name the same task; dropping one cancels nothing. For the loop's thread.
class TaskRef {
public:
    TaskRef() noexcept = default;
    template<class T>
    TaskRef(const Task<T>& task) noexcept : task_(task.state()) {}
    explicit TaskRef(detail::TaskBase* task) noexcept : task_(task) {}

    bool valid() const noexcept { return static_cast<bool>(task_); }
    bool done() const { return task("done").done(); }
    /// As `Task::cancel`: false if it has ended.
    bool cancel() { return task("cancel").cancel(); }
    /// As `Task::wait`, but cancelling the waiter does not cancel the task.
    void wait() {
        const weft::detail::StateRef<detail::TaskBase> keep(&task("wait"));
        keep->join("wait", false);
    }
    /// What it is called, and where it was spawned, for people.
    std::string describe() const { return task("describe").describe(); }
    /// Whether they name the same task.
    bool operator==(const TaskRef& other) const noexcept {
        return task_.get() == other.task_.get();
    }

private:
    detail::TaskBase& task(const char* what) const {
        if (!task_) throw UsageError(std::string(what) + ": the reference names no task");
        return *task_;
    }
    weft::detail::StateRef<detail::TaskBase> task_;
};
/// The running task. `UsageError` outside of a coroutine. Does not suspend.
TaskRef this_task();

/// A task from outside: what it is called, where it came from, what it is doing.
struct TaskInfo {
    std::string name = {};
    std::source_location spawned = {};
    std::string waiting_for = {}; ///< empty while it runs or is ready to
    const void* id = nullptr;     ///< the same for the same task as long as it lives
    TaskRef task = {};            ///< to cancel it, or wait for it
};
/// The running one; empty in plain callbacks.
std::optional<TaskInfo> current_task();
/// All tasks of `loop` that have not ended, in the order in which they were started.
std::vector<TaskInfo> all_tasks(Loop& loop);
/// The same of this loop.
std::vector<TaskInfo> all_tasks();

} // namespace weft::coro

#pragma GCC visibility pop
