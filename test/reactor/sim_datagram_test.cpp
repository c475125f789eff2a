#include "reactor/sim_support.hpp"

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;
using sim::SimKernel;

namespace {

int udp_at(Kernel& kernel, const Address& address = loopback) {
    const int fd = open_socket(kernel, family_of(address), SOCK_DGRAM);
    REQUIRE(kernel.bind(fd, address).error() == 0);
    return fd;
}

/// 0 or the errno value.
int send_to(Kernel& kernel, int fd, std::string_view text, const Address& to, int ecn = -1) {
    OutDatagram datagram;
    datagram.data = bytes_of(text);
    datagram.to = &to;
    datagram.ecn = static_cast<std::int8_t>(ecn);
    const Sys sent = kernel.send_batch(fd, {&datagram, 1});
    if (sent.ok()) CHECK(sent.count() == 1);
    return sent.error();
}

struct Got {
    std::string text; // or "errno N"
    DatagramSlot slot;
};

Got receive(Kernel& kernel, int fd, std::size_t room = 65536) {
    std::vector<std::byte> bytes(room);
    Got got;
    got.slot.data = bytes.data();
    got.slot.capacity = room;
    const Sys count = kernel.recv_batch(fd, {&got.slot, 1});
    got.text = count.ok() ? std::string(text_of(Bytes(bytes).first(got.slot.size)))
                          : error_text(count.error());
    return got;
}

/// Everything that lies in the queue, in one word.
std::string receive_all(Kernel& kernel, int fd) {
    std::string all;
    for (Got got = receive(kernel, fd); got.text != error_text(EAGAIN); got = receive(kernel, fd))
        all += got.text;
    return all;
}

Address at(const char* text) {
    return Address::parse(text).value();
}

} // namespace

TEST_CASE(
    "Datagrams keep their boundaries, empty ones too, and tell when they were cut [F46] [s104]") {
    SimKernel kernel;
    const int a = udp_at(kernel), b = udp_at(kernel);
    CHECK(state_of(kernel, b) == out);
    for (const char* text : {"one", "", "three"})
        CHECK(send_to(kernel, a, text, local(kernel, b)) == 0);
    CHECK(state_of(kernel, b) == (in | out));
    std::array<std::byte, 12> room;
    std::array<DatagramSlot, 4> slots;
    for (std::size_t i = 0; i < 4; ++i) {
        slots[i].data = room.data() + 3 * i;
        slots[i].capacity = 3;
    }
    REQUIRE(kernel.recv_batch(b, slots).count() == 3);
    CHECK(slots[0].size == 3);
    CHECK(slots[1].size == 0);
    CHECK(!slots[1].truncated);
    CHECK(slots[2].size == 3);
    CHECK(slots[2].truncated);
    CHECK(text_of(Bytes(room).first(9).last(3)) == "thr");
    for (int i = 0; i < 3; ++i) {
        CHECK(slots[static_cast<std::size_t>(i)].from == local(kernel, a));
        CHECK(slots[static_cast<std::size_t>(i)].to.empty());
        CHECK(slots[static_cast<std::size_t>(i)].ecn == -1);
    }
    CHECK(kernel.recv_batch(b, slots).error() == EAGAIN);
    CHECK(state_of(kernel, b) == out);
    CHECK(kernel.kind_of(b) == FileKind::datagram_socket);
}

TEST_CASE("A batch is sent up to its first error, which the next call reports [F46]") {
    SimKernel kernel;
    const int a = udp_at(kernel), b = udp_at(kernel);
    const std::string long_text(65508, 'x');
    const Address to = local(kernel, b);
    std::array<OutDatagram, 3> batch;
    for (OutDatagram& each : batch)
        each = {bytes_of("ok"), &to};
    batch[1].data = bytes_of(long_text);
    CHECK(kernel.send_batch(a, batch).count() == 1);
    CHECK(kernel.send_batch(a, std::span(batch).subspan(1)).error() == EMSGSIZE);
    batch[1].data = bytes_of(long_text).first(65507);
    CHECK(kernel.send_batch(a, std::span(batch).subspan(1)).count() == 2);
    CHECK(receive(kernel, b).text == "ok");
    CHECK(receive(kernel, b).text.size() == 65507);
    const int c = open_socket(kernel, AF_INET, SOCK_DGRAM);
    const OutDatagram nowhere{bytes_of("x")};
    CHECK(kernel.send_batch(c, {&nowhere, 1}).error() == EDESTADDRREQ);
    CHECK(send_to(kernel, c, "x", Address::loopback_ipv4(0)) == EINVAL);
    CHECK(send_to(kernel, c, "x", Address::loopback_ipv6(9)) == EAFNOSUPPORT);
    CHECK(send_to(kernel, c, "x", to) == 0); // binds it
    CHECK(local(kernel, c).port() != 0);
}

