#include "control_messages.hpp"
#include "posix_kernel.hpp"
#include "posix_syscall.hpp"

#include <algorithm>
#include <cstring>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <new>

// Some facts about datagrams on Linux
//
// Control messages arrive only for what was switched on: IP_PKTINFO, IP_RECVTOS (ip(7)),
// IPV6_RECVPKTINFO, IPV6_RECVTCLASS (ipv6(7)), UDP_GRO (udp(7)). An IPv6 socket that receives from
// an IPv4-mapped peer reports packet info in the IPv6 form and TOS in the IPv4 form. TOS comes as
// one byte, TCLASS and GRO as an int.
//
// Packet info of IPv4 has two addresses: the packet's destination, which may be a group or
// broadcast address and cannot be sent from, and the local address that an answer would leave
// from. IPv6 tells the destination alone; sent from the unspecified address with the interface, an
// answer leaves from the one that the system chooses there. An IPv6 socket that has IP_PKTINFO on
// as well reports the IPv4 form, too, for packets of IPv4, behind the IPv6 form.
//
// Descriptors that a Unix peer sends along (SCM_RIGHTS) are installed in this process by the
// receive call if there is room in the control buffer, even when MSG_CTRUNC tells that some were
// dropped. Nobody asked for them, so every one that was installed is closed.
//
// sendmmsg reports an error only if the first message failed; otherwise the count, and the error is
// met again by the next call.

namespace weft::detail {
namespace {

/// What recvmmsg(2) and sendmmsg(2) are told, for one batch each.
struct Messages {
    // More than 64 per call gain nothing measurable, and the arrays are to stay within a few pages.
    static constexpr std::size_t batch = 64;

