// Transports in a loop that a host steps, and calls that are refused.

#include "connect_support.hpp"

#include <weft/transports/datagram/udp.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace weft;
using namespace weft::test;
using sim::Call;

namespace {

template<class Call>
std::string refusal(Call&& call) {
    try {
        call();
    } catch (const UsageError& error) {
        return error.what();
    }
    return "";
}

} // namespace

TEST_CASE("A step makes one call of the user's per unit of its budget, whatever happens [s127]") {
    World world(simulated_kernels().front());
    int calls = 0;
    const auto count = [&](Transport&) { ++calls; };
    world.prepare = [&](Journal& journal) {
        for (const char* name : {"made", "data_received", "eof", "lost"})
            journal.hooks[name] = count;
        journal.hooks["draining"] = [&](Transport& transport) {
            ++calls;
            transport.close();
        };
    };
    world.listen();
    constexpr std::size_t many = 100;
    std::vector<RawPeer> peers;
    for (std::size_t i = 0; i < many; ++i)
        peers.push_back(RawPeer::connect(world.peers(), world.server.addresses().at(0)));
    const auto check_steps = [&](int expected) {
        calls = 0;
        for (int steps = 0; calls < expected; ++steps) {
            const int before = calls;
            const StepResult result = world.loop->step({1h, 4});
            CHECK(calls - before <= 4);
            CHECK(result.ran <= 4);
            CHECK((result.more_ready || calls == expected || steps < 1000));
            REQUIRE(steps < 1000);
        }
        while (world.loop->step({1h, 4}).ran != 0) {
        }
        CHECK(calls == expected);
    };
    check_steps(many); // accepted
    for (RawPeer& peer : peers)
        peer.send(pattern(300));
    check_steps(many);
    // One that has sent much takes no more than its unit, too.
    const std::size_t sent = peers[0].send_some(pattern(1'000'000));
    std::size_t chunks = world.journals[0]->chunks.size();
    while (world.journals[0]->received.size() < 300 + sent) {
        const StepResult result = world.loop->step({1h, 1});
        CHECK(result.ran <= 1);
        CHECK(world.journals[0]->chunks.size() <= chunks + 1);
        chunks = world.journals[0]->chunks.size();
    }
    (void)world.server.drain(1h);
    check_steps(2 * many); // draining, which closes them, and lost
}

TEST_CASE("With a budget of time a step ends after the closing that used it up [s127]") {
    World world(simulated_kernels().front());
    world.prepare = [&](Journal& journal) {
        journal.hooks["lost"] = [&](Transport&) {
            dynamic_cast<sim::SimKernel&>(world.loop.kernel).advance(1ms);
        };
    };
    world.listen();
    std::vector<RawPeer> peers;
    for (int i = 0; i < 50; ++i)
        peers.push_back(world.connect());
    world.server.abort_clients();
    for (int left = 50; left > 0; left -= 2) {
        CHECK(world.server.connections() == static_cast<std::size_t>(left));
        (void)world.loop->step({2ms, 1000});
    }
    CHECK(world.server.connections() == 0);
}

TEST_CASE(
    "Connections that come and go once per turn are no reason to rebuild the kernel's set [F5]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    LogCapture log;
    const auto turns_of = [&](auto each) {
        std::function<void()> next;
        int left = 250;
        next = [&] {
            each();
            if (--left > 0) loop->call_soon([&] { next(); });
        };
        loop->call_soon([&] { next(); });
        while (left > 0)
            loop->run_once();
        settle(loop);
    };
    SECTION("pairs in memory") {
        turns_of([&] {
            Side near, far;
            near.journal->hooks["made"] = [](Transport& t) { t.close(); };
            (void)connected_pair(loop, near.protocol(), far.protocol());
        });
    }
    SECTION("datagrams, sent and forgotten") {
        turns_of([&] {
            auto made = udp::connect(loop, "127.0.0.1:9", std::make_unique<DatagramProtocol>());
            DatagramTransport& endpoint = *made.value().get();
            endpoint.send(bytes_of("metric"));
            endpoint.close();
        });
    }
    SECTION("adopted and aborted") {
        turns_of([&] {
            int fds[2];
            REQUIRE(loop.kernel.socketpair(SOCK_STREAM, fds).ok());
            loop.kernel.close(fds[1]);
            adopt_connection(loop, fds[0], Side().protocol()).value()->abort();
        });
    }
    CHECK(log.text().find("rebuilt") == std::string::npos);
}

TEST_CASE("A watch on a transport's descriptor is refused, and the connection goes on [s122]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    for (int i = 1; i <= 3; ++i) {
        CHECK(world.loop->watch(world.transport().fd()).error().code == std::errc::file_exists);
        peer.send("x");
        world.until([&] { return world.last().received.size() == static_cast<std::size_t>(i); });
        world.transport().write("y");
        world.until([&] {
            peer.receive();
            return peer.received.size() == static_cast<std::size_t>(i);
        });
    }
}