TEST_CASE("A full receive queue drops what comes") {
    SimKernel kernel;
    kernel.set_buffer_sizes(1000, 3);
    const int a = udp_at(kernel), b = udp_at(kernel);
    for (const char* text : {"1", "", "3", "4", "5"})
        CHECK(send_to(kernel, a, text, local(kernel, b)) == 0);
    CHECK(receive_all(kernel, b) == "13");
    CHECK(send_to(kernel, a, "longer than the queue", local(kernel, b)) == 0);
    CHECK(receive_all(kernel, b) == "longer than the queue");
}

TEST_CASE("A connected socket hears its peer only, and before the others of its port [s104]") {
    SimKernel kernel;
    const int a = udp_at(kernel), b = udp_at(kernel), stranger = udp_at(kernel);
    CHECK(kernel.connect(b, local(kernel, a)).ok());
    CHECK(peer(kernel, b) == local(kernel, a));
    CHECK(send_to(kernel, stranger, "no", local(kernel, b)) == 0);
    CHECK(send_to(kernel, a, "yes", local(kernel, b)) == 0);
    CHECK(receive_all(kernel, b) == "yes");
    CHECK(send_text(kernel, b, "short form") == 10);
    CHECK(recv_text(kernel, a) == "short form");
    Address from;
    CHECK(kernel.peer_address(a, from).error() == ENOTCONN);
    CHECK(kernel.connect(b, Address()).ok()); // no peer any more
    CHECK(kernel.peer_address(b, from).error() == ENOTCONN);
    CHECK(send_to(kernel, stranger, "now", local(kernel, b)) == 0);
    CHECK(receive_all(kernel, b) == "now");
    const int c = open_socket(kernel, AF_INET, SOCK_DGRAM);
    CHECK(kernel.connect(c, local(kernel, a)).ok());
    CHECK(local(kernel, c).host() == "127.0.0.1");
}

TEST_CASE("ICMP errors reach connected sockets once, and close nothing [F45]") {
    SimKernel kernel;
    const int a = udp_at(kernel), gone = udp_at(kernel);
    const Address nobody = local(kernel, gone);
    kernel.close(gone);
    CHECK(send_to(kernel, a, "x", nobody) == 0);
    CHECK(state_of(kernel, a) == out); // an unconnected socket does not hear of it
    REQUIRE(kernel.connect(a, nobody).ok());
    REQUIRE(kernel.add(a, 1, Interest::read).ok());
    CHECK(send_text(kernel, a, "x") == 1);
    CHECK(bits(kernel, 1) == err);
    SECTION("by SO_ERROR") {
        CHECK(pending_error(kernel, a) == ECONNREFUSED);
    }
    SECTION("by receiving") {
        CHECK(receive(kernel, a).text == error_text(ECONNREFUSED));
    }
    SECTION("by sending") {
        CHECK(send_text(kernel, a, "y") == -ECONNREFUSED);
    }
    CHECK(look(kernel).empty());
    CHECK(pending_error(kernel, a) == 0);
    const int back = udp_at(kernel, nobody);
    CHECK(send_text(kernel, a, "again") == 5);
    CHECK(receive_all(kernel, back) == "again");
}

TEST_CASE("The error queue says which address failed, and ERR lasts until it is empty [F45]") {
    SimKernel kernel;
    const int a = udp_at(kernel);
    CHECK(set_option(kernel, a, SocketOption::error_queue, 1) == 0);
    CHECK(send_to(kernel, a, "x", Address::loopback_ipv4(7)) == 0);
    CHECK(pending_error(kernel, a) == ECONNREFUSED);
    CHECK(send_to(kernel, a, "x", Address::loopback_ipv4(8)) == 0);
    CHECK(state_of(kernel, a) == (out | err));
    Address to;
    CHECK(kernel.recv_error(a, to).count() == ECONNREFUSED);
    CHECK(to == Address::loopback_ipv4(7));
    CHECK(state_of(kernel, a) == (out | err));
    CHECK(kernel.recv_error(a, to).count() == ECONNREFUSED);
    CHECK(to == Address::loopback_ipv4(8));
    CHECK(kernel.recv_error(a, to).error() == EAGAIN);
    CHECK(state_of(kernel, a) == out);
    CHECK(pending_error(kernel, a) == 0);
}

