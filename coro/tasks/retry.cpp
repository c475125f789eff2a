#include <weft/coro/tasks/retry.hpp>
#include <weft/coro/tasks/sleep.hpp>

#include <algorithm>
#include <bit>
#include <span>
#include <string>

namespace weft::coro {
namespace detail {
namespace {

/// Evenly from [0, 1).
double random_part(Kernel& kernel) {
    std::uint64_t bits = 0;
    kernel.random(std::as_writable_bytes(std::span(&bits, 1)));
    return static_cast<double>(bits >> 11) * 0x1p-53;
}

} // namespace

Backoff::Backoff(const RetryPolicy& policy)
    : policy_(policy), next_(static_cast<double>(policy.pause.count())) {
    (void)running("retry");
    const auto refuse = [](const char* what) { throw UsageError(std::string("retry: ") + what); };
    if (policy.pause < Duration::zero()) refuse("the pause is negative");
    if (policy.longest_pause < Duration::zero()) refuse("the longest pause is negative");
    if (!(policy.factor >= 1)) refuse("the factor is less than 1");
    if (!(policy.jitter >= 0 && policy.jitter <= 1)) refuse("the jitter is not from 0 to 1");
}

bool Backoff::pause() {
    if (policy_.attempts != 0 && ++failures_ >= policy_.attempts) return false;
    Loop& loop = this_loop();
    const double full = std::min(next_, static_cast<double>(policy_.longest_pause.count()));
    next_ = std::min(next_ * policy_.factor, 9e18); // which is still a duration
    const double drawn =
        policy_.jitter == 0
            ? 0
            : full * policy_.jitter * random_part(weft::detail::core_of(loop).kernel());
    const TimePoint until =
        loop.deadline_in(std::chrono::duration<double, std::nano>(full - drawn));
    if (until > policy_.deadline.at()) return false;
    sleep_until(until);
    return true;
}

} // namespace detail

Ticker::Ticker(Duration interval) : interval_(interval) {
    if (interval <= Duration::zero()) throw UsageError("Ticker: the interval must be positive");
    next_ = this_loop().deadline_in(interval);
}

std::uint64_t Ticker::tick() {
    const TimePoint now = detail::running("Ticker::tick").scheduler.loop().now();
    std::int64_t missed = 0;
    TimePoint at = next_;
    if (at <= now) {
        // Those that are over: the next one to wait for is the first multiple from now on.
        missed = (now - at + interval_ - Duration(1)) / interval_;
        at = add_saturated(at, interval_ * missed);
    }
    sleep_until(at);
    next_ = add_saturated(at, interval_);
    return static_cast<std::uint64_t>(missed);
}

} // namespace weft::coro
