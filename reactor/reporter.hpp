#pragma once

#include <weft/reactor/clock.hpp>
#include <weft/reactor/function.hpp>
#include <weft/reactor/log.hpp>

#include <cstdint>
#include <exception>
#include <source_location>
#include <string>
#include <string_view>

#pragma GCC visibility push(default)

namespace weft {

/// What nobody caught.
struct Unhandled {
    /// what was going on: "data_received of 127.0.0.1:80 <- 127.0.0.1:4711"
    std::string_view message = {};
    std::exception_ptr exception = {};   ///< may be empty
    std::source_location scheduled = {}; ///< where the callback came from; line 0 if not known
};

namespace detail {

/// " (scheduled at FILE:LINE)"; nothing for a place that is not known.
std::string scheduled_at(const std::source_location& where);

/// Where a loop's errors go that nobody caught: to the user's handler, or to the log.
class Reporter {
public:
    void set_handler(Function<void(const Unhandled&)> handler);
    /// Never throws: what goes wrong meanwhile is logged.
    void report(const Unhandled& unhandled, TimePoint now) noexcept;
    /// Logs what others can cause as often as they like.
    void log_limited(LogLevel level, std::string_view text, TimePoint now) noexcept {
        if (peers_.admits(level, now)) log(level, text);
    }
    /// Logs how many messages the limits have kept back.
    void tell_suppressed() noexcept {
        unhandled_.tell();
        peers_.tell();
    }

private:
    Function<void(const Unhandled&)> handler_;
    std::uint64_t changes_ = 0; // of the handler
    LogLimit unhandled_;
    LogLimit peers_;
};

} // namespace detail
} // namespace weft

#pragma GCC visibility pop
