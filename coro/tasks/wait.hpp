#pragma once

#include <weft/coro/tasks/await.hpp>
#include <weft/coro/tasks/collector.hpp>
#include <weft/coro/tasks/sleep.hpp>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <ranges>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#pragma GCC visibility push(default)

namespace weft::coro {

/// What `wait` waits for.
enum class WaitUntil : std::uint8_t {
    first_completed, ///< one has ended, however
    first_exception, ///< one has failed or was cancelled, or all have ended
    all,             ///< all have ended
};

/// Positions in what was given to `wait`, in ascending order.
struct WaitResult {
    std::vector<std::size_t> done = {};
    std::vector<std::size_t> pending = {};
};

namespace detail {

WaitResult wait_for_some(std::vector<Awaited> items, WaitUntil until, TimePoint deadline);
/// Waits for `task`, and when the deadline passes cancels it and waits for its end. True if it was
/// cancelled by that.
bool join_until(TaskBase& task, TimePoint deadline);

} // namespace detail

/// Suspends until as many of the tasks or futures have ended as `until` says, or the deadline has
/// passed: those that have ended, and those that have not. Never throws their outcomes, and never
/// cancels them, be it that the deadline passes or the caller is cancelled. What is there twice
/// shows twice. `UsageError` for an empty range.
template<std::ranges::forward_range R>
WaitResult wait(R&& tasks, WaitUntil until = WaitUntil::all, Deadline deadline = {}) {
    return detail::wait_for_some(detail::awaited_of(tasks), until, deadline.at());
}

/// A range of tasks or futures in the order in which they end, each once; made by `as_completed`.
template<class T>
class AsCompleted {
public:
    /// Goes through the range once; moving on suspends until the next has ended.
    class Iterator {
    public:
        using value_type = T;
        using difference_type = std::ptrdiff_t;
        explicit Iterator(AsCompleted& range) noexcept : range_(&range) {}
        T& operator*() const noexcept { return *range_->items_[range_->at_]; }
        Iterator& operator++() {
            range_->advance();
            return *this;
        }
        void operator++(int) { range_->advance(); }
        bool operator==(std::default_sentinel_t) const noexcept { return range_->at_end_; }

    private:
        AsCompleted* range_;
    };

    AsCompleted(std::vector<T*> items, std::vector<detail::Awaited> awaited, Deadline deadline)
        : items_(std::move(items)), collector_("as_completed", std::move(awaited)),
          deadline_(deadline.at()) {}
    /// Suspends until the first has ended.
    Iterator begin() {
        advance();
        return Iterator(*this);
    }
    std::default_sentinel_t end() const noexcept { return {}; }

private:
    void advance() {
        at_end_ = collector_.left() == 0;
        if (at_end_) return;
        at_ = collector_.next(deadline_);
        if (at_ == detail::Collector::none)
            throw TimeoutError("as_completed: the time is up, and " +
                               std::to_string(collector_.left()) + " have not ended");
    }
    std::vector<T*> items_;
    detail::Collector collector_;
    TimePoint deadline_;
    std::size_t at_ = 0;
    bool at_end_ = false;
};

/// For `for (Task<int>& task : as_completed(tasks))`: suspends at each step until one more has
/// ended. When the deadline passes before, the step throws `TimeoutError`; that, cancelling the
/// caller and leaving the loop cancel none of them. What is there twice comes once. The range must
/// outlive the loop.
template<std::ranges::forward_range R>
auto as_completed(R& tasks, Deadline deadline = {}) {
    using T = std::remove_reference_t<std::ranges::range_reference_t<R>>;
    std::vector<T*> items;
    for (T& item : tasks)
        items.push_back(&item);
    return AsCompleted<T>(std::move(items), detail::awaited_of(tasks), deadline);
}

/// Waits for a task, and cancels it when the limit has passed: its value, its error, or
/// `TimeoutError` once it has ended cancelled. What it returns or throws all the same counts. With
/// a limit in the past only one that is done has a result. Suspends; cancelling the caller cancels
/// the task, but ends the wait at once when that is being cancelled already.
template<class T>
decltype(auto) wait_for(Task<T>& task, Deadline limit) {
    (void)task.done(); // or it throws that the task is empty
    const weft::detail::StateRef<detail::TaskState<T>> keep(task.state());
    keep->check_not_taken("wait_for");
    if (detail::join_until(*keep, limit.at()) && keep->phase == detail::TaskBase::Phase::cancelled)
        throw TimeoutError("wait_for: the time is up for the task " + keep->describe());
    // Not by way of another checkpoint: what was got is not lost to a cancellation that came since.
    keep->check_value();
    if constexpr (!std::is_void_v<T>) return static_cast<T&>(*keep->value);
}
template<class T>
T wait_for(Task<T>&& task, Deadline limit) {
    Task<T> mine = std::move(task);
    if constexpr (std::is_void_v<T>) {
        wait_for(mine, limit);
    } else {
        return std::move(wait_for(mine, limit));
    }
}
/// The same for a future, which ends when it is cancelled.
template<class T>
decltype(auto) wait_for(Future<T>& future, Deadline limit) {
    if (!future.done() && limit.at() <= this_loop().now()) {
        future.cancel();
        throw TimeoutError("wait_for: the time is up for a future");
    }
    detail::wait_for_future(future.state_ref().get(), true, limit.at());
    return future.result();
}
/// The same for a callable, which runs as a task of its own; not at all if the limit has passed.
template<class F>
    requires std::is_invocable_v<std::decay_t<F>&>
auto wait_for(F&& function, Deadline limit, SpawnOptions options = {},
              std::source_location where = std::source_location::current())
    -> detail::SpawnResult<F> {
    if (limit.at() <= this_loop().now())
        throw TimeoutError("wait_for: the time was up before the start");
    return wait_for(spawn(std::forward<F>(function), options, where), limit);
}

} // namespace weft::coro

#pragma GCC visibility pop
