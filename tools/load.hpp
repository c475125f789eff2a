#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace weft::tools {

/// What `weft load` was asked for.
struct LoadOptions {
    enum class Target : std::uint8_t { tcp, unix_socket, udp };

    Target target = Target::tcp;
    std::string address;
    std::size_t connections = 64;
    std::size_t size = 64; ///< bytes of a message, a line's end included
    std::size_t depth = 1; ///< closed loop: messages in flight on each connection
    double rate = 0; ///< open loop: messages per second, all connections together; 0: closed loop
    double duration = 5;          ///< seconds that are measured
    double warmup = 0.5;          ///< seconds before that
    double timeout = 2;           ///< seconds that a connection attempt or a reply may take
    bool lines = false;           ///< messages are lines
    bool json = false;            ///< report as JSON
    bool histogram = false;       ///< report a histogram, too
    std::optional<bool> progress; ///< a bar on standard error; empty: if that is a terminal
};

/// Loads an echo service and reports to standard output. Returns the exit status: 0 if every
/// message was answered with the bytes that were sent, 1 if not, 2 if the address is none, 128 and
/// the signal's number if it was ended by SIGINT or SIGTERM, after reporting what there was.
int run_load(const LoadOptions& options);

} // namespace weft::tools
