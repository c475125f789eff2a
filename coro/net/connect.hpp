#pragma once

#include <weft/coro/net/stream.hpp>
#include <weft/coro/tasks/cancel_scope.hpp>
#include <weft/protocols/protocol.hpp>
#include <weft/protocols/transport.hpp>
#include <weft/reactor/address.hpp>
#include <weft/reactor/function.hpp>
#include <weft/reactor/result.hpp>
#include <weft/transports/connect/connect.hpp>

#include <cstdint>
#include <memory>
#include <string_view>

#pragma GCC visibility push(default)

namespace weft::coro {

/// Connects to what a text names: "127.0.0.1:80", "[::1]:80", "name:80" (see `tcp::connect`), or a
/// Unix socket: "unix:/path", "/path" (with a slash anywhere), "unix:@name", "@name". Suspends.
/// `std::system_error` names each address that was tried and its reason; `TimeoutError` after
/// `deadline`. Cancelling closes what was begun. For the texts of a program's owner: a target that
/// a client named may be a Unix socket as well, and goes to `coro::tcp::connect`.
Stream connect(std::string_view address, const ConnectOptions& options = {},
               Deadline deadline = {});
inline Stream connect(std::string_view address, Deadline deadline) {
    return connect(address, ConnectOptions(), deadline);
}
/// The same for one address, IP or Unix.
Stream connect(const Address& address, const ConnectOptions& options = {}, Deadline deadline = {});
inline Stream connect(const Address& address, Deadline deadline) {
    return connect(address, ConnectOptions(), deadline);
}

namespace tcp {

/// The same for a host, a name or a numeric address (an IPv6 one with or without brackets), and a
/// port: a TCP connection or none, whatever the text says.
Stream connect(std::string_view host, std::uint16_t port, const ConnectOptions& options = {},
               Deadline deadline = {});
inline Stream connect(std::string_view host, std::uint16_t port, Deadline deadline) {
    return connect(host, port, ConnectOptions(), deadline);
}
/// Of another integer, a port that is none is a `UsageError`.
template<std::integral Port, class... Rest>
    requires(!std::same_as<Port, std::uint16_t>)
Stream connect(std::string_view host, Port port, const Rest&... rest) {
    if (!std::in_range<std::uint16_t>(port))
        throw UsageError("connect: the port " + std::to_string(port) + " is not 0 to 65535");
    return connect(host, static_cast<std::uint16_t>(port), rest...);
}

} // namespace tcp

/// A stream over a connected stream socket, or over an end of a pipe or a terminal, that was made
/// elsewhere: see the functions of these names in `weft`. Suspends for a turn. The descriptor is
/// weft's from then on, and stays the caller's if they throw `std::system_error`.
Stream adopt_connection(int fd);
Stream adopt_read_pipe(int fd);
Stream adopt_write_pipe(int fd);

/// A stream over a transport that is still to be made: `make` gets the protocol to make it with, as
/// `adopt_read_pipe(loop, fd, std::move(protocol))` does. Suspends until it is connected;
/// cancelling closes it. Throws `std::system_error` with the error of `make`.
Stream stream_over(Function<Result<TransportRef>(std::unique_ptr<Protocol>)> make,
                   Deadline deadline = {});

/// Two streams that are connected to each other in memory, as by a TCP connection. Suspends for a
/// turn; cancelling closes both.
std::pair<Stream, Stream> stream_pair();

} // namespace weft::coro

#pragma GCC visibility pop
