#pragma once

#include <weft/coro/sync/wait_queue.hpp>

#include <cstddef>
#include <limits>
#include <utility>

#pragma GCC visibility push(default)

namespace weft::coro {

/// A number of permits. Those that wait for one get it in the order in which they came: a permit
/// that is released while somebody waits is the first one's at once. A waiter that was given one
/// owns it, even if it is cancelled before it runs. For the coroutines of one loop; `release` and
/// `try_acquire` also for its plain callbacks.
class Semaphore {
public:
    /// A permit that goes back when this goes.
    class [[nodiscard]] Permit {
    public:
        Permit() noexcept = default;
        Permit(Permit&& other) noexcept : semaphore_(std::exchange(other.semaphore_, nullptr)) {}
        Permit& operator=(Permit&& other) noexcept {
            if (this == &other) return *this;
            release();
            semaphore_ = std::exchange(other.semaphore_, nullptr);
            return *this;
        }
        ~Permit() { release(); }

        /// Gives it back before that; harmless when it is empty. Does not suspend.
        void release() noexcept {
            if (semaphore_ != nullptr) std::exchange(semaphore_, nullptr)->give_back();
        }
        explicit operator bool() const noexcept { return semaphore_ != nullptr; }

    private:
        friend class Semaphore;
        explicit Permit(Semaphore& semaphore) noexcept : semaphore_(&semaphore) {}
        Semaphore* semaphore_ = nullptr;
    };

    /// `permits` to begin with, and never more than `limit`: the size of what they stand for, so
    /// that one release too many is found. `UsageError` if `permits` is negative or more than that.
    explicit Semaphore(std::ptrdiff_t permits,
                       std::ptrdiff_t limit = std::numeric_limits<std::ptrdiff_t>::max());
    /// Those that still wait get a `UsageError`.
    ~Semaphore() = default;
    Semaphore(const Semaphore&) = delete;
    Semaphore& operator=(const Semaphore&) = delete;

    /// Takes a permit, to be given back with `release` by any coroutine or callback. Suspends if
    /// there is none. When it throws, `Cancelled` or `TimeoutError`, it has taken none.
    void acquire(Deadline deadline = {}) {
        detail::Coroutine& self = detail::running("Semaphore::acquire");
        self.scheduler.checkpoint(self);
        if (permits_ != 0) {
            --permits_;
        } else {
            detail::QueuedWait wait(self, "a permit of a Semaphore");
            waiters_.park(wait, "Semaphore::acquire", deadline);
        }
    }
    /// `acquire`, with the permit in a guard that gives it back.
    Permit permit(Deadline deadline = {}) {
        acquire(deadline);
        return Permit(*this);
    }
    /// Takes one if there is one. Does not suspend.
    [[nodiscard]] bool try_acquire() noexcept {
        if (permits_ == 0) return false;
        --permits_;
        return true;
    }
    /// Gives permits back, or adds them. Does not suspend. `UsageError` if that would be more than
    /// the limit; then nothing is released.
    void release(std::ptrdiff_t count = 1);
    /// Those that are free. 0 as long as somebody waits.
    std::ptrdiff_t available() const noexcept { return permits_; }

private:
    void give_back() noexcept;

    std::ptrdiff_t permits_;
    std::ptrdiff_t limit_;
    detail::WaitQueue waiters_; // empty unless there are no permits
};

} // namespace weft::coro

#pragma GCC visibility pop
