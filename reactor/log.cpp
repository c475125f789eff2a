#include <weft/reactor/log.hpp>

#include <atomic>

#include <spdlog/spdlog.h>

namespace weft {
namespace {

void to_spdlog(LogLevel level, std::string_view text) noexcept {
    static constexpr spdlog::level::level_enum levels[] = {
        spdlog::level::debug, spdlog::level::info, spdlog::level::warn, spdlog::level::err};
    try {
        spdlog::log(levels[static_cast<int>(level)], "weft: {}", text);
    } catch (...) {
        // A message that can not be logged has nowhere else to go.
    }
}

std::atomic<LogSink> current_sink{&to_spdlog};

} // namespace

LogSink set_log_sink(LogSink sink) noexcept { return current_sink.exchange(sink); }

void log(LogLevel level, std::string_view text) noexcept {
    if (LogSink sink = current_sink.load()) sink(level, text);
}

} // namespace weft
