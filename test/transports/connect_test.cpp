#include "connect_support.hpp"

#include <netinet/tcp.h>

// One address: what is called when, what the names are, how it fails. Several addresses are in
// connect_addresses_test.cpp, giving up is in connect_cancel_test.cpp.

using namespace weft;
using namespace weft::test;

TEST_CASE("Connecting tells the protocol, then the future, and neither before it returned [s99]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Service service(loop);
    Side client;
    auto future = tcp::connect(loop, service.text(), client.protocol());
    CHECK(client->events.empty());
    CHECK_FALSE(future.done());
    client->hooks["made"] = [&](Transport&) { CHECK_FALSE(future.done()); };
    future.add_done_callback([&](Future<TransportRef>) { client->note("future"); });
    until(loop, [&] { return client->events.ends_with("future"); });
    CHECK(client->events == "made future");
    CHECK(future.result().get() == client->transport);

    client.transport().write("hello");
    until(loop, [&] { return !service.sides.empty() && service.sides[0]->received == "hello"; });
    client.transport().close();
    until(loop, [&] { return service.sides[0]->lost && client->lost; });
    CHECK(client->events == "made future lost");
    CHECK_FALSE(client->reason);
    CHECK(future.result().get() == nullptr);
}

TEST_CASE(
    "A connection knows both names from the first call to the last, also after a reset [s94]") {
    WEFT_TEST_KERNEL(all_kernels);
    const auto path = GENERATE(as<std::string>(), "127.0.0.1:0", "[::1]:0");
    TestLoop loop(kernel_kind);
    Service service(loop, path);
    Side client;
    Address local;
    std::vector<bool> closing;
    client->hooks["made"] = [&](Transport& t) {
        local = t.local_address();
        CHECK(local.port() != 0);
        CHECK(t.peer_address() == service.address());
        closing.push_back(t.is_closing());
    };
    client->hooks["lost"] = [&](Transport& t) {
        CHECK(t.local_address() == local);
        CHECK(t.peer_address() == service.address());
        closing.push_back(t.is_closing());
    };
    auto future = tcp::connect(loop, service.text(), client.protocol());
    until(loop, [&] { return future.done() && !service.sides.empty(); });
    CHECK(service.sides[0].transport().peer_address() == local);
    CHECK(service.sides[0].transport().local_address() == service.address());
    service.sides[0].transport().abort();
    until(loop, [&] { return client->lost; });
    CHECK(client->reason == std::errc::connection_reset);
    CHECK(closing == std::vector{false, true});
}

TEST_CASE("A refused connection is an error that names the address, and the protocol is never "
          "called [F23]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    RefusingPort port(loop.kernel);
    Side client;
    auto future = tcp::connect(loop, port.address.to_string(), client.protocol());
    CHECK_FALSE(client->destroyed);
    until(loop, [&] { return future.done(); });
    CHECK(future.error_code() == std::errc::connection_refused);
    CHECK(outcome(future) == "connect to " + port.address.to_string() + ": Connection refused");
    CHECK(client->events.empty());
    CHECK(client->destroyed);
    CHECK(loop->stats().sources == 0);
}

TEST_CASE("An address that can not be reached at all fails with the system's reason [F23]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Side client;
    // There are no connections to a broadcast address.
    auto future = tcp::connect(loop, "255.255.255.255:9", client.protocol());
    CHECK(client->events.empty());
    until(loop, [&] { return future.done(); });
    CHECK(future.error_code() == std::errc::network_unreachable);
    CHECK(outcome(future) == "connect to 255.255.255.255:9: Network is unreachable");
    CHECK(client->destroyed);
}

TEST_CASE("A local address that is not ours is refused by the system and named with the target "
          "[F23] [s99]") {
    WEFT_TEST_KERNEL(real_kernels); // a simulated host has every address
    TestLoop loop(kernel_kind);
    Service service(loop);
    Side client;
    ConnectOptions options;
    options.local_address = parsed("192.0.2.1:0");
    auto future = tcp::connect(loop, service.text(), client.protocol(), options);
    until(loop, [&] { return future.done(); });
    CHECK(future.error_code() == std::errc::address_not_available);
    CHECK(client->destroyed);
}

TEST_CASE("The local address and its port are those that were asked for [s99]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Service service(loop);
    Side client;
    ConnectOptions options;
    options.local_address = parsed("127.0.0.2:0");
    auto future = tcp::connect(loop, service.text(), client.protocol(), options);
    until(loop, [&] { return future.done() && !service.sides.empty(); });
    REQUIRE(outcome(future) == "connected");
    const Address local = client.transport().local_address();
    CHECK(local.host() == "127.0.0.2");
    CHECK(service.sides[0].transport().peer_address() == local);
}

