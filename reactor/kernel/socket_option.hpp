#pragma once

#include <cstdint>

#pragma GCC visibility push(default)

namespace weft {

/// What can be set of a socket or asked of it (`Kernel::set_option`, `get_option`). Each kernel
/// knows which options of its system these are. Values are whole numbers; of a switch, 0 and 1.
enum class SocketOption : std::uint8_t {
    error,           ///< only asked: the pending error, an errno value, which is gone afterwards
    reuse_address,   ///< a switch: shares an address with what no longer uses it
    reuse_port,      ///< a switch: shares a port with sockets that have this on, too
    broadcast,       ///< a switch: may send to broadcast addresses
    send_buffer,     ///< bytes; the system may take another number
    receive_buffer,  ///< bytes, likewise
    no_delay,        ///< a switch, of TCP: small segments leave at once
    keep_alive,      ///< a switch, of TCP: a silent peer is probed
    keep_alive_idle, ///< seconds of silence before the first probe
    keep_alive_interval, ///< seconds between probes
    keep_alive_probes,   ///< how many go unanswered before the connection is given up
    ipv6_only,           ///< a switch, before binding: an IPv6 socket has no IPv4 peers
    packet_info,         ///< a switch: received datagrams tell where they were sent to
    receive_ecn,         ///< a switch: received datagrams tell their ECN bits
    traffic_class,       ///< the byte of the IP header that has the ECN bits, of what is sent
    error_queue,         ///< a switch: failed datagrams are told by `Kernel::recv_error`
    join_segments,       ///< a switch: datagrams may be received as one (GRO)
    hop_limit,           ///< of unicast datagrams
    multicast_hop_limit,
    multicast_loop,      ///< a switch: this host's members of a group hear what is sent to it
    multicast_interface, ///< only set: the number of the interface multicasts leave by; 0: any
};

} // namespace weft

#pragma GCC visibility pop
