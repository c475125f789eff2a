#include "reactor/sim_support.hpp"

#include <netinet/tcp.h>

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;
using sim::SimKernel;
using sim::SimOptions;

namespace {

int try_bind(Kernel& kernel, const Address& address,
             std::initializer_list<SocketOption> options = {}, int type = SOCK_STREAM) {
    const int fd = open_socket(kernel, family_of(address), type);
    for (const SocketOption option : options)
        CHECK(set_option(kernel, fd, option, 1) == 0);
    const int error = kernel.bind(fd, address).error();
    if (error != 0) kernel.close(fd);
    return error;
}

Address unix_at(const char* path) {
    return Address::unix_path(path).value();
}

} // namespace

TEST_CASE("A port is given to one socket only, unless all of them share it [s101]") {
    SimKernel kernel;
    const Address v4 = Address::loopback_ipv4(80), any4 = Address::any_ipv4(80);
    const Address v6 = Address::loopback_ipv6(80), any6 = Address::any_ipv6(80);
    SECTION("the same address") {
        CHECK(try_bind(kernel, v4) == 0);
        CHECK(try_bind(kernel, v4) == EADDRINUSE);
        CHECK(try_bind(kernel, any4) == EADDRINUSE);
        CHECK(try_bind(kernel, any6) == EADDRINUSE); // it would take IPv4 as well
        CHECK(try_bind(kernel, v6) == 0);
        CHECK(try_bind(kernel, Address::ipv4({10, 0, 0, 1}, 80)) == 0);
        CHECK(try_bind(kernel, v4, {}, SOCK_DGRAM) == 0); // UDP has ports of its own
    }
    SECTION("any address") {
        CHECK(try_bind(kernel, any6) == 0);
        CHECK(try_bind(kernel, v4) == EADDRINUSE);
        CHECK(try_bind(kernel, any4) == EADDRINUSE);
        CHECK(try_bind(kernel, v6) == EADDRINUSE);
    }
    SECTION("any IPv6 address alone") {
        const int fd = open_socket(kernel, AF_INET6);
        CHECK(set_option(kernel, fd, SocketOption::ipv6_only, 1) == 0);
        CHECK(kernel.bind(fd, any6).ok());
        CHECK(set_option(kernel, fd, SocketOption::ipv6_only, 0) == EINVAL);
        CHECK(try_bind(kernel, any4) == 0);
    }
    SECTION("SocketOption::reuse_address") {
        CHECK(try_bind(kernel, v4, {SocketOption::reuse_address}) == 0);
        CHECK(try_bind(kernel, v4) == EADDRINUSE);
        const int second = open_socket(kernel);
        CHECK(set_option(kernel, second, SocketOption::reuse_address, 1) == 0);
        CHECK(kernel.bind(second, v4).ok());
        CHECK(kernel.listen(second, 1).ok());
        CHECK(try_bind(kernel, v4, {SocketOption::reuse_address}) ==
              EADDRINUSE); // one of them listens now
    }
    SECTION("connections keep their port") {
        const int listener = listen_at(kernel, v4);
        const int client = begin_connect(kernel, v4);
        accept_from(kernel, listener);
        kernel.close(listener);
        CHECK(try_bind(kernel, v4) == EADDRINUSE);
        CHECK(try_bind(kernel, v4, {SocketOption::reuse_address}) == 0);
        CHECK(peer(kernel, client) == v4);
    }
}

TEST_CASE("A socket is bound once, and to an address of its family") {
    SimKernel kernel;
    const int fd = open_socket(kernel);
    CHECK(local(kernel, fd) == Address::any_ipv4(0));
    CHECK(kernel.bind(fd, Address::loopback_ipv6(1)).error() == EAFNOSUPPORT);
    CHECK(kernel.bind(fd, loopback).ok());
    CHECK(kernel.bind(fd, loopback).error() == EINVAL);
    CHECK(kernel.connect(fd, Address::loopback_ipv6(1)).error() == EAFNOSUPPORT);
    CHECK(local(kernel, open_socket(kernel, AF_INET6)) == Address::any_ipv6(0));
    CHECK(kernel.socket(AF_INET, SOCK_RAW, 0).error() == EPROTONOSUPPORT);
    CHECK(kernel.socket(12345, SOCK_STREAM, 0).error() == EAFNOSUPPORT);
    CHECK(kernel.listen(open_socket(kernel, AF_INET, SOCK_DGRAM), 1).error() == EOPNOTSUPP);
    Address from;
    CHECK(kernel.accept(fd, from).error() == EINVAL);
}

