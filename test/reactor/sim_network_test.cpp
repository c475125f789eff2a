#include "reactor/sim_support.hpp"

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;
using sim::SimKernel;
using sim::SimOptions;

namespace {

/// Two UDP sockets, the first connected to the second.
struct Datagrams {
    explicit Datagrams(SimKernel& kernel_) : kernel(kernel_) {
        for (int* fd : {&a, &b}) {
            *fd = open_socket(kernel, AF_INET, SOCK_DGRAM);
            REQUIRE(kernel.bind(*fd, loopback).ok());
        }
        REQUIRE(kernel.connect(a, local(kernel, b)).ok());
    }
    /// The numbers that have arrived, in their order.
    std::vector<int> received() {
        std::vector<int> all;
        for (std::string text; (text = recv_text(kernel, b)) != error_text(EAGAIN);)
            all.push_back(std::stoi(text));
        return all;
    }
    void send_numbers(int count) {
        for (int i = 0; i < count; ++i)
            REQUIRE(send_text(kernel, a, std::to_string(i)) > 0);
    }
    SimKernel& kernel;
    int a = -1, b = -1;
};

} // namespace

TEST_CASE(
    "With latency each step of a connection takes its time and nothing else happens meanwhile") {
    SimKernel kernel;
    kernel.set_latency(10ms, 10ms);
    const TimePoint start = kernel.now();
    const int listener = listen_at(kernel);
    const int client = begin_connect(kernel, local(kernel, listener));
    REQUIRE(kernel.add(listener, 1, Interest::read).ok());
    REQUIRE(kernel.add(client, 2, Interest::stream).ok());
    CHECK(look(kernel).empty());
    CHECK(kernel.in_flight() == 1);
    CHECK(wait_for_event(kernel, start + 5ms) == 0);
    CHECK(kernel.now() == start + 5ms);
    CHECK(wait_for_event(kernel) == 1); // the SYN
    CHECK(kernel.now() == start + 10ms);
    const int server = accept_from(kernel, listener);
    CHECK(send_text(kernel, server, "hello") == 5);
    CHECK(wait_for_event(kernel) == 1); // the SYN+ACK, and the bytes behind it
    CHECK(kernel.now() == start + 20ms);
    CHECK(recv_text(kernel, client) == "hello");
    kernel.close(server);
    CHECK(recv_text(kernel, client) == error_text(EAGAIN));
    CHECK(wait_for_event(kernel) == 1);
    CHECK(kernel.now() == start + 30ms);
    CHECK(recv_text(kernel, client) == "EOF");
    CHECK(send_text(kernel, client, "x") == 1);
    CHECK(send_text(kernel, client, "x") == 1); // the answer takes 20 ms
    kernel.advance(19ms);
    CHECK(send_text(kernel, client, "x") == 1);
    kernel.advance(1ms);
    CHECK(send_text(kernel, client, "x") == -EPIPE);
}

TEST_CASE("Refusals and resets take their time as well, behind the bytes before them [F11]") {
    SimKernel kernel;
    kernel.set_latency(10ms, 10ms);
    const TimePoint start = kernel.now();
    const int refused = begin_connect(kernel, Address::loopback_ipv4(9));
    REQUIRE(kernel.add(refused, 1, Interest::stream).ok());
    CHECK(wait_for_event(kernel) == 1);
    CHECK(kernel.now() == start + 20ms);
    CHECK(pending_error(kernel, refused) == ECONNREFUSED);

    kernel.set_latency(0ms, 0ms);
    Pair pair(kernel);
    kernel.set_latency(1ms, 1s);
    REQUIRE(kernel.add(pair.client, 2, Interest::read).ok());
    CHECK(send_text(kernel, pair.server, "abc") == 3);
    CHECK(send_text(kernel, pair.server, "def") == 3);
    pair.close(pair.server, true);
    std::string all;
    for (std::string text; all.find("errno") == all.npos; all += text) {
        wait_for_event(kernel);
        while ((text = recv_text(kernel, pair.client)) == error_text(EAGAIN))
            wait_for_event(kernel);
    }
    CHECK(all == "abcdef" + error_text(ECONNRESET));
}