TEST_CASE("A socket that the system connected to itself is refused [F23]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    const bool through_any = GENERATE(false, true);
    if (through_any && loop.simulated()) {
        WARN("left out: to the simulated host 0.0.0.0 is no address of its own");
        return;
    }
    Address own;
    {
        RefusingPort port(loop.kernel);
        own = port.address;
    }
    ConnectOptions options;
    options.local_address = own;
    const Address to = through_any ? Address::any_ipv4(own.port()) : own;
    Side client;
    auto future = tcp::connect(loop, to.to_string(), client.protocol(), options);
    until(loop, [&] { return future.done(); });
    CHECK(future.error_code() == std::errc::connection_refused);
    CHECK(client->events.empty());
}

TEST_CASE("What the options say is set on the socket before it connects [s99]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Service service(loop);
    Side client;
    ConnectOptions options;
    options.nodelay = GENERATE(true, false);
    options.keep_alive = KeepAlive{std::chrono::seconds(11), std::chrono::seconds(5), 3};
    auto future = tcp::connect(loop, service.text(), client.protocol(), options);
    until(loop, [&] { return future.done(); });
    REQUIRE(outcome(future) == "connected");
    const auto option = [&](SocketOption name) {
        return loop.kernel.get_option(client.transport().fd(), name).value();
    };
    CHECK((option(SocketOption::no_delay) != 0) == options.nodelay);
    CHECK(option(SocketOption::keep_alive) != 0);
    CHECK(option(SocketOption::keep_alive_idle) == 11);
    CHECK(option(SocketOption::keep_alive_interval) == 5);
    CHECK(option(SocketOption::keep_alive_probes) == 3);
}

TEST_CASE("Whatever call fails on the way is the future's error, and nothing is left [F2]") {
    WEFT_TEST_KERNEL(faulty_kernels);
    using sim::Call;
    struct Fault {
        Call call;
        int error;
    };
    const auto fault = GENERATE(values<Fault>({{Call::socket, EMFILE},
                                               {Call::socket, ENFILE},
                                               {Call::set_option, ENOMEM},
                                               {Call::bind, EADDRINUSE},
                                               {Call::connect, ENETUNREACH},
                                               {Call::connect, EADDRNOTAVAIL},
                                               {Call::add, ENOSPC},
                                               {Call::get_option, ENOBUFS}}));
    INFO(sim::name_of(fault.call) << " " << fault.error);
    TestLoop loop(kernel_kind);
    Service service(loop);
    const auto sources = loop->stats().sources;
    Side client;
    ConnectOptions options;
    options.local_address = parsed("127.0.0.1:0");
    faults(loop).fail(fault.call, fault.error);
    auto future = tcp::connect(loop, service.text(), client.protocol(), options);
    CHECK(client->events.empty());
    until(loop, [&] { return future.done(); });
    CHECK(faults(loop).failures(fault.call) == 1);
    CHECK(future.error_code() == errno_code(fault.error));
    CHECK(outcome(future).starts_with("connect to " + service.text() + ": "));
    CHECK(client->events.empty());
    CHECK(client->destroyed);
    settle(loop);
    for (const Side& side : service.sides)
        CHECK(side->lost);
    CHECK(loop->stats().sources == sources);
}

TEST_CASE(
    "What connection_made throws is reported, ends the connection and fails the future [F28]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Service service(loop);
    Side client;
    client->hooks["made"] = [](Transport&) { throw std::runtime_error("no"); };
    auto future = tcp::connect(loop, service.text(), client.protocol());
    until(loop, [&] { return future.done() && client->lost; });
    CHECK(future.error_code() == Errc::callback_threw);
    CHECK(outcome(future).starts_with("connect to " + service.text() + " (connection_made)"));
    CHECK(client->events == "made lost");
    CHECK(client->reason == Errc::callback_threw);
    REQUIRE(loop.unhandled.size() == 1);
    CHECK(loop.unhandled[0].ends_with("no"));
}

TEST_CASE("A connection that is closed in connection_made was one: the future completes with a "
          "reference to nothing") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Service service(loop);
    Side client;
    client->hooks["made"] = [](Transport& t) { t.close(); };
    auto future = tcp::connect(loop, service.text(), client.protocol());
    until(loop, [&] { return future.done() && client->lost; });
    CHECK(outcome(future) == "connected");
    CHECK(client->events == "made lost");
    CHECK(future.result().get() == nullptr);
}

TEST_CASE("Unix sockets connect by path and by abstract name, and do not call back before "
          "returning [s99] [F48]") {
    WEFT_TEST_KERNEL(all_kernels);
    const std::string own = "weft-connect-" + std::to_string(::getpid());
    const auto name = GENERATE_COPY(as<std::string>(), "/tmp/" + own, "@" + own);
    TestLoop loop(kernel_kind);
    Service service(loop, "unix:" + name);
    Side client;
    auto future = unix_socket::connect(loop, name, client.protocol());
    // Such a connection stands at once.
    CHECK(client->events.empty());
    CHECK_FALSE(future.done());
    until(loop, [&] { return future.done() && !service.sides.empty(); });
    REQUIRE(outcome(future) == "connected");
    CHECK(client.transport().peer_address().path() == name);
    CHECK(service.sides[0].transport().local_address().path() == name);
    CHECK(client.transport().peer_credentials().has_value());
    client.transport().write("hello");
    until(loop, [&] { return service.sides[0]->received == "hello"; });
}