TEST_CASE("ECN bits and the address a datagram was sent to come when asked for") {
    SimKernel kernel;
    const int a = udp_at(kernel), b = udp_at(kernel, Address::any_ipv4(0));
    const int v6 = udp_at(kernel, Address::any_ipv6(0));
    const auto port = local(kernel, b).port();
    CHECK(set_option(kernel, b, SocketOption::packet_info, 1) == 0);
    CHECK(set_option(kernel, b, SocketOption::receive_ecn, 1) == 0);
    CHECK(send_to(kernel, a, "x", Address::ipv4({127, 0, 0, 9}, port), 3) == 0);
    Got got = receive(kernel, b);
    CHECK(got.slot.to == Address::ipv4({127, 0, 0, 9}, port));
    CHECK(got.slot.interface == 1);
    CHECK(got.slot.ecn == 3);
    // The upper bits are no ECN.
    CHECK(set_option(kernel, a, SocketOption::traffic_class, 0xb8 | 1) == 0);
    CHECK(send_to(kernel, a, "x", Address::loopback_ipv4(port)) == 0);
    CHECK(receive(kernel, b).slot.ecn == 1);

    CHECK(set_option(kernel, v6, SocketOption::packet_info, 1) == 0);
    CHECK(set_option(kernel, v6, SocketOption::receive_ecn, 1) == 0);
    CHECK(send_to(kernel, a, "x", Address::loopback_ipv4(local(kernel, v6).port())) == 0);
    got = receive(kernel, v6);
    CHECK(got.slot.from.host() == "::ffff:127.0.0.1");
    CHECK(got.slot.to.host() == "::ffff:127.0.0.1");
    CHECK(got.slot.ecn == 1);
    CHECK(send_to(kernel, v6, "back", got.slot.from) == 0);
    CHECK(receive_all(kernel, a) == "back");
    CHECK(send_to(kernel, v6, "self", Address::loopback_ipv6(local(kernel, v6).port()), 2) == 0);
    CHECK(receive(kernel, v6).slot.ecn == 2);
}

TEST_CASE("The source address of a datagram can be chosen, and one buffer split into several") {
    SimKernel kernel;
    const int a = udp_at(kernel, Address::any_ipv4(0)), b = udp_at(kernel);
    const Address to = local(kernel, b), from = Address::ipv4({127, 0, 0, 5}, 0);
    OutDatagram datagram{bytes_of("abcdefgh"), &to, &from, 3};
    CHECK(kernel.send_batch(a, {&datagram, 1}).count() == 1);
    Got got = receive(kernel, b);
    CHECK(got.text == "abc");
    CHECK(got.slot.from == Address::ipv4({127, 0, 0, 5}, local(kernel, a).port()));
    CHECK(receive(kernel, b).text == "def");
    CHECK(receive(kernel, b).text == "gh");
    const std::string many(65, 'x');
    datagram = {bytes_of(many), &to, nullptr, 1};
    CHECK(kernel.send_batch(a, {&datagram, 1}).error() == EINVAL);
}

TEST_CASE("Multicast reaches the members of a group, for the sources they asked for") {
    SimKernel kernel;
    const int sender = udp_at(kernel, at("127.0.0.1:900"));
    const auto member = [&] {
        const int fd = open_socket(kernel, AF_INET, SOCK_DGRAM);
        CHECK(set_option(kernel, fd, SocketOption::reuse_address, 1) == 0);
        CHECK(kernel.bind(fd, Address::any_ipv4(5000)).ok());
        return fd;
    };
    const int all = member(), some = member(), none = member();
    const Address group = at("224.0.1.5:0"), source = at("127.0.0.2:0");
    CHECK(kernel.leave_group(all, group, 0, nullptr).error() == EADDRNOTAVAIL);
    CHECK(kernel.join_group(all, group, 0, nullptr).ok());
    CHECK(kernel.join_group(all, group, 0, nullptr).error() == EADDRINUSE);
    CHECK(kernel.join_group(some, group, 0, &source).ok());
    CHECK(kernel.join_group(some, group, 0, &source).error() == EADDRNOTAVAIL);
    CHECK(send_to(kernel, sender, "1", at("224.0.1.5:5000")) == 0);
    CHECK(send_to(kernel, sender, "other group", at("224.0.1.6:5000")) == 0);
    CHECK(receive_all(kernel, all) == "1");
    CHECK(receive_all(kernel, some).empty());
    const int heard = udp_at(kernel, at("127.0.0.2:900"));
    CHECK(send_to(kernel, heard, "2", at("224.0.1.5:5000")) == 0);
    CHECK(receive_all(kernel, all) == "2");
    CHECK(receive_all(kernel, some) == "2");
    CHECK(kernel.leave_group(some, group, 0, &source).ok());
    CHECK(kernel.leave_group(all, group, 0, nullptr).ok());
    CHECK(send_to(kernel, heard, "3", at("224.0.1.5:5000")) == 0);
    for (const int fd : {all, some, none})
        CHECK(receive_all(kernel, fd).empty());
    CHECK(kernel.join_group(all, group, 0, nullptr).ok());
    CHECK(set_option(kernel, heard, SocketOption::multicast_loop, 0) == 0);
    CHECK(send_to(kernel, heard, "4", at("224.0.1.5:5000")) == 0);
    CHECK(receive_all(kernel, all).empty());
    CHECK(kernel.join_group(all, at("127.0.0.1:0"), 0, nullptr).error() == EINVAL);

    const int v6 = udp_at(kernel, Address::any_ipv6(6000));
    CHECK(kernel.join_group(v6, at("[ff02::99]:0"), 0, nullptr).ok());
    CHECK(send_to(kernel, udp_at(kernel, at("[::1]:0")), "6", at("[ff02::99]:6000")) == 0);
    CHECK(receive_all(kernel, v6) == "6");
}

