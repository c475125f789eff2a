#include "state.hpp"

#include <cerrno>
#include <sys/socket.h>

namespace weft::sim {
namespace {

/// What an option is about.
enum class Level : std::uint8_t { socket, tcp, udp, ip, ipv6 };

Level level_of(SocketOption option) noexcept {
    switch (option) {
    case SocketOption::error:
    case SocketOption::reuse_address:
    case SocketOption::reuse_port:
    case SocketOption::broadcast:
    case SocketOption::send_buffer:
    case SocketOption::receive_buffer:
    case SocketOption::keep_alive:
        return Level::socket;
    case SocketOption::no_delay:
    case SocketOption::keep_alive_idle:
    case SocketOption::keep_alive_interval:
    case SocketOption::keep_alive_probes:
        return Level::tcp;
    case SocketOption::join_segments:
        return Level::udp;
    case SocketOption::ipv6_only:
        return Level::ipv6;
    default:
        return Level::ip;
    }
}

/// Whether such a socket has that option: 0 or the errno value.
int check_level(const Socket& socket, SocketOption option) noexcept {
    const Level level = level_of(option);
    if (level == Level::socket) return 0;
    if (socket.is_unix()) return EOPNOTSUPP;
    const bool known = level == Level::ip || (level == Level::ipv6 && socket.family == AF_INET6) ||
                       (level == Level::tcp && socket.is_stream()) ||
                       (level == Level::udp && socket.is_datagram());
    return known ? 0 : ENOPROTOOPT;
}

/// What a real socket says of an option that nobody set.
int default_of(SocketOption option) noexcept {
    switch (option) {
    case SocketOption::hop_limit:
        return 64;
    case SocketOption::multicast_hop_limit:
    case SocketOption::multicast_loop:
        return 1;
    default:
        return 0;
    }
}

std::vector<Membership>::iterator find_membership(std::vector<Membership>& all,
                                                  const Endpoint& group) noexcept {
    return std::find_if(all.begin(), all.end(),
                        [&](const Membership& each) { return each.group.same_ip(group); });
}

} // namespace

Sys SimKernel::State::set_option(Socket& socket, SocketOption option, int value) {
    if (const int error = check_level(socket, option)) return Sys::fail(error);
    switch (option) {
    case SocketOption::error:
        return Sys::fail(ENOPROTOOPT);
    case SocketOption::send_buffer:
        socket.send_buffer = static_cast<std::size_t>(std::max(value, 1));
        return Sys(0);
    case SocketOption::receive_buffer:
        socket.receive_buffer = static_cast<std::size_t>(std::max(value, 1));
        return Sys(0);
    case SocketOption::ipv6_only:
        if (socket.bound) return Sys::fail(EINVAL);
        break;
    case SocketOption::error_queue:
        if (value == 0 && socket.datagrams) socket.datagrams->errors.clear();
        break;
    default:
        break;
    }
    for (Option& each : socket.options) {
        if (each.name != option) continue;
        each.value = value;
        return Sys(0);
    }
    socket.options.push_back({option, value});
    return Sys(0);
}

Sys SimKernel::State::get_option(Socket& socket, SocketOption option) {
    if (const int error = check_level(socket, option)) return Sys::fail(error);
    switch (option) {
    case SocketOption::error:
        return Sys(socket.take_error());
    case SocketOption::send_buffer:
        return Sys(static_cast<std::int64_t>(socket.send_buffer));
    case SocketOption::receive_buffer:
        return Sys(static_cast<std::int64_t>(socket.receive_buffer));
    default:
        return Sys(socket.option(option, default_of(option)));
    }
}

Sys SimKernel::State::join_group(Socket& socket, const Address& address, const Address* source) {
    if (!socket.is_datagram() || socket.is_unix()) return Sys::fail(EPROTO);
    const Endpoint group = Endpoint::of(address);
    if (!group.is_multicast()) return Sys::fail(EINVAL);
    auto& all = socket.datagrams->memberships;
    const auto found = find_membership(all, group);
    if (found == all.end()) {
        Membership added{group, {}};
        if (source) added.sources.push_back(Endpoint::of(*source));
        all.push_back(std::move(added));
        return Sys(0);
    }
    if (!source) return Sys::fail(EADDRINUSE);
    if (found->sources.empty()) return Sys::fail(EINVAL); // joined for every source
    const Endpoint wanted = Endpoint::of(*source);
    if (std::find(found->sources.begin(), found->sources.end(), wanted) != found->sources.end())
        return Sys::fail(EADDRNOTAVAIL);
    found->sources.push_back(wanted);
    return Sys(0);
}

Sys SimKernel::State::leave_group(Socket& socket, const Address& address, const Address* source) {
    if (!socket.is_datagram() || socket.is_unix()) return Sys::fail(EPROTO);
    const Endpoint group = Endpoint::of(address);
    if (!group.is_multicast()) return Sys::fail(EINVAL);
    auto& all = socket.datagrams->memberships;
    const auto found = find_membership(all, group);
    if (found == all.end()) return Sys::fail(EADDRNOTAVAIL);
    if (source) {
        if (std::erase(found->sources, Endpoint::of(*source)) == 0) return Sys::fail(EADDRNOTAVAIL);
        if (!found->sources.empty()) return Sys(0);
    }
    all.erase(found);
    return Sys(0);
}

} // namespace weft::sim
