#pragma once

#include "echo.hpp"
#include "echo_style.hpp"

#include <weft/reactor/loop.hpp>
#include <weft/transports/datagram/udp.hpp>
#include <weft/transports/server/server.hpp>

#include <memory>
#include <string>
#include <vector>

namespace weft::tools {

/// One loop that echoes. Made, used and destroyed on one thread, except for `loop().post`.
class EchoService {
public:
    explicit EchoService(const EchoOptions& options);

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
    void stop_when_done();

    const EchoOptions options_;
    EchoCounters counters_; // before the loop: protocols count in it until the loop is gone
    Loop loop_;
    std::unique_ptr<EchoStyle> style_;
    std::vector<Server> tcp_;
    std::vector<Server> unix_;
    std::vector<DatagramRef> udp_;
    std::size_t draining_ = 0;
    bool ending_ = false;
};

} // namespace weft::tools
