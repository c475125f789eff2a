#include "kernel_support.hpp"

#include <cstring>
#include <iostream>
#include <netinet/udp.h>
#include <unistd.h>

using namespace kernel_test;
using weft::DatagramSlot;
using weft::OutDatagram;
namespace ready = weft::ready;

namespace {

/// Two UDP sockets on loopback and where they are.
struct UdpPair : Pair {
    Address near_address, far_address;

    UdpPair(Kernel& owner, int family)
        : Pair(owner, taken(owner.socket(family, SOCK_DGRAM, 0)),
               taken(owner.socket(family, SOCK_DGRAM, 0))) {
        const bool ipv4 = family == AF_INET;
        for (int fd : {near, far}) {
            const Address any = ipv4 ? Address::loopback_ipv4(0) : Address::loopback_ipv6(0);
            REQUIRE(kernel.bind(fd, any).ok());
        }
        REQUIRE(kernel.local_address(near, near_address).ok());
        REQUIRE(kernel.local_address(far, far_address).ok());
    }
};

/// Slots with memory of their own.
struct Slots {
    std::vector<std::string> memory;
    std::vector<DatagramSlot> slots;

    Slots(std::size_t count, std::size_t capacity)
        : memory(count, std::string(capacity, '#')), slots(count) {
        for (std::size_t i = 0; i < count; ++i) {
            slots[i].data = reinterpret_cast<std::byte*>(memory[i].data());
            slots[i].capacity = capacity;
        }
    }
    std::string text(std::size_t i) const { return memory[i].substr(0, slots[i].size); }
};

OutDatagram datagram(std::string_view text, const Address* to) {
    OutDatagram out;
    out.data = weft::bytes_of(text);
    out.to = to;
    return out;
}

void switch_on(Kernel& kernel, int fd, SocketOption option) {
    REQUIRE(kernel.set_option(fd, option, 1).ok());
}

int family_of_case() {
    return GENERATE(AF_INET, AF_INET6);
}

} // namespace

TEST_CASE("Datagrams go and come in batches, empty and truncated ones included [F46]") {
    Fixture kernel(every_kernel());
    UdpPair udp(*kernel, family_of_case());
    Slots slots(8, 6);
    CHECK(kernel->recv_batch(udp.far, slots.slots).would_block());
    const std::array out{datagram("one", &udp.far_address), datagram("", &udp.far_address),
                         datagram("exact6", &udp.far_address),
                         datagram("too long", &udp.far_address)};
    REQUIRE(kernel->send_batch(udp.near, out).count() == 4);
    REQUIRE(kernel->recv_batch(udp.far, slots.slots).count() == 4);
    CHECK(slots.text(0) == "one");
    CHECK(slots.slots[1].size == 0);
    CHECK(slots.text(2) == "exact6");
    CHECK(slots.text(3) == "too lo");
    for (std::size_t i = 0; i < 4; ++i) {
        const DatagramSlot& slot = slots.slots[i];
        CHECK(slot.truncated == (i == 3));
        CHECK(slot.from == udp.near_address);
        // Nothing of this was switched on.
        CHECK(slot.to.empty());
        CHECK(slot.interface == 0);
        CHECK(slot.ecn == -1);
        CHECK(slot.segment_size == 0);
    }
}

TEST_CASE("A batch may be larger than one call takes") {
    Fixture kernel(every_kernel());
    UdpPair udp(*kernel, AF_INET);
    const std::vector<OutDatagram> out(100, datagram("x", &udp.far_address));
    std::size_t sent = 0;
    while (sent < out.size()) {
        const Sys result = kernel->send_batch(udp.near, std::span(out).subspan(sent));
        REQUIRE(result.ok());
        REQUIRE(result.count() > 0);
        sent += result.count();
    }
    Slots slots(100, 4);
    std::size_t got = 0;
    while (got < 100)
        got += taken(kernel->recv_batch(udp.far, std::span(slots.slots).subspan(got)));
    CHECK(got == 100);
    CHECK(kernel->recv_batch(udp.far, slots.slots).would_block());
}

