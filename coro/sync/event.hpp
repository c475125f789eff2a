#pragma once

#include <weft/coro/sync/wait_queue.hpp>

#pragma GCC visibility push(default)

namespace weft::coro {

/// A flag that coroutines can wait for. For one loop; `set` and `clear` also for its plain
/// callbacks.
class Event {
public:
    Event() = default;
    /// Those that still wait for it get a `UsageError`.
    ~Event() = default;
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;

    /// Waits until the event is set. Does not suspend if it is, except to let others have their
    /// turn. Throws `Cancelled` and `TimeoutError`. When it returns the event was set meanwhile,
    /// and may be clear again.
    void wait(Deadline deadline = {});
    /// Releases all that wait, also if it is cleared before they run, and lets through those
    /// that come. Does not suspend.
    void set() noexcept;
    void clear() noexcept { set_ = false; }
    bool is_set() const noexcept { return set_; }

private:
    bool set_ = false;
    detail::WaitQueue waiters_;
};

} // namespace weft::coro

#pragma GCC visibility pop
