#pragma once

#include "histogram.hpp"
#include "load.hpp"

#include <cstdint>
#include <string>

namespace weft::tools {

class LoadRun;
struct LoadResult;

/// Draws the bar on standard error, if there is to be one. `part` is between 0 and 1, `rate` in
/// messages per second.
void show_progress(const LoadRun& run, double part, double rate);
/// Takes the bar away.
void clear_progress(const LoadRun& run);

/// The table, for people.
std::string table(const LoadOptions& options, const LoadResult& result);
/// The same as one JSON object: seconds for times, but microseconds for latencies.
std::string json(const LoadOptions& options, const LoadResult& result);
/// Ten or so rows of bars, of equal ratios of latency: block characters, or plain ASCII.
std::string bars(const Histogram& latency, bool utf8);

/// "870 ns", "12.3 us", "4.56 ms", "1.20 s"
std::string time_text(std::uint64_t nanoseconds);

} // namespace weft::tools
