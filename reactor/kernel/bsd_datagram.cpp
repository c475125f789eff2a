#include "control_messages.hpp"
#include "posix_kernel.hpp"
#include "posix_syscall.hpp"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

// Some facts about datagrams on macOS and the BSDs
//
// There is one call for each datagram; FreeBSD and NetBSD have recvmmsg(2), which loops in libc on
// the one and saves little on the other. Where an IPv4 datagram was sent to comes as IP_PKTINFO on
// macOS and NetBSD, and on FreeBSD and OpenBSD as a bare address (IP_RECVDSTADDR), which is also
// how the source of one that is sent is chosen there (IP_SENDSRCADDR). ECN bits can be sent with a
// datagram over IPv4 on FreeBSD and macOS alone. There are no error queue and no segmentation:
// EINVAL sends the pieces one by one.

namespace weft::detail {
namespace {

#ifdef MSG_CMSG_CLOEXEC
constexpr int receive_message_flags = MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
#else
constexpr int receive_message_flags = MSG_DONTWAIT;
#endif
#ifdef MSG_NOSIGNAL
constexpr int send_message_flags = MSG_DONTWAIT | MSG_NOSIGNAL;
#else
constexpr int send_message_flags = MSG_DONTWAIT;
#endif

void read_control(msghdr& header, DatagramSlot& slot) noexcept {
    const bool mapped = slot.from.family() == Address::Family::ipv6;
    const auto shown = [mapped](const in_addr& ip) {
        const Address address = address_of(ip);
        return mapped ? address.mapped() : address;
    };
    for (cmsghdr* message = CMSG_FIRSTHDR(&header); message;
         message = CMSG_NXTHDR(&header, message)) {
        const int level = message->cmsg_level, type = message->cmsg_type;
        if (level == SOL_SOCKET && type == SCM_RIGHTS) {
            close_descriptors(message);
#ifdef IP_PKTINFO
        } else if (level == IPPROTO_IP && type == IP_PKTINFO) {
            const auto info = payload<in_pktinfo>(message);
            slot.to = slot.destination = shown(info.ipi_addr);
            slot.interface = static_cast<std::uint32_t>(info.ipi_ifindex);
#else
        } else if (level == IPPROTO_IP && type == IP_RECVDSTADDR) {
            slot.to = slot.destination = shown(payload<in_addr>(message));
#endif
        } else if (level == IPPROTO_IPV6 && type == IPV6_PKTINFO) {
            read_packet_info(payload<in6_pktinfo>(message), slot);
#ifdef IP_RECVTOS
        } else if (level == IPPROTO_IP && type == IP_RECVTOS) {
            slot.ecn = static_cast<std::int8_t>(payload<std::uint8_t>(message) & 3);
#endif
        } else if (level == IPPROTO_IPV6 && type == IPV6_TCLASS) {
            slot.ecn = static_cast<std::int8_t>(payload<int>(message) & 3);
        }
    }
}

void put_source(ControlWriter& control, const Address& from) noexcept {
    if (from.family() == Address::Family::ipv4) {
        const in_addr ip = reinterpret_cast<const sockaddr_in*>(from.data())->sin_addr;
#ifdef IP_PKTINFO
        in_pktinfo info{};
        info.ipi_spec_dst = ip;
        control.put(IPPROTO_IP, IP_PKTINFO, info);
#else
        control.put(IPPROTO_IP, IP_SENDSRCADDR, ip);
#endif
    } else if (from.family() == Address::Family::ipv6) {
        control.put(IPPROTO_IPV6, IPV6_PKTINFO, packet_info_from(from));
    }
}

void put_ecn(ControlWriter& control, const OutDatagram& datagram) noexcept {
    const int bits = datagram.ecn & 3;
    if (!datagram.to || datagram.to->family() != Address::Family::ipv4)
        control.put(IPPROTO_IPV6, IPV6_TCLASS, bits);
#if defined(__FreeBSD__) || defined(__APPLE__)
    else
        control.put(IPPROTO_IP, IP_TOS, bits);
#endif
}

Sys receive_one(int fd, DatagramSlot& slot) noexcept {
    ControlRoom control;
    iovec piece{slot.data, slot.capacity};
    msghdr header{};
    header.msg_name = slot.from.data();
    header.msg_namelen = Address::capacity;
    header.msg_iov = &piece;
    header.msg_iovlen = 1;
    header.msg_control = control.bytes;
    header.msg_controllen = sizeof control.bytes;
    const Sys got = uninterrupted([&] { return ::recvmsg(fd, &header, receive_message_flags); });
    if (!got.ok()) return got;
    slot.size = std::min(got.count(), slot.capacity);
    slot.truncated = (header.msg_flags & MSG_TRUNC) != 0;
    slot.from.set_size(header.msg_namelen);
    slot.to.set_size(0);
    slot.destination.set_size(0);
    slot.interface = 0;
    slot.segment_size = 0;
    slot.ecn = -1;
    if (header.msg_controllen != 0) read_control(header, slot);
    return got;
}

Sys send_one(int fd, const OutDatagram& datagram) noexcept {
    if (datagram.segment_size != 0) return Sys::fail(EINVAL);
    ControlRoom room;
    iovec piece{const_cast<std::byte*>(datagram.data.data()), datagram.data.size()};
    msghdr header{};
    if (datagram.to && !datagram.to->empty()) {
        header.msg_name = const_cast<sockaddr*>(datagram.to->data());
        header.msg_namelen = datagram.to->size();
    }
    header.msg_iov = &piece;
    header.msg_iovlen = 1;
    ControlWriter control(header, room);
    if (datagram.from) put_source(control, *datagram.from);
    if (datagram.ecn >= 0) put_ecn(control, datagram);
    return uninterrupted([&] { return ::sendmsg(fd, &header, send_message_flags); });
}

} // namespace

/// Nothing is kept between calls.
struct DatagramScratch {};
void FreeDatagramScratch::operator()(DatagramScratch* scratch) const noexcept {
    delete scratch;
}

Sys PosixKernel::recv_batch(int fd, std::span<DatagramSlot> slots) noexcept {
    Address local; // its port belongs to every `to`, which comes without one
    std::size_t count = 0;
    for (DatagramSlot& slot : slots) {
        const Sys got = receive_one(fd, slot);
        if (!got.ok()) return count > 0 ? Sys(static_cast<std::int64_t>(count)) : got;
        ++count;
        if (slot.to.empty()) continue;
        if (local.empty() && !local_address(fd, local).ok()) continue;
        slot.to.set_port(local.port());
        slot.destination.set_port(local.port());
    }
    return Sys(static_cast<std::int64_t>(count));
}

Sys PosixKernel::send_batch(int fd, std::span<const OutDatagram> datagrams) noexcept {
    if (witness_.forked()) [[unlikely]]
        return Sys::fail(EOWNERDEAD);
    std::size_t count = 0;
    for (const OutDatagram& datagram : datagrams) {
        const Sys sent = send_one(fd, datagram);
        if (!sent.ok()) return count > 0 ? Sys(static_cast<std::int64_t>(count)) : sent;
        ++count;
    }
    return Sys(static_cast<std::int64_t>(count));
}

Sys PosixKernel::recv_error(int, Address& to) noexcept {
    to.set_size(0);
    return Sys::fail(EAGAIN);
}

} // namespace weft::detail
