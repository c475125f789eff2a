#pragma once

#include <weft/coro/sync/wait_queue.hpp>

#include <utility>

#pragma GCC visibility push(default)

namespace weft::coro {

/// Held by one coroutine at a time, also while that is suspended. Those that wait for it get it in
/// the order in which they came: releasing it hands it to the first of them at once, and those
/// that come later queue behind, even if they run earlier. A waiter that was handed it owns it: a
/// cancellation that comes after that is met at the next suspension, and the guard hands it on. For
/// the coroutines of one loop.
class Mutex {
public:
    /// Holds the mutex, and releases it when it goes.
    class [[nodiscard]] Guard {
    public:
        Guard() noexcept = default;
        Guard(Guard&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
        Guard& operator=(Guard&& other) noexcept {
            if (this == &other) return *this;
            drop();
            mutex_ = std::exchange(other.mutex_, nullptr);
            return *this;
        }
        /// Does not suspend, and may run anywhere on the loop's thread.
        ~Guard() { drop(); }

        /// Releases it before that. Does not suspend. `UsageError` if this guard holds nothing, or
        /// if it is another coroutine that has locked the mutex, naming both.
        void unlock();
        /// Whether it holds the mutex.
        explicit operator bool() const noexcept { return mutex_ != nullptr; }

    private:
        friend class Mutex;
        explicit Guard(Mutex& mutex) noexcept : mutex_(&mutex) {}
        void drop() noexcept {
            if (mutex_ != nullptr) std::exchange(mutex_, nullptr)->release();
        }
        Mutex* mutex_ = nullptr;
    };

    Mutex() = default;
    /// Nobody may hold it any more.
    ~Mutex();
    Mutex(const Mutex&) = delete;
    Mutex& operator=(const Mutex&) = delete;

    /// Waits until the mutex is the caller's. Suspends unless it is free. When it throws,
    /// `Cancelled`, `TimeoutError`, or `UsageError` if the caller holds it already, the caller does
    /// not hold it through this call.
    Guard lock(Deadline deadline = {}) {
        detail::Coroutine& self = detail::running("Mutex::lock");
        self.scheduler.checkpoint(self);
        if (owner_ != nullptr) [[unlikely]]
            wait(self, deadline);
        else
            set_owner(self);
        return Guard(*this);
    }
    /// Locks it if it is free; else the guard is empty. Does not suspend. `UsageError` outside of a
    /// coroutine.
    Guard try_lock();
    bool locked() const noexcept { return owner_ != nullptr; }

private:
    friend class Condition;
    class LockWait;
    void wait(detail::Coroutine& self, Deadline deadline);
    /// For those that must have it, cancelled or not.
    void lock_in_any_case(detail::Coroutine& self);
    void set_owner(detail::Coroutine& coroutine) noexcept {
        owner_ = &coroutine.task;
        owner_->retain();
    }
    void release() noexcept {
        std::exchange(owner_, nullptr)->release();
        if (!waiters_.empty()) hand_over();
    }
    void hand_over() noexcept;
    bool held_by(const detail::Coroutine& coroutine) const noexcept {
        return owner_ == &coroutine.task;
    }
    std::string describe_owner() const;

    detail::TaskBase* owner_ = nullptr; // kept alive, since a guard may outlive the coroutine
    detail::WaitQueue waiters_;         // empty unless it is held
};

} // namespace weft::coro

#pragma GCC visibility pop
