#pragma once

#include <weft/reactor/log.hpp>

#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace weft::test {

/// Collects the library's log messages while it exists, in place of the present sink. One at a
/// time.
class LogCapture {
public:
    LogCapture() : previous_(set_log_sink(&LogCapture::receive)) { taken(); }
    ~LogCapture() { set_log_sink(previous_); }
    LogCapture(const LogCapture&) = delete;
    LogCapture& operator=(const LogCapture&) = delete;

    /// The messages since the last call.
    std::vector<std::string> taken() {
        const std::lock_guard lock(mutex_);
        return std::exchange(messages_, {});
    }
    /// The same, one per line.
    std::string text() {
        std::string all;
        for (const auto& message : taken())
            all += message + "\n";
        return all;
    }

private:
    static void receive(LogLevel, std::string_view text) noexcept {
        const std::lock_guard lock(mutex_);
        messages_.emplace_back(text);
    }
    static inline std::mutex mutex_;
    static inline std::vector<std::string> messages_;
    LogSink previous_;
};

} // namespace weft::test
