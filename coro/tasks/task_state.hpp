#pragma once

#include <weft/coro/core/block_cache.hpp>
#include <weft/coro/core/scheduler.hpp>
#include <weft/reactor/function.hpp>
#include <weft/reactor/future.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

#pragma GCC visibility push(default)

namespace weft::coro::detail {

using Waiter = weft::detail::FutureStateBase::Waiter;
/// What is told of a task's end.
struct TaskWaiter : Waiter {
    /// The task that cannot go on before; null: none that is known.
    virtual TaskBase* who() const noexcept { return nullptr; }
};

/// What tasks of all types have in common: the side of a coroutine that outlives it. Counted by its
/// handles and its coroutine, on the loop's thread.
class TaskBase {
public:
    // A task is in one of these phases, and goes from one to the next by
    //
    //     created  Scheduler::add      queued     it has a coroutine
    //     created  spawn_in            cancelled  its callable could not be stored
    //     queued   begin_task          running    its function runs or, in a `Wait`, is parked
    //     running  end_task            ending     that has returned or thrown, or was never called;
    //                                             children are joined, captures and locals dropped
    //     ending   finish              value, failed or cancelled: it is done, with this outcome
    //
    // A generator is created before it is first asked for an item. From `queued` to `running` it
    // can be cancelled.
    enum class Phase : std::uint8_t { created, queued, running, ending, value, failed, cancelled };

    explicit TaskBase(std::source_location where) noexcept : spawned(where) {}
    virtual ~TaskBase();
    TaskBase(const TaskBase&) = delete;
    TaskBase& operator=(const TaskBase&) = delete;

    void retain() noexcept { ++references_; }
    void release() noexcept {
        if (--references_ == 0) delete this;
    }

    bool done() const noexcept {
        return phase == Phase::value || phase == Phase::failed || phase == Phase::cancelled;
    }
    /// Whether its function is still to be ended.
    bool cancellable() const noexcept { return phase == Phase::queued || phase == Phase::running; }
    /// Cancels its own scope: what it waits for is cancelled, and its suspensions throw
    /// `Cancelled`. False if its body has ended.
    bool cancel() noexcept;
    void uncancel() noexcept;
    /// Parks the calling coroutine, which refers to this meanwhile, until this is done. With
    /// `pass_on` a cancellation of the caller goes to this task. False: the deadline has passed.
    /// Inlined, since each return after a switch is one that the processor predicts wrong.
    bool join(const char* what, bool pass_on, TimePoint deadline = TimePoint::max());
    /// The coroutine that is to wait for it, as `what` says; null if none has to.
    Coroutine* joiner(const char* what);
    /// `UsageError` if `self`, which runs, cannot wait for this: itself, another loop's, or one
    /// that waits for it in turn. Only while it is not done.
    void check_joinable(const char* what, const Coroutine& self) const;
    /// A child of the calling coroutine is not cancelled with it any more, but still joined by it.
    void protect();
    /// The outcome is there: those that wait hear of it.
    void finish(Phase outcome) noexcept;
    /// Throws unless there is a value; the error counts as seen.
    void check_value();
    /// The value is about to be moved out. `UsageError` if it was before.
    void take_value(const char* what);
    /// `UsageError` if it was moved out.
    void check_not_taken(const char* what) const;
    /// Nobody can ask for the outcome any more: it goes while the task may still do anything.
    void drop_outcome() noexcept;
    /// Shows what waits for it, as far as `wanted_otherwise` does not say that there may be others.
    void visit_waiting(TaskVisitor& visitor) const;
    /// For a generator: the task that waits for its next item.
    virtual TaskBase* asked_by() const noexcept { return nullptr; }
    bool shared() const noexcept { return references_ > 1; }
    /// Moves it to the root of its loop, whose end alone ends it.
    void detach() noexcept;
    /// "'name' (spawned at file:line)".
    std::string describe() const;
    void set_name(std::string_view text) {
        name.reset(text.empty() ? nullptr : new std::string(text));
    }