TEST_CASE("A Unix socket that is not there, not served or no path fails at once, without a call "
          "[s99] [F48]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Side client;
    const std::string missing = "/tmp/weft-nobody-" + std::to_string(::getpid());
    auto future = unix_socket::connect(loop, missing, client.protocol());
    bool called = false;
    future.add_done_callback([&](Future<TransportRef>) { called = true; });
    CHECK_FALSE(called);
    until(loop, [&] { return called; });
    CHECK(outcome(future) == "connect to unix:" + missing + ": No such file or directory");
    CHECK(client->events.empty());
    CHECK(client->destroyed);

    auto refused = unix_socket::connect(loop, "@weft-nobody", Side().protocol());
    auto empty = unix_socket::connect(loop, "", Side().protocol());
    auto endless = unix_socket::connect(loop, std::string(109, 'x'), Side().protocol());
    until(loop, [&] { return refused.done() && empty.done() && endless.done(); });
    CHECK(refused.error_code() == std::errc::connection_refused);
    CHECK(empty.error_code() == Errc::bad_address);
    CHECK(endless.error_code() == std::errc::filename_too_long);
}

TEST_CASE("A Unix server whose backlog is full is reported as such, since the system does not wait "
          "[F23]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    ListenOptions options;
    options.backlog = 0;
    const std::string name = "@weft-full-" + std::to_string(::getpid());
    Service service(loop, "unix:" + name, std::move(options));
    service.server.pause_accepting();
    Side client;
    auto first = unix_socket::connect(loop, name, client.protocol());
    auto second = unix_socket::connect(loop, name, Side().protocol());
    until(loop, [&] { return first.done() && second.done(); });
    CHECK(outcome(first) == "connected");
    CHECK(second.error_code() == std::errc::resource_unavailable_try_again);
    client.transport().abort();
    settle(loop);
}

TEST_CASE("Text that is no address is an error that says why, and the protocol is destroyed") {
    TestLoop loop(simulated_kernels().front());
    const auto [text, why] = GENERATE(table<std::string, std::string>({
        {"", "no port"},
        {"127.0.0.1", "no port"},
        {"127.0.0.1:", "the port is not 0 to 65535"},
        {"127.0.0.1:65536", "the port is not 0 to 65535"},
        {"127.0.0.1:http", "the port is not 0 to 65535"},
        {"127.0.0.1:-1", "the port is not 0 to 65535"},
        {"1.2.3:80", "not an IPv4 address"},
        {"1.2.3.4.5:80", "not an IPv4 address"},
        {"256.1.1.1:80", "not an IPv4 address"},
        {"::1:80", "in brackets"},
        {"[::1:80", "in brackets"},
        {"[]:80", "in brackets"},
        {"[::g]:80", "in brackets"},
        {"unix:/tmp/x", "the port is not 0 to 65535"},
        {"a b:80", "not a name"},
        {"a/b:80", "connect to a/b:80 (not a name)"},
        {"a\n:80", "connect to a\\x0a:80 (not a name)"},
        {std::string("a\0b:80", 6), "connect to a\\x00b:80 (not a name)"},
        {std::string(254, 'a') + ":80", "longer than 253"},
    }));
    INFO(text);
    Side client;
    auto future = tcp::connect(loop, text, client.protocol());
    REQUIRE(future.done());
    CHECK(future.error_code() == Errc::bad_address);
    CHECK(outcome(future).find(why) != std::string::npos);
    CHECK(outcome(future).ends_with("): " + make_error_code(Errc::bad_address).message()));
    CHECK(client->destroyed);
    CHECK(client->events.empty());
    CHECK(loop->stats().jobs == 0);
}

TEST_CASE("Connecting without a protocol, or in a closed loop, is misuse") {
    TestLoop loop(simulated_kernels().front());
    CHECK_THROWS_AS(tcp::connect(loop, "127.0.0.1:1", nullptr), UsageError);
    CHECK_THROWS_AS(unix_socket::connect(loop, "/x", nullptr), UsageError);
    CHECK_THROWS_AS(connected_pair(loop, nullptr, Side().protocol()), UsageError);
    loop->close();
    CHECK_THROWS_AS(tcp::connect(loop, "127.0.0.1:1", Side().protocol()), UsageError);
    CHECK_THROWS_AS(connected_pair(loop, Side().protocol(), Side().protocol()), UsageError);
}
