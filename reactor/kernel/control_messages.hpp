#pragma once

#include <weft/reactor/kernel/kernel.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

// The control messages of recvmsg(2) and sendmsg(2), as all systems have them.

namespace weft::detail {

/// Room for packet info, both kinds of TOS, GRO, and what a user may have switched on beside these.
struct alignas(cmsghdr) ControlRoom {
    std::byte bytes[256];
};

template<class T>
T payload(const cmsghdr* message) noexcept {
    T value{};
    std::memcpy(&value, CMSG_DATA(const_cast<cmsghdr*>(message)),
                std::min<std::size_t>(sizeof value, message->cmsg_len - CMSG_LEN(0)));
    return value;
}

/// Appends control messages to a header's buffer.
class ControlWriter {
public:
    ControlWriter(msghdr& header, ControlRoom& room) noexcept : header_(header), room_(room) {
        header_.msg_control = nullptr;
        header_.msg_controllen = 0;
    }

    template<class T>
    void put(int level, int type, const T& value) noexcept {
        static_assert(CMSG_SPACE(sizeof(in6_pktinfo)) + 3 * CMSG_SPACE(sizeof(int)) <=
                      sizeof(ControlRoom));
        auto* message = reinterpret_cast<cmsghdr*>(room_.bytes + header_.msg_controllen);
        // The padding too: the kernel reads no further than cmsg_len, but memory checkers do.
        std::memset(static_cast<void*>(message), 0, CMSG_SPACE(sizeof value));
        message->cmsg_level = level;
        message->cmsg_type = type;
        message->cmsg_len = CMSG_LEN(sizeof value);
        std::memcpy(CMSG_DATA(message), &value, sizeof value);
        header_.msg_control = room_.bytes;
        header_.msg_controllen += CMSG_SPACE(sizeof value);
    }

private:
    msghdr& header_;
    ControlRoom& room_;
};

inline Address address_of(const in_addr& ip) noexcept {
    std::array<std::uint8_t, 4> bytes;
    std::memcpy(bytes.data(), &ip, bytes.size());
    return Address::ipv4(bytes, 0);
}

/// What IPv6 tells of a datagram that arrived.
inline void read_packet_info(const in6_pktinfo& info, DatagramSlot& slot) noexcept {
    std::array<std::uint8_t, 16> bytes;
    std::memcpy(bytes.data(), &info.ipi6_addr, bytes.size());
    // Only addresses of a link need the interface to be complete.
    const bool link =
        IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr) || IN6_IS_ADDR_MC_LINKLOCAL(&info.ipi6_addr);
    const auto interface = static_cast<std::uint32_t>(info.ipi6_ifindex);
    slot.to = slot.destination = Address::ipv6(bytes, 0, link ? interface : 0);
    if (slot.to.is_multicast()) slot.to = Address::ipv6({}, 0, interface);
    slot.interface = interface;
}

inline in6_pktinfo packet_info_from(const Address& from) noexcept {
    const auto* address = reinterpret_cast<const sockaddr_in6*>(from.data());
    in6_pktinfo info{};
    info.ipi6_addr = address->sin6_addr;
    info.ipi6_ifindex = address->sin6_scope_id;
    return info;
}

/// Closes the descriptors that a Unix peer sent along.
inline void close_descriptors(const cmsghdr* message) noexcept {
    const std::size_t count = (message->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
        int fd;
        std::memcpy(&fd, CMSG_DATA(const_cast<cmsghdr*>(message)) + i * sizeof fd, sizeof fd);
        ::close(fd);
    }
}

} // namespace weft::detail
