#pragma once

#include <weft/coro/tasks/cancel_scope.hpp>
#include <weft/coro/tasks/task.hpp>

#include <cstdint>
#include <exception>
#include <type_traits>
#include <utility>

#pragma GCC visibility push(default)

namespace weft::coro {

/// How often `retry` tries, and how long it pauses in between.
struct RetryPolicy {
    unsigned attempts = 3;                           ///< calls at most; 0: any number
    Duration pause = std::chrono::milliseconds(100); ///< after the first failure
    double factor = 2; ///< by which each pause is longer than the last
    Duration longest_pause = std::chrono::seconds(30);
    /// The part of each pause that is drawn by lot, so that those that failed together do not come
    /// back together: 0 pauses exactly, 1 for anything from 0 to the full time. Drawn from the
    /// loop's kernel, so that a simulation repeats itself.
    double jitter = 0.5;
    /// No pause reaches beyond it. The calls themselves are not cut short: see `with_timeout`.
    Deadline deadline = {};
};

/// A predicate for `retry`: exceptions of these types, and those derived from them.
template<class... Exceptions>
bool retry_on(const std::exception_ptr& error) {
    const auto is = [&]<class E>(std::type_identity<E>) {
        try {
            std::rethrow_exception(error);
        } catch (const E&) {
            return true;
        } catch (...) {
            return false;
        }
    };
    return (is(std::type_identity<Exceptions>()) || ...);
}

namespace detail {

/// The pauses of one `retry`. The constructor throws `UsageError` for a policy that cannot be.
class Backoff {
public:
    explicit Backoff(const RetryPolicy& policy);
    /// After a failure: whether there may be one more call, before which it pauses. Suspends.
    bool pause();

private:
    RetryPolicy policy_;
    double next_; // nanoseconds
    unsigned failures_ = 0;
};

} // namespace detail

/// Calls `function()` until it returns, and returns what it did. After a failure it pauses as the
/// policy says; the last failure is thrown: when there are no attempts left, when the pause would
/// end after the deadline, and when `should_retry(std::exception_ptr)` says no. Errors of misuse
/// (`UsageError`), fatal ones and `Cancelled` are never retried. Suspends where the function does
/// and in the pauses; cancelling ends either. `UsageError` for a negative pause or longest pause, a
/// factor below 1 or a jitter outside of 0 to 1.
template<class F, class P>
    requires std::is_invocable_r_v<bool, P&, const std::exception_ptr&>
auto retry(const RetryPolicy& policy, F&& function, P&& should_retry) -> std::invoke_result_t<F&> {
    detail::Backoff backoff(policy);
    for (;;) {
        std::exception_ptr error;
        try {
            return function();
        } catch (const Cancelled&) {
            throw;
        } catch (const FatalError&) {
            throw;
        } catch (const UsageError&) {
            throw;
        } catch (...) {
            error = std::current_exception();
        }
        // Not in the catch block: there, a coroutine that pauses counts as one that cleans up.
        if (!should_retry(std::as_const(error)) || !backoff.pause()) std::rethrow_exception(error);
    }
}
/// The same for every exception.
template<class F>
auto retry(const RetryPolicy& policy, F&& function) -> std::invoke_result_t<F&> {
    return retry(policy, std::forward<F>(function),
                 [](const std::exception_ptr&) noexcept { return true; });
}

/// Ticks at the multiples of an interval, counted from when it was made. Belongs to one coroutine
/// at a time.
class Ticker {
public:
    /// `UsageError` unless the interval is positive.
    explicit Ticker(Duration interval);

    /// Suspends until the next multiple, and returns how many went by since the last call before
    /// it, unnoticed: 0 if the caller keeps up. Cancelling leaves the ticker as it was.
    std::uint64_t tick();
    /// When the next tick is.
    TimePoint next() const noexcept { return next_; }
    Duration interval() const noexcept { return interval_; }

private:
    Duration interval_;
    TimePoint next_;
};

/// Calls `function()`, or `function(missed)` with the number of ticks that went by unnoticed, at
/// every tick of `interval`, the first time after one. Ends when the function returns `false`; one
/// that returns nothing goes on until it throws or the caller is cancelled. Suspends.
template<class F>
void every(Duration interval, F&& function) {
    for (Ticker ticker(interval);;) {
        const std::uint64_t missed = ticker.tick();
        const auto call = [&]() -> decltype(auto) {
            if constexpr (std::is_invocable_v<F&, std::uint64_t>) {
                return function(missed);
            } else {
                return function();
            }
        };
        if constexpr (std::is_same_v<decltype(call()), bool>) {
            if (!call()) return;
        } else {
            call();
        }
    }
}

} // namespace weft::coro

#pragma GCC visibility pop
