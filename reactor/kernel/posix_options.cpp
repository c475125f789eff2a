#include "posix_kernel.hpp"
#include "posix_syscall.hpp"
#include "system.hpp"

#include <cstring>
#include <netinet/in.h>
#include <sys/socket.h>

// Some facts about options of IP
//
// IPv4 and IPv6 have an option each for the same thing. An IPv6 socket that has IPv4 peers wants
// both (ipv6(7)); where a system has none of IPv4's for such a socket, nothing is lost by asking.
// What IPv4 has taken as one byte since the first multicasts, the BSDs take in no other size.
//
// Groups are joined by the calls of RFC 3678, which name the interface by number and serve both
// protocols. Which one an option belongs to is told by the address, not by the socket, because an
// IPv6 socket may join groups of IPv4 as well.

namespace weft::detail {
namespace {

Sys set(int fd, SystemOption option, int value) noexcept {
    if (option.name == SystemOption::none) return Sys::fail(ENOPROTOOPT);
    if (option.form == SystemOption::Form::byte) {
        const auto byte = static_cast<unsigned char>(value);
        return from_libc(::setsockopt(fd, option.level, option.name, &byte, sizeof byte));
    }
    if (option.form == SystemOption::Form::interface) return set_ipv4_interface(fd, value);
    return from_libc(::setsockopt(fd, option.level, option.name, &value, sizeof value));
}

Sys get(int fd, SystemOption option) noexcept {
    using Form = SystemOption::Form;
    if (option.name == SystemOption::none || option.form == Form::interface)
        return Sys::fail(ENOPROTOOPT);
    unsigned char byte = 0;
    int value = 0;
    const bool bytes = option.form == Form::byte;
    socklen_t size = bytes ? sizeof byte : sizeof value;
    void* room = bytes ? static_cast<void*>(&byte) : &value;
    const Sys got = from_libc(::getsockopt(fd, option.level, option.name, room, &size));
    return got.ok() ? Sys(bytes ? byte : value) : got;
}

/// The options of a socket of that kind: the one that counts, and where it speaks both protocols,
/// IPv4's beside it.
struct Chosen {
    SystemOption option;
    SystemOption beside;
};

Sys choose(PosixKernel& kernel, int fd, SocketOption option, Chosen& chosen) noexcept {
    const SystemOptions known = system_options(option);
    chosen.option = known.plain;
    if (known.ipv4.level == known.ipv6.level) return Sys(0); // none of either
    Address local;
    if (const Sys found = kernel.local_address(fd, local); !found.ok()) return found;
    if (!local.is_ip()) return Sys::fail(EOPNOTSUPP);
    const bool ipv6 = local.family() == Address::Family::ipv6;
    chosen.option = ipv6 ? known.ipv6 : known.ipv4;
    if (ipv6) chosen.beside = known.ipv4;
    return Sys(0);
}

} // namespace

Sys PosixKernel::set_option(int fd, SocketOption option, int value) noexcept {
    if (witness_.forked()) [[unlikely]]
        return Sys::fail(EOWNERDEAD);
    if (option == SocketOption::error) return Sys::fail(ENOPROTOOPT);
    Chosen chosen;
    if (const Sys known = choose(*this, fd, option, chosen); !known.ok()) return known;
    (void)set(fd, chosen.beside, value); // one that has no peers of IPv4 may refuse
    return set(fd, chosen.option, value);
}

Sys PosixKernel::get_option(int fd, SocketOption option) noexcept {
    Chosen chosen;
    if (const Sys known = choose(*this, fd, option, chosen); !known.ok()) return known;
    return get(fd, chosen.option);
}

Sys PosixKernel::join_group(int fd, const Address& group, std::uint32_t interface,
                            const Address* source) noexcept {
    if (witness_.forked()) [[unlikely]]
        return Sys::fail(EOWNERDEAD);
    hear_own_groups_only(fd, group.family() == Address::Family::ipv6);
    return change_membership(fd, true, group, interface, source);
}

Sys PosixKernel::leave_group(int fd, const Address& group, std::uint32_t interface,
                             const Address* source) noexcept {
    if (witness_.forked()) [[unlikely]]
        return Sys::fail(EOWNERDEAD);
    return change_membership(fd, false, group, interface, source);
}

} // namespace weft::detail
