#include "sim_kernel_state.hpp"

#include <cerrno>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace weft::sim {
namespace {

// Above every option number of socket(7), ip(7), ipv6(7), tcp(7) and udp(7).
constexpr int last_name = 255;

/// What a real socket says of an option that nobody set.
int default_of(int level, int name) noexcept {
    if (level == IPPROTO_IP) {
        if (name == IP_TTL) return 64;
        if (name == IP_MULTICAST_TTL || name == IP_MULTICAST_LOOP) return 1;
    } else if (level == IPPROTO_IPV6) {
        if (name == IPV6_UNICAST_HOPS) return 64;
        if (name == IPV6_MULTICAST_HOPS || name == IPV6_MULTICAST_LOOP) return 1;
    } else if (level == IPPROTO_TCP && name == TCP_MAXSEG) {
        return 65483; // what the loopback interface leaves of its MTU
    }
    return 0;
}

/// Whether such a socket has options of that level: 0 or the errno value.
int check_level(const Socket& socket, int level, int name) noexcept {
    if (level == SOL_SOCKET) return name > 0 && name <= last_name ? 0 : ENOPROTOOPT;
    if (socket.is_unix()) return EOPNOTSUPP;
    const bool known = level == IPPROTO_IP ||
                       (level == IPPROTO_IPV6 && socket.family == AF_INET6) ||
                       (level == IPPROTO_TCP && socket.is_stream()) ||
                       (level == IPPROTO_UDP && socket.is_datagram());
    return known && name > 0 && name <= last_name ? 0 : ENOPROTOOPT;
}

/// Whether switching the option off empties the error queue.
bool drops_errors([[maybe_unused]] int level, [[maybe_unused]] int name) noexcept {
#ifdef IP_RECVERR
    return (level == IPPROTO_IP && name == IP_RECVERR) ||
           (level == IPPROTO_IPV6 && name == IPV6_RECVERR);
#else
    return false;
#endif
}

template<class T>
bool read_value(const void* value, std::size_t size, T& out) noexcept {
    if (!value || size < sizeof out) return false;
    std::memcpy(&out, value, sizeof out);
    return true;
}

Endpoint group_of(const in_addr& ip) noexcept {
    std::array<std::uint8_t, 4> bytes;
    std::memcpy(bytes.data(), &ip, bytes.size());
    return Endpoint::of(Address::ipv4(bytes, 0));
}

Endpoint group_of(const sockaddr_storage& storage) noexcept {
    Address address;
    std::memcpy(address.data(), &storage, sizeof(sockaddr_in6));
    address.set_size(storage.ss_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    address.set_port(0);
    return Endpoint::of(address);
}

/// What a membership option asks for.
struct Request {
    Endpoint group;
    std::optional<Endpoint> source;
    bool join;
};

bool parse_plain(int level, int name, const void* value, std::size_t size, Request& request) {
    if (level == IPPROTO_IP && (name == IP_ADD_MEMBERSHIP || name == IP_DROP_MEMBERSHIP)) {
        ip_mreq wanted;
        if (!read_value(value, size, wanted)) return false;
        request = {group_of(wanted.imr_multiaddr), {}, name == IP_ADD_MEMBERSHIP};
        return true;
    }
    if (level == IPPROTO_IPV6 && (name == IPV6_JOIN_GROUP || name == IPV6_LEAVE_GROUP)) {
        ipv6_mreq wanted;
        if (!read_value(value, size, wanted)) return false;
        std::array<std::uint8_t, 16> ip;
        std::memcpy(ip.data(), &wanted.ipv6mr_multiaddr, ip.size());
        request = {Endpoint::of(Address::ipv6(ip, 0)), {}, name == IPV6_JOIN_GROUP};
        return true;
    }
    if (name == MCAST_JOIN_GROUP || name == MCAST_LEAVE_GROUP) {
        group_req wanted;
        if (!read_value(value, size, wanted)) return false;
        request = {group_of(wanted.gr_group), {}, name == MCAST_JOIN_GROUP};
        return true;
    }
    return false;
}

bool parse_source(int level, int name, const void* value, std::size_t size, Request& request) {
    if (level == IPPROTO_IP &&
        (name == IP_ADD_SOURCE_MEMBERSHIP || name == IP_DROP_SOURCE_MEMBERSHIP)) {
        ip_mreq_source wanted;
        if (!read_value(value, size, wanted)) return false;
        request = {group_of(wanted.imr_multiaddr), group_of(wanted.imr_sourceaddr),
                   name == IP_ADD_SOURCE_MEMBERSHIP};
        return true;
    }
    if (name == MCAST_JOIN_SOURCE_GROUP || name == MCAST_LEAVE_SOURCE_GROUP) {
        group_source_req wanted;
        if (!read_value(value, size, wanted)) return false;
        request = {group_of(wanted.gsr_group), group_of(wanted.gsr_source),
                   name == MCAST_JOIN_SOURCE_GROUP};
        return true;
    }
    return false;
}

bool is_membership(int level, int name) noexcept {
    if (name == MCAST_JOIN_GROUP || name == MCAST_LEAVE_GROUP || name == MCAST_JOIN_SOURCE_GROUP ||
        name == MCAST_LEAVE_SOURCE_GROUP)
        return level == IPPROTO_IP || level == IPPROTO_IPV6;
    if (level == IPPROTO_IP)
        return name == IP_ADD_MEMBERSHIP || name == IP_DROP_MEMBERSHIP ||
               name == IP_ADD_SOURCE_MEMBERSHIP || name == IP_DROP_SOURCE_MEMBERSHIP;
    return level == IPPROTO_IPV6 && (name == IPV6_JOIN_GROUP || name == IPV6_LEAVE_GROUP);
}

Sys join(std::vector<Membership>& all, std::vector<Membership>::iterator found,
         const Request& request) {
    if (found == all.end()) {
        Membership added{request.group, {}};
        if (request.source) added.sources.push_back(*request.source);
        all.push_back(std::move(added));
        return Sys(0);
    }
    if (!request.source) return Sys::fail(EADDRINUSE);
    if (found->sources.empty()) return Sys::fail(EINVAL); // joined for every source
    if (std::find(found->sources.begin(), found->sources.end(), *request.source) !=
        found->sources.end())
        return Sys::fail(EADDRNOTAVAIL);
    found->sources.push_back(*request.source);
    return Sys(0);
}

} // namespace

std::optional<Sys> SimKernel::State::membership_option(Socket& socket, int level, int name,
                                                       const void* value, std::size_t size) {
    if (!is_membership(level, name)) return std::nullopt;
    if (!socket.is_datagram()) return Sys::fail(EPROTO);
    Request request{};
    if (!parse_plain(level, name, value, size, request) &&
        !parse_source(level, name, value, size, request))
        return Sys::fail(EINVAL);
    if (!request.group.is_multicast()) return Sys::fail(EINVAL);
    auto& all = socket.datagrams->memberships;
    const auto found = std::find_if(all.begin(), all.end(), [&](const Membership& each) {
        return each.group.same_ip(request.group);
    });
    if (request.join) return join(all, found, request);
    if (found == all.end()) return Sys::fail(EADDRNOTAVAIL);
    if (request.source) {
        if (std::erase(found->sources, *request.source) == 0) return Sys::fail(EADDRNOTAVAIL);
        if (!found->sources.empty()) return Sys(0);
    }
    all.erase(found);
    return Sys(0);
}

Sys SimKernel::State::set_option(Socket& socket, int level, int name, const void* value,
                                 std::size_t size) {
    if (const int error = check_level(socket, level, name)) return Sys::fail(error);
    if (const auto done = membership_option(socket, level, name, value, size)) return *done;
    if (level == SOL_SOCKET) {
        if (name == SO_ERROR || name == SO_TYPE || name == SO_ACCEPTCONN)
            return Sys::fail(ENOPROTOOPT);
        int number = 0;
        if (!read_value(value, size, number)) return Sys::fail(EINVAL);
        if (name == SO_SNDBUF || name == SO_RCVBUF) {
            const auto bytes = static_cast<std::size_t>(std::max(number, 1));
            (name == SO_SNDBUF ? socket.send_buffer : socket.receive_buffer) = bytes;
            return Sys(0);
        }
        if (name == SO_LINGER && size < sizeof(linger)) return Sys::fail(EINVAL);
    }
    if (size == 0 || !value) return Sys::fail(EINVAL);
    if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY && socket.bound) return Sys::fail(EINVAL);
    if (int wanted = 0; drops_errors(level, name) && read_value(value, size, wanted) &&
                        wanted == 0 && socket.datagrams)
        socket.datagrams->errors.clear();
    const auto* bytes = static_cast<const std::byte*>(value);
    std::vector<std::byte> copy(bytes, bytes + size);
    for (Option& each : socket.options) {
        if (each.level != level || each.name != name) continue;
        each.value = std::move(copy);
        return Sys(0);
    }
    socket.options.push_back({level, name, std::move(copy)});
    return Sys(0);
}

