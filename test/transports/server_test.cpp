#include "stream_support.hpp"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <unistd.h>

using namespace weft;
using namespace weft::test;

namespace {

std::int64_t option(World& world, int fd, SocketOption name) {
    return world.loop.kernel.get_option(fd, name).value();
}

/// Whether somebody accepts connections at `address`.
bool answers(World& world, const Address& address) {
    RawPeer peer = RawPeer::connect(world.loop.kernel, address);
    world.settle();
    const Sys error = world.loop.kernel.get_option(peer.fd(), SocketOption::error);
    REQUIRE(error.ok());
    return error.value() == 0;
}

} // namespace

TEST_CASE("Port 0 is chosen by the system, for each address anew [s101]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    const std::vector<std::string> texts{"127.0.0.1:0", "127.0.0.1:0", "127.0.0.2:0"};
    auto server = tcp::listen(world.loop, std::span(texts), world.factory());
    REQUIRE(server.ok());
    const auto addresses = server->addresses();
    REQUIRE(addresses.size() == 3);
    for (const Address& address : addresses) {
        CHECK(address.port() != 0);
        CHECK(answers(world, address));
    }
    CHECK(addresses[0].host() == "127.0.0.1");
    CHECK(addresses[2].host() == "127.0.0.2");
    CHECK(addresses[0].port() != addresses[1].port());
    CHECK(server->port() == addresses[0].port());
}

TEST_CASE("localhost is both loopback addresses, and any address is both families [s101]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    if (!tcp::listen(world.loop, "[::1]:0", world.factory()).ok()) {
        WARN("skipped: there is no IPv6 here");
        return;
    }
    SECTION("localhost") {
        world.listen({}, "localhost:0");
        const auto addresses = world.server.addresses();
        REQUIRE(addresses.size() == 2);
        CHECK(addresses[0].host() == "127.0.0.1");
        CHECK(addresses[1].host() == "::1");
    }
    SECTION("any address") {
        world.listen({}, GENERATE("*:0", ":0"));
        const auto addresses = world.server.addresses();
        REQUIRE(addresses.size() == 1);
        CHECK(answers(world, Address::loopback_ipv4(world.server.port())));
        CHECK(answers(world, Address::loopback_ipv6(world.server.port())));
        world.until([&] { return world.journals.size() == 2; });
    }
    SECTION("IPv6 only") {
        ListenOptions options;
        options.ipv6_only = true;
        world.listen(std::move(options), "*:0");
        CHECK(answers(world, Address::loopback_ipv6(world.server.port())));
        CHECK(!answers(world, Address::loopback_ipv4(world.server.port())));
    }
}

TEST_CASE("An address that can not be listened on is named with the reason [s99]") {
    WEFT_TEST_KERNEL(all_kernels);
    FaultyWorld world(kernel_kind);
    world.listen();
    const std::string taken = world.server.addresses()[0].to_string();
    const auto message = [&](std::string_view text) {
        auto server = tcp::listen(world.loop, text, world.factory());
        REQUIRE(!server.ok());
        return server.error().message();
    };
    CHECK(message(taken) == "listen on " + taken + ": " + errno_code(EADDRINUSE).message());
    if (kernel_kind.name != std::string_view("sim")) // where every address is ours
        CHECK(message("192.0.2.1:0") ==              // TEST-NET-1, RFC 5737: nobody's address
              "listen on 192.0.2.1:0: " + errno_code(EADDRNOTAVAIL).message());
    CHECK_THAT(message("127.0.0.1:99999"), Catch::Matchers::Contains("127.0.0.1:99999"));
    CHECK_THAT(message("nonsense"), Catch::Matchers::Contains("nonsense"));
    CHECK_THAT(message("unix:/tmp/x"), Catch::Matchers::Contains("unix:/tmp/x"));
    CHECK_THAT(message(""), Catch::Matchers::Contains("\"\""));
    world.faulty->fail(sim::Call::bind, EACCES);
    CHECK(message("127.0.0.1:80") == "listen on 127.0.0.1:80: " + errno_code(EACCES).message());
    CHECK(!tcp::listen(world.loop, std::span<const std::string>(), world.factory()).ok());
    CHECK(world.server.connections() == 0);
}

