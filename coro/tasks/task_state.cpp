#include "../core/wait_cycle.hpp"

#include <weft/coro/tasks/sleep.hpp>
#include <weft/coro/tasks/task.hpp>
#include <weft/coro/tasks/task_local.hpp>
#include <weft/reactor/log.hpp>

#include <cstring>

namespace weft::coro::detail {
namespace {

class ChildrenWait final : public Wait {
public:
    explicit ChildrenWait(Coroutine& self) noexcept : Wait(self) { uncancellable = true; }
    void needed(TaskVisitor& visitor) const override {
        for (ListNode &children = coroutine.task.own_children->children, *link = children.next;
             link != &children; link = link->next)
            visitor.visit(TaskBase::of_child(*link));
    }
    std::string describe() const override { return "the end of the tasks it has spawned"; }
};

std::string_view file_of(const std::source_location& where) {
    std::string_view path = where.file_name();
    if (const auto slash = path.rfind('/'); slash != path.npos) path.remove_prefix(slash + 1);
    return path;
}

} // namespace

TaskBase::~TaskBase() {
    if (phase != Phase::failed || error_seen || !error) return;
    const std::string text = "the error of the task " + describe() + " was never looked at";
    if (Loop* loop = Loop::current()) {
        weft::detail::core_of(*loop).report({text, error, spawned});
    } else {
        log(LogLevel::error, text + ": " + text_of(error));
    }
}

std::string text_of(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& exception) {
        return exception.what();
    } catch (...) {
        return "an exception that is not a std::exception";
    }
}

std::string TaskBase::describe() const {
    const std::string place = std::string(file_of(spawned)) + ":" + std::to_string(spawned.line());
    return name ? "'" + *name + "' (spawned at " + place + ")" : "spawned at " + place;
}

bool TaskBase::cancel() noexcept {
    if (!cancellable()) return false;
    ++cancel_requests;
    // One that cancels itself and ends is cancelled. What somebody else asks may come when it has
    // been given already what it waited for, and its value stays its value then.
    if (phase == Phase::queued || coroutine == current) must_cancel = true;
    CancelScope::own_of(*coroutine).cancel();
    if (next_request != nullptr) std::exchange(next_request, nullptr)->wake();
    return true;
}

void TaskBase::uncancel() noexcept {
    if (cancel_requests == 0 || --cancel_requests != 0) return;
    must_cancel = false;
    if (!cancellable()) return;
    coroutine->in_cancellation = false;
    coroutine->swallowed = 0;
    coroutine->own_scope->take_back();
}

void TaskBase::check_joinable(const char* what, const Coroutine& self) const {
    if (&self.task == this)
        throw UsageError(std::string(what) + ": the task " + describe() + " waits for itself");
    if (&coroutine->scheduler != &self.scheduler)
        throw UsageError(std::string(what) + ": the task " + describe() +
                         " belongs to another loop");
    check_cycle(what, *this, self);
}

void TaskBase::visit_waiting(TaskVisitor& visitor) const {
    for (const ListNode* link = joiners.next; link != &joiners; link = link->next)
        if (TaskBase* task = static_cast<const TaskWaiter*>(link)->who()) visitor.visit(*task);
    if (family != nullptr && family->joiner != nullptr)
        visitor.visit(family->joiner->coroutine.task);
    if (TaskBase* consumer = asked_by()) visitor.visit(*consumer);
}

void TaskBase::check_not_taken(const char* what) const {
    if (taken)
        throw UsageError(std::string(what) + ": the value of the task " + describe() +
                         " was moved out before; use result() where it is needed more than once");
}

void TaskBase::take_value(const char* what) {
    check_not_taken(what);
    taken = true;
}

void TaskBase::drop_outcome() noexcept {
    if (error && !std::exchange(error_seen, true))
        coroutine->scheduler.core().report(
            {"the error of the task " + describe() + " was never looked at", error, spawned});
    error = nullptr;
    drop_value();
}

Coroutine* TaskBase::joiner(const char* what) {
    if (done() && current == nullptr) return nullptr;
    Coroutine& self = running(what);
    if (done()) {
        self.scheduler.checkpoint(self);
        return nullptr;
    }
    check_joinable(what, self);
    return &self;
}

std::string JoinWait::describe() const {
    return "the end of the task " + task_.describe();
}

namespace {

/// A callback that waits in the task's list. Goes when it was queued, or with the loop's end, which
/// ends all tasks.
struct DoneCallback final : TaskWaiter {
    DoneCallback(Loop& l, Function<void()> f, std::source_location w)
        : loop(l), function(std::move(f)), where(w) {}
    void on_done() noexcept override {
        const std::unique_ptr<DoneCallback> self(this);
        if (loop.closing()) return;
        try {
            (void)loop.call_soon(std::move(function), where);
        } catch (...) {
            weft::detail::core_of(loop).report(
                {"calling what waits for the end of a task", std::current_exception(), where});
        }
    }
    Loop& loop;
    Function<void()> function;
    const std::source_location where;
};

} // namespace

