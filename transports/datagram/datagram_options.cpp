// Options of datagram sockets that change while they are used.

#include "datagram_endpoint.hpp"

#include <cerrno>

namespace weft::detail {
namespace {

Result<void> outcome(Sys done, std::string what) {
    if (done.ok()) return {};
    return Error{done.code(), std::move(what)};
}

} // namespace

Address DatagramEndpoint::local_address() const {
    Address address;
    (void)core_.kernel().local_address(fd_, address);
    return address;
}

Result<void> DatagramEndpoint::set_broadcast(bool on) {
    return set_number("set_broadcast", SocketOption::broadcast, on);
}

Result<void> DatagramEndpoint::set_number(const char* what, SocketOption option, int number) {
    return outcome(core_.kernel().set_option(fd_, option, number), describe(what));
}

Result<void> DatagramEndpoint::set_ttl(int hops) {
    if (hops < 1 || hops > 255) return Error{errno_code(EINVAL), describe("set_ttl")};
    return set_number("set_ttl", SocketOption::hop_limit, hops);
}

Result<void> DatagramEndpoint::set_multicast_ttl(int hops) {
    if (hops < 0 || hops > 255) return Error{errno_code(EINVAL), describe("set_multicast_ttl")};
    return set_number("set_multicast_ttl", SocketOption::multicast_hop_limit, hops);
}

Result<void> DatagramEndpoint::set_multicast_loop(bool on) {
    return set_number("set_multicast_loop", SocketOption::multicast_loop, on);
}

Result<void> DatagramEndpoint::set_multicast_interface(std::uint32_t interface) {
    return set_number("set_multicast_interface", SocketOption::multicast_interface,
                      static_cast<int>(interface));
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
    const Address* only = source ? &*source : nullptr;
    const Sys done = joins ? kernel.join_group(fd_, group, interface, only)
                           : kernel.leave_group(fd_, group, interface, only);
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