TEST_CASE("What cannot be adopted stays as it was, and goes on with its owner [s122]") {
    WEFT_TEST_KERNEL(real_kernels);
    FaultyWorld world(kernel_kind);
    Loop& loop = world.loop;
    SECTION("a stream that is watched") {
        int fds[2];
        REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
        auto watch = loop.watch(fds[0]).value();
        int readable = 0;
        watch.on_readable([&] { ++readable; });
        CHECK(adopt_connection(loop, fds[0], Side().protocol()).error().code ==
              std::errc::file_exists);
        CHECK((fcntl(fds[0], F_GETFL) & O_NONBLOCK) == 0);
        CHECK(loop.stats().sources == 1);
        REQUIRE(send(fds[1], "x", 1, 0) == 1);
        loop.run_once();
        CHECK(readable == 1);
        watch.cancel();
        close(fds[0]);
        close(fds[1]);
    }
    SECTION("datagrams that are watched") {
        int fds[2];
        REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds) == 0);
        auto watch = loop.watch(fds[0]).value();
        int readable = 0;
        watch.on_readable([&] { ++readable; });
        const auto adopted = adopt_datagram_endpoint(
            loop, fds[0], std::make_unique<DatagramProtocol>(), {.send_buffer = 9000});
        CHECK(adopted.error().code == std::errc::file_exists);
        CHECK((fcntl(fds[0], F_GETFL) & O_NONBLOCK) == 0);
        CHECK(loop.stats().sources == 1);
        REQUIRE(send(fds[1], "x", 1, 0) == 1);
        loop.run_once();
        CHECK(readable == 1);
        watch.cancel();
        close(fds[0]);
        close(fds[1]);
    }
    SECTION("a stream for which there is no memory") {
        int fds[2];
        REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
        world.faulty->fail(Call::add, ENOMEM);
        CHECK(adopt_connection(loop, fds[0], Side().protocol()).error().code ==
              std::errc::not_enough_memory);
        CHECK((fcntl(fds[0], F_GETFL) & O_NONBLOCK) == 0);
        CHECK(loop.stats().sources == 0);
        auto adopted = adopt_connection(loop, fds[0], Side().protocol());
        CHECK(adopted.ok());
        adopted.value()->abort();
        close(fds[1]);
    }
    SECTION("a listener that is served already") {
        OwnFd listener(*world.faulty, make_socket(*world.faulty));
        REQUIRE(world.faulty->bind(listener.fd, Address::loopback_ipv4(0)).ok());
        REQUIRE(world.faulty->listen(listener.fd, 8).ok());
        const int fd = std::exchange(listener.fd, -1);
        world.server = adopt_listener(loop, fd, world.factory()).value();
        CHECK(adopt_listener(loop, fd, world.factory()).error().code == std::errc::file_exists);
        RawPeer peer = world.connect();
        CHECK(world.server.connections() == 1);
    }
    world.settle();
}

TEST_CASE(
    "A listener that the kernel does not let pause and resume does so a little later [s122]") {
    WEFT_TEST_KERNEL(all_kernels);
    FaultyWorld world(kernel_kind);
    world.listen();
    world.faulty->fail(Call::modify, ENOMEM);
    world.server.pause_accepting();
    RawPeer peer = RawPeer::connect(world.peers(), world.server.addresses().at(0));
    world.settle();
    CHECK(world.server.connections() == 0);
    world.faulty->fail(Call::modify, ENOMEM);
    world.server.resume_accepting();
    world.until([&] { return world.server.connections() == 1; });
    RawPeer other = world.connect();
    CHECK(world.server.connections() == 2);
}