TEST_CASE("Listeners that share a port by SocketOption::reuse_port take turns [s101]") {
    SimKernel kernel;
    const Address at = Address::loopback_ipv4(80);
    std::vector<int> listeners;
    for (int i = 0; i < 3; ++i) {
        listeners.push_back(open_socket(kernel));
        CHECK(set_option(kernel, listeners.back(), SocketOption::reuse_port, 1) == 0);
        CHECK(kernel.bind(listeners.back(), at).ok());
        CHECK(kernel.listen(listeners.back(), 16).ok());
    }
    CHECK(try_bind(kernel, at, {SocketOption::reuse_address}) == EADDRINUSE);
    for (int i = 0; i < 6; ++i)
        begin_connect(kernel, at);
    Address from;
    for (const int listener : listeners) {
        CHECK(kernel.accept(listener, from).ok());
        CHECK(kernel.accept(listener, from).ok());
        CHECK(kernel.accept(listener, from).error() == EAGAIN);
    }
}

TEST_CASE(
    "The listener with the closest address gets a connection; IPv6 ones take IPv4 too [s101]") {
    SimKernel kernel;
    const int any = listen_at(kernel, Address::any_ipv6(80));
    const Address mapped = Address::parse("[::ffff:127.0.0.1]:80").value();
    begin_connect(kernel, Address::loopback_ipv6(80));
    begin_connect(kernel, Address::any_ipv6(80)); // means the loopback address
    const int v4 = begin_connect(kernel, Address::loopback_ipv4(80));
    begin_connect(kernel, mapped);
    for (const char* expected : {"::1", "::1", "::ffff:127.0.0.1", "::ffff:127.0.0.1"}) {
        const int server = accept_from(kernel, any);
        CHECK(peer(kernel, server).host() == expected);
        CHECK(local(kernel, server).host() == expected);
    }
    CHECK(local(kernel, v4).host() == "127.0.0.1");

    const int other = listen_at(kernel, Address::ipv4({10, 0, 0, 1}, 81));
    const int any4 = listen_at(kernel, Address::any_ipv4(82));
    const int client = begin_connect(kernel, Address::ipv4({10, 0, 0, 1}, 81));
    CHECK(local(kernel, client).host() == "10.0.0.1");
    begin_connect(kernel, Address::ipv4({10, 9, 9, 9}, 82));
    CHECK(state_of(kernel, other) == in);
    CHECK(state_of(kernel, any4) == in);
    CHECK(pending_error(kernel, begin_connect(kernel, Address::ipv4({10, 0, 0, 2}, 81))) ==
          ECONNREFUSED);

    const int only6 = open_socket(kernel, AF_INET6);
    CHECK(set_option(kernel, only6, SocketOption::ipv6_only, 1) == 0);
    CHECK(kernel.connect(only6, mapped).error() == ENETUNREACH);
    CHECK(kernel.connect(only6, Address::loopback_ipv4(80)).error() == EINVAL);
}

