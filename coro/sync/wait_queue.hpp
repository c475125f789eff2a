#pragma once

#include <weft/coro/core/scheduler.hpp>
#include <weft/coro/tasks/cancel_scope.hpp>
#include <weft/coro/tasks/task.hpp>

#include <string>

#pragma GCC visibility push(default)

namespace weft::coro::detail {

/// The place of a coroutine that waits for a primitive.
class QueuedWait : public Wait {
public:
    QueuedWait(Coroutine& self, const char* what) noexcept : Wait(self), what_(what) {}
    std::string describe() const override { return what_; }

    bool stranded = false; ///< what it waited for was destroyed

private:
    const char* what_;
};

[[noreturn]] void throw_timeout(const char* operation);
[[noreturn]] void throw_stranded(const char* operation);

// Inlined, like what calls them: each return between a switch and the code that goes on is one that
// the processor predicts from another coroutine's calls.

/// `Scheduler::suspend`, but throws `TimeoutError`.
inline void suspend_until(Wait& wait, const char* operation, Deadline deadline) {
    Scheduler& scheduler = wait.coroutine.scheduler;
    if (deadline.never()) [[likely]] {
        scheduler.suspend(wait);
    } else if (scheduler.suspend(wait, deadline.at()) == Wake::timed_out) {
        throw_timeout(operation);
    }
}

/// Those that wait for a primitive, first come, first served.
class WaitQueue {
public:
    WaitQueue() = default;
    /// Those that still wait hear of it: what they called throws `UsageError`.
    ~WaitQueue();
    WaitQueue(const WaitQueue&) = delete;
    WaitQueue& operator=(const WaitQueue&) = delete;

    bool empty() const noexcept { return !waits_.linked(); }
    std::size_t size() const noexcept;
    /// Of a queue that is not empty.
    QueuedWait& first() const noexcept { return static_cast<QueuedWait&>(*waits_.next); }
    QueuedWait& pop() noexcept {
        QueuedWait& wait = first();
        wait.unlink();
        return wait;
    }
    void add(QueuedWait& wait) noexcept { waits_.push_back(wait); }
    void wake_all() noexcept;

    /// Parks `wait`'s coroutine at the end. Throws `Cancelled`, `TimeoutError`, and `UsageError` if
    /// the queue is destroyed meanwhile.
    void park(QueuedWait& wait, const char* operation, Deadline deadline) {
        add(wait);
        suspend_until(wait, operation, deadline);
        if (wait.stranded) [[unlikely]]
            throw_stranded(operation);
    }

private:
    ListNode waits_;
};

/// For a destructor that finds its object in use, so that others would go on with what is gone.
[[noreturn]] void destroyed_in_use(const std::string& what) noexcept;

} // namespace weft::coro::detail

#pragma GCC visibility pop
