#pragma once
#pragma GCC system_header

#include <cstdint>
#include <sys/socket.h>

typedef std::uint32_t in_addr_t;
typedef std::uint16_t in_port_t;

struct in_addr {
    in_addr_t s_addr;
};
struct in6_addr {
    unsigned char s6_addr[16];
};
struct sockaddr_in {
    unsigned char sin_len;
    sa_family_t sin_family;
    in_port_t sin_port;
    in_addr sin_addr;
    char sin_zero[8];
};
struct sockaddr_in6 {
    unsigned char sin6_len;
    sa_family_t sin6_family;
    in_port_t sin6_port;
    std::uint32_t sin6_flowinfo;
    in6_addr sin6_addr;
    std::uint32_t sin6_scope_id;
};
struct ip_mreq {
    in_addr imr_multiaddr;
    in_addr imr_interface;
};
#ifndef __NetBSD__
struct ip_mreqn {
    in_addr imr_multiaddr;
    in_addr imr_address;
    int imr_ifindex;
};
#endif
struct ipv6_mreq {
    in6_addr ipv6mr_multiaddr;
    unsigned ipv6mr_interface;
};
struct in6_pktinfo {
    in6_addr ipi6_addr;
    unsigned ipi6_ifindex;
};
#if defined(__APPLE__) || defined(__NetBSD__)
struct in_pktinfo {
    unsigned ipi_ifindex;
    in_addr ipi_spec_dst;
    in_addr ipi_addr;
};
#endif

#define INADDR_ANY ((in_addr_t)0)
#define INADDR_LOOPBACK ((in_addr_t)0x7f000001)
#define INADDR_BROADCAST ((in_addr_t)0xffffffff)
#define INET_ADDRSTRLEN 16
#define INET6_ADDRSTRLEN 46
#define IN_MULTICAST(ip) (((in_addr_t)(ip) & 0xf0000000) == 0xe0000000)
#define IN6_IS_ADDR_LINKLOCAL(ip) ((ip)->s6_addr[0] == 0xfe && ((ip)->s6_addr[1] & 0xc0) == 0x80)
#define IN6_IS_ADDR_MC_LINKLOCAL(ip) ((ip)->s6_addr[0] == 0xff && ((ip)->s6_addr[1] & 0x0f) == 2)
#define IN6_IS_ADDR_UNSPECIFIED(ip) ((ip)->s6_addr[0] == 0)
#define IN6_IS_ADDR_LOOPBACK(ip) ((ip)->s6_addr[15] == 1)
#define IN6_IS_ADDR_V4MAPPED(ip) ((ip)->s6_addr[10] == 0xff)
#define IN6_IS_ADDR_MULTICAST(ip) ((ip)->s6_addr[0] == 0xff)

#define IPPROTO_IP 0
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_IPV6 41

#define IP_TOS 3
#define IP_TTL 4
#define IP_MULTICAST_IF 9
#define IP_MULTICAST_TTL 10
#define IP_MULTICAST_LOOP 11
#define IP_ADD_MEMBERSHIP 12
#define IP_DROP_MEMBERSHIP 13
#define IPV6_UNICAST_HOPS 4
#define IPV6_MULTICAST_IF 9
#define IPV6_MULTICAST_HOPS 10
#define IPV6_MULTICAST_LOOP 11
#define IPV6_JOIN_GROUP 12
#define IPV6_LEAVE_GROUP 13
#define IPV6_V6ONLY 27
#define IPV6_RECVPKTINFO 36
#define IPV6_PKTINFO 46
#define IPV6_RECVTCLASS 57
#define IPV6_TCLASS 61

#if defined(__APPLE__)
#define IP_PKTINFO 26
#define IP_RECVPKTINFO IP_PKTINFO
#define IP_RECVTOS 27
#elif defined(__NetBSD__)
#define IP_PKTINFO 25
#define IP_RECVPKTINFO 26
#elif defined(__FreeBSD__)
#define IP_RECVDSTADDR 7
#define IP_SENDSRCADDR IP_RECVDSTADDR
#define IP_RECVTOS 68
#else
#define IP_RECVDSTADDR 7
#define IP_SENDSRCADDR IP_RECVDSTADDR
#endif

#if defined(__APPLE__) || defined(__FreeBSD__)
#define MCAST_JOIN_GROUP 80
#define MCAST_LEAVE_GROUP 81
#define MCAST_JOIN_SOURCE_GROUP 82
#define MCAST_LEAVE_SOURCE_GROUP 83
struct group_req {
    std::uint32_t gr_interface;
    sockaddr_storage gr_group;
};
struct group_source_req {
    std::uint32_t gsr_interface;
    sockaddr_storage gsr_group;
    sockaddr_storage gsr_source;
};
#endif

extern "C" {
std::uint32_t htonl(std::uint32_t);
std::uint16_t htons(std::uint16_t);
std::uint32_t ntohl(std::uint32_t);
std::uint16_t ntohs(std::uint16_t);
}
