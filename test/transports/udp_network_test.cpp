#include "udp_support.hpp"

#include <cerrno>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <unistd.h>

// What only a real network can tell: groups, broadcast, packet info, GSO and GRO.

using namespace udp_test;

namespace {

/// Prints why a case can not be run here.
void skip(const char* what, const weft::Error& error) {
    WARN("skipped: " << what << ": " << error.message());
}

bool has_ipv6() {
    const int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    const Address address = Address::loopback_ipv6(0);
    const bool works = fd >= 0 && ::bind(fd, address.data(), address.size()) == 0;
    if (fd >= 0) ::close(fd);
    if (!works) WARN("skipped: there is no IPv6 loopback here");
    return works;
}

int option(DatagramRef endpoint, int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    REQUIRE(getsockopt(endpoint->fd(), level, name, &value, &size) == 0);
    return value;
}

/// The first interface through which `sender` can send to `group`; 0, with the reasons printed, if
/// there is none.
std::uint32_t multicast_interface(Bench& bench, DatagramRef sender, Lines& at_sender,
                                  const Address& group) {
    std::string reasons;
    for (std::uint32_t interface = 1; interface < 64; ++interface) {
        char name[IF_NAMESIZE];
        if (!if_indextoname(interface, name)) continue;
        const std::size_t before = at_sender.size();
        const auto chosen = sender->set_multicast_interface(interface);
        if (!chosen.ok()) {
            reasons += std::string("; ") + name + ": " + chosen.error().message();
            continue;
        }
        sender->send_to(bytes_of("nobody is there yet"), group);
        bench.settle();
        if (at_sender.size() == before) return interface;
        reasons += std::string("; ") + name + ": " + at_sender.back();
    }
    WARN("skipped: no interface takes multicast for " << group.to_string() << reasons);
    return 0;
}

Address with_port(Address address, std::uint16_t port) {
    address.set_port(port);
    return address;
}

/// Writes each datagram's local address, interface and ECN bits down.
struct Inspector final : DatagramRecorder {
    using DatagramRecorder::DatagramRecorder;
    void datagram_received(const Datagram& datagram) override {
        lines.push_back(std::string(text_of(datagram.data)) + " to " + datagram.to.to_string() +
                        " by " + std::to_string(datagram.interface) + " ecn " +
                        std::to_string(datagram.ecn));
    }
};

/// Counts datagrams and batches.
struct Counter final : DatagramRecorder {
    using DatagramRecorder::DatagramRecorder;
    void datagrams_received(std::span<const Datagram> batch) override {
        ++batches;
        for (const Datagram& datagram : batch) {
            datagrams += 1;
            bytes += datagram.data.size();
            largest = std::max(largest, datagram.data.size());
        }
    }
    std::size_t batches = 0, datagrams = 0, bytes = 0, largest = 0;
};

} // namespace

TEST_CASE("Members of a group hear what is sent to it, until they leave [s104]") {
    Lines at_a, at_b, at_sender;
    Bench bench(real_kernel());
    const bool ipv6 = GENERATE(false, true);
    if (ipv6 && !has_ipv6()) return;
    UdpOptions shared;
    shared.reuse_address = true;
    const Address any = ipv6 ? Address::any_ipv6(0) : Address::any_ipv4(0);
    DatagramRef a = weft::udp::bind(bench.loop, any, recorder(at_a), shared).value();
    const std::uint16_t port = bench.bound(a).port();
    DatagramRef b =
        weft::udp::bind(bench.loop, with_port(any, port), recorder(at_b), shared).value();
    DatagramRef sender = weft::udp::bind(bench.loop, any, recorder(at_sender)).value();
    // Of a scope that never leaves the host (RFC 4291, 2.7), or kept there by a TTL of 0.
    const Address group =
        Address::parse((ipv6 ? "[ff01::7777]:" : "239.1.2.3:") + std::to_string(port)).value();
    CHECK(sender->set_multicast_ttl(0).ok());
    bench.settle();
    const std::uint32_t interface = multicast_interface(bench, sender, at_sender, group);
    if (interface == 0) return;
    for (DatagramRef each : {a, b}) {
        const auto joined = each->join(group, interface);
        if (!joined.ok()) return skip("join a group", joined.error());
    }
    sender->send_to(bytes_of("both"), group);
    bench.settle();
    CHECK(at_a == Lines{"made", "got both"});
    CHECK(at_b == Lines{"made", "got both"});
    CHECK(b->leave(group, interface).ok());
    sender->send_to(bytes_of("one"), group);
    if (interface != if_nametoindex("lo")) { // what leaves through lo comes back by it in any case
        CHECK(sender->set_multicast_loop(false).ok());
        sender->send_to(bytes_of("none"), group);
    }
    bench.settle();
    CHECK(at_a == Lines{"made", "got both", "got one"});
    CHECK(at_b == Lines{"made", "got both"});
    const auto again = b->leave(group, interface);
    REQUIRE_FALSE(again.ok());
    CHECK_THAT(again.error().message(), Catch::Contains(group.host()));
}

