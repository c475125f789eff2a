// Options of datagram sockets. Groups are joined by the calls of RFC 3678 that name the interface
// by number and serve both protocols; which one an option belongs to is told by the address, not by
// the socket, because an IPv6 socket may join IPv4 groups as well.

#include "udp_transport.hpp"

#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <sys/socket.h>

namespace weft::detail {
namespace {

Result<void> outcome(Sys done, std::string what) {
    if (done.ok()) return {};
    return Error{done.code(), std::move(what)};
}

void hear_own_groups_only(Kernel& kernel, int fd, int level) noexcept {
    const int no = 0;
    // Systems and kernels without it need it not, or can not be helped.
#ifdef IP_MULTICAST_ALL
    if (level == IPPROTO_IP) (void)kernel.set_option(fd, level, IP_MULTICAST_ALL, &no, sizeof no);
#endif
#ifdef IPV6_MULTICAST_ALL
    if (level == IPPROTO_IPV6)
        (void)kernel.set_option(fd, level, IPV6_MULTICAST_ALL, &no, sizeof no);
#endif
}

void copy_address(sockaddr_storage& out, const Address& address) noexcept {
    std::memcpy(&out, address.data(), address.size());
}

} // namespace

Address DatagramEndpoint::local_address() const {
    Address address;
    (void)core_.kernel().local_address(fd_, address);
    return address;
}

Result<void> DatagramEndpoint::set_broadcast(bool on) {
    const int value = on;
    return outcome(core_.kernel().set_option(fd_, SOL_SOCKET, SO_BROADCAST, &value, sizeof value),
                   describe("set_broadcast"));
}

/// Sets an option that both protocols have. An IPv6 socket that also speaks IPv4 gets both.
Result<void> DatagramEndpoint::set_number(const char* what, int number, int ipv4_option,
                                          int ipv6_option, bool ipv4_takes_a_byte) {
    Kernel& kernel = core_.kernel();
    const auto family = local_address().family();
    if (family != Address::Family::ipv4 && family != Address::Family::ipv6)
        return Error{errno_code(EOPNOTSUPP), describe(what)};
    // The BSDs know some of them as a byte only, which the others take as well.
    const auto byte = static_cast<unsigned char>(number);
    const Sys four = ipv4_takes_a_byte
                         ? kernel.set_option(fd_, IPPROTO_IP, ipv4_option, &byte, sizeof byte)
                         : kernel.set_option(fd_, IPPROTO_IP, ipv4_option, &number, sizeof number);
    if (family == Address::Family::ipv4) return outcome(four, describe(what));
    return outcome(kernel.set_option(fd_, IPPROTO_IPV6, ipv6_option, &number, sizeof number),
                   describe(what));
}

Result<void> DatagramEndpoint::set_ttl(int hops) {
    if (hops < 1 || hops > 255) return Error{errno_code(EINVAL), describe("set_ttl")};
    return set_number("set_ttl", hops, IP_TTL, IPV6_UNICAST_HOPS, false);
}

Result<void> DatagramEndpoint::set_multicast_ttl(int hops) {
    if (hops < 0 || hops > 255) return Error{errno_code(EINVAL), describe("set_multicast_ttl")};
    return set_number("set_multicast_ttl", hops, IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS, true);
}

Result<void> DatagramEndpoint::set_multicast_loop(bool on) {
    return set_number("set_multicast_loop", on, IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP, true);
}

Result<void> DatagramEndpoint::set_multicast_interface(std::uint32_t interface) {
    Kernel& kernel = core_.kernel();
    const std::string what = describe("set_multicast_interface");
    ip_mreqn chosen{};
    chosen.imr_ifindex = static_cast<int>(interface);
    const Sys four = kernel.set_option(fd_, IPPROTO_IP, IP_MULTICAST_IF, &chosen, sizeof chosen);
    if (local_address().family() != Address::Family::ipv6) return outcome(four, what);
    const int number = static_cast<int>(interface);
    return outcome(kernel.set_option(fd_, IPPROTO_IPV6, IPV6_MULTICAST_IF, &number, sizeof number),
                   what);
}

Result<void> DatagramEndpoint::change_membership(const char* what, bool joins, const Address& asked,
                                                 std::uint32_t interface, const Address* from) {
    Kernel& kernel = core_.kernel();
    // A mapped address means the group of IPv4, whatever the socket is.
    const Address group = asked.unmapped();
    const std::optional<Address> source = from ? std::optional(from->unmapped()) : std::nullopt;
    std::string text = describe(what) + " of the group " + group.host();
    if (source) text += " with the source " + source->host();
    if (!group.is_multicast() || (source && source->family() != group.family()))
        return Error{errno_code(EINVAL), std::move(text)};
    const int level = group.family() == Address::Family::ipv6 ? IPPROTO_IPV6 : IPPROTO_IP;
    if (joins) hear_own_groups_only(kernel, fd_, level);
    if (source) {
        group_source_req request{};
        request.gsr_interface = interface;
        copy_address(request.gsr_group, group);
        copy_address(request.gsr_source, *source);
        const int name = joins ? MCAST_JOIN_SOURCE_GROUP : MCAST_LEAVE_SOURCE_GROUP;
        return outcome(kernel.set_option(fd_, level, name, &request, sizeof request), text);
    }
    group_req request{};
    request.gr_interface = interface;
    copy_address(request.gr_group, group);
    const int name = joins ? MCAST_JOIN_GROUP : MCAST_LEAVE_GROUP;
    const Sys done = kernel.set_option(fd_, level, name, &request, sizeof request);
    return outcome(done, std::move(text));
}

Result<void> DatagramEndpoint::join(const Address& group, std::uint32_t interface,
                                    const Address* source) {
    return change_membership("join", true, group, interface, source);
}

Result<void> DatagramEndpoint::leave(const Address& group, std::uint32_t interface,
                                     const Address* source) {
    return change_membership("leave", false, group, interface, source);
}

} // namespace weft::detail