TEST_CASE("When the local ports are used up, connecting and binding say so [F23]") {
    SimKernel kernel(SimOptions{.first_port = 40000, .last_port = 40003});
    const int first = listen_at(kernel, Address::loopback_ipv4(80));
    listen_at(kernel, Address::loopback_ipv4(81));
    std::vector<int> clients;
    for (int i = 0; i < 4; ++i)
        clients.push_back(begin_connect(kernel, Address::loopback_ipv4(80)));
    const int fd = open_socket(kernel);
    CHECK(kernel.connect(fd, Address::loopback_ipv4(80)).error() == EADDRNOTAVAIL);
    CHECK(kernel.connect(fd, Address::loopback_ipv4(81)).error() == EINPROGRESS);
    CHECK(try_bind(kernel, loopback) == EADDRINUSE);
    kernel.close(clients[2]);
    const int again = begin_connect(kernel, Address::loopback_ipv4(80));
    CHECK(local(kernel, again).port() == 40002);
    CHECK(state_of(kernel, first) == in);
}

TEST_CASE("Options are kept, and those of other protocols refused") {
    SimKernel kernel;
    const int tcp = open_socket(kernel), udp = open_socket(kernel, AF_INET, SOCK_DGRAM);
    const int local_fd = open_socket(kernel, AF_UNIX);
    CHECK(get_option(kernel, tcp, SocketOption::no_delay) == 0);
    CHECK(set_option(kernel, tcp, SocketOption::no_delay, 1) == 0);
    CHECK(get_option(kernel, tcp, SocketOption::no_delay) == 1);
    CHECK(set_option(kernel, tcp, SocketOption::keep_alive, 1) == 0);
    CHECK(get_option(kernel, tcp, SocketOption::keep_alive) == 1);
    CHECK(set_option(kernel, udp, SocketOption::no_delay, 1) == ENOPROTOOPT);
    CHECK(set_option(kernel, local_fd, SocketOption::no_delay, 1) == EOPNOTSUPP);
    CHECK(set_option(kernel, tcp, SocketOption::ipv6_only, 1) == ENOPROTOOPT);
    CHECK(set_option(kernel, tcp, SocketOption::error, 1) == ENOPROTOOPT);
    CHECK(kernel.kind_of(tcp) == FileKind::stream_socket);
    CHECK(kernel.kind_of(udp) == FileKind::datagram_socket);
    CHECK_FALSE(kernel.is_listening(tcp));
    CHECK(kernel.listen(tcp, 1).ok());
    CHECK(kernel.is_listening(tcp));
    CHECK(local(kernel, tcp).port() != 0); // listening binds what is not bound
    begin_connect(kernel, Address::loopback_ipv4(local(kernel, tcp).port()));
    CHECK(get_option(kernel, accept_from(kernel, tcp), SocketOption::no_delay) == 1); // inherited
}

TEST_CASE("Unix sockets connect by path at once, and are refused by what is no listener [F48]") {
    SimKernel kernel;
    const Address at = unix_at("/run/service");
    const int listener = listen_at(kernel, at, 0);
    const FileInfo info = kernel.look_at("/run/service");
    CHECK(info.is_socket);
    CHECK(info.inode != 0);
    CHECK(local(kernel, listener) == at);
    const int client = open_socket(kernel, AF_UNIX);
    CHECK(state_of(kernel, client) == (out | hup));
    CHECK(recv_text(kernel, client) == error_text(EINVAL));
    CHECK(send_text(kernel, client, "x") == -ENOTCONN);
    CHECK(kernel.connect(client, at).error() == 0);
    CHECK(state_of(kernel, client) == out);
    CHECK(kernel.connect(open_socket(kernel, AF_UNIX), at).error() == EAGAIN); // the queue is full
    const int server = accept_from(kernel, listener);
    CHECK(kernel.connect(client, at).error() == EISCONN);
    CHECK(local(kernel, server) == at);
    CHECK(peer(kernel, client) == at);
    CHECK(peer(kernel, server).family() == Address::Family::unix_socket);
    CHECK(peer(kernel, server).path().empty());
    Credentials credentials;
    CHECK(kernel.peer_credentials(client, credentials).ok());
    CHECK(credentials.uid == 1000);
    CHECK(kernel.peer_credentials(listener, credentials).error() == ENOTCONN);

    CHECK(try_bind(kernel, at) == EADDRINUSE);
    kernel.close(listener);
    CHECK(kernel.look_at("/run/service") == info); // the file stays
    CHECK(kernel.connect(open_socket(kernel, AF_UNIX), at).error() == ECONNREFUSED);
    CHECK(try_bind(kernel, at) == EADDRINUSE);
    CHECK(kernel.unlink("/run/service").ok());
    CHECK(kernel.unlink("/run/service").error() == ENOENT);
    CHECK(kernel.connect(open_socket(kernel, AF_UNIX), at).error() == ENOENT);
    CHECK(try_bind(kernel, at) == 0);
    CHECK(kernel.look_at("/run/service").inode != info.inode); // so that a server knows its own

    CHECK(kernel.create_file("/run/file"));
    CHECK(!kernel.create_file("/run/file"));
    CHECK(kernel.look_at("/run/file").kind == FileKind::regular);
    CHECK(!kernel.look_at("/run/file").is_socket);
    CHECK(try_bind(kernel, unix_at("/run/file")) == EADDRINUSE);
    CHECK(kernel.connect(open_socket(kernel, AF_UNIX), unix_at("/run/file")).error() ==
          ECONNREFUSED);
    CHECK(kernel.look_at("/none") == FileInfo());
}