TEST_CASE("A member for one source hears that source only [s104]") {
    Lines at_member, at_sender;
    Bench bench(real_kernel());
    const std::uint32_t lo = if_nametoindex("lo");
    DatagramRef member =
        weft::udp::bind(bench.loop, Address::any_ipv4(0), recorder(at_member)).value();
    const Address group = Address::ipv4({239, 1, 2, 4}, bench.bound(member).port());
    const Address wanted = Address::ipv4({127, 0, 0, 5}, 0),
                  other = Address::ipv4({127, 0, 0, 6}, 0);
    const auto joined = member->join(group, lo, &wanted);
    if (!joined.ok()) return skip("join for one source on lo", joined.error());
    for (const Address& from : {other, wanted}) {
        DatagramRef sender = weft::udp::bind(bench.loop, from, recorder(at_sender)).value();
        const auto chosen = sender->set_multicast_interface(lo);
        if (!chosen.ok()) return skip("send multicast through lo", chosen.error());
        sender->send_to(bytes_of("from " + from.host()), group);
        bench.settle();
    }
    CHECK(at_member == Lines{"made", "got from 127.0.0.5"});
    CHECK(member->leave(group, lo, &wanted).ok());
    const Address odd = Address::loopback_ipv6(0);
    CHECK(member->join(group, lo, &odd).error().code == std::errc::invalid_argument);
    CHECK(member->join(wanted, lo).error().code == std::errc::invalid_argument);
}

TEST_CASE("Broadcast is refused until it is asked for") {
    Lines at_receiver, at_sender;
    Bench bench(real_kernel());
    DatagramRef receiver =
        weft::udp::bind(bench.loop, Address::any_ipv4(0), recorder(at_receiver)).value();
    DatagramRef sender = local(bench.loop, recorder(at_sender));
    const Address all = Address::ipv4({127, 255, 255, 255}, bench.bound(receiver).port());
    sender->send_to(bytes_of("refused"), all);
    bench.settle();
    CHECK(at_sender == Lines{"made", "error " + std::to_string(EACCES) + " " + all.to_string()});
    CHECK(sender->set_broadcast(true).ok());
    sender->send_to(bytes_of("to all"), all);
    bench.settle();
    CHECK(at_receiver == Lines{"made", "got to all"});
    UdpOptions options;
    options.broadcast = true;
    DatagramRef second = local(bench.loop, recorder(at_sender), options);
    second->send_to(bytes_of("again"), all);
    bench.settle();
    CHECK(at_receiver.back() == "got again");
}

TEST_CASE("Endpoints that share a port with reuse_port split the senders among them") {
    Lines at_a, at_b, at_client;
    Bench bench(real_kernel());
    UdpOptions shared;
    shared.reuse_port = true;
    DatagramRef a = local(bench.loop, recorder(at_a), shared);
    DatagramRef b = weft::udp::bind(bench.loop, bench.bound(a), recorder(at_b), shared).value();
    for (int i = 0; i < 64; ++i)
        local(bench.loop, recorder(at_client))->send_to(bytes_of("x"), bench.bound(a));
    bench.settle();
    CHECK(count(at_a, "got x") + count(at_b, "got x") == 64);
    CHECK(count(at_a, "got x") > 0); // 64 ports all on one side: a chance of 2 in 2^64
    CHECK(count(at_b, "got x") > 0);
}

