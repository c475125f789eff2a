#pragma once

#include <weft/protocols/transport.hpp>
#include <weft/reactor/loop.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>

#pragma GCC visibility push(default)

namespace weft {

/// How a datagram endpoint is made. `UsageError` for a `batch` or `datagram_size` outside of what
/// is said here, and for water marks the wrong way round.
struct UdpOptions {
    /// Bind although others are bound to the same address: for several receivers of a group.
    bool reuse_address = false;
    /// Several endpoints share the port, and the kernel spreads the senders over them.
    bool reuse_port = false;
    /// May send to broadcast addresses.
    bool broadcast = false;
    /// An endpoint on the IPv6 wildcard address takes no IPv4 datagrams.
    bool ipv6_only = false;
    /// `Datagram::to`, `destination`, `interface` and `ecn` are filled in: what a server with
    /// several addresses needs to answer from the one that was asked.
    bool packet_info = false;
    /// ICMP errors reach `error_received` although the endpoint is not connected, with the address
    /// that the datagram went to (IP_RECVERR; Linux). ENOPROTOOPT where that is unknown.
    bool report_errors = false;
    /// The kernel hands over runs of datagrams of one sender as one, to be split here: for bulk
    /// (UDP_GRO; Linux). Nothing changes if it cannot. Such a run is received whole, whatever
    /// `datagram_size` says of its parts.
    bool gro = false;
    /// Bytes of SO_RCVBUF and SO_SNDBUF; 0 leaves them to the system.
    std::size_t receive_buffer = 0;
    std::size_t send_buffer = 0;
    /// 1 to 65536. Longer datagrams are truncated, and say so. The default takes every datagram
    /// there is. The slots are shared by all endpoints of a loop, and memory that is not filled
    /// costs nothing.
    std::size_t datagram_size = 65536;
    /// Datagrams received by one system call, 1 to 64. Beyond 32 the kernel's own cost per datagram
    /// is all that is left.
    std::size_t batch = 32;
    /// `connect`: where to send from; empty: the system's choice. An IPv4 address and its mapped
    /// form are one, an unspecified address is that of the peer's family; any other of another
    /// family is an error.
    std::optional<Address> local_address = {};
    /// Else those of `WriteLimits`.
    std::optional<WriteLimits> write_limits = {};
};

/// Datagram endpoints. The loop owns them and they own their protocols; what comes back is a weak
/// reference, which serves to send right away. Nothing here calls back before it returns:
/// `connection_made` comes first in the next turn. All is for the loop's thread. On failure the
/// protocol is destroyed, and the error names the address.
namespace udp {

/// Receives on "127.0.0.1:53", "[::1]:53", "localhost:53" (127.0.0.1), "*:53" or ":53" (any
/// address, IPv6 and IPv4), and sends to anybody. Port 0 lets the system choose. IPv4 peers of an
/// IPv6 endpoint show as "[::ffff:a.b.c.d]", and are answered by that address.
Result<DatagramRef> bind(Loop& loop, std::string_view address,
                         std::unique_ptr<DatagramProtocol> protocol,
                         const UdpOptions& options = {});
/// The same at an address that is known.
Result<DatagramRef> bind(Loop& loop, const Address& address,
                         std::unique_ptr<DatagramProtocol> protocol,
                         const UdpOptions& options = {});

/// Sends to `peer` and hears of it alone, ICMP errors included. Who asks a group or a broadcast
/// address wants `bind`: the answers come from others than the address asked.
Result<DatagramRef> connect(Loop& loop, std::string_view peer,
                            std::unique_ptr<DatagramProtocol> protocol,
                            const UdpOptions& options = {});
/// The same for a peer whose address is known.
Result<DatagramRef> connect(Loop& loop, const Address& peer,
                            std::unique_ptr<DatagramProtocol> protocol,
                            const UdpOptions& options = {});

} // namespace udp

/// Makes an endpoint of a datagram socket that was made elsewhere, UDP or Unix, connected or not.
/// Of the options, those of binding are ignored. The descriptor is weft's on success and stays the
/// caller's on failure; ENOTSOCK or EINVAL if it is no datagram socket, EAFNOSUPPORT if it is
/// neither IP nor Unix.
Result<DatagramRef> adopt_datagram_endpoint(Loop& loop, int fd,
                                            std::unique_ptr<DatagramProtocol> protocol,
                                            const UdpOptions& options = {});

} // namespace weft

#pragma GCC visibility pop
