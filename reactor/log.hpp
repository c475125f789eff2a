#pragma once

#include <weft/reactor/clock.hpp>

#include <cstdint>
#include <string_view>

#pragma GCC visibility push(default)

namespace weft {

enum class LogLevel : std::uint8_t { debug, info, warning, error };

/// Where the library's own messages go: anything that nobody asked for and nobody handled. Called
/// on the thread where it happened, must not throw, and should not block: it may be a loop's.
using LogSink = void (*)(LogLevel level, std::string_view text) noexcept;

/// Replaces the sink for the whole process and returns the old one; null discards messages. The
/// default writes lines from `LogLevel::info` on to standard error, in spdlog's format, one
/// write(2) each, also at any time while the process ends. It never blocks: what a pipe or a
/// terminal that nobody reads has no room for is lost, and the next line that fits is preceded by
/// how many were.
LogSink set_log_sink(LogSink sink) noexcept;

/// Sends one message to the sink.
void log(LogLevel level, std::string_view text) noexcept;

/// Keeps messages of one kind, which others can cause, from filling the log: so many per second
/// pass, the rest is counted. One per place that logs, and for one thread; time is the loop's.
///
///     if (limit.admits(LogLevel::warning, loop.now())) log(LogLevel::warning, text);
class LogLimit {
public:
    static constexpr unsigned usual = 10;
    explicit LogLimit(unsigned per_second = usual) noexcept : per_second_(per_second) {}
    LogLimit(const LogLimit&) = delete;
    LogLimit& operator=(const LogLimit&) = delete;
    /// Logs how many were suppressed since the last that passed.
    ~LogLimit() { tell(); }

    /// Whether the message may pass. The first of a new second is preceded by the count of those
    /// that were suppressed.
    bool admits(LogLevel level, TimePoint now) noexcept;
    /// Logs that count now, if there is one.
    void tell() noexcept;

private:
    unsigned per_second_;
    unsigned passed_ = 0; // in the second that began at `since_`
    bool begun_ = false;
    LogLevel level_ = LogLevel::debug; // the highest that was suppressed
    std::uint64_t suppressed_ = 0;
    TimePoint since_{};
};

} // namespace weft

#pragma GCC visibility pop
