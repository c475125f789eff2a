#include "load_report.hpp"

#include "load_run.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <string_view>
#include <unistd.h>
#include <utility>

namespace weft::tools {
namespace {

[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...) {
    std::array<char, 512> buffer;
    std::va_list arguments;
    va_start(arguments, pattern);
    const int size = std::vsnprintf(buffer.data(), buffer.size(), pattern, arguments);
    va_end(arguments);
    return {buffer.data(), std::min<std::size_t>(std::max(size, 0), buffer.size() - 1)};
}

unsigned long long number(std::uint64_t value) {
    return value;
}

constexpr std::array<std::pair<const char*, double>, 4> percentiles{
    {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}}};

const char* target_name(LoadOptions::Target target) {
    switch (target) {
    case LoadOptions::Target::tcp:
        return "tcp";
    case LoadOptions::Target::unix_socket:
        return "unix";
    case LoadOptions::Target::udp:
        return "udp";
    }
    return "";
}

double per_second(const LoadResult& result) {
    return result.seconds > 0 ? static_cast<double>(result.answered) / result.seconds : 0;
}

std::string load_text(const LoadOptions& options) {
    return options.rate > 0 ? format("%.0f messages/s by plan", options.rate)
                            : format("%zu in flight on each", options.depth);
}

std::string quoted(std::string_view text) {
    std::string json = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            json += {'\\', c};
        } else if (static_cast<unsigned char>(c) < 0x20) {
            json += format("\\u%04x", c);
        } else {
            json += c;
        }
    }
    return json + '"';
}

bool wants_progress(const LoadOptions& options) {
    return options.progress.value_or(::isatty(STDERR_FILENO) == 1);
}

/// A bar of `eighths` eighths of a character.
std::string bar(std::size_t eighths, bool utf8) {
    static constexpr std::array<const char*, 8> parts{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    std::string text;
    for (std::size_t i = 0; i < eighths / 8; ++i)
        text += utf8 ? "█" : "#";
    if (utf8) return text + parts[eighths % 8];
    return eighths % 8 != 0 ? text + (eighths < 8 ? "." : "") : text;
}

} // namespace

std::string time_text(std::uint64_t nanoseconds) {
    const auto value = static_cast<double>(nanoseconds);
    const auto digits = [](double v) { return v < 9.995 ? 2 : v < 99.95 ? 1 : 0; };
    if (value < 1e3) return format("%.0f ns", value);
    if (value < 999.5e3) return format("%.*f us", digits(value / 1e3), value / 1e3);
    if (value < 999.5e6) return format("%.*f ms", digits(value / 1e6), value / 1e6);
    return format("%.*f s", digits(value / 1e9), value / 1e9);
}

void show_progress(const LoadRun& run, double part, double rate) {
    if (!wants_progress(run.options())) return;
    constexpr std::size_t width = 32;
    const auto full = static_cast<std::size_t>(std::clamp(part, 0.0, 1.0) * width);
    const Histogram& latency = run.result().latency;
    const std::string p99 =
        latency.total() != 0 ? time_text(latency.percentile(0.99)) : "warming up";
    std::fprintf(stderr, "\r\033[K[%s%s] %3.0f %%  %8.0f/s  p99 %s", std::string(full, '#').c_str(),
                 std::string(width - full, '-').c_str(), std::clamp(part, 0.0, 1.0) * 100, rate,
                 p99.c_str());
    std::fflush(stderr);
}

void clear_progress(const LoadRun& run) {
    if (!wants_progress(run.options())) return;
    std::fputs("\r\033[K", stderr);
    std::fflush(stderr);
}

std::string table(const LoadOptions& options, const LoadResult& result) {
    std::string text;
    text += format("target       %s %s\n", target_name(options.target), options.address.c_str());
    text += format("load         %zu connections, %s, %s of %zu bytes\n", result.connected,
                   load_text(options).c_str(), options.lines ? "lines" : "messages", options.size);
    text += format("answered     %llu in %.2f s\n", number(result.answered), result.seconds);
    text += format("throughput   %.0f messages/s, %.1f MB/s each way\n", per_second(result),
                   per_second(result) * static_cast<double>(options.size) / 1e6);
    text += "latency      ";
    for (const auto& [name, fraction] : percentiles) {
        text += format("%s %s   ", name, time_text(result.latency.percentile(fraction)).c_str());
    }
    text += format("max %s\n", time_text(result.latency.max()).c_str());
    for (const auto& [kind, count] : result.errors) {
        text += format("error        %llu x %s\n", number(count), kind.c_str());
    }
    return text;
}

std::string json(const LoadOptions& options, const LoadResult& result) {
    std::string text = "{";
    text += format("\"target\": %s, ", quoted(target_name(options.target)).c_str());
    text += "\"address\": " + quoted(options.address) + ", ";
    text += format("\"connections\": %zu, \"size\": %zu, ", result.connected, options.size);
    text += options.rate > 0 ? format("\"rate\": %.3f, ", options.rate)
                             : format("\"depth\": %zu, ", options.depth);
    text += format("\"lines\": %s, ", options.lines ? "true" : "false");
    text +=
        format("\"seconds\": %.6f, \"sent\": %llu, \"answered\": %llu, \"per_second\": %.1f, ",
               result.seconds, number(result.sent), number(result.answered), per_second(result));
    text += "\"latency_us\": {";
    for (const auto& [name, fraction] : percentiles) {
        text += format("\"%s\": %.3f, ", name,
                       static_cast<double>(result.latency.percentile(fraction)) / 1e3);
    }
    text += format("\"max\": %.3f}, ", static_cast<double>(result.latency.max()) / 1e3);
    text += "\"errors\": {";
    const char* separator = "";
    for (const auto& [kind, count] : result.errors) {
        text += separator + quoted(kind) + format(": %llu", number(count));
        separator = ", ";
    }
    return text + "}}\n";
}

std::string bars(const Histogram& latency, bool utf8) {
    if (latency.total() == 0) return {};
    constexpr int most_rows = 12;
    constexpr double width = 40;
    // From the fastest to the slowest in equal ratios, none so narrow that it would show the
    // buckets.
    const double low = std::max(1.0, static_cast<double>(latency.min()));
    const double span = std::max(1.05, static_cast<double>(latency.max()) / low);
    const int rows = std::clamp(static_cast<int>(std::log(span) / std::log(1.05)), 1, most_rows);
    std::array<std::uint64_t, most_rows> counts{};
    std::array<std::uint64_t, most_rows + 1> edges{};
    for (int i = 0; i < rows; ++i) {
        edges[i + 1] = static_cast<std::uint64_t>(low * std::pow(span, (i + 1.0) / rows)) + 1;
        counts[i] = latency.between(edges[i], i + 1 == rows ? UINT64_MAX : edges[i + 1]);
    }
    const auto longest = static_cast<double>(*std::ranges::max_element(counts));
    std::string text;
    for (int i = 0; i < rows; ++i) {
        const auto count = static_cast<double>(counts[i]);
        // What is there shows, however little it is.
        const auto eighths = static_cast<std::size_t>(std::ceil(8 * width * count / longest));
        text += format("to %8s %6.2f %% ", time_text(edges[i + 1] - 1).c_str(),
                       100 * count / static_cast<double>(latency.total()));
        text += bar(eighths, utf8) + "\n";
    }
    return text;
}

} // namespace weft::tools