    struct Child : ListNode {
        explicit Child(TaskBase& t) noexcept : task(t) {}
        TaskBase& task;
    };
    static TaskBase& of_child(ListNode& link) noexcept { return static_cast<Child&>(link).task; }

    Child sibling{*this};           ///< among `family->children`
    Family* family = nullptr;       ///< null once it has ended
    Coroutine* coroutine = nullptr; ///< null once it has ended
    ListNode joiners;               ///< `TaskWaiter`s of those that join it
    std::exception_ptr error;
    std::source_location spawned;
    std::unique_ptr<std::string> name;
    Wait* next_request = nullptr; ///< of a coroutine that waits for the next call of `cancel`
    int cancel_requests = 0;
    Phase phase = Phase::created;
    bool must_cancel = false; ///< a request has not been delivered
    bool error_seen = false;
    bool kept = false;             ///< dropping its handle cancels nothing
    bool taken = false;            ///< the value was moved out
    bool wanted_otherwise = false; ///< a waiter that is not among `joiners` may wait for it, or did
    // What the last search for a cycle saw that came by.
    std::uint64_t met = 0, met_backwards = 0;

    /// Its own children, which it joins before it ends. A task that spawns none has none.
    struct Children final : Family {};
    Children& children();
    std::unique_ptr<Children> own_children;

    static void* operator new(std::size_t size) { return allocate_block(size); }
    static void operator delete(void* block, std::size_t size) noexcept { free_block(block, size); }

    /// Whether dropping the value may call somebody's code.
    virtual bool has_destructor() const noexcept { return false; }

protected:
    virtual void drop_value() noexcept {}

private:
    unsigned references_ = 0;
};

/// Waits for a task's end. Cancelling the one that waits cancels the task, unless it is shielded.
class JoinWait final : public Wait {
public:
    JoinWait(Coroutine& self, TaskBase& task, bool pass_on) noexcept
        : Wait(self), task_(task), pass_on_(pass_on) {
        task.joiners.push_back(told_);
    }
    void abandon() noexcept override { told_.unlink(); }
    TaskBase* cancel_instead() noexcept override { return pass_on_ ? &task_ : nullptr; }
    void needed(TaskVisitor& visitor) const override { visitor.visit(task_); }
    std::string describe() const override;

private:
    struct Told final : TaskWaiter {
        explicit Told(JoinWait& w) noexcept : wait(w) {}
        void on_done() noexcept override { wait.wake(); }
        TaskBase* who() const noexcept override { return &wait.coroutine.task; }
        JoinWait& wait;
    };
    TaskBase& task_;
    Told told_{*this};
    bool pass_on_;
};

inline bool TaskBase::join(const char* what, bool pass_on, TimePoint deadline) {
    Coroutine* self = joiner(what);
    if (self == nullptr) return true;
    JoinWait wait(*self, *this, pass_on);
    return self->scheduler.suspend(wait, deadline) != Wake::timed_out;
}

template<class T>
class TaskState final : public TaskBase {
public:
    using TaskBase::TaskBase;
    using Value = std::conditional_t<std::is_void_v<T>, std::monostate, T>;
    std::optional<Value> value;

    bool has_destructor() const noexcept override {
        return !std::is_trivially_destructible_v<Value> && value.has_value();
    }

protected:
    void drop_value() noexcept override { value.reset(); }
};

/// For `Task::on_done`.
void call_when_done(TaskBase& task, Function<void()> function, std::source_location where);
/// What an exception says, for reports.
std::string text_of(const std::exception_ptr& error);
/// Before the body runs: false if it was cancelled before.
bool begin_task(Coroutine& self) noexcept;
/// After it: the task's children are joined, and the coroutine ends. `function`, which may be null,
/// is what it ran: that goes first.
[[noreturn]] void end_task(Coroutine& self, TaskBase::Phase outcome, void* function = nullptr,
                           void (*destroy)(void*) noexcept = nullptr) noexcept;
/// In a catch block: what the body threw becomes the task's error.
void set_error(TaskBase& task) noexcept;

} // namespace weft::coro::detail

#pragma GCC visibility pop