TEST_CASE("Segments arrive one by one, each as an event of its own") {
    SimKernel kernel;
    Pair pair(kernel);
    kernel.set_segment_size(4);
    REQUIRE(kernel.add(pair.client, 1, Interest::stream).ok());
    CHECK(bits(kernel, 1) == out);
    CHECK(send_text(kernel, pair.server, "0123456789") == 10);
    CHECK(kernel.shutdown_write(pair.server).ok());
    std::vector<std::string> parts;
    while (parts.empty() || parts.back() != "EOF") {
        REQUIRE(wait_for_event(kernel) == 1);
        for (std::string text; (text = recv_text(kernel, pair.client)) != error_text(EAGAIN);) {
            parts.push_back(text);
            if (text == "EOF") break;
        }
    }
    CHECK(parts == std::vector<std::string>{"0123", "4567", "89", "EOF"});
}

TEST_CASE("Datagrams stay in order with latency, and fill the sender's buffer meanwhile") {
    SimKernel kernel;
    Datagrams udp(kernel);
    kernel.set_latency(1ms, 50ms);
    udp.send_numbers(100);
    CHECK(udp.received().empty());
    kernel.advance(49ms);
    const auto early = udp.received();
    CHECK(early.size() < 100);
    kernel.advance(1ms);
    auto all = early;
    for (const int number : udp.received())
        all.push_back(number);
    std::vector<int> expected(100);
    for (int i = 0; i < 100; ++i)
        expected[static_cast<std::size_t>(i)] = i;
    CHECK(all == expected);

    CHECK(set_option(kernel, udp.a, SocketOption::send_buffer, 10) == 0);
    CHECK(send_text(kernel, udp.a, "0123456789") == 10);
    CHECK(send_text(kernel, udp.a, "x") == -EAGAIN);
    REQUIRE(kernel.add(udp.a, 1, Interest::write).ok());
    CHECK(look(kernel).empty());
    CHECK(wait_for_event(kernel) == 1);
    CHECK(send_text(kernel, udp.a, "x") == 1);
}

TEST_CASE("Datagrams are lost, doubled and overtaken as often as was asked for") {
    const auto run = [](std::uint64_t seed, auto setup) {
        SimKernel kernel(SimOptions{.seed = seed});
        Datagrams udp(kernel);
        setup(kernel);
        udp.send_numbers(1000);
        kernel.advance(1s);
        return udp.received();
    };
    const auto lossy = [](SimKernel& kernel) { kernel.set_loss(0.25); };
    const auto lost = run(1, lossy);
    CHECK(std::abs(static_cast<int>(lost.size()) - 750) < 60); // 4 standard deviations
    CHECK(std::is_sorted(lost.begin(), lost.end()));
    CHECK(run(1, lossy) == lost); // the same seed, the same run [s120]
    CHECK(run(2, lossy) != lost);
    CHECK(run(1, [](SimKernel& kernel) { kernel.set_loss(1); }).empty());

    const auto doubled = run(1, [](SimKernel& kernel) { kernel.set_duplicate(0.5); });
    CHECK(std::abs(static_cast<int>(doubled.size()) - 1500) < 64);
    CHECK(std::is_sorted(doubled.begin(), doubled.end()));

    auto mixed = run(1, [](SimKernel& kernel) { kernel.set_reorder(0.1); });
    CHECK(mixed.size() == 1000);
    CHECK(!std::is_sorted(mixed.begin(), mixed.end()));
    std::sort(mixed.begin(), mixed.end());
    CHECK(std::adjacent_find(mixed.begin(), mixed.end()) == mixed.end());
}