    std::array<mmsghdr, batch> headers{};
    std::array<iovec, batch> pieces{};
    std::array<ControlRoom, batch> control;
};

void read_control(msghdr& header, DatagramSlot& slot) noexcept {
    for (cmsghdr* message = CMSG_FIRSTHDR(&header); message;
         message = CMSG_NXTHDR(&header, message)) {
        const int type = message->cmsg_type;
        if (message->cmsg_level == SOL_SOCKET && type == SCM_RIGHTS) {
            close_descriptors(message);
        } else if (message->cmsg_level == IPPROTO_IP && type == IP_PKTINFO) {
            const auto info = payload<in_pktinfo>(message);
            const bool mapped = slot.from.family() == Address::Family::ipv6;
            const auto show = [mapped](const in_addr& ip) {
                const Address address = address_of(ip);
                return mapped ? address.mapped() : address;
            };
            slot.to = show(info.ipi_spec_dst);
            slot.destination = show(info.ipi_addr);
            slot.interface = static_cast<std::uint32_t>(info.ipi_ifindex);
        } else if (message->cmsg_level == IPPROTO_IPV6 && type == IPV6_PKTINFO) {
            read_packet_info(payload<in6_pktinfo>(message), slot);
        } else if (message->cmsg_level == IPPROTO_IP && type == IP_TOS) {
            slot.ecn = static_cast<std::int8_t>(payload<std::uint8_t>(message) & 3);
        } else if (message->cmsg_level == IPPROTO_IPV6 && type == IPV6_TCLASS) {
            slot.ecn = static_cast<std::int8_t>(payload<int>(message) & 3);
        } else if (message->cmsg_level == IPPROTO_UDP && type == UDP_GRO) {
            slot.segment_size = static_cast<std::uint16_t>(payload<int>(message));
        }
    }
}

/// How much room there is, which the kernel overwrites with how much it used.
void begin_message(msghdr& header) noexcept {
    header.msg_namelen = Address::capacity;
    header.msg_controllen = sizeof(ControlRoom);
}

void put_source(ControlWriter& control, const Address& from) noexcept {
    if (from.family() == Address::Family::ipv4) {
        in_pktinfo info{};
        info.ipi_spec_dst = reinterpret_cast<const sockaddr_in*>(from.data())->sin_addr;
        control.put(IPPROTO_IP, IP_PKTINFO, info);
    } else if (from.family() == Address::Family::ipv6) {
        control.put(IPPROTO_IPV6, IPV6_PKTINFO, packet_info_from(from));
    }
}

void describe(const OutDatagram& datagram, msghdr& header, iovec& piece,
              ControlRoom& room) noexcept {
    header = {};
    if (datagram.to && !datagram.to->empty()) {
        header.msg_name = const_cast<sockaddr*>(datagram.to->data());
        header.msg_namelen = datagram.to->size();
    }
    piece = {const_cast<std::byte*>(datagram.data.data()), datagram.data.size()};
    header.msg_iov = &piece;
    header.msg_iovlen = 1;
    ControlWriter control(header, room);
    if (datagram.from) put_source(control, *datagram.from);
    if (datagram.ecn >= 0) {
        // An IPv6 socket may send to an IPv4-mapped peer, and each protocol reads its own kind
        // only.
        const int bits = datagram.ecn & 3;
        const bool ipv4 = datagram.to && datagram.to->family() == Address::Family::ipv4;
        control.put(IPPROTO_IP, IP_TOS, bits);
        if (!ipv4) control.put(IPPROTO_IPV6, IPV6_TCLASS, bits);
    }
    if (datagram.segment_size != 0) control.put(IPPROTO_UDP, UDP_SEGMENT, datagram.segment_size);
}

} // namespace

/// One per kernel, made when first needed.
struct DatagramScratch {
    Messages incoming; ///< stays as it is told for the slots it was told last
    Messages outgoing;
};
void FreeDatagramScratch::operator()(DatagramScratch* scratch) const noexcept {
    delete scratch;
}

Sys PosixKernel::recv_batch(int fd, std::span<DatagramSlot> slots) noexcept {
    if (!scratch_) scratch_.reset(new (std::nothrow) DatagramScratch);
    DatagramScratch* room = scratch_.get();
    if (!room) return Sys::fail(ENOMEM);
    const std::size_t wanted = std::min(slots.size(), Messages::batch);
    Messages& in = room->incoming;
    for (std::size_t i = 0; i < wanted; ++i) {
        iovec& piece = in.pieces[i];
        msghdr& header = in.headers[i].msg_hdr;
        // Most calls have the slots of the one before.
        if (piece.iov_base == slots[i].data && piece.iov_len == slots[i].capacity &&
            header.msg_name == slots[i].from.data())
            continue;
        piece = {slots[i].data, slots[i].capacity};
        header = {};
        header.msg_name = slots[i].from.data();
        header.msg_iov = &piece;
        header.msg_iovlen = 1;
        header.msg_control = in.control[i].bytes;
        begin_message(header);
    }
    const Sys got = uninterrupted([&] {
        return ::recvmmsg(fd, in.headers.data(), static_cast<unsigned>(wanted),
                          MSG_DONTWAIT | MSG_CMSG_CLOEXEC, nullptr);
    });
    // The kernel may have begun with the one after those that it tells of.
    const std::size_t count = got.ok() ? got.count() : 0;
    if (count < wanted) begin_message(in.headers[count].msg_hdr);
    if (!got.ok()) return got;
    Address local; // its port belongs to every `to`, which packet info tells without one
    for (std::size_t i = 0; i < count; ++i) {
        msghdr& header = in.headers[i].msg_hdr;
        DatagramSlot& slot = slots[i];
        slot.size = std::min<std::size_t>(in.headers[i].msg_len, slot.capacity);
        slot.truncated = (header.msg_flags & MSG_TRUNC) != 0;
        slot.from.set_size(header.msg_namelen);
        slot.to.set_size(0);
        slot.destination.set_size(0);
        slot.interface = 0;
        slot.segment_size = 0;
        slot.ecn = -1;
        const bool has_control = header.msg_controllen != 0;
        if (has_control) [[unlikely]]
            read_control(header, slot);
        begin_message(header);
        if (!has_control) continue;
        if (slot.to.empty()) continue;
        if (local.empty() && !local_address(fd, local).ok()) continue;
        slot.to.set_port(local.port());
        slot.destination.set_port(local.port());
    }
    return got;
}

Sys PosixKernel::send_batch(int fd, std::span<const OutDatagram> datagrams) noexcept {
    if (witness_.forked()) [[unlikely]]
        return Sys::fail(EOWNERDEAD);
    if (!scratch_) scratch_.reset(new (std::nothrow) DatagramScratch);
    DatagramScratch* room = scratch_.get();
    if (!room) return Sys::fail(ENOMEM);
    const std::size_t count = std::min(datagrams.size(), Messages::batch);
    for (std::size_t i = 0; i < count; ++i)
        describe(datagrams[i], room->outgoing.headers[i].msg_hdr, room->outgoing.pieces[i],
                 room->outgoing.control[i]);
    return uninterrupted([&] {
        return ::sendmmsg(fd, room->outgoing.headers.data(), static_cast<unsigned>(count),
                          MSG_NOSIGNAL | MSG_DONTWAIT);
    });
}

Sys PosixKernel::recv_error(int fd, Address& to) noexcept {
    if (witness_.forked()) [[unlikely]]
        return Sys::fail(EOWNERDEAD);
    ControlRoom control;
    std::byte start[1]; // of the datagram that failed, which nobody wants; the rest is cut off
    iovec piece{start, sizeof start};
    msghdr header{};
    header.msg_name = to.data();
    header.msg_namelen = Address::capacity;
    header.msg_iov = &piece;
    header.msg_iovlen = 1;
    header.msg_control = control.bytes;
    header.msg_controllen = sizeof control.bytes;
    const Sys got =
        uninterrupted([&] { return ::recvmsg(fd, &header, MSG_ERRQUEUE | MSG_DONTWAIT); });
    to.set_size(got.ok() ? header.msg_namelen : 0);
    if (!got.ok()) return got;
    for (cmsghdr* message = CMSG_FIRSTHDR(&header); message;
         message = CMSG_NXTHDR(&header, message)) {
        if ((message->cmsg_level == IPPROTO_IP && message->cmsg_type == IP_RECVERR) ||
            (message->cmsg_level == IPPROTO_IPV6 && message->cmsg_type == IPV6_RECVERR))
            return Sys(static_cast<std::int64_t>(payload<sock_extended_err>(message).ee_errno));
    }
    return Sys(0); // an entry of another kind, a time stamp for example
}

} // namespace weft::detail
