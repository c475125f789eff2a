#pragma once
// What the services on weft share that are of use to benchmarks alone.

#include <weft/reactor/loop.hpp>

#include <CLI/CLI.hpp>
#include <chrono>
#include <limits>
#include <string>

namespace bench {

/// What both styles are told.
struct ServiceOptions {
    std::uint16_t port = 8007;
    bool hog = false;
    bool udp = false;
    bool sink = false;
    bool unbounded = false;

    void add_to(CLI::App& app) {
        app.add_option("--port", port, "port on 127.0.0.1")->capture_default_str();
        app.add_flag("--hog", hog, "compute for a millisecond when a message begins with '!'");
        app.add_flag("--udp", udp, "echo datagrams");
        app.add_flag("--sink", sink, "answer only the datagrams that begin with '?'");
        app.add_flag("--unbounded", unbounded, "no bound on a connection's share of a turn");
    }
    std::string address() const { return "127.0.0.1:" + std::to_string(port); }
    weft::LoopOptions loop() const {
        weft::LoopOptions options;
        if (unbounded) {
            options.reads_per_turn = std::numeric_limits<int>::max();
            options.bytes_per_turn = std::numeric_limits<std::size_t>::max();
            options.bulk_time_per_turn = std::chrono::hours(1);
        }
        return options;
    }
    /// Whether a datagram is to be answered.
    bool wants(weft::Bytes datagram) const { return !sink || char(datagram[0]) == '?'; }
};

/// A millisecond's worth.
inline void compute() {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(1);
    while (std::chrono::steady_clock::now() < end) {
    }
}

} // namespace bench