Sys SimKernel::State::get_option(Socket& socket, int level, int name, void* value,
                                 std::size_t size) {
    if (const int error = check_level(socket, level, name)) return Sys::fail(error);
    const auto give = [&](const void* from, std::size_t length) {
        length = std::min(length, size);
        if (length > 0) std::memcpy(value, from, length);
        return Sys(static_cast<std::int64_t>(length));
    };
    for (const Option& each : socket.options)
        if (each.level == level && each.name == name)
            return give(each.value.data(), each.value.size());
    int number = default_of(level, name);
    if (level == SOL_SOCKET) {
        switch (name) {
        case SO_ERROR:
            number = socket.take_error();
            break;
        case SO_TYPE:
            number = socket.type;
            break;
        case SO_ACCEPTCONN:
            number = socket.phase == Socket::Phase::listening;
            break;
        case SO_SNDBUF:
            number = static_cast<int>(socket.send_buffer);
            break;
        case SO_RCVBUF:
            number = static_cast<int>(socket.receive_buffer);
            break;
#ifdef SO_DOMAIN
        case SO_DOMAIN:
            number = socket.family;
            break;
        case SO_PROTOCOL:
            number = socket.protocol;
            break;
#endif
        case SO_LINGER: {
            const linger off{};
            return give(&off, sizeof off);
        }
        default:
            break;
        }
    }
    return give(&number, sizeof number);
}

} // namespace weft::sim
