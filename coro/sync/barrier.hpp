#pragma once

#include <weft/coro/sync/wait_queue.hpp>

#include <cstddef>

#pragma GCC visibility push(default)

namespace weft::coro {

/// Where coroutines wait for each other: the last one to come releases all. For one loop; `reset`
/// and `abort` also for its plain callbacks.
class Barrier {
public:
    /// `UsageError` for a barrier of 0.
    explicit Barrier(std::size_t parties);
    /// Those that still wait get a `UsageError`.
    ~Barrier() = default;
    Barrier(const Barrier&) = delete;
    Barrier& operator=(const Barrier&) = delete;

    /// Waits until as many as the barrier is for have come: its number among them, from 0 on in the
    /// order in which they came. Suspends unless it is the last. They all are released at once, so
    /// one that comes back early waits for a whole new round. `Cancelled` and `TimeoutError` take
    /// the caller out again, and the others wait on; `Errc::aborted` if the barrier is reset or
    /// aborted.
    std::size_t wait(Deadline deadline = {});
    /// Those that wait fail with `Errc::aborted`; the barrier can be used again, also after
    /// `abort`. Does not suspend.
    void reset() noexcept;
    /// Those that wait, and those that come, fail with `Errc::aborted` until it is reset. Does not
    /// suspend.
    void abort() noexcept;

    std::size_t parties() const noexcept { return parties_; }
    /// How many wait.
    std::size_t waiting() const noexcept { return waiters_.size(); }
    bool aborted() const noexcept { return aborted_; }

private:
    class PartyWait;
    const std::size_t parties_;
    bool aborted_ = false;
    detail::WaitQueue waiters_; // fewer than `parties_`
};

} // namespace weft::coro

#pragma GCC visibility pop
