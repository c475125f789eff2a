#pragma once

#include <weft/protocols/transport.hpp>
#include <weft/reactor/loop.hpp>
#include <weft/transports/datagram/udp.hpp>
#include <weft/transports/server/server.hpp>

#include <cstdint>
#include <memory>
#include <string_view>

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

/// Logs what peers can cause, so many lines a second for each thread's loop.
void log_peer_error(std::string_view text);

/// How the service is written: the same behaviour in two styles.
class EchoStyle {
public:
    virtual ~EchoStyle() = default;
    /// What serves the connections, line by line or as bytes come.
    virtual ProtocolFactory streams(bool lines) = 0;
    /// Serves datagrams at `address`.
    virtual Result<DatagramRef> datagrams(std::string_view address, const UdpOptions& options) = 0;
    /// Whether something is left to run although every connection is gone.
    virtual bool busy() const = 0;
};

/// `loop` and `counters` must outlive what is served.
std::unique_ptr<EchoStyle> callback_style(Loop& loop, EchoCounters& counters);
/// Whether this build has coroutines: without Boost there are none.
bool has_coroutines() noexcept;
/// Null if there are none.
std::unique_ptr<EchoStyle> coroutine_style(Loop& loop, EchoCounters& counters);

} // namespace weft::tools
