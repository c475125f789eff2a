// From addresses to listening sockets, for TCP and Unix sockets.

#include "../connect/socket_options.hpp"
#include "server_state.hpp"

#include <cerrno>
#include <sys/socket.h>

namespace weft {
namespace detail {

void OptionSetter::set_tcp(bool nodelay, const std::optional<KeepAlive>& keep_alive) noexcept {
    if (nodelay) set(SocketOption::no_delay, 1);
    if (!keep_alive) return;
    set(SocketOption::keep_alive, 1);
    set(SocketOption::keep_alive_idle, static_cast<int>(keep_alive->idle.count()));
    set(SocketOption::keep_alive_interval, static_cast<int>(keep_alive->interval.count()));
    set(SocketOption::keep_alive_probes, keep_alive->probes);
}

void check_keep_alive(const std::optional<KeepAlive>& keep_alive) {
    if (!keep_alive) return;
    // What Linux takes (MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL, MAX_TCP_KEEPCNT).
    const auto seconds = [](const char* option, std::chrono::seconds value) {
        check_option(value.count() >= 1 && value.count() <= 32767, option, value.count(),
                     "must be from 1 to 32767 seconds");
    };
    seconds("KeepAlive: idle", keep_alive->idle);
    seconds("KeepAlive: interval", keep_alive->interval);
    check_option(keep_alive->probes >= 1 && keep_alive->probes <= 127, "KeepAlive: probes",
                 keep_alive->probes, "must be from 1 to 127");
}

void check_write_limits(const char* option, const std::optional<WriteLimits>& limits) {
    if (limits)
        check_option(limits->low <= limits->high, option, limits->low,
                     ("can not be above `high`, " + std::to_string(limits->high)).c_str());
}

namespace {

int family_of(const Address& address) noexcept {
    return address.data()->sa_family;
}

// Accepted TCP sockets inherit these from their listener, so that a connection costs no call for
// them.
Sys set_tcp_options(Kernel& kernel, int fd, const Address& address,
                    const ListenOptions& options) noexcept {
    OptionSetter setter(kernel, fd);
    if (options.reuse_address) setter.set(SocketOption::reuse_address, 1);
    if (options.reuse_port) setter.set(SocketOption::reuse_port, 1);
    if (address.family() == Address::Family::ipv6)
        setter.set(SocketOption::ipv6_only,
                   options.ipv6_only || !(address.is_any() || address.is_mapped()));
    setter.set_tcp(options.nodelay, options.keep_alive);
    return setter.result();
}

/// What lies at the path of `address` now.
SocketFile file_of(Kernel& kernel, const Address& address) {
    if (address.is_abstract() || address.path().empty()) return {};
    std::string path = kernel.absolute(address.path());
    const FileInfo info = kernel.look_at(path);
    return {std::move(path), info};
}

Result<void> listen_on(ServerState& server, const Address& address, StreamKind kind) {
    Kernel& kernel = server.core.kernel();
    const auto failed = [&](Sys sys) { return address_error(sys.code(), "listen on", address); };
    const Sys made = kernel.socket(family_of(address), SOCK_STREAM, 0);
    if (!made.ok()) return failed(made);
    Socket socket(kernel, made.fd());
    if (kind == StreamKind::tcp) {
        if (const Sys set = set_tcp_options(kernel, socket.get(), address, server.options);
            !set.ok())
            return failed(set);
    }
    if (const Sys bound = kernel.bind(socket.get(), address); !bound.ok()) return failed(bound);
    SocketFile file = file_of(kernel, address);
    if (const Sys done = kernel.listen(socket.get(), server.options.backlog); !done.ok()) {
        file.remove(kernel);
        return failed(done);
    }
    Address name = address;
    (void)kernel.local_address(socket.get(), name);
    return server.add_listener(socket.release(), kind, name, std::move(file));
}

/// The addresses that a listening text stands for.
Result<std::vector<Address>> listen_addresses(std::string_view text) {
    constexpr std::string_view localhost = "localhost:";
    if (text.starts_with(localhost) && !Address::names_unix(text)) {
        // RFC 6761, 6.3: a name that means the loopback addresses, without a look-up.
        auto four = Address::parse("127.0.0.1:" + std::string(text.substr(localhost.size())));
        if (!four.ok()) return four.error();
        return std::vector{*four, Address::loopback_ipv6(four->port())};
    }
    auto one = Address::parse(text);
    if (!one.ok()) return one.error();
    if (!one->is_ip())
        return Error{Errc::bad_address,
                     "listen on \"" + std::string(text) + "\" (not a TCP address)"};
    return std::vector{*one};
}

bool no_such_family(std::error_code code) noexcept {
    return code == std::errc::address_family_not_supported ||
           code == std::errc::address_not_available;
}

/// Listens on all of them, that is one name's, at one port. EADDRINUSE: the port that the system
/// chose for the first is another's on the second, if `chosen`.
Result<void> listen_on_all(ServerState& server, std::span<const Address> addresses, bool any,
                           bool& chosen) {
    std::size_t listening = 0;
    std::uint16_t port = 0; // that the system chose
    for (Address address : addresses) {
        if (address.port() == 0) address.set_port(port);
        auto done = listen_on(server, address, StreamKind::tcp);
        // A host without IPv6 has one loopback address, and "any address" is IPv4's there.
        if (!done.ok() && any && no_such_family(done.error().code))
            done = listen_on(server, Address::any_ipv4(address.port()), StreamKind::tcp);
        if (!done.ok() && !(listening != 0 && no_such_family(done.error().code))) {
            chosen = port != 0;
            return done;
        }
        if (!done.ok()) continue;
        ++listening;
        port = server.listeners_.back()->address().port();
    }
    return {};
}

Result<void> listen_on_text(ServerState& server, std::string_view text) {
    auto addresses = listen_addresses(text);
    if (!addresses.ok()) return addresses.error();
    const bool any = text.starts_with('*') || text.starts_with(':');
    const std::size_t before = server.listeners_.size();
    for (int left = 100;; --left) {
        bool chosen = false;
        auto done = listen_on_all(server, *addresses, any, chosen);
        if (done.ok() || !chosen || left == 0 || done.error().code != errno_code(EADDRINUSE))
            return done;
        server.listeners_.resize(before); // another port
    }
}

// Whether somebody accepts connections at a socket file.
bool answers(Kernel& kernel, const Address& address) {
    const Sys made = kernel.socket(AF_UNIX, SOCK_STREAM, 0);
    if (!made.ok()) return true; // not known, so it is left alone
    Socket socket(kernel, made.fd());
    return kernel.connect(socket.get(), address).error() != ECONNREFUSED;
}

Result<void> listen_on_path(ServerState& server, std::string_view path) {
    auto address = Address::unix_path(path);
    if (!address.ok()) return address.error();
    Kernel& kernel = server.core.kernel();
    // Between bind(2) and listen(2) a file refuses connections, as one does that was left behind.
    // So whoever binds or replaces one has the folder to itself meanwhile. Without the lock, where
    // the folder can not be read or another program keeps it locked, two that start at the same
    // moment may both believe to have the path.
    const Sys locked =
        address->is_abstract() ? Sys::fail(ENOTSUP) : kernel.lock_folder(address->path());
    const Socket lock(kernel, locked.ok() ? locked.fd() : -1);
    auto done = listen_on(server, *address, StreamKind::unix_socket);
    if (!done.ok() && done.error().code == std::errc::address_in_use && !address->is_abstract()) {
        const SocketFile found = file_of(kernel, *address);
        if (!found.info.is_socket)
            return address_error(errno_code(EEXIST), "listen on (the path is no socket)", *address);
        if (answers(kernel, *address)) return done;
        // Left behind by a server that is gone.
        found.remove(kernel);
        done = listen_on(server, *address, StreamKind::unix_socket);
    }
    return done;
}

/// A server on all of these, each of which `listen_on_one(state, text)` understands, or on none.
Result<Server> listen_on_each(Loop& loop, const ListenAddresses& addresses, ProtocolFactory factory,
                              const ListenOptions& options,
                              Result<void> (*listen_on_one)(ServerState&, std::string_view)) {
    core_of(loop).check_usable("listen");
    auto state = std::make_shared<ServerState>(core_of(loop), std::move(factory), options);
    Server server(state);
    for (const std::string& text : addresses.texts())
        if (auto done = listen_on_one(*state, text); !done.ok()) return done.error();
    if (addresses.texts().empty()) return Error{Errc::bad_address, "listen (no address given)"};
    return server;
}

Result<void> listen_on_named(ServerState& server, std::string_view text) {
    return Address::names_unix(text) ? listen_on_path(server, text) : listen_on_text(server, text);
}

} // namespace
} // namespace detail

namespace tcp {

Result<Server> listen(Loop& loop, const ListenAddresses& addresses, ProtocolFactory factory,
                      const ListenOptions& options) {
    return detail::listen_on_each(loop, addresses, std::move(factory), options,
                                  detail::listen_on_text);
}

} // namespace tcp

namespace unix_socket {

Result<Server> listen(Loop& loop, const ListenAddresses& paths, ProtocolFactory factory,
                      const ListenOptions& options) {
    return detail::listen_on_each(loop, paths, std::move(factory), options, detail::listen_on_path);
}

} // namespace unix_socket

Result<Server> listen(Loop& loop, const ListenAddresses& addresses, ProtocolFactory factory,
                      const ListenOptions& options) {
    return detail::listen_on_each(loop, addresses, std::move(factory), options,
                                  detail::listen_on_named);
}

Result<Server> adopt_listener(Loop& loop, int fd, ProtocolFactory factory,
                              const ListenOptions& options) {
    detail::core_of(loop).check_usable("adopt_listener");
    Kernel& kernel = detail::core_of(loop).kernel();
    detail::Socket socket(kernel, fd);
    const auto failed = [fd](std::error_code code) {
        return Error{code, "adopt listening descriptor " + std::to_string(fd)};
    };
    if (kernel.kind_of(fd) != FileKind::stream_socket) return failed(errno_code(ENOTSOCK));
    if (!kernel.is_listening(fd)) return failed(errno_code(EINVAL));
    if (const Sys done = kernel.set_nonblocking(fd); !done.ok()) return failed(done.code());
    Address address;
    if (const Sys done = kernel.local_address(fd, address); !done.ok()) return failed(done.code());
    if (address.family() == Address::Family::none) return failed(errno_code(EAFNOSUPPORT));
    auto state =
        std::make_shared<detail::ServerState>(detail::core_of(loop), std::move(factory), options);
    Server server(state);
    const auto kind = address.is_ip() ? detail::StreamKind::tcp : detail::StreamKind::unix_socket;
    if (auto done = state->add_listener(socket.release(), kind, address, {}); !done.ok())
        return done.error();
    return server;
}

Result<TransportRef> adopt_connection(Loop& loop, int fd, std::unique_ptr<Protocol> protocol) {
    detail::core_of(loop).check_usable("adopt_connection");
    if (!protocol) throw UsageError("adopt_connection: the protocol is null");
    Kernel& kernel = detail::core_of(loop).kernel();
    const auto failed = [fd](std::error_code code) {
        return Error{code, "adopt connected descriptor " + std::to_string(fd)};
    };
    if (kernel.kind_of(fd) != FileKind::stream_socket) return failed(errno_code(ENOTSOCK));
    Address local;
    Address peer;
    if (const Sys done = kernel.local_address(fd, local); !done.ok()) return failed(done.code());
    if (const Sys done = kernel.peer_address(fd, peer); !done.ok()) return failed(done.code());
    if (local.family() == Address::Family::none) return failed(errno_code(EAFNOSUPPORT));
    const auto kind = local.is_ip() ? detail::StreamKind::tcp : detail::StreamKind::unix_socket;
    TransportRef ref;
    const auto error = detail::StreamTransport::adopt(detail::core_of(loop), fd, kind, peer,
                                                      std::move(protocol), ref);
    if (error) return failed(error);
    return ref;
}

} // namespace weft
