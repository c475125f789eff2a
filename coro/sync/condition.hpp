#pragma once

#include <weft/coro/sync/mutex.hpp>

#include <cstddef>
#include <limits>
#include <type_traits>

#pragma GCC visibility push(default)

namespace weft::coro {

/// Lets those that hold a mutex wait until others have changed what it protects. For the coroutines
/// of one loop.
class Condition {
public:
    /// `mutex` must outlive it.
    explicit Condition(Mutex& mutex) noexcept : mutex_(mutex) {}
    /// Nobody may wait any more.
    ~Condition();
    Condition(const Condition&) = delete;
    Condition& operator=(const Condition&) = delete;

    /// Releases the mutex, waits to be notified, and gets the mutex back: first come, first served.
    /// Always suspends. Cancelling or the deadline end it before it is notified, with `Cancelled`
    /// or `TimeoutError`; a notified waiter returns in any case and meets a cancellation later, so
    /// that no notification is lost. Either way the caller holds the mutex again afterwards, and
    /// nothing ends the wait for that. `UsageError` if the caller does not hold the mutex.
    void wait(Deadline deadline = {});
    /// Waits until `holds()`, which is called with the mutex held: at first, each time that it is
    /// notified, and when the time is up. Does not suspend if it holds already, except to let
    /// others have their turn.
    template<class Predicate>
        requires std::is_invocable_r_v<bool, Predicate&>
    void wait(Predicate holds, Deadline deadline = {});

    /// Wakes the first `count` of those that wait, or all if they are fewer. They run when they get
    /// the mutex. Does not suspend. `UsageError` if the caller does not hold the mutex.
    void notify(std::size_t count = 1);
    void notify_all() { notify(std::numeric_limits<std::size_t>::max()); }

private:
    detail::Coroutine& holder(const char* what) const;
    /// False if the time was up.
    bool wait_once(detail::Coroutine& self, Deadline deadline);
    [[noreturn]] static void throw_timeout();

    Mutex& mutex_;
    detail::WaitQueue waiters_;
};

template<class Predicate>
    requires std::is_invocable_r_v<bool, Predicate&>
void Condition::wait(Predicate holds, Deadline deadline) {
    detail::Coroutine& self = holder("Condition::wait");
    self.scheduler.checkpoint(self);
    while (!holds()) {
        if (wait_once(self, deadline)) continue;
        if (holds()) return;
        throw_timeout();
    }
}

} // namespace weft::coro

#pragma GCC visibility pop
