#pragma once

#include <weft/coro/sync/wait_queue.hpp>

#include <cstddef>
#include <utility>

#pragma GCC visibility push(default)

namespace weft::coro {

/// Held by one coroutine that writes or by any number that read. First come, first served: a
/// reader that comes while a writer waits queues behind it, so that neither kind starves the other;
/// readers that stand in a row get it together. A waiter that was handed it owns it, even if it is
/// cancelled before it runs. For the coroutines of one loop.
class RwLock {
public:
    /// Holds the lock, for reading or writing, and releases it when it goes.
    class [[nodiscard]] Guard {
    public:
        Guard() noexcept = default;
        Guard(Guard&& other) noexcept : lock_(std::exchange(other.lock_, nullptr)) {}
        Guard& operator=(Guard&& other) noexcept {
            if (this == &other) return *this;
            drop();
            lock_ = std::exchange(other.lock_, nullptr);
            return *this;
        }
        /// Does not suspend, and may run anywhere on the loop's thread.
        ~Guard() { drop(); }

        /// Releases it before that. Does not suspend. `UsageError` if this guard holds nothing, or
        /// if it is another coroutine that writes, naming both.
        void unlock();
        explicit operator bool() const noexcept { return lock_ != nullptr; }

    private:
        friend class RwLock;
        explicit Guard(RwLock& lock) noexcept : lock_(&lock) {}
        void drop() noexcept {
            if (lock_ != nullptr) std::exchange(lock_, nullptr)->release();
        }
        RwLock* lock_ = nullptr;
    };

    RwLock() = default;
    /// Nobody may hold it any more.
    ~RwLock();
    RwLock(const RwLock&) = delete;
    RwLock& operator=(const RwLock&) = delete;

    /// Waits until the lock is the caller's alone. Suspends unless it is free. When it throws,
    /// `Cancelled`, `TimeoutError` or `UsageError` if the caller is writing already, the caller has
    /// got nothing.
    Guard write(Deadline deadline = {}) { return acquire(true, "RwLock::write", deadline); }
    /// Waits until the caller may read, together with others. Suspends if somebody writes or waits.
    /// A reader that asks again may wait for a writer that waits for it: do not. Throws as `write`
    /// does.
    Guard read(Deadline deadline = {}) { return acquire(false, "RwLock::read", deadline); }
    /// The same without waiting; the guard is empty if one would have to. Do not suspend.
    Guard try_write() { return try_acquire(true, "RwLock::try_write"); }
    Guard try_read() { return try_acquire(false, "RwLock::try_read"); }

    bool writing() const noexcept { return writer_ != nullptr; }
    std::size_t readers() const noexcept { return readers_; }

private:
    class LockWait;
    Guard acquire(bool to_write, const char* what, Deadline deadline);
    Guard try_acquire(bool to_write, const char* what);
    bool available(bool to_write) const noexcept {
        return writer_ == nullptr && waiters_.empty() && (!to_write || readers_ == 0);
    }
    void grant(detail::Coroutine& coroutine, bool to_write) noexcept;
    void release() noexcept;
    /// Lets those in whose turn it is.
    void admit() noexcept;

    detail::TaskBase* writer_ = nullptr; // kept alive, since a guard may outlive the coroutine
    std::size_t readers_ = 0;
    detail::WaitQueue waiters_; // empty unless it is held
};

} // namespace weft::coro

#pragma GCC visibility pop
