#include "posix_syscall.hpp"
#include "system.hpp"

#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/socket.h>

// The options of socket(7), tcp(7), udp(7), ip(7) and ipv6(7) of Linux.

namespace weft::detail {
namespace {

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

void copy_address(sockaddr_storage& out, const Address& address) noexcept {
    std::memcpy(&out, address.data(), address.size());
}

} // namespace

SystemOptions system_options(SocketOption option) noexcept {
    switch (option) {
    case SocketOption::error:
        return socket_level(SO_ERROR);
    case SocketOption::reuse_address:
        return socket_level(SO_REUSEADDR);
    case SocketOption::reuse_port:
        return socket_level(SO_REUSEPORT);
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
        return of_tcp(TCP_KEEPIDLE);
    case SocketOption::keep_alive_interval:
        return of_tcp(TCP_KEEPINTVL);
    case SocketOption::keep_alive_probes:
        return of_tcp(TCP_KEEPCNT);
    case SocketOption::ipv6_only:
        return {.plain = {IPPROTO_IPV6, IPV6_V6ONLY}};
    case SocketOption::packet_info:
        return of_ip(IP_PKTINFO, IPV6_RECVPKTINFO);
    case SocketOption::receive_ecn:
        return of_ip(IP_RECVTOS, IPV6_RECVTCLASS);
    case SocketOption::traffic_class:
        return of_ip(IP_TOS, IPV6_TCLASS);
    case SocketOption::error_queue:
        return of_ip(IP_RECVERR, IPV6_RECVERR);
    case SocketOption::join_segments:
        return {.plain = {IPPROTO_UDP, UDP_GRO}};
    case SocketOption::hop_limit:
        return of_ip(IP_TTL, IPV6_UNICAST_HOPS);
    case SocketOption::multicast_hop_limit:
        return of_ip(IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS);
    case SocketOption::multicast_loop:
        return of_ip(IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP);
    case SocketOption::multicast_interface:
        return of_ip(IP_MULTICAST_IF, IPV6_MULTICAST_IF, SystemOption::Form::interface);
    }
    return {};
}

Sys set_ipv4_interface(int fd, int interface) noexcept {
    ip_mreqn chosen{};
    chosen.imr_ifindex = interface;
    return from_libc(::setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &chosen, sizeof chosen));
}

void hear_own_groups_only(int fd, bool ipv6) noexcept {
    const int no = 0;
    // Linux before 4.20 has none for IPv6, which cannot be helped.
    if (ipv6)
        ::setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, &no, sizeof no);
    else
        ::setsockopt(fd, IPPROTO_IP, IP_MULTICAST_ALL, &no, sizeof no);
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

} // namespace weft::detail
