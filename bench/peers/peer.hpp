#pragma once
// What the C++ peers share: the command line, one receive buffer's size, and lines.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <getopt.h>
#include <string>
#include <string_view>

namespace peer {

struct Options {
    std::uint16_t port = 8007;
    bool lines = false;        ///< answer each line with a write of its own
    bool udp = false;          ///< echo datagrams
    std::size_t buffer = 4096; ///< of a connection, where each has its own
    bool sink = false;         ///< answer only the datagrams that begin with '?'
    bool hog = false;          ///< compute for a millisecond when a message begins with '!'
};

/// The one receive buffer of servers that need no more: what the hand-written ones and weft use.
inline constexpr std::size_t buffer_size = 64 * 1024;

/// Reads `--port N [--buffer BYTES] [--lines | --udp [--sink] | --hog]`; anything else ends the
/// program with status 2.
inline Options parse(int argc, char** argv) {
    static const option known[] = {{"port", required_argument, nullptr, 'p'},
                                   {"lines", no_argument, nullptr, 'l'},
                                   {"udp", no_argument, nullptr, 'u'},
                                   {"sink", no_argument, nullptr, 's'},
                                   {"hog", no_argument, nullptr, 'h'},
                                   {"buffer", required_argument, nullptr, 'b'},
                                   {}};
    Options options;
    for (int found; (found = ::getopt_long(argc, argv, "", known, nullptr)) != -1;) {
        if (found == 'p') {
            options.port = static_cast<std::uint16_t>(std::atoi(optarg));
        } else if (found == 'b') {
            options.buffer = static_cast<std::size_t>(std::atol(optarg));
        } else if (found == 'l') {
            options.lines = true;
        } else if (found == 'u') {
            options.udp = true;
        } else if (found == 's') {
            options.sink = true;
        } else if (found == 'h') {
            options.hog = true;
        } else {
            std::fprintf(stderr,
                         "usage: %s --port N [--buffer BYTES] [--lines | --udp [--sink] | --hog]\n",
                         *argv);
            std::exit(2);
        }
    }
    return options;
}

/// Ends the program, saying which call failed.
[[noreturn]] inline void fail(const char* call, const char* why) {
    std::fprintf(stderr, "%s: %s\n", call, why);
    std::exit(1);
}

/// The price of a message in the fairness workload: a millisecond if it asks for that.
inline void work(const Options& options, const char* message) {
    if (!options.hog || *message != '!') return;
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(1);
    while (std::chrono::steady_clock::now() < end) {
    }
}

/// Takes a stream apart into lines.
class Lines {
public:
    /// Calls `on_line` with each line that is complete now, its newline included.
    template<class F>
    void feed(std::string_view data, F on_line) {
        for (std::size_t end; (end = data.find('\n')) != data.npos; data.remove_prefix(end + 1)) {
            if (partial_.empty()) {
                on_line(data.substr(0, end + 1));
            } else {
                partial_ += data.substr(0, end + 1);
                on_line(std::string_view(partial_));
                partial_.clear();
            }
        }
        partial_ += data;
    }

private:
    std::string partial_;
};

} // namespace peer
