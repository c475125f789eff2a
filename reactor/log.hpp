#pragma once

#include <cstdint>
#include <string_view>

namespace weft {

enum class LogLevel : std::uint8_t { debug, info, warning, error };

/// Where the library's own messages go: anything that nobody asked for and nobody handled. Called on the
/// thread where it happened, must not throw.
using LogSink = void (*)(LogLevel level, std::string_view text) noexcept;

/// Replaces the sink for the whole process and returns the old one. The default hands messages to spdlog's
/// default logger; null discards them.
LogSink set_log_sink(LogSink sink) noexcept;

/// Sends one message to the sink.
void log(LogLevel level, std::string_view text) noexcept;

} // namespace weft