TEST_CASE(
    "With packet info a datagram tells where it was sent to, and the answer comes from there") {
    Lines at_server, at_client;
    Bench bench(real_kernel());
    UdpOptions info;
    info.packet_info = true;
    struct Answering final : DatagramRecorder {
        using DatagramRecorder::DatagramRecorder;
        void datagram_received(const Datagram& datagram) override {
            lines.push_back(datagram.to.to_string());
            CHECK(datagram.interface == if_nametoindex("lo"));
            DatagramTransport::SendOptions options;
            options.from = &datagram.to;
            datagram.transport.send_to(datagram.data, datagram.from, options);
        }
    };
    const bool both = GENERATE(false, true);
    if (both && !has_ipv6()) return;
    DatagramRef server =
        both
            ? weft::udp::bind(bench.loop, "*:0", std::make_unique<Answering>(at_server), info)
                  .value()
            : weft::udp::bind(bench.loop, "0.0.0.0:0", std::make_unique<Answering>(at_server), info)
                  .value();
    const std::string port = ":" + std::to_string(bench.bound(server).port());
    // A connected client hears its peer only, so that the answer's source is checked by the kernel.
    for (const char* host : {"127.0.0.1", "127.0.0.77"}) {
        DatagramRef client =
            weft::udp::connect(bench.loop, host + port, recorder(at_client)).value();
        client->send(bytes_of("who?"));
        bench.settle();
        client->close();
    }
    CHECK(count(at_client, "got who?") == 2);
    CHECK(at_server.back() == (both ? "[::ffff:127.0.0.77]" : "127.0.0.77") + port);
    CHECK(count(at_client, "made") == 2);
}

TEST_CASE("ECN bits travel with single datagrams") {
    Lines at_server, at_client;
    Bench bench(real_kernel());
    const bool ipv6 = GENERATE(false, true);
    if (ipv6 && !has_ipv6()) return;
    UdpOptions info;
    info.packet_info = true;
    const Address any = ipv6 ? Address::loopback_ipv6(0) : Address::loopback_ipv4(0);
    DatagramRef server =
        weft::udp::bind(bench.loop, any, std::make_unique<Inspector>(at_server), info).value();
    DatagramRef client = weft::udp::bind(bench.loop, any, recorder(at_client)).value();
    DatagramTransport::SendOptions options;
    for (const int ecn : {1, 2, 3, -1}) {
        options.ecn = static_cast<std::int8_t>(ecn);
        client->send_to(bytes_of("x"), bench.bound(server), options);
    }
    bench.settle();
    const std::string start = "x to " + bench.bound(server).to_string() + " by " +
                              std::to_string(if_nametoindex("lo")) + " ecn ";
    CHECK(at_server == Lines{"made", start + "1", start + "2", start + "3", start + "0"});
}

TEST_CASE(
    "An endpoint on the wildcard address serves IPv6 and IPv4, unless it is to be IPv6 only") {
    Lines at_server, at_client;
    Bench bench(real_kernel());
    if (!has_ipv6()) return;
    const bool only = GENERATE(false, true);
    UdpOptions options;
    options.ipv6_only = only;
    DatagramRef server =
        weft::udp::bind(bench.loop, ":0", std::make_unique<Echo>(at_server), options).value();
    const std::uint16_t port = bench.bound(server).port();
    DatagramRef six =
        weft::udp::bind(bench.loop, Address::loopback_ipv6(0), recorder(at_client)).value();
    DatagramRef four = local(bench.loop, recorder(at_client));
    six->send_to(bytes_of("six"), Address::loopback_ipv6(port));
    four->send_to(bytes_of("four"), Address::loopback_ipv4(port));
    bench.settle();
    CHECK(count(at_client, "got six") == 1);
    CHECK(count(at_client, "got four") == (only ? 0 : 1));
    // It may also be given plain IPv4 addresses.
    if (!only) {
        server->send_to(bytes_of("plain"), bench.bound(four));
        bench.settle();
        CHECK(at_client.back() == "got plain");
    }
}