TEST_CASE("Broadcasts have to be allowed, and reach every socket of the port") {
    SimKernel kernel;
    const int sender = udp_at(kernel);
    const int one = udp_at(kernel, Address::any_ipv4(5000));
    const Address everyone = at("255.255.255.255:5000");
    CHECK(send_to(kernel, sender, "x", everyone) == EACCES);
    CHECK(kernel.connect(sender, everyone).error() == EACCES);
    CHECK(set_option(kernel, sender, SocketOption::broadcast, 1) == 0);
    CHECK(send_to(kernel, sender, "x", everyone) == 0);
    CHECK(receive_all(kernel, one) == "x");
}

TEST_CASE("Sockets that share a port get whole flows each") {
    SimKernel kernel;
    std::vector<int> receivers;
    for (int i = 0; i < 4; ++i) {
        receivers.push_back(open_socket(kernel, AF_INET, SOCK_DGRAM));
        CHECK(set_option(kernel, receivers.back(), SocketOption::reuse_port, 1) == 0);
        CHECK(kernel.bind(receivers.back(), at("127.0.0.1:5000")).ok());
    }
    for (int i = 0; i < 64; ++i) {
        const int sender = udp_at(kernel);
        CHECK(send_to(kernel, sender, "x", at("127.0.0.1:5000")) == 0);
        CHECK(send_to(kernel, sender, "x", at("127.0.0.1:5000")) == 0);
    }
    std::size_t total = 0;
    for (const int fd : receivers) {
        const std::size_t count = receive_all(kernel, fd).size();
        CHECK(count % 2 == 0);
        CHECK(count > 8); // of 128, none gets nearly nothing
        total += count;
    }
    CHECK(total == 128);
}

TEST_CASE("Unix datagrams wait for a full receiver and tell when it is gone") {
    SimKernel kernel;
    const Address name = Address::unix_path("/run/log").value();
    const int receiver = udp_at(kernel, name);
    const int a = open_socket(kernel, AF_UNIX, SOCK_DGRAM);
    CHECK(send_to(kernel, a, "by name", name) == 0);
    CHECK(receive(kernel, receiver).text == "by name");
    CHECK(send_to(kernel, a, "x", Address::unix_path("/none").value()) == ENOENT);
    CHECK(send_text(kernel, a, "x") == -ENOTCONN);
    REQUIRE(kernel.connect(a, name).ok());
    int count = 0;
    while (count < 100 && send_text(kernel, a, "x") == 1)
        ++count;
    CHECK(count == 11); // net.unix.max_dgram_qlen and one more
    CHECK(send_text(kernel, a, "x") == -EAGAIN);
    REQUIRE(kernel.add(a, 1, Interest::write).ok());
    CHECK(look(kernel).empty());
    CHECK(receive(kernel, receiver).text == "x");
    CHECK(bits(kernel, 1) == out);
    kernel.close(receiver);
    CHECK(send_text(kernel, a, "x") == -ECONNREFUSED);
    CHECK(send_text(kernel, a, "x") == -ENOTCONN);

    int fds[2];
    REQUIRE(kernel.socketpair(SOCK_DGRAM, fds).ok());
    CHECK(send_text(kernel, fds[0], "") == 0);
    CHECK(send_text(kernel, fds[0], "second") == 6);
    CHECK(receive(kernel, fds[1]).text.empty());
    CHECK(receive(kernel, fds[1]).text == "second");
    CHECK(send_to(kernel, a, std::string(70'000, 'x'), name) == ECONNREFUSED);
    const int fresh = udp_at(kernel, Address::unix_path("@log").value());
    CHECK(send_to(kernel, a, std::string(70'000, 'x'), local(kernel, fresh)) == EMSGSIZE);
}
