// From addresses to datagram endpoints.

#include "../connect/socket_options.hpp"
#include "datagram_endpoint.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <string>
#include <sys/socket.h>

namespace weft {
namespace udp {
namespace {

using detail::DatagramEndpoint;
using detail::OptionSetter;
using detail::Socket;

constexpr const char* bind_text = "bind a datagram endpoint to";

std::string on(const char* what, const Address& address) {
    return std::string(what) + " " + address.to_string();
}

/// "localhost" is 127.0.0.1: a datagram socket has one address (RFC 6761, 6.3).
Result<Address> parse(std::string_view text) {
    constexpr std::string_view localhost = "localhost:";
    if (text.starts_with(localhost) && !Address::names_unix(text))
        return Address::parse("127.0.0.1:" + std::string(text.substr(localhost.size())));
    auto address = Address::parse(text);
    if (address.ok() && !address->is_ip())
        return Error{Errc::bad_address,
                     "address \"" + std::string(text) + "\" (not a UDP address)"};
    return address;
}

/// What must be set before binding.
Sys set_before(Kernel& kernel, int fd, const Address& address, const UdpOptions& options) noexcept {
    OptionSetter setter(kernel, fd);
    if (options.reuse_address) setter.set(SocketOption::reuse_address, 1);
    if (options.reuse_port) setter.set(SocketOption::reuse_port, 1);
    if (address.family() == Address::Family::ipv6)
        setter.set(SocketOption::ipv6_only, options.ipv6_only);
    return setter.result();
}

Sys set_options(Kernel& kernel, int fd, Address::Family family,
                const UdpOptions& options) noexcept {
    OptionSetter setter(kernel, fd);
    if (options.broadcast) setter.set(SocketOption::broadcast, 1);
    const auto size = [](std::size_t bytes) {
        return static_cast<int>(std::min<std::size_t>(bytes, INT32_MAX));
    };
    if (options.receive_buffer != 0)
        setter.set(SocketOption::receive_buffer, size(options.receive_buffer));
    if (options.send_buffer != 0) setter.set(SocketOption::send_buffer, size(options.send_buffer));
    if (family == Address::Family::unix_socket || family == Address::Family::none)
        return setter.result(); // the rest is of IP
    if (options.packet_info) {
        setter.set(SocketOption::packet_info, 1);
        setter.set(SocketOption::receive_ecn, 1);
    }
    if (options.gro) (void)kernel.set_option(fd, SocketOption::join_segments, 1);
    if (options.report_errors) setter.set(SocketOption::error_queue, 1);
    return setter.result();
}

void check(Loop& loop, const char* what, const std::unique_ptr<DatagramProtocol>& protocol,
           const UdpOptions& options) {
    detail::core_of(loop).check_usable(what);
    if (!protocol) throw UsageError(std::string(what) + ": the protocol is null");
    constexpr std::size_t most = detail::DatagramRoom::max_batch;
    detail::check_option(options.batch >= 1 && options.batch <= most, "UdpOptions: batch",
                         options.batch, "must be from 1 to 64");
    detail::check_option(options.datagram_size >= 1 && options.datagram_size <= 65536,
                         "UdpOptions: datagram_size", options.datagram_size,
                         "must be from 1 to 65536");
    detail::check_write_limits("UdpOptions: write_limits.low", options.write_limits);
}

/// Makes the endpoint; on success the loop owns it from then on, and it the descriptor.
Result<DatagramRef> start(Loop& loop, int fd, std::unique_ptr<DatagramProtocol> protocol,
                          const Address& peer, const UdpOptions& options, std::string what) {
    auto endpoint = std::make_unique<DatagramEndpoint>(detail::core_of(loop), fd,
                                                       std::move(protocol), peer, options);
    const Sys started = endpoint->start();
    if (!started.ok()) return Error{started.code(), std::move(what)};
    return endpoint.release()->ref();
}

Result<DatagramRef> bind_to(Loop& loop, const Address& address,
                            std::unique_ptr<DatagramProtocol>& protocol,
                            const UdpOptions& options) {
    Kernel& kernel = detail::core_of(loop).kernel();
    const std::string what = on(bind_text, address);
    const auto failed = [&](Sys sys) { return Error{sys.code(), what}; };
    const Sys made = kernel.socket(address.data()->sa_family, SOCK_DGRAM, 0);
    if (!made.ok()) return failed(made);
    Socket socket(kernel, made.fd());
    if (const Sys set = set_before(kernel, made.fd(), address, options); !set.ok())
        return failed(set);
    if (const Sys set = set_options(kernel, made.fd(), address.family(), options); !set.ok())
        return failed(set);
    if (const Sys done = kernel.bind(made.fd(), address); !done.ok()) return failed(done);
    auto bound = start(loop, made.fd(), std::move(protocol), Address(), options, what);
    if (bound.ok()) (void)socket.release();
    return bound;
}

} // namespace

Result<DatagramRef> bind(Loop& loop, const Address& address,
                         std::unique_ptr<DatagramProtocol> protocol, const UdpOptions& options) {
    check(loop, "udp::bind", protocol, options);
    if (!address.is_ip()) return Error{Errc::bad_address, on(bind_text, address)};
    return bind_to(loop, address, protocol, options);
}

Result<DatagramRef> bind(Loop& loop, std::string_view address,
                         std::unique_ptr<DatagramProtocol> protocol, const UdpOptions& options) {
    check(loop, "udp::bind", protocol, options);
    const auto parsed = parse(address);
    if (!parsed.ok()) return parsed.error();
    auto bound = bind_to(loop, *parsed, protocol, options);
    const bool any = address.starts_with('*') || address.starts_with(':');
    if (bound.ok() || !any || bound.error().code != errno_code(EAFNOSUPPORT)) return bound;
    return bind_to(loop, Address::any_ipv4(parsed->port()), protocol, options); // no IPv6 here
}

Result<DatagramRef> connect(Loop& loop, const Address& peer,
                            std::unique_ptr<DatagramProtocol> protocol, const UdpOptions& options) {
    check(loop, "udp::connect", protocol, options);
    std::string what = on("connect a datagram endpoint to", peer);
    if (!peer.is_ip()) return Error{Errc::bad_address, what};
    std::optional<Address> local;
    if (options.local_address) {
        what += " from " + options.local_address->to_string();
        local = detail::local_for(*options.local_address, peer);
        if (!local) return Error{errno_code(EAFNOSUPPORT), what};
    }
    Kernel& kernel = detail::core_of(loop).kernel();
    const Sys made = kernel.socket(peer.data()->sa_family, SOCK_DGRAM, 0);
    if (!made.ok()) return Error{made.code(), what};
    Socket socket(kernel, made.fd());
    Sys done = set_before(kernel, made.fd(), peer, options);
    if (done.ok()) done = set_options(kernel, made.fd(), peer.family(), options);
    if (!done.ok()) return Error{done.code(), what};
    if (local)
        if (const Sys bound = kernel.bind(made.fd(), *local); !bound.ok())
            return Error{bound.code(), what};
    if (done = kernel.connect(made.fd(), peer); !done.ok()) return Error{done.code(), what};
    // As the kernel spells it: a link-local address with its interface.
    Address name = peer;
    if (!kernel.peer_address(made.fd(), name).ok()) name = peer;
    auto connected = start(loop, made.fd(), std::move(protocol), name, options, what);
    if (connected.ok()) (void)socket.release();
    return connected;
}

Result<DatagramRef> connect(Loop& loop, std::string_view peer,
                            std::unique_ptr<DatagramProtocol> protocol, const UdpOptions& options) {
    check(loop, "udp::connect", protocol, options);
    const auto parsed = parse(peer);
    if (!parsed.ok()) return parsed.error();
    return connect(loop, *parsed, std::move(protocol), options);
}

} // namespace udp

Result<DatagramRef> adopt_datagram_endpoint(Loop& loop, int fd,
                                            std::unique_ptr<DatagramProtocol> protocol,
                                            const UdpOptions& options) {
    using namespace udp;
    check(loop, "adopt_datagram_endpoint", protocol, options);
    const std::string what = "adopt a datagram endpoint from descriptor " + std::to_string(fd);
    Kernel& kernel = detail::core_of(loop).kernel();
    const FileKind kind = kernel.kind_of(fd);
    if (kind == FileKind::none) return Error{errno_code(EBADF), what};
    if (kind != FileKind::datagram_socket)
        return Error{errno_code(kind == FileKind::stream_socket ? EINVAL : ENOTSOCK), what};
    Address local, peer;
    if (const Sys known = kernel.local_address(fd, local); !known.ok())
        return Error{known.code(), what};
    if (local.family() == Address::Family::none) return Error{errno_code(EAFNOSUPPORT), what};
    (void)kernel.peer_address(fd, peer); // ENOTCONN: it is not connected
    // What can not be registered is refused before anything about it is changed.
    if (const Sys added = kernel.add(fd, Token(), Interest::none); !added.ok())
        return Error{added.code(), what};
    (void)kernel.remove(fd);
    Sys done = kernel.set_nonblocking(fd);
    if (done.ok()) done = set_options(kernel, fd, local.family(), options);
    if (!done.ok()) return Error{done.code(), what};
    UdpOptions as_it_is = options;
    // Whoever made the socket may have switched it on.
    if (local.is_ip())
        if (const Sys joins = kernel.get_option(fd, SocketOption::join_segments); joins.ok())
            as_it_is.gro = as_it_is.gro || joins.value() != 0;
    return start(loop, fd, std::move(protocol), peer, as_it_is, what);
}

} // namespace weft
