#pragma once

#include <weft/protocols/transport.hpp>
#include <weft/reactor/loop.hpp>
#include <weft/transports/server/server.hpp>

#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#pragma GCC visibility push(default)

namespace weft {

/// How to connect. What cannot be meant, a negative duration or descriptor, is a `UsageError` that
/// names it.
struct ConnectOptions {
    /// Bound before connecting: it chooses the interface or the port, and only addresses that can
    /// be reached from it are tried: those of its family, of which IPv4 and IPv4-mapped are one, or
    /// all for the unspecified address. With a port strictly one after the other, since only one of
    /// them can have it.
    std::optional<Address> local_address = {};
    /// For the whole of it, the name look-up included; ETIMEDOUT afterwards. 0: until the system
    /// gives up.
    Duration timeout{0};
    /// How long one address is tried before the next is tried beside it (RFC 8305, 8). A failure
    /// starts the next at once. 0: all at once; `Duration::max()`: strictly one after the other.
    Duration attempt_delay = std::chrono::milliseconds(250);
    bool nodelay = true;                      ///< TCP: small writes leave at once
    std::optional<KeepAlive> keep_alive = {}; ///< TCP
    /// An unconnected stream socket to use; -1: make one. The first address of its family is tried,
    /// and no other. It is weft's once connected, and given back, open and non-blocking, if that
    /// fails or is cancelled.
    int socket = -1;
    /// What stands between the connection and its protocol. The future completes when it is open,
    /// with a reference to the transport that the protocol has.
    LayerFactory layer = {};
};

namespace tcp {

/// Connects to "127.0.0.1:80", "[::1]:80", "localhost:80" or "name:80"; a name is looked up on the
/// executor and all its addresses are tried, families in turn. On success `protocol` gets
/// `connection_made`, then the future completes. On failure the future has a `std::system_error`
/// with the code of the first failure and a text that names each address and its reason, and
/// `protocol` is destroyed without a call. If `connection_made` throws, the future fails with
/// `Errc::callback_threw`.
///
/// Cancelling the future closes what was begun; in `connection_made`, where it is still pending, it
/// aborts the connection. Dropping the future cancels nothing. When the loop is closed first, it
/// fails with `Errc::aborted`. Nothing is called before this returns.
Future<TransportRef> connect(Loop& loop, std::string_view address,
                             std::unique_ptr<Protocol> protocol,
                             const ConnectOptions& options = {});
/// The same for a host, a name or a numeric address (an IPv6 one with or without brackets), and a
/// port. What a proxy wants for a target that its client names: whatever the text says, this makes
/// a TCP connection or none.
Future<TransportRef> connect(Loop& loop, std::string_view host, std::uint16_t port,
                             std::unique_ptr<Protocol> protocol,
                             const ConnectOptions& options = {});
/// The same for addresses, tried in this order.
Future<TransportRef> connect(Loop& loop, std::span<const Address> addresses,
                             std::unique_ptr<Protocol> protocol,
                             const ConnectOptions& options = {});

} // namespace tcp

namespace unix_socket {

/// Connects to a path or an abstract name ("@name"), with or without "unix:" before it, as
/// `tcp::connect` does. EAGAIN when the server's backlog is full: unlike with TCP the system does
/// not wait for room (connect(2)).
Future<TransportRef> connect(Loop& loop, std::string_view path, std::unique_ptr<Protocol> protocol,
                             const ConnectOptions& options = {});

} // namespace unix_socket

/// Connects to what a text names: to a Unix socket if `Address::names_unix` says so ("unix:/path",
/// "/path", "@name"), else as `tcp::connect` does. Every address in the form of
/// `Address::to_string` will do. For the texts of a program's owner; a client's go to
/// `tcp::connect`.
Future<TransportRef> connect(Loop& loop, std::string_view address,
                             std::unique_ptr<Protocol> protocol,
                             const ConnectOptions& options = {});
/// The same for one address, IP or Unix.
Future<TransportRef> connect(Loop& loop, const Address& address, std::unique_ptr<Protocol> protocol,
                             const ConnectOptions& options = {});

/// Two transports connected to each other in memory, without descriptors, with a buffer of 64 KiB
/// each way. Both `connection_made` come in the next turn. They behave as a TCP connection does:
/// back-pressure, half-close, reset.
std::pair<TransportRef, TransportRef> connected_pair(Loop& loop, std::unique_ptr<Protocol> first,
                                                     std::unique_ptr<Protocol> second);

} // namespace weft

#pragma GCC visibility pop