TEST_CASE("A close can be given an end, however little its peer reads [F14]") {
    World world(simulated_kernels().front());
    ListenOptions options;
    world.listen(std::move(options));
    RawPeer peer = world.connect();
    const TimePoint begin = world.loop->now();
    const auto until_lost = [&] {
        while (!world.last().lost)
            world.loop->run_once(true);
        return world.loop->now() - begin;
    };
    Transport& transport = world.transport();
    SECTION("nothing is read") {
        transport.write(pattern(1'000'000));
        transport.close_within(3s);
        CHECK(until_lost() == 3s);
        CHECK(world.last().reason == std::errc::timed_out);
    }
    SECTION("the earliest of several limits holds, after close as well") {
        transport.write(pattern(1'000'000));
        transport.close();
        transport.close_within(9s);
        transport.close_within(2s);
        transport.close_within(5s);
        transport.set_idle_timeout(4s);
        CHECK(until_lost() == 2s);
    }
    SECTION("an idle time-out that passes before it, whatever the protocol does") {
        world.last().hooks["idle_timeout"] = [](Transport&) {};
        transport.write(pattern(1'000'000));
        transport.set_idle_timeout(1s);
        transport.close_within(1h);
        CHECK(until_lost() == 1s);
        CHECK(world.last().reason == std::errc::timed_out);
        CHECK(world.last().count("idle") == 0);
    }
    SECTION("for ever") {
        transport.write(pattern(1'000'000));
        transport.close_within(Duration::max());
        auto end = world.loop->call_later(1000h, [] {});
        while (world.loop->now() < begin + 1000h)
            world.loop->run_once(true);
        CHECK(!world.last().lost);
    }
    SECTION("a peer that reads in time") {
        transport.write(pattern(1'000'000));
        transport.close_within(3s);
        peer.receive_all(world.loop);
        CHECK(peer.ended);
        CHECK(peer.received.size() == 1'000'000);
        world.settle();
        CHECK(!world.last().reason);
    }
    SECTION("the wait for the peer's end is part of it") {
        transport.set_linger({.mode = Linger::Mode::always, .bytes = 100, .timeout = 10s});
        transport.close_within(3s);
        CHECK(until_lost() == 3s);
    }
}

TEST_CASE("Options of transports that can not be meant are refused by name [s122]") {
    TestLoop loop(simulated_kernels().front());
    const auto listening = [&](auto change) {
        ListenOptions options;
        change(options);
        return refusal([&] {
            (void)tcp::listen(
                loop, "127.0.0.1:0", [] { return Side().protocol(); }, std::move(options));
        });
    };
    CHECK(listening([](auto&) {}) == "");
    CHECK(listening([](auto& o) { o.backlog = -1; }) ==
          "ListenOptions: backlog is -1, and can not be negative");
    CHECK(listening([](auto& o) { o.idle_timeout = -1s; }) ==
          "ListenOptions: idle_timeout is -1000000000 ns, and can not be negative");
    CHECK(listening([](auto& o) { o.linger = Linger{.timeout = -1ns}; }) ==
          "ListenOptions: linger.timeout is -1 ns, and can not be negative");
    CHECK(listening([](auto& o) { o.write_limits = WriteLimits{.high = 1, .low = 2}; }) ==
          "ListenOptions: write_limits.low is 2, and can not be above `high`, 1");
    CHECK(listening([](auto& o) { o.keep_alive = KeepAlive{.idle = 0s}; }) ==
          "KeepAlive: idle is 0, and must be from 1 to 32767 seconds");
    CHECK(listening([](auto& o) { o.keep_alive = KeepAlive{.probes = 128}; }) ==
          "KeepAlive: probes is 128, and must be from 1 to 127");
    const auto connecting = [&](auto change) {
        ConnectOptions options;
        change(options);
        return refusal([&] {
            (void)tcp::connect(loop, "127.0.0.1:9", Side().protocol(), std::move(options));
        });
    };
    CHECK(connecting([](auto& o) { o.timeout = -1ns; }) ==
          "ConnectOptions: timeout is -1 ns, and can not be negative");
    CHECK(connecting([](auto& o) { o.attempt_delay = -1ns; }) ==
          "ConnectOptions: attempt_delay is -1 ns, and can not be negative");
    CHECK(connecting([](auto& o) { o.keep_alive = KeepAlive{.interval = 40000s}; }) ==
          "KeepAlive: interval is 40000, and must be from 1 to 32767 seconds");
    CHECK(connecting([](auto& o) { o.socket = -2; }) ==
          "ConnectOptions: socket is -2, and must be a descriptor, or -1 for none");
    const auto binding = [&](auto change) {
        UdpOptions options;
        change(options);
        return refusal([&] {
            (void)udp::bind(loop, "127.0.0.1:0", std::make_unique<DatagramProtocol>(), options);
        });
    };
    CHECK(binding([](auto& o) { o.batch = 0; }) ==
          "UdpOptions: batch is 0, and must be from 1 to 64");
    CHECK(binding([](auto& o) { o.batch = 65; }) ==
          "UdpOptions: batch is 65, and must be from 1 to 64");
    CHECK(binding([](auto& o) { o.datagram_size = 0; }) ==
          "UdpOptions: datagram_size is 0, and must be from 1 to 65536");
    CHECK(binding([](auto& o) { o.write_limits = WriteLimits{.high = 1, .low = 2}; }) ==
          "UdpOptions: write_limits.low is 2, and can not be above `high`, 1");
    CHECK(loop->stats().sources == 0);
    settle(loop);
}