TEST_CASE("Options that can not be meant are refused before anything is opened") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    ListenOptions options;
    options.write_limits = WriteLimits{.high = 1, .low = 2};
    CHECK_THROWS_AS(
        (void)tcp::listen(world.loop, "127.0.0.1:0", world.factory(), std::move(options)),
        UsageError);
    CHECK_THROWS_AS((void)tcp::listen(world.loop, "127.0.0.1:0", ProtocolFactory()), UsageError);
}

TEST_CASE("Accepted connections have the options that were asked for [s101]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    ListenOptions options;
    options.nodelay = GENERATE(true, false);
    const bool nodelay = options.nodelay;
    options.keep_alive = KeepAlive{.idle = 30s, .interval = 5s, .probes = 4};
    options.write_limits = WriteLimits{.high = 1000, .low = 10};
    options.idle_timeout = 1h;
    world.listen(std::move(options));
    RawPeer peer = world.connect();
    const int fd = world.transport().fd();
    CHECK((option(world, fd, SocketOption::no_delay) != 0) == nodelay);
    CHECK(option(world, fd, SocketOption::keep_alive) != 0);
    CHECK(option(world, fd, SocketOption::keep_alive_idle) == 30);
    CHECK(option(world, fd, SocketOption::keep_alive_interval) == 5);
    CHECK(option(world, fd, SocketOption::keep_alive_probes) == 4);
    CHECK(world.transport().write_buffer_limits().high == 1000);
    CHECK(world.transport().write_buffer_limits().low == 10);
    CHECK(world.loop->stats().timers == 1);
}

TEST_CASE("A closed server keeps its connections and refuses new ones [s101]") {
    WEFT_TEST_KERNEL(all_kernels);
    const bool destroy = GENERATE(false, true);
    World world(kernel_kind);
    world.listen();
    const Address address = world.server.addresses()[0];
    RawPeer peer = world.connect();
    if (destroy) {
        world.server = Server();
    } else {
        world.server.close();
        world.server.close();
        CHECK(world.server.connections() == 1);
    }
    CHECK(!world.server.listening());
    CHECK(world.server.addresses().empty());
    CHECK(world.server.port() == 0);
    CHECK(!answers(world, address));
    peer.send("still here");
    world.until([&] { return world.last().received == "still here"; });
    world.server.resume_accepting();
    world.transport().close();
    world.until([&] { return world.last().lost; });
}

TEST_CASE("wait_closed waits for the listening to end and for the last connection [s101]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    world.listen();
    RawPeer first = world.connect();
    RawPeer second = world.connect();
    const auto closed = world.server.wait_closed();
    world.server.close();
    const auto again = world.server.wait_closed();
    world.journals[0]->transport->close();
    world.until([&] { return world.journals[0]->lost; });
    world.settle();
    CHECK(!closed.done());
    world.journals[1]->transport->abort({});
    world.until([&] { return closed.done(); });
    CHECK(again.done());
    CHECK(world.server.wait_closed().done());
    CHECK_THROWS_AS(Server().wait_closed(), UsageError);
}

TEST_CASE("All clients can be closed or aborted while the server goes on [s101]") {
    WEFT_TEST_KERNEL(all_kernels);
    const bool abort = GENERATE(false, true);
    World world(kernel_kind);
    world.listen();
    RawPeer first = world.connect();
    RawPeer second = world.connect();
    abort ? world.server.abort_clients() : world.server.close_clients();
    CHECK(!world.journals[0]->lost); // never before it returns
    world.until([&] { return world.server.connections() == 0; });
    for (const auto& journal : world.journals)
        CHECK(journal->reason == (abort ? make_error_code(Errc::aborted) : std::error_code()));
    RawPeer third = world.connect();
    CHECK(world.server.connections() == 1);
}

TEST_CASE("drain tells every protocol and waits for it, up to a deadline [s101] [F56]") {
    World world([] { return std::make_unique<sim::SimKernel>(); });
    world.listen();
    RawPeer polite = world.connect();
    RawPeer busy = world.connect();
    RawPeer unwilling = world.connect();
    std::vector<Timer> timers;
    world.journals[1]->hooks["draining"] = [&](Transport& t) {
        timers.push_back(world.loop->call_later(2s, [&t] { t.close(); }));
    };
    world.journals[2]->hooks["draining"] = [](Transport&) {};
    const TimePoint start = world.loop->now();
    auto drained = world.server.drain(5s);
    const auto sooner = GENERATE(false, true);
    if (sooner) (void)world.server.drain(3s);
    CHECK(!world.server.listening());
    CHECK(world.journals[0]->count("draining") == 0); // never before it returns
    CHECK(world.loop->run_until(drained) == 1);
    CHECK(world.loop->now() - start == (sooner ? 3s : 5s));
    CHECK(world.journals[0]->events == "made draining lost");
    CHECK(!world.journals[0]->reason);
    CHECK(world.journals[1]->lost);
    CHECK(world.journals[2]->reason == std::errc::timed_out);
    CHECK(world.loop->stats().timers == 0);
    CHECK(world.server.drain(1s).result() == 1);
}