TEST_CASE("A black hole swallows everything without an error until its time-outs [F23]") {
    SimKernel kernel;
    const Address far = Address::ipv4({10, 0, 0, 1}, 80);
    const TimePoint start = kernel.now();
    SECTION("connecting") {
        listen_at(kernel, far);
        kernel.blackhole(far);
        const int client = begin_connect(kernel, far);
        REQUIRE(kernel.add(client, 1, Interest::stream).ok());
        CHECK(wait_for_event(kernel, start + 5s) == 0);
        SECTION("for ever") {
            CHECK(wait_for_event(kernel) == 1);
            CHECK(kernel.now() == start + 127s);
            CHECK(pending_error(kernel, client) == ETIMEDOUT);
        }
        SECTION("for a while") {
            kernel.heal(far);
            CHECK(wait_for_event(kernel) == 1);
            CHECK(kernel.now() == start + 7s); // SYNs at 0, 1, 3, 7 s
            CHECK(pending_error(kernel, client) == 0);
        }
    }
    SECTION("a connection") {
        Pair pair(kernel, far);
        REQUIRE(kernel.add(pair.client, 1, Interest::stream).ok());
        REQUIRE(kernel.add(pair.server, 2, Interest::stream).ok());
        CHECK(look(kernel).size() == 2);
        kernel.blackhole(Address::ipv4({10, 0, 0, 1}, 0)); // with all its ports
        CHECK(send_text(kernel, pair.client, "are you there?") == 14);
        CHECK(wait_for_event(kernel, start + 100s) == 0);
        CHECK(recv_text(kernel, pair.server) == error_text(EAGAIN));
        SECTION("for a while") {
            CHECK(send_text(kernel, pair.client, " hello?") == 7);
            kernel.heal(Address::ipv4({10, 0, 0, 1}, 0));
            CHECK(bits(kernel, 2) == (in | out));
            CHECK(recv_text(kernel, pair.server) == "are you there? hello?");
        }
        SECTION("for ever") {
            CHECK(wait_for_event(kernel) == 1);
            CHECK(kernel.now() == start + 924s + 600ms);
            CHECK(recv_text(kernel, pair.client) == error_text(ETIMEDOUT));
            CHECK(recv_text(kernel, pair.server) == error_text(EAGAIN)); // it had nothing to send
        }
    }
    SECTION("datagrams") {
        Datagrams udp(kernel);
        kernel.blackhole(local(kernel, udp.b));
        udp.send_numbers(2);
        kernel.heal(local(kernel, udp.b));
        CHECK(udp.received().empty());
        udp.send_numbers(1);
        CHECK(udp.received().size() == 1);
    }
}

TEST_CASE("An ICMP error takes its way back, and is dropped when the sender is gone [F45]") {
    SimKernel kernel;
    Datagrams udp(kernel);
    kernel.close(udp.b);
    kernel.set_latency(10ms, 10ms);
    REQUIRE(kernel.add(udp.a, 1, Interest::read).ok());
    const TimePoint start = kernel.now();
    CHECK(send_text(kernel, udp.a, "x") == 1);
    CHECK(wait_for_event(kernel) == 1);
    CHECK(kernel.now() == start + 20ms);
    CHECK(pending_error(kernel, udp.a) == ECONNREFUSED);
    CHECK(send_text(kernel, udp.a, "x") == 1);
    kernel.close(udp.a);
    const int other = open_socket(kernel, AF_INET, SOCK_DGRAM); // has the number now
    CHECK(other == udp.a);
    kernel.advance(1s);
    CHECK(pending_error(kernel, other) == 0);
}

TEST_CASE("A run is the same down to each event for the same seed [s120]") {
    const auto run = [](std::uint64_t seed) {
        SimKernel kernel(SimOptions{.seed = seed});
        kernel.set_latency(1us, 1ms);
        kernel.set_segment_size(16, 1);
        const int listener = listen_at(kernel);
        const Address to = local(kernel, listener);
        REQUIRE(kernel.add(listener, 1000, Interest::read).ok());
        for (Token token = 0; token < 20; ++token)
            REQUIRE(kernel.add(begin_connect(kernel, to), token, Interest::stream).ok());
        std::string trace;
        std::vector<Event> events(8);
        for (int turn = 0; turn < 300; ++turn) {
            const Sys got = kernel.wait(events, kernel.now() + 10ms);
            REQUIRE(got.ok());
            for (std::size_t i = 0; i < got.count(); ++i) {
                const auto [token, ready] = events[i];
                trace += std::to_string(kernel.now().time_since_epoch().count()) + ' ' +
                         std::to_string(token) + ' ' + std::to_string(ready) + '\n';
                Address from;
                if (token != 1000) continue;
                const Sys server = kernel.accept(listener, from);
                if (server.ok()) (void)send_text(kernel, server.fd(), std::string(100, 'x'));
            }
        }
        return trace;
    };
    const std::string once = run(1);
    CHECK(std::count(once.begin(), once.end(), '\n') > 200);
    CHECK(run(1) == once);
    CHECK(run(2) != once);
}
