#pragma once

#include <chrono>

namespace weft {

/// The loop's clock: monotonic, counted in nanoseconds from an unspecified start. It has no `now()`
/// because only a kernel can read it (`Loop::now()`, `Kernel::now()`); under the simulator it is virtual.
struct Clock {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<Clock>;
    static constexpr bool is_steady = true;
};

using Duration = Clock::duration;
using TimePoint = Clock::time_point;

/// `from + delay`, kept inside the clock's range, so that "never" can be any huge delay.
constexpr TimePoint add_saturated(TimePoint from, Duration delay) noexcept {
    const auto now = from.time_since_epoch().count();
    const auto add = delay.count();
    if (add > 0 && now > TimePoint::max().time_since_epoch().count() - add) return TimePoint::max();
    if (add < 0 && now < TimePoint::min().time_since_epoch().count() - add) return TimePoint::min();
    return from + delay;
}

/// Any chrono duration as the clock's nanoseconds, saturating instead of overflowing: `hours(10^9)` is allowed.
template<class Rep, class Period>
constexpr Duration to_duration(std::chrono::duration<Rep, Period> d) noexcept {
    using Seconds = std::chrono::duration<double>;
    // 2^63 ns is 292 years; a comparison in doubles is exact enough to keep the cast below in range.
    if (Seconds(d) >= Seconds(9.2e9)) return Duration::max();
    if (Seconds(d) <= Seconds(-9.2e9)) return Duration::min();
    return std::chrono::ceil<Duration>(d); // never early, not even by a fraction
}

} // namespace weft