TEST_CASE("A batch that fails halfway reports what went, then the error [F46]") {
    Fixture kernel(every_kernel());
    UdpPair udp(*kernel, AF_INET);
    const std::string huge(65'508, 'x'); // one more than UDP over IPv4 can carry
    const std::array out{datagram("a", &udp.far_address), datagram(huge, &udp.far_address),
                         datagram("b", &udp.far_address)};
    CHECK(kernel->send_batch(udp.near, out).count() == 1);
    CHECK(kernel->send_batch(udp.near, std::span(out).subspan(1)).error() == EMSGSIZE);
    CHECK(kernel->send_batch(udp.near, std::span(out).subspan(2)).count() == 1);
}

TEST_CASE("Packet info tells where a datagram arrived, and chooses where one leaves") {
    Fixture kernel(every_kernel());
    Slots slots(4, 64);
    SECTION("IPv4") {
        const int server = taken(kernel->socket(AF_INET, SOCK_DGRAM, 0));
        const int client = taken(kernel->socket(AF_INET, SOCK_DGRAM, 0));
        const Pair owner(*kernel, server, client);
        REQUIRE(kernel->bind(server, Address::any_ipv4(0)).ok());
        REQUIRE(kernel->bind(client, Address::loopback_ipv4(0)).ok());
        switch_on(*kernel, server, SocketOption::packet_info);
        Address bound, client_address;
        REQUIRE(kernel->local_address(server, bound).ok());
        REQUIRE(kernel->local_address(client, client_address).ok());
        const Address target = Address::ipv4({127, 0, 0, 2}, bound.port());
        REQUIRE(kernel->send_batch(client, std::array{datagram("q", &target)}).count() == 1);
        REQUIRE(kernel->recv_batch(server, slots.slots).count() == 1);
        CHECK(slots.slots[0].to.to_string() == target.to_string());
        CHECK(slots.slots[0].interface == 1); // the loopback interface
        // The answer comes from where the question went to, not from 127.0.0.1.
        OutDatagram answer = datagram("a", &slots.slots[0].from);
        answer.from = &target;
        REQUIRE(kernel->send_batch(server, std::array{answer}).count() == 1);
        Slots answers(1, 64);
        REQUIRE(kernel->recv_batch(client, answers.slots).count() == 1);
        CHECK(answers.slots[0].from == target);
    }
    SECTION("IPv6, with IPv4 mapped") {
        const int server = taken(kernel->socket(AF_INET6, SOCK_DGRAM, 0));
        const int client = taken(kernel->socket(AF_INET, SOCK_DGRAM, 0));
        const Pair owner(*kernel, server, client);
        REQUIRE(kernel->bind(server, Address::any_ipv6(0)).ok());
        switch_on(*kernel, server, SocketOption::packet_info);
        Address bound;
        REQUIRE(kernel->local_address(server, bound).ok());
        const Address target = Address::ipv4({127, 0, 0, 2}, bound.port());
        REQUIRE(kernel->send_batch(client, std::array{datagram("q", &target)}).count() == 1);
        REQUIRE(kernel->recv_batch(server, slots.slots).count() == 1);
        CHECK(slots.slots[0].to.to_string() ==
              "[::ffff:127.0.0.2]:" + std::to_string(bound.port()));
        OutDatagram answer = datagram("a", &slots.slots[0].from);
        answer.from = &slots.slots[0].to;
        REQUIRE(kernel->send_batch(server, std::array{answer}).count() == 1);
        Slots answers(1, 64);
        REQUIRE(kernel->recv_batch(client, answers.slots).count() == 1);
        CHECK(answers.slots[0].from == target);
    }
}

TEST_CASE("ECN bits are sent and received on IPv4, IPv6 and IPv4 mapped into IPv6") {
    Fixture kernel(every_kernel());
    const auto check = [&](int sender, int receiver, const Address& to) {
        std::array<OutDatagram, 4> out;
        for (std::int8_t bits = 0; bits < 4; ++bits) {
            out[static_cast<std::size_t>(bits)] = datagram("x", &to);
            out[static_cast<std::size_t>(bits)].ecn = bits;
        }
        REQUIRE(kernel->send_batch(sender, out).count() == 4);
        Slots slots(4, 8);
        REQUIRE(kernel->recv_batch(receiver, slots.slots).count() == 4);
        for (int bits = 0; bits < 4; ++bits)
            CHECK(slots.slots[static_cast<std::size_t>(bits)].ecn == bits);
    };
    SECTION("IPv4") {
        UdpPair udp(*kernel, AF_INET);
        switch_on(*kernel, udp.far, SocketOption::receive_ecn);
        check(udp.near, udp.far, udp.far_address);
    }
    SECTION("IPv6") {
        UdpPair udp(*kernel, AF_INET6);
        switch_on(*kernel, udp.far, SocketOption::receive_ecn);
        check(udp.near, udp.far, udp.far_address);
    }
    SECTION("mapped") {
        const Pair udp(*kernel, taken(kernel->socket(AF_INET6, SOCK_DGRAM, 0)),
                       taken(kernel->socket(AF_INET6, SOCK_DGRAM, 0)));
        REQUIRE(kernel->bind(udp.far, Address::any_ipv6(0)).ok());
        switch_on(*kernel, udp.far, SocketOption::receive_ecn);
        Address bound;
        REQUIRE(kernel->local_address(udp.far, bound).ok());
        const Address to =
            Address::ipv6({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1}, bound.port());
        check(udp.near, udp.far, to);
    }
}

TEST_CASE("An ICMP error comes once to a connected socket, and by the queue to others [F45]") {
    Fixture kernel(every_kernel());
    UdpPair udp(*kernel, family_of_case());
    udp.close_far(); // its port answers "unreachable" from now on
    Slots slots(2, 8);
    Address to;
    CHECK(kernel->recv_error(udp.near, to).would_block());
    SECTION("connected") {
        REQUIRE(kernel->connect(udp.near, udp.far_address).ok());
        REQUIRE(kernel->add(udp.near, 1, Interest::read).ok());
        REQUIRE(kernel->send_batch(udp.near, std::array{datagram("x", nullptr)}).count() == 1);
        CHECK((look(*kernel, 1) & ready::error) != 0);
        CHECK(kernel->recv_batch(udp.near, slots.slots).error() == ECONNREFUSED);
        CHECK(kernel->recv_batch(udp.near, slots.slots).would_block());
        CHECK(look(*kernel, 1) == 0);
    }
    SECTION("connected, edge-triggered: each error is told") {
        REQUIRE(kernel->connect(udp.near, udp.far_address).ok());
        REQUIRE(kernel->add(udp.near, 1, Interest::read | Interest::edge).ok());
        for (int i = 0; i < 3; ++i) {
            REQUIRE(kernel->send_batch(udp.near, std::array{datagram("x", nullptr)}).count() == 1);
            CHECK((look(*kernel, 1) & ready::error) != 0);
            CHECK(kernel->recv_batch(udp.near, slots.slots).error() == ECONNREFUSED);
            CHECK(kernel->recv_batch(udp.near, slots.slots).would_block());
            CHECK(look(*kernel, 1) == 0);
        }
    }
    SECTION("unconnected") {
        switch_on(*kernel, udp.near, SocketOption::error_queue);
        REQUIRE(kernel->add(udp.near, 1, Interest::read).ok());
        REQUIRE(kernel->send_batch(udp.near, std::array{datagram("x", &udp.far_address)}).count() ==
                1);
        CHECK((look(*kernel, 1) & ready::error) != 0);
        CHECK(kernel->recv_error(udp.near, to).count() == ECONNREFUSED);
        CHECK(to == udp.far_address);
        CHECK(kernel->recv_error(udp.near, to).would_block());
        CHECK(to.empty());
        CHECK(look(*kernel, 1) == 0);
    }
}

TEST_CASE("One send is split into segments, and received together where the system can") {
    Fixture kernel(every_kernel());
    UdpPair udp(*kernel, AF_INET);
    const std::string text = "aaaabbbbccccdd";
    OutDatagram out = datagram(text, &udp.far_address);
    out.segment_size = 4;
    const Sys probe = kernel->send_batch(udp.near, std::array{out});
    if (!probe.ok()) {
        WARN("skipped: UDP_SEGMENT: " << probe.code().message());
        return;
    }
    Slots slots(8, 64);
    REQUIRE(kernel->recv_batch(udp.far, slots.slots).count() == 4);
    CHECK(slots.text(0) == "aaaa");
    CHECK(slots.text(3) == "dd");
    CHECK(slots.slots[0].segment_size == 0);

    const Sys gro = kernel->set_option(udp.far, SocketOption::join_segments, 1);
    if (!gro.ok()) {
        WARN("skipped: UDP_GRO: " << gro.code().message());
        return;
    }
    REQUIRE(kernel->send_batch(udp.near, std::array{out}).count() == 1);
    REQUIRE(kernel->recv_batch(udp.far, slots.slots).count() == 1);
    CHECK(slots.text(0) == text);
    CHECK(slots.slots[0].segment_size == 4);
    CHECK(slots.slots[0].from == udp.near_address);
}

TEST_CASE("Unix datagrams carry names, and descriptors that nobody asked for are closed [F47]") {
    Fixture kernel(every_kernel());
    Pair pair = unix_pair(*kernel, SOCK_DGRAM);
    const auto before = open_descriptors();
    int descriptors[80];
    std::fill(std::begin(descriptors), std::end(descriptors), pair.near);
    std::byte control[CMSG_SPACE(sizeof descriptors)]{};
    char text[] = "x";
    iovec piece{text, 1};
    // A few, and more than the control buffer has room for.
    for (const std::size_t count : {std::size_t(3), std::size_t(80)}) {
        msghdr message{};
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        cmsghdr* rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(count * sizeof(int));
        std::memcpy(CMSG_DATA(rights), descriptors, count * sizeof(int));
        REQUIRE(sendmsg(pair.near, &message, 0) == 1);
    }
    Slots slots(2, 4);
    REQUIRE(kernel->recv_batch(pair.far, slots.slots).count() == 2);
    CHECK(slots.text(0) == "x");
    CHECK(slots.text(1) == "x");
    CHECK(open_descriptors() == before);
}

TEST_CASE("A stream receive installs no descriptors that a peer sent along [F47]") {
    Fixture kernel(every_kernel());
    Pair pair = unix_pair(*kernel);
    const auto before = open_descriptors();
    std::byte control[CMSG_SPACE(sizeof(int))]{};
    char text[] = "x";
    iovec piece{text, 1};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &pair.near, sizeof(int));
    REQUIRE(sendmsg(pair.near, &message, 0) == 1);
    CHECK(got_text(*kernel, pair.far) == "x");
    CHECK(open_descriptors() == before);
}