void call_when_done(TaskBase& task, Function<void()> function, std::source_location where) {
    Loop& loop = task.done() ? this_loop() : task.coroutine->scheduler.loop();
    auto callback = std::make_unique<DoneCallback>(loop, std::move(function), where);
    if (task.done()) {
        callback.release()->on_done();
    } else {
        task.joiners.push_back(*callback.release());
    }
}

void TaskBase::protect() {
    if (done() || family != running("shield").task.own_children.get()) return;
    kept = true;
    CancelScope::move(*coroutine, coroutine->scheduler.root_scope());
}

void TaskBase::finish(Phase outcome) noexcept {
    phase = outcome;
    coroutine = nullptr;
    while (joiners.linked()) {
        auto& waiter = static_cast<Waiter&>(*joiners.next);
        waiter.unlink();
        waiter.on_done();
    }
}

void TaskBase::check_value() {
    switch (phase) {
    case Phase::value:
        return;
    case Phase::failed:
        error_seen = true;
        std::rethrow_exception(error);
    case Phase::cancelled:
        throw Cancelled();
    case Phase::created:
    case Phase::queued:
    case Phase::running:
    case Phase::ending:
        throw UsageError("result: the task " + describe() + " is still running");
    }
}

void TaskBase::detach() noexcept {
    if (done()) return;
    Family& root = coroutine->scheduler.root();
    if (family == &root) return;
    sibling.unlink();
    Family& left = *std::exchange(family, &root);
    root.children.push_back(sibling);
    left.child_ended(*this);
    CancelScope::move(*coroutine, *root.scope);
}

TaskBase::Children& TaskBase::children() {
    if (!own_children) {
        own_children = std::make_unique<Children>();
        own_children->scope = &CancelScope::own_of(*coroutine);
    }
    return *own_children;
}

Family& current_family(const char* what) {
    return running(what).task.children();
}
Scheduler& current_scheduler(const char* what) {
    return running(what).scheduler;
}

bool begin_task(Coroutine& self) noexcept {
    self.task.phase = TaskBase::Phase::running;
    return !self.task.must_cancel && !self.scheduler.ending();
}

void set_error(TaskBase& task) noexcept {
    task.error = std::current_exception();
}

namespace {

/// Calls what ends in users' code: that may wait as any function may, and no cancellation is thrown
/// at destructors. What it spawns are children of the task.
template<class Call>
void finish_shielded(Coroutine& self, Call&& call) noexcept {
    if (self.scheduler.ending()) { // from which no shield protects
        const NoWaiting no("what ends a task while its loop is closed");
        return call();
    }
    CancelScope scope({}, true);
    (void)scope.run([&] { call(); });
}

void join_children(Coroutine& self) noexcept {
    TaskBase& task = self.task;
    self.own_scope->cancel();
    ChildrenWait wait(self);
    task.own_children->joiner = &wait;
    break_cycle("joining the tasks that it has spawned", wait);
    try {
        self.scheduler.suspend(wait);
    } catch (...) {
        self.scheduler.report_exception("joining the children of the task " + task.describe());
    }
}

} // namespace

// Whatever of users' code is still to be called is called here, as long as there is a task, before
// anybody hears of its end. Each may begin anew what was ended before it.
void end_task(Coroutine& self, TaskBase::Phase outcome, void* function,
              void (*destroy)(void*) noexcept) noexcept {
    TaskBase& task = self.task;
    if (outcome == TaskBase::Phase::value && task.must_cancel) outcome = TaskBase::Phase::cancelled;
    task.phase = TaskBase::Phase::ending;
    if (function != nullptr) finish_shielded(self, [&] { destroy(function); });
    bool settled = false; // what becomes of the outcome
    for (;;) {
        if (self.locals != nullptr) {
            finish_shielded(self, [&] { drop_locals(self); });
        } else if (task.own_children && task.own_children->children.linked()) {
            join_children(self);
        } else if (self.scheduler.writing()) {
            self.scheduler.end_writing(self);
        } else if (std::exchange(settled, true) ||
                   (!task.error && (task.shared() || !task.has_destructor()))) {
            break;
        } else {
            finish_shielded(self, [&] {
                if (task.error && !task.error_seen) task.family->take_error(task);
                if (!task.shared()) task.drop_outcome();
            });
        }
    }
    Family& family = *std::exchange(task.family, nullptr);
    task.sibling.unlink();
    task.finish(outcome);
    family.child_ended(task);
    self.scheduler.end(self);
}

} // namespace weft::coro::detail
