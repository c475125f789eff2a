#pragma once

#include <chrono>
#include <type_traits>

#pragma GCC visibility push(default)

namespace weft {

/// The loop's clock: monotonic, counted in nanoseconds from an unspecified start. It has no `now()`
/// because only a kernel can read it (`Loop::now()`, `Kernel::now()`); under the simulator it is
/// virtual.
struct Clock {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<Clock>;
    static constexpr bool is_steady = true;
};

/// A span of time in the clock's nanoseconds, of which there are 292 years. Made from any chrono
/// duration it saturates instead of overflowing, so that "for ever" can be `Duration::max()`,
/// `seconds::max()` or 300 years wherever one is asked for; what is finer than a nanosecond is
/// rounded up, never early, and what is no number is for ever. Arithmetic on it is chrono's, which
/// does not saturate: use `add_saturated`.
struct Duration : Clock::duration {
    constexpr Duration() noexcept : Clock::duration(0) {}
    constexpr explicit Duration(rep nanoseconds) noexcept : Clock::duration(nanoseconds) {}
    template<class Rep, class Period>
    constexpr Duration(std::chrono::duration<Rep, Period> d) noexcept
        : Clock::duration(saturated(d)) {}
    static constexpr Duration zero() noexcept { return Duration(0); }
    static constexpr Duration min() noexcept { return Duration(Clock::duration::min()); }
    static constexpr Duration max() noexcept { return Duration(Clock::duration::max()); }

private:
    template<class Rep, class Period>
    static constexpr Clock::duration saturated(std::chrono::duration<Rep, Period> d) noexcept {
        if constexpr (std::is_same_v<std::chrono::duration<Rep, Period>, Clock::duration>) {
            return d;
        } else {
            using Seconds = std::chrono::duration<double>;
            // 2^63 ns is 292 years; a comparison in doubles is exact enough to keep the cast below
            // in range.
            if (Seconds(d) <= Seconds(-9.2e9)) return min();
            if (!(Seconds(d) < Seconds(9.2e9))) return max();
            return std::chrono::ceil<Clock::duration>(d);
        }
    }
};

using TimePoint = Clock::time_point;

/// `from + delay`, kept inside the clock's range, so that "never" can be any huge delay.
constexpr TimePoint add_saturated(TimePoint from, Duration delay) noexcept {
    const auto now = from.time_since_epoch().count();
    const auto add = delay.count();
    if (add > 0 && now > TimePoint::max().time_since_epoch().count() - add) return TimePoint::max();
    if (add < 0 && now < TimePoint::min().time_since_epoch().count() - add) return TimePoint::min();
    return from + delay;
}

/// `to - from`, kept inside the range of durations.
constexpr Duration difference(TimePoint to, TimePoint from) noexcept {
    const auto a = to.time_since_epoch().count();
    const auto b = from.time_since_epoch().count();
    if (b < 0 && a > Duration::max().count() + b) return Duration::max();
    if (b > 0 && a < Duration::min().count() + b) return Duration::min();
    return to - from;
}

} // namespace weft

#pragma GCC visibility pop