TEST_CASE("Draining a server without connections is done at once [s101]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    world.listen();
    CHECK(world.server.drain(1h).result() == 0);
    CHECK(world.loop->stats().timers == 0);
}

TEST_CASE("Accepting can be paused and goes on where it stopped [s101]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    world.listen();
    world.server.pause_accepting();
    world.server.pause_accepting();
    RawPeer peer = RawPeer::connect(world.loop.kernel, world.server.addresses()[0]);
    world.settle();
    CHECK(world.journals.empty());
    world.server.resume_accepting();
    world.server.resume_accepting();
    world.until([&] { return world.journals.size() == 1; });
}

TEST_CASE("No more connections than asked for are open at once [s101]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    ListenOptions options;
    options.max_connections = 2;
    world.listen(std::move(options));
    std::vector<RawPeer> peers;
    for (int i = 0; i < 5; ++i)
        peers.push_back(RawPeer::connect(world.loop.kernel, world.server.addresses()[0]));
    for (std::size_t served = 0; served < 5; ++served) {
        const std::size_t expected = std::min<std::size_t>(served + 2, 5);
        world.until([&] { return world.journals.size() == expected; });
        world.settle();
        CHECK(world.journals.size() == expected);
        world.journals[served]->transport->close();
        world.until([&] { return world.journals[served]->lost; });
    }
}

TEST_CASE(
    "A connection can be refused by its address, by the factory, or by what that throws [s100] "
    "[F28]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    ListenOptions options;
    std::string answer;
    options.admit = [&](const Address& peer) {
        CHECK(peer.is_loopback());
        return answer != "not admitted";
    };
    auto make = world.factory();
    auto listening = tcp::listen(
        world.loop, "127.0.0.1:0",
        [&]() -> std::unique_ptr<Protocol> {
            if (answer == "null") return nullptr;
            if (answer == "throw") throw std::runtime_error("no protocol today");
            return make();
        },
        std::move(options));
    REQUIRE(listening.ok());
    world.server = std::move(*listening);
    for (const char* way : {"not admitted", "null", "throw"}) {
        answer = way;
        RawPeer peer = RawPeer::connect(world.loop.kernel, world.server.addresses()[0]);
        peer.receive_all(world.loop);
        CHECK(peer.ended);
        CHECK(world.journals.empty());
    }
    REQUIRE(world.loop.unhandled.size() == 1);
    CHECK_THAT(world.loop.unhandled[0],
               Catch::Matchers::StartsWith("making a protocol for 127.0.0.1:") &&
                   Catch::Matchers::EndsWith("no protocol today"));
    CHECK(world.server.counters().accepted == 3);
    CHECK(world.server.counters().refused == 3);
    answer.clear();
    RawPeer peer = world.connect();
    CHECK(world.server.connections() == 1);
}

TEST_CASE("What is meant to end run leaves the factory without leaving a descriptor [s7] [s100]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    auto listening = tcp::listen(world.loop, "127.0.0.1:0",
                                 []() -> std::unique_ptr<Protocol> { throw FatalError("enough"); });
    REQUIRE(listening.ok());
    RawPeer peer = RawPeer::connect(world.loop.kernel, listening->addresses()[0]);
    CHECK_THROWS_AS(world.until([] { return false; }), FatalError);
    peer.receive_all(world.loop);
    CHECK(peer.ended);
}

