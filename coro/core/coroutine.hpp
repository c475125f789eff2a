#pragma once

#include <weft/coro/core/context.hpp>
#include <weft/coro/core/stack_pool.hpp>
#include <weft/reactor/clock.hpp>
#include <weft/reactor/error.hpp>
#include <weft/reactor/timer_queue.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>

#pragma GCC visibility push(default)

namespace weft::coro {

class CancelScope;

namespace detail {

using weft::detail::ListNode;
using weft::detail::TimerNode;

class Coroutine;
class GeneratorBase;
class Scheduler;
class TaskBase;
struct LocalValues;

/// What ended a wait. `refused`: it had come to wait for itself, and its task's `error` says how.
enum class Wake : std::uint8_t { event, timed_out, cancelled, refused };

/// Is shown tasks, one by one.
class TaskVisitor {
public:
    virtual void visit(TaskBase& task) = 0;

protected:
    ~TaskVisitor() = default;
};

/// What a coroutine waits for: made on its own stack, put into whatever list or queue will end the
/// wait, and given to `Scheduler::suspend`. The first of event, deadline and cancellation wins:
/// `wake` ends the wait from the outside, and for the other two the wait is taken back by
/// `abandon`, so that no event can come any more.
class Wait : public ListNode {
public:
    explicit Wait(Coroutine& waiter) noexcept : coroutine(waiter) {}
    Wait(const Wait&) = delete;
    Wait& operator=(const Wait&) = delete;

    /// Takes the wait out of wherever it stands. Called at most once, and never after `wake`.
    virtual void abandon() noexcept { unlink(); }
    /// The task to be cancelled in place of this wait, which then ends as that task does; null: the
    /// wait itself.
    virtual TaskBase* cancel_instead() noexcept { return nullptr; }
    /// Shows the tasks that each have to go on before the event can come, as far as that is known.
    virtual void needed(TaskVisitor&) const {}
    /// Whether it may be ended because it is part of a cycle.
    virtual bool refusable() const noexcept { return !uncancellable; }
    /// What it waits for, for people: "a mutex", "data from 127.0.0.1:4711".
    virtual std::string describe() const = 0;

    /// The event came: the coroutine is queued to be run. Once, from anywhere on the loop's thread.
    void wake() noexcept;
    /// The same, and it runs right away if this is called by the loop and not by another coroutine.
    void wake_now();
    /// `wake_now`, inlined (suspend.hpp).
    void wake_here();

    Coroutine& coroutine;
    /// Only the event ends it.
    bool uncancellable = false;

protected:
    ~Wait() = default;
};

/// A coroutine's place in a list.
struct Link : ListNode {
    explicit Link(Coroutine& c) noexcept : coroutine(c) {}
    Coroutine& coroutine;
};
inline Coroutine& coroutine_of(ListNode& link) noexcept {
    return static_cast<Link&>(link).coroutine;
}

/// What a switch touches of a coroutine: in one cache line with what it touches of the context.
struct Switched {
    explicit Switched(Scheduler& s) noexcept : scheduler(s) {}

    Scheduler& scheduler;
    Wait* wait = nullptr;            ///< what it is parked in, and nothing has come of yet
    Coroutine* next_ready = nullptr; ///< behind it in the scheduler's queue of those to be run
    /// A generator's consumer, which is run instead of anybody else when this one suspends.
    Coroutine* consumer = nullptr;
    Wake woken_by = Wake::event; ///< the last wait
    // What is to happen, and what has happened; neither follows from the other: a shield may keep
    // off what was delivered, and somebody's code may be called that must not wait.
    /// The next suspension throws `Cancelled`: the scope is cancelled.
    bool cancel_pending = false;
    /// A cancelled scope was delivered to it, and its exception has not left that scope.
    bool in_cancellation = false;
    std::uint16_t immediate = 0; ///< what was done in a row that did not have to wait
    std::uint16_t swallowed = 0; ///< cancellations that a catch block kept to itself
};

/// A coroutine's control block. It lies at the top of its stack and goes with it; a task's outcome
/// lies elsewhere.
class alignas(64) Coroutine : public Switched, public Context {
public:
    Coroutine(Scheduler& s, TaskBase& t, const Stack& on) noexcept
        : Switched(s), task(t), stack(on) {}
    Coroutine(const Coroutine&) = delete;
    Coroutine& operator=(const Coroutine&) = delete;

    TaskBase& task;
    CancelScope* scope = nullptr;     ///< the innermost one
    CancelScope* own_scope = nullptr; ///< the outermost of its own, see `CancelScope::own_of`
    LocalValues* locals = nullptr;
    Link scope_link{*this};  ///< among the members of `scope`
    Link all_link{*this};    ///< among all there are
    Link cancel_link{*this}; ///< among those to be told that their scopes have changed
    Stack stack;

    /// Takes the wait back, if nothing has come of it yet, and queues the coroutine to hear why.
    void end_wait(Wake reason) noexcept;
    /// To be called when its scope has changed.
    void update_cancellation() noexcept;
    /// Whether the whole of it is cancelled, and not only a scope that it is inside of.
    bool cancelled_as_whole() const noexcept;
    /// Its wait ends, and throws `error`.
    void refuse_wait(std::exception_ptr error) noexcept;

    bool updating = false; ///< in `Scheduler::update_now`
    /// It runs somebody's code in the middle of something, and must not wait: what the code is, for
    /// texts.
    const char* no_wait = nullptr;

    /// Where `own_scope` is made: cancelling must not need memory.
    alignas(void*) std::byte own_scope_place[160];
};

/// As long as it lives the coroutine that runs may not wait: for calls of users' code in the middle
/// of what has to be finished first. Operations that need not wait work.
class NoWaiting {
public:
    explicit NoWaiting(const char* what) noexcept;
    ~NoWaiting();
    NoWaiting(const NoWaiting&) = delete;
    NoWaiting& operator=(const NoWaiting&) = delete;

private:
    Coroutine* self_;
    const char* before_ = nullptr;
};

/// The coroutine that runs on this thread, null in the loop's own callbacks.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local Coroutine* current;

} // namespace detail
} // namespace weft::coro

#pragma GCC visibility pop
