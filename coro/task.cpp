#include <weft/coro/task.hpp>
#include <weft/reactor/log.hpp>

#include <cstring>

namespace weft::coro {
namespace detail {
namespace {

/// Waits for a task's end. Cancelling the one who waits cancels the task, unless it is shielded.
class JoinWait final : public Wait {
public:
    JoinWait(Coroutine& self, TaskBase& task, bool pass_on) noexcept
        : Wait(self), task_(task), pass_on_(pass_on) {}
    TaskBase* cancel_instead() noexcept override { return pass_on_ ? &task_ : nullptr; }
    std::string describe() const override { return "the end of the task " + task_.describe(); }

private:
    TaskBase& task_;
    bool pass_on_;
};

class StateRef {
public:
    explicit StateRef(TaskBase& task) noexcept : task_(task) { task.retain(); }
    ~StateRef() { task_.release(); }
    StateRef(const StateRef&) = delete;
    StateRef& operator=(const StateRef&) = delete;

private:
    TaskBase& task_;
};

class ChildrenWait final : public Wait {
public:
    explicit ChildrenWait(Coroutine& self) noexcept : Wait(self) { uncancellable = true; }
    std::string describe() const override { return "the end of the tasks it has spawned"; }
};

std::string_view file_of(const std::source_location& where) {
    std::string_view path = where.file_name();
    if (const auto slash = path.rfind('/'); slash != path.npos) path.remove_prefix(slash + 1);
    return path;
}

} // namespace

TaskBase::~TaskBase() {
    if (status != Status::failed || error_seen || !error) return;
    const std::string text = "the error of the task " + describe() + " was never looked at";
    if (Loop* loop = Loop::current()) {
        loop->report({text, error, spawned});
    } else {
        log(LogLevel::error, text);
    }
}

std::string TaskBase::describe() const {
    const std::string place = std::string(file_of(spawned)) + ":" + std::to_string(spawned.line());
    return name ? "'" + *name + "' (spawned at " + place + ")" : "spawned at " + place;
}

bool TaskBase::cancel() noexcept {
    if (done() || coroutine == nullptr) return false;
    // Down a chain of tasks that wait for each other, to the one that waits for something else. A
    // chain that is closed ends at its length.
    std::size_t left = coroutine->scheduler.count();
    for (TaskBase* task = this;; --left) {
        ++task->cancel_requests;
        task->must_cancel = true;
        Coroutine& self = *task->coroutine;
        if (self.wait != nullptr && !self.wait->uncancellable && left != 0) {
            TaskBase* next = self.wait->cancel_instead();
            if (next != nullptr && !next->done()) {
                task->must_cancel = false;
                task = next;
                continue;
            }
        }
        self.cancel_pending = true;
        self.end_wait(Wake::cancelled);
        return true;
    }
}

void TaskBase::uncancel() noexcept {
    if (cancel_requests == 0) return;
    if (--cancel_requests == 0 && must_cancel) {
        must_cancel = false;
        if (coroutine != nullptr) coroutine->update_cancellation();
    }
}

void TaskBase::join(const char* what, bool pass_on, TimePoint deadline) {
    Coroutine& self = running(what);
    if (&self.task == this)
        throw UsageError(std::string(what) + ": the task " + describe() + " waits for itself");
    if (done()) return self.scheduler.checkpoint(self);
    if (&coroutine->scheduler != &self.scheduler)
        throw UsageError(std::string(what) + ": the task " + describe() +
                         " belongs to another loop");
    const StateRef keep(*this); // its handles may go while it is waited for
    JoinWait wait(self, *this, pass_on);
    joiners.push_back(wait);
    self.scheduler.suspend(wait, deadline);
}

void TaskBase::finish(Status outcome) noexcept {
    status = outcome;
    coroutine = nullptr;
    while (joiners.linked()) {
        auto& wait = static_cast<Wait&>(*joiners.next);
        wait.unlink();
        wait.wake();
    }
}

void TaskBase::check_value() {
    switch (status) {
    case Status::value:
        return;
    case Status::failed:
        error_seen = true;
        std::rethrow_exception(error);
    case Status::cancelled:
        throw Cancelled();
    case Status::pending:
        throw UsageError("result: the task " + describe() + " is still running");
    }
}

void TaskBase::detach() noexcept {
    if (done()) return;
    Scheduler& scheduler = coroutine->scheduler;
    Family& root = scheduler.root();
    if (family == &root) return;
    // Its own scopes hang below the one it was started in.
    CancelScope* old = family->scope;
    if (coroutine->scope == old) {
        coroutine->scope_link.unlink();
        root.scope->add_member(*coroutine);
        coroutine->scope = root.scope;
    } else {
        CancelScope* outermost = coroutine->scope;
        while (outermost->parent_ != old)
            outermost = outermost->parent_;
        outermost->link_.unlink();
        outermost->link_to(root.scope);
        outermost->update();
    }
    sibling.unlink();
    Family& left = *std::exchange(family, &root);
    root.children.push_back(sibling);
    left.child_ended(*this);
    coroutine->update_cancellation();
}

TaskBase::Children& TaskBase::children() {
    if (!own_children) {
        own_children = std::make_unique<Children>();
        own_children->scope = family->scope;
    }
    return *own_children;
}

Family& current_family(const char* what) {
    return running(what).task.children();
}
Scheduler& current_scheduler(const char* what) {
    return running(what).scheduler;
}

void* body_of(Coroutine& self) noexcept {
    // The context was made to begin right below it.
    return static_cast<std::byte*>(const_cast<void*>(self.stack_bottom)) + self.stack_size;
}

bool begin_task(Coroutine& self) noexcept {
    self.task.started = true;
    if (!self.task.must_cancel) return true;
    self.task.must_cancel = false;
    return false;
}

void set_error(TaskBase& task) noexcept {
    task.error = std::current_exception();
}

void end_task(Coroutine& self, TaskBase::Status outcome) noexcept {
    TaskBase& task = self.task;
    if (task.own_children && task.own_children->children.linked()) {
        Family& family = *task.own_children;
        for (ListNode* link = family.children.next; link != &family.children;) {
            TaskBase& child = TaskBase::of_child(*link);
            link = link->next;
            child.cancel();
        }
        ChildrenWait wait(self);
        family.joiner = &wait;
        try {
            self.scheduler.suspend(wait);
        } catch (...) {
            self.scheduler.report_exception("joining the children of the task " + task.describe());
        }
    }
    if (outcome == TaskBase::Status::value && task.must_cancel)
        outcome = TaskBase::Status::cancelled;
    Family& family = *std::exchange(task.family, nullptr);
    task.sibling.unlink();
    task.finish(outcome);
    family.child_ended(task);
    self.scheduler.end(self);
}

} // namespace detail

namespace {

class SleepWait final : public detail::Wait {
public:
    SleepWait(detail::Coroutine& self, TimePoint until) noexcept : Wait(self), until_(until) {}
    void abandon() noexcept override {}
    std::string describe() const override {
        if (until_ == TimePoint::max()) return "a cancellation (sleep_forever)";
        const auto left = until_ - coroutine.scheduler.loop().now();
        return "the end of a sleep in " +
               std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(left).count()) +
               " ms";
    }

private:
    TimePoint until_;
};

TaskInfo info_of(const detail::Coroutine& coroutine) {
    const detail::TaskBase& task = coroutine.task;
    return {task.name ? *task.name : std::string(), task.spawned,
            coroutine.wait != nullptr ? coroutine.wait->describe() : std::string(), &task};
}

} // namespace

void sleep(Duration time) {
    detail::Coroutine& self = detail::running("sleep");
    if (time <= Duration::zero()) return self.scheduler.yield();
    SleepWait wait(self, add_saturated(self.scheduler.loop().now(), time));
    self.scheduler.suspend(wait, add_saturated(self.scheduler.loop().now(), time));
}

void sleep_until(TimePoint when) {
    detail::Coroutine& self = detail::running("sleep_until");
    if (when <= self.scheduler.loop().now()) return self.scheduler.yield();
    SleepWait wait(self, when);
    self.scheduler.suspend(wait, when);
}

void sleep_forever() {
    detail::Coroutine& self = detail::running("sleep_forever");
    SleepWait wait(self, TimePoint::max());
    self.scheduler.suspend(wait);
    std::abort(); // there is no event that could end it
}

void check_cancelled() {
    detail::Coroutine& self = detail::running("check_cancelled");
    self.scheduler.check_cancelled(self);
}

Loop& this_loop() {
    if (detail::current != nullptr) return detail::current->scheduler.loop();
    if (Loop* loop = Loop::current()) return *loop;
    throw UsageError("no loop runs on this thread");
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
