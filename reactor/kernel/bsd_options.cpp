#include "posix_syscall.hpp"
#include "system.hpp"

#include <arpa/inet.h>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

// The options of macOS and the BSDs. Names that not each of them has are macros where they exist.

namespace weft::detail {
namespace {

#ifdef SO_REUSEPORT_LB
constexpr int reuse_port = SO_REUSEPORT_LB; // FreeBSD: the one that shares connections out
#else
constexpr int reuse_port = SO_REUSEPORT;
#endif

#if defined(TCP_KEEPIDLE)
constexpr int keep_idle = TCP_KEEPIDLE;
#elif defined(TCP_KEEPALIVE)
constexpr int keep_idle = TCP_KEEPALIVE; // macOS
#else
constexpr int keep_idle = SystemOption::none; // OpenBSD: for all sockets alike, by sysctl(2)
#endif
#ifdef TCP_KEEPINTVL
constexpr int keep_interval = TCP_KEEPINTVL, keep_probes = TCP_KEEPCNT;
#else
constexpr int keep_interval = SystemOption::none, keep_probes = SystemOption::none;
#endif

#if defined(IP_RECVPKTINFO)
constexpr int packet_info = IP_RECVPKTINFO; // macOS, NetBSD
#else
constexpr int packet_info = IP_RECVDSTADDR; // FreeBSD, OpenBSD
#endif
#ifdef IP_RECVTOS
constexpr int receive_tos = IP_RECVTOS;
#else
constexpr int receive_tos = SystemOption::none;
#endif

SystemOptions socket_level(int name) noexcept {
    return {.plain = {SOL_SOCKET, name}};
}
SystemOptions of_tcp(int name) noexcept {
    return {.plain = {IPPROTO_TCP, name}};
}
SystemOptions of_ip(int ipv4, int ipv6,
                    SystemOption::Form form = SystemOption::Form::number) noexcept {
    return {.ipv4 = {IPPROTO_IP, ipv4, form}, .ipv6 = {IPPROTO_IPV6, ipv6}};
}

} // namespace

SystemOptions system_options(SocketOption option) noexcept {
    using Form = SystemOption::Form;
    switch (option) {
    case SocketOption::error:
        return socket_level(SO_ERROR);
    case SocketOption::reuse_address:
        return socket_level(SO_REUSEADDR);
    case SocketOption::reuse_port:
        return socket_level(reuse_port);
    case SocketOption::broadcast:
        return socket_level(SO_BROADCAST);
    case SocketOption::send_buffer:
        return socket_level(SO_SNDBUF);
    case SocketOption::receive_buffer:
        return socket_level(SO_RCVBUF);
    case SocketOption::no_delay:
        return of_tcp(TCP_NODELAY);
    case SocketOption::keep_alive:
        return socket_level(SO_KEEPALIVE);
    case SocketOption::keep_alive_idle:
        return of_tcp(keep_idle);
    case SocketOption::keep_alive_interval:
        return of_tcp(keep_interval);
    case SocketOption::keep_alive_probes:
        return of_tcp(keep_probes);
    case SocketOption::ipv6_only:
        return {.plain = {IPPROTO_IPV6, IPV6_V6ONLY}};
    case SocketOption::packet_info:
        return of_ip(packet_info, IPV6_RECVPKTINFO);
    case SocketOption::receive_ecn:
        return of_ip(receive_tos, IPV6_RECVTCLASS);
    case SocketOption::traffic_class:
        return of_ip(IP_TOS, IPV6_TCLASS);
    case SocketOption::hop_limit:
        return of_ip(IP_TTL, IPV6_UNICAST_HOPS);
    case SocketOption::multicast_hop_limit:
        return of_ip(IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS, Form::byte);
    case SocketOption::multicast_loop:
        return of_ip(IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP, Form::byte);
    case SocketOption::multicast_interface:
        return of_ip(IP_MULTICAST_IF, IPV6_MULTICAST_IF, Form::interface);
    case SocketOption::error_queue:
    case SocketOption::join_segments:
        return {}; // Linux alone
    }
    return {};
}

// A socket hears what it joined itself, everywhere but on Linux.
void hear_own_groups_only(int, bool) noexcept {}

#ifdef __NetBSD__

// An interface is named by an address of its own, or by its number in the last bytes of 0.0.0.0/8.
Sys set_ipv4_interface(int fd, int interface) noexcept {
    const in_addr chosen{htonl(static_cast<std::uint32_t>(interface))};
    return from_libc(::setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &chosen, sizeof chosen));
}

#else

Sys set_ipv4_interface(int fd, int interface) noexcept {
    ip_mreqn chosen{};
    chosen.imr_ifindex = interface;
    return from_libc(::setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &chosen, sizeof chosen));
}

#endif

#ifdef MCAST_JOIN_GROUP

static void copy_address(sockaddr_storage& out, const Address& address) noexcept {
    std::memcpy(&out, address.data(), address.size());
    out.ss_len = static_cast<std::uint8_t>(address.size()); // no call has done it yet
}

Sys change_membership(int fd, bool joins, const Address& group, std::uint32_t interface,
                      const Address* source) noexcept {
    const int level = group.family() == Address::Family::ipv6 ? IPPROTO_IPV6 : IPPROTO_IP;
    if (source) {
        group_source_req request{};
        request.gsr_interface = interface;
        copy_address(request.gsr_group, group);
        copy_address(request.gsr_source, *source);
        const int name = joins ? MCAST_JOIN_SOURCE_GROUP : MCAST_LEAVE_SOURCE_GROUP;
        return from_libc(::setsockopt(fd, level, name, &request, sizeof request));
    }
    group_req request{};
    request.gr_interface = interface;
    copy_address(request.gr_group, group);
    const int name = joins ? MCAST_JOIN_GROUP : MCAST_LEAVE_GROUP;
    return from_libc(::setsockopt(fd, level, name, &request, sizeof request));
}

#else

// OpenBSD and NetBSD have the older calls, which know no sources.
Sys change_membership(int fd, bool joins, const Address& group, std::uint32_t interface,
                      const Address* source) noexcept {
    if (source) return Sys::fail(EOPNOTSUPP);
    if (group.family() == Address::Family::ipv6) {
        ipv6_mreq request{};
        std::memcpy(&request.ipv6mr_multiaddr,
                    &reinterpret_cast<const sockaddr_in6*>(group.data())->sin6_addr,
                    sizeof request.ipv6mr_multiaddr);
        request.ipv6mr_interface = interface;
        const int name = joins ? IPV6_JOIN_GROUP : IPV6_LEAVE_GROUP;
        return from_libc(::setsockopt(fd, IPPROTO_IPV6, name, &request, sizeof request));
    }
#ifdef __NetBSD__
    ip_mreq request{};
    request.imr_interface.s_addr = htonl(interface);
#else
    ip_mreqn request{};
    request.imr_ifindex = static_cast<int>(interface);
#endif
    request.imr_multiaddr = reinterpret_cast<const sockaddr_in*>(group.data())->sin_addr;
    const int name = joins ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP;
    return from_libc(::setsockopt(fd, IPPROTO_IP, name, &request, sizeof request));
}

#endif

} // namespace weft::detail
