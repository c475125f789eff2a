#pragma once

#include "echo.hpp"

#include <weft/protocols/transport.hpp>
#include <weft/reactor/loop.hpp>
#include <weft/transports/server.hpp>
#include <weft/transports/udp.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace weft::tools {

/// What a service has done. Each thread counts for itself.
struct EchoCounters {
    std::uint64_t connections = 0;
    std::uint64_t failed = 0;   ///< connections that ended with an error
    std::uint64_t shed = 0;     ///< connections closed at once for want of descriptors
    std::uint64_t messages = 0; ///< reads, lines or datagrams
    std::uint64_t bytes = 0;

    void add(const EchoCounters& other) noexcept;
};

/// One loop that echoes. Made, used and destroyed on one thread, except for `loop().post`.
class EchoService {
public:
    explicit EchoService(const EchoOptions& options) : options_(options) {}

    /// Listens on everything that `options` names; the error names the address. With `reuse_port`
    /// others may listen on the same IP addresses.
    Result<void> open(bool reuse_port);
    /// Runs until `end` has done its work.
    void run() { loop_.run(); }
    /// Stops listening, closes the connections once what they were sent has left, at the latest
    /// after `EchoOptions::grace`, and ends `run`. Twice is once.
    void end();

    /// The options with the addresses that were really taken, for the other threads: no Unix paths,
    /// which only one can listen on.
    EchoOptions shared_options() const;
    /// "tcp 127.0.0.1:8007", one for each socket.
    std::vector<std::string> addresses() const;
    EchoCounters counters() const;
    Loop& loop() noexcept { return loop_; }

private:
    ProtocolFactory factory();

    const EchoOptions options_;
    EchoCounters counters_; // before the loop: protocols count in it until the loop is gone
    Loop loop_;
    std::vector<Server> tcp_;
    std::vector<Server> unix_;
    std::vector<DatagramRef> udp_;
    std::size_t draining_ = 0;
    bool ending_ = false;
};

} // namespace weft::tools