TEST_CASE("Options of the socket are set for the protocols that it speaks") {
    Lines lines;
    Bench bench(real_kernel());
    UdpOptions options;
    options.receive_buffer = 16384;
    options.send_buffer = 32768;
    DatagramRef four = local(bench.loop, recorder(lines), options);
    CHECK(option(four, SOL_SOCKET, SO_RCVBUF) == 2 * 16384); // Linux doubles it (socket(7))
    CHECK(option(four, SOL_SOCKET, SO_SNDBUF) == 2 * 32768);
    CHECK(four->set_ttl(3).ok());
    CHECK(option(four, IPPROTO_IP, IP_TTL) == 3);
    CHECK(four->set_multicast_ttl(7).ok());
    CHECK(option(four, IPPROTO_IP, IP_MULTICAST_TTL) == 7);
    CHECK(four->set_multicast_loop(false).ok());
    CHECK(option(four, IPPROTO_IP, IP_MULTICAST_LOOP) == 0);
    CHECK(four->set_ttl(0).error().code == std::errc::invalid_argument);
    CHECK(four->set_multicast_ttl(256).error().code == std::errc::invalid_argument);
    CHECK_THAT(four->set_ttl(256).error().message(),
               Catch::Contains("set_ttl") && Catch::Contains(bench.bound(four).to_string()));
    if (!has_ipv6()) return;
    DatagramRef six = weft::udp::bind(bench.loop, ":0", recorder(lines)).value();
    CHECK(six->set_ttl(3).ok());
    CHECK(six->set_multicast_ttl(7).ok());
    CHECK(six->set_multicast_loop(false).ok());
    CHECK(option(six, IPPROTO_IPV6, IPV6_UNICAST_HOPS) == 3);
    CHECK(option(six, IPPROTO_IP, IP_TTL) == 3);
    CHECK(option(six, IPPROTO_IPV6, IPV6_MULTICAST_HOPS) == 7);
    CHECK(option(six, IPPROTO_IPV6, IPV6_MULTICAST_LOOP) == 0);
}

TEST_CASE(
    "The kernel splits segments (GSO) and joins them (GRO), and the protocol sees datagrams") {
    Lines at_server, at_client;
    Bench bench(real_kernel());
    const bool gro = GENERATE(false, true);
    UdpOptions options;
    options.gro = gro;
    options.receive_buffer = 1 << 20;
    auto owned = std::make_unique<Counter>(at_server);
    Counter& counter = *owned;
    DatagramRef server = local(bench.loop, std::move(owned), options);
    DatagramRef client = local(bench.loop, recorder(at_client));
    bench.settle();
    int on = 0;
    socklen_t size = sizeof on;
    const bool kernel_joins =
        gro && getsockopt(server->fd(), IPPROTO_UDP, UDP_GRO, &on, &size) == 0 && on == 1;
    if (gro && !kernel_joins) WARN("this kernel has no UDP_GRO: datagrams come one by one");
    bench.kernel->reset_counts();
    DatagramTransport::SendOptions segments;
    segments.segment_size = 1000;
    const std::string bulk(60500, 'b');
    client->send_to(bytes_of(bulk), bench.bound(server), segments);
    const auto sends = bench.kernel->calls(Call::send_batch);
    if (sends != 1) WARN("this kernel has no UDP_SEGMENT: split here, " << sends << " calls");
    bench.settle();
    CHECK(counter.datagrams == 61);
    CHECK(counter.bytes == bulk.size());
    CHECK(counter.largest == 1000);
    CHECK(at_client == Lines{"made"});
    if (kernel_joins && sends == 1) CHECK(counter.batches == 1);
}

TEST_CASE("A socket whose receiving direction is shut down does not keep the loop busy [F9]") {
    Lines at_server, at_client;
    Bench bench(real_kernel());
    const int how = GENERATE(int{SHUT_RD}, int{SHUT_RDWR});
    DatagramRef server = local(bench.loop, recorder(at_server));
    DatagramRef client =
        weft::udp::connect(bench.loop, bench.bound(server), recorder(at_client)).value();
    bench.settle();
    REQUIRE(::shutdown(client->fd(), how) == 0);
    bench.settle();
    if (how == SHUT_RDWR) {
        CHECK(at_client == Lines{"made", "lost"});
    } else {
        client->send(bytes_of("still"));
        bench.settle();
        CHECK(at_server == Lines{"made", "got still"});
    }
}