TEST_CASE("Two loops can share a port, and without asking for that they can not [s101]") {
    WEFT_TEST_KERNEL(real_kernels);
    World first(kernel_kind);
    World second(kernel_kind);
    ListenOptions options;
    options.reuse_port = true;
    first.listen(std::move(options));
    const std::string address = first.server.addresses()[0].to_string();
    CHECK(!tcp::listen(second.loop, address, second.factory()).ok());
    ListenOptions shared;
    shared.reuse_port = true;
    second.listen(std::move(shared), address);
    std::vector<RawPeer> peers;
    for (int i = 0; i < 100; ++i)
        peers.push_back(RawPeer::connect(first.loop.kernel, first.server.addresses()[0]));
    for (int turn = 0; turn < 100'000 && first.journals.size() + second.journals.size() < 100;
         ++turn) {
        first.loop->run_once();
        second.loop->run_once();
    }
    // The system spreads them by a hash; that all go to one side has a chance of 2^-99.
    CHECK(first.journals.size() + second.journals.size() == 100);
    CHECK(!first.journals.empty());
    CHECK(!second.journals.empty());
    // Each loop looks at what the whole process has left open.
    peers.clear();
    first.server.close();
    first.until([&] { return first.server.connections() == 0; });
}

TEST_CASE(
    "A listening socket made elsewhere is served, anything else is refused and closed [s103]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    Kernel& kernel = world.loop.kernel;
    const auto socket = [&](int family, int type) {
        const Sys made = kernel.socket(family, type, 0);
        REQUIRE(made.ok());
        return made.fd();
    };
    SECTION("a listening socket") {
        const int fd = socket(AF_INET, SOCK_STREAM);
        REQUIRE(kernel.bind(fd, Address::loopback_ipv4(0)).ok());
        REQUIRE(kernel.listen(fd, 16).ok());
        auto adopted = adopt_listener(world.loop, fd, world.factory());
        REQUIRE(adopted.ok());
        world.server = std::move(*adopted);
        CHECK(world.server.addresses()[0].host() == "127.0.0.1");
        RawPeer peer = world.connect();
        peer.send("hello");
        world.until([&] { return world.last().received == "hello"; });
    }
    SECTION("anything else") {
        const std::string what = GENERATE("unconnected", "datagram", "nothing");
        const int fd = what == "unconnected" ? socket(AF_INET, SOCK_STREAM)
                       : what == "datagram"  ? socket(AF_INET, SOCK_DGRAM)
                                             : -1;
        auto adopted = adopt_listener(world.loop, fd, world.factory());
        REQUIRE(!adopted.ok());
        CHECK(adopted.error().code == errno_code(what == "unconnected" ? EINVAL : ENOTSOCK));
        CHECK(adopted.error().message().starts_with("adopt listening descriptor " +
                                                    std::to_string(fd) + ": "));
        if (fd >= 0) CHECK(kernel.kind_of(fd) == FileKind::none);
    }
}

TEST_CASE("A file or a pipe is no listening socket [s103]") {
    WEFT_TEST_KERNEL(real_kernels);
    World world(kernel_kind);
    int pipe_ends[2];
    REQUIRE(pipe2(pipe_ends, O_CLOEXEC) == 0);
    const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    for (const int fd : {pipe_ends[0], pipe_ends[1], file}) {
        auto adopted = adopt_listener(world.loop, fd, world.factory());
        REQUIRE(!adopted.ok());
        CHECK(adopted.error().code == std::errc::not_a_socket);
    }
}

TEST_CASE("A connection made elsewhere becomes a transport, announced in the next turn [s103]") {
    WEFT_TEST_KERNEL(all_kernels);
    HostLoop loop(kernel_kind.make);
    int fds[2];
    REQUIRE(loop.kernel.socketpair(SOCK_STREAM, fds).ok());
    RawPeer peer(loop.kernel, fds[1]);
    auto journal = std::make_shared<Journal>();
    auto adopted = adopt_connection(loop, fds[0], std::make_unique<Recorder>(journal));
    REQUIRE(adopted.ok());
    CHECK(!journal->made);
    peer.send("hello");
    until(loop, [&] { return journal->received == "hello"; });
    CHECK((*adopted).get() == journal->transport);
    peer.close();
    until(loop, [&] { return journal->lost; });
    CHECK(journal->events == "made data eof lost");

    const Sys unconnected = loop.kernel.socket(AF_INET, SOCK_STREAM, 0);
    auto refused = adopt_connection(loop, unconnected.fd(),
                                    std::make_unique<Recorder>(std::make_shared<Journal>()));
    REQUIRE(!refused.ok());
    CHECK(refused.error().code == std::errc::not_connected);
    loop.kernel.close(unconnected.fd()); // it stayed ours
    CHECK_THROWS_AS((void)adopt_connection(loop, 0, nullptr), UsageError);
}