TEST_CASE("An abstract name goes with its socket and is no file [F48]") {
    SimKernel kernel;
    const Address at = unix_at("@service");
    CHECK(kernel.connect(open_socket(kernel, AF_UNIX), at).error() == ECONNREFUSED);
    const int listener = listen_at(kernel, at);
    CHECK(try_bind(kernel, at) == EADDRINUSE);
    CHECK(kernel.look_at("@service") == FileInfo());
    CHECK(kernel.unlink("@service").error() == ENOENT);
    const int client = begin_connect(kernel, at);
    CHECK(peer(kernel, client) == at);
    kernel.close(listener);
    CHECK(pending_error(kernel, client) == ECONNRESET); // it was not accepted
    CHECK(try_bind(kernel, at) == 0);
}

TEST_CASE(
    "Unix streams have one buffer, the sender's, and tell at once when the peer is gone [F10]") {
    SimKernel kernel;
    int fds[2];
    REQUIRE(kernel.socketpair(SOCK_STREAM, fds).ok());
    const auto [a, b] = fds;
    CHECK(set_option(kernel, a, SocketOption::send_buffer, 8) == 0);
    CHECK(send_text(kernel, a, "0123456789") == 8);
    CHECK(send_text(kernel, a, "x") == -EAGAIN);
    CHECK(state_of(kernel, a) == 0);
    REQUIRE(kernel.add(a, 1, Interest::stream).ok());
    CHECK(recv_text(kernel, b, 5) == "01234");
    CHECK(look(kernel).empty()); // half of it is free: writable when three quarters are
    CHECK(recv_text(kernel, b, 1) == "5");
    CHECK(look(kernel).empty()); // what is read in part takes all of its room
    SECTION("closed after everything was read") {
        CHECK(recv_text(kernel, b) == "67");
        CHECK(bits(kernel, 1) == out);
        CHECK(send_text(kernel, b, "bye") == 3);
        kernel.close(b);
        CHECK(bits(kernel, 1) == (in | out | rdhup | hup));
        CHECK(send_text(kernel, a, "x") == -EPIPE);
        CHECK(recv_text(kernel, a) == "bye");
        CHECK(recv_text(kernel, a) == "EOF");
    }
    SECTION("closed with unread bytes") {
        kernel.close(b);
        CHECK(bits(kernel, 1) == (in | rdhup | hup | err));
        CHECK(recv_text(kernel, a) == error_text(ECONNRESET));
        CHECK(recv_text(kernel, a) == "EOF");
    }
    SECTION("shut down") {
        CHECK(kernel.shutdown_write(a).ok());
        CHECK(send_text(kernel, a, "x") == -EPIPE);
        CHECK(recv_text(kernel, b) == "67");
        CHECK(recv_text(kernel, b) == "EOF");
        CHECK(send_text(kernel, b, "y") == 1);
        CHECK(recv_text(kernel, a) == "y");
    }
}
