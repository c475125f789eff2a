#include "connect_support.hpp"

// Several addresses and names: which are tried, when, and what the error says of them.

using namespace weft;
using namespace weft::test;

namespace {

const Address v6_a = parsed("[2001:db8::1]:80");
const Address v6_b = parsed("[2001:db8::2]:80");
const Address v4_a = parsed("10.0.0.1:80");
const Address v4_b = parsed("10.0.0.2:80");

/// Runs a simulated loop until it is as late as `when` after `start`, and everything due has
/// happened.
void pass(TestLoop& loop, Duration time) {
    loop.sim().advance(time);
    settle(loop);
}

/// The order in which an error's text names these.
std::string order(const std::string& text, const std::vector<Address>& addresses) {
    std::map<std::size_t, std::string> found;
    for (const Address& address : addresses)
        if (const auto at = text.find(address.to_string()); at != text.npos)
            found[at] = address.host();
    std::string all;
    for (const auto& [at, host] : found)
        all += (all.empty() ? "" : " ") + host;
    return all;
}

} // namespace

TEST_CASE("Addresses are tried until one answers, and those that failed leave nothing open [s99]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    RefusingPort first(loop.kernel), second(loop.kernel);
    Service service(loop);
    const auto sources = loop->stats().sources;
    const auto descriptors = open_descriptors().size();
    const std::vector<Address> addresses{first.address, second.address, service.address()};
    Side client;
    auto future = tcp::connect(loop, addresses, client.protocol());
    CHECK(client->events.empty());
    until(loop, [&] { return future.done() && service.sides.size() == 1; });
    CHECK(outcome(future) == "connected");
    CHECK(client.transport().peer_address() == service.address());
    CHECK(loop->stats().sources == sources + 2);
    CHECK(loop->stats().timers == 0);
    if (!loop.simulated()) CHECK(open_descriptors().size() == descriptors + 2);
}

TEST_CASE(
    "When no address answers the error has the first reason and names each with its own [s99]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    RefusingPort port(loop.kernel);
    const std::vector<Address> addresses{port.address, parsed("255.255.255.255:9")};
    Side client;
    auto future = tcp::connect(loop, addresses, client.protocol());
    until(loop, [&] { return future.done(); });
    const std::string refused = port.address.to_string();
    CHECK(future.error_code() == std::errc::connection_refused);
    CHECK(outcome(future) ==
          "connect to " + refused + ", 255.255.255.255:9 (" + refused +
              ": Connection refused; 255.255.255.255:9: Network is unreachable): " +
              "Connection refused");
    CHECK(client->destroyed);
    CHECK(loop->stats().sources == 0);

    auto nowhere = tcp::connect(loop, std::span<const Address>(), Side().protocol());
    CHECK(nowhere.error_code() == Errc::bad_address);
}

TEST_CASE("A socket that could not be had for one address does not keep the others from being "
          "tried [s99] [F2]") {
    WEFT_TEST_KERNEL(faulty_kernels);
    TestLoop loop(kernel_kind);
    Service service(loop);
    RefusingPort port(loop.kernel);
    const std::vector<Address> addresses{port.address, service.address()};
    faults(loop).fail(sim::Call::socket, EMFILE);
    Side client;
    auto future = tcp::connect(loop, addresses, client.protocol());
    until(loop, [&] { return future.done(); });
    CHECK(outcome(future) == "connected");

    // Immediate failures of all of them: still no call before the return.
    faults(loop).fail(sim::Call::socket, EMFILE, 1, 2);
    Side other;
    auto second = tcp::connect(loop, addresses, other.protocol());
    CHECK(second.error_code() == std::errc::too_many_files_open);
    CHECK(other->events.empty());
    CHECK(other->destroyed);
}

TEST_CASE("Only addresses of the local address' family are tried [s99]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Service service(loop);
    const std::vector<Address> addresses{Address::loopback_ipv6(service.address().port()),
                                         service.address()};
    ConnectOptions options;
    options.local_address = parsed("127.0.0.1:0");
    auto future = tcp::connect(loop, addresses, Side().protocol(), options);
    until(loop, [&] { return future.done(); });
    CHECK(outcome(future) == "connected");

    options.local_address = parsed("[::1]:0");
    auto none = tcp::connect(loop, service.text(), Side().protocol(), options);
    REQUIRE(none.done());
    CHECK(none.error_code() == std::errc::address_family_not_supported);
    CHECK(outcome(none).find("no address that can be reached from [::1]:0") != std::string::npos);
}

TEST_CASE("The families of a name's addresses take turns, each list in its order [s99]") {
    TestLoop loop(simulated_kernels().front());
    loop.sim().add_host("dual", {v6_a, v6_b, v4_a, v4_b});
    Side client;
    CHECK_THROWS_AS(loop->run_until(tcp::connect(loop, "dual:80", client.protocol())),
                    std::system_error);
    auto future = tcp::connect(loop, "dual:80", client.protocol());
    CHECK_THROWS(loop->run_until(future));
    CHECK(order(outcome(future), {v6_a, v6_b, v4_a, v4_b}) ==
          "2001:db8::1 10.0.0.1 2001:db8::2 10.0.0.2");
    // Addresses given by the caller stay as they are.
    const std::vector<Address> given{v4_b, v4_a, v6_a};
    auto in_order = tcp::connect(loop, given, client.protocol());
    CHECK_THROWS(loop->run_until(in_order));
    CHECK(order(outcome(in_order).substr(outcome(in_order).find('(')), {v6_a, v4_a, v4_b}) ==
          "10.0.0.2 10.0.0.1 2001:db8::1");
}

TEST_CASE(
    "An address that does not answer costs one delay, then the next is tried beside it [s99]") {
    TestLoop loop(simulated_kernels().front());
    Service service(loop, "10.0.0.1:80");
    loop.sim().blackhole(v6_a);
    const auto descriptors = loop.sim().open_descriptors();
    const std::vector<Address> addresses{v6_a, v4_a};
    Side client;
    auto future = tcp::connect(loop, addresses, client.protocol());
    settle(loop);
    pass(loop, 249ms);
    CHECK_FALSE(future.done());
    CHECK(loop.sim().open_descriptors() == descriptors + 1);
    pass(loop, 1ms);
    CHECK(outcome(future) == "connected");
    CHECK(client.transport().peer_address() == v4_a);
    // The one that did not answer is closed: there is this connection with its two ends.
    CHECK(loop.sim().open_descriptors() == descriptors + 2);
    CHECK(loop->stats().timers == 0);
}

TEST_CASE(
    "The first to answer wins, whichever was begun first, and the losers are closed [s99] [F23]") {
    TestLoop loop(simulated_kernels().front());
    Service service(loop, "10.0.0.1:80");
    for (const Address& lost : {v4_a, v4_b, v6_a})
        loop.sim().blackhole(lost);
    const auto descriptors = loop.sim().open_descriptors();
    const std::vector<Address> addresses{v4_a, v4_b, v6_a};
    Side client;
    ConnectOptions options;
    options.attempt_delay = 100ms;
    auto future = tcp::connect(loop, addresses, client.protocol(), options);
    settle(loop);
    pass(loop, 100ms);
    CHECK(loop.sim().open_descriptors() == descriptors + 2);
    pass(loop, 100ms);
    CHECK(loop.sim().open_descriptors() == descriptors + 3);
    loop.sim().heal(v4_a);
    pass(loop, 1s); // the first address' SYN is sent again
    CHECK(outcome(future) == "connected");
    CHECK(client.transport().peer_address() == v4_a);
    CHECK(loop.sim().open_descriptors() == descriptors + 2);
    CHECK(service.sides.size() == 1);
}

TEST_CASE("A failure starts the next address at once, and calls off the wait for it [s99]") {
    TestLoop loop(simulated_kernels().front());
    Service service(loop, "10.0.0.2:80");
    const std::vector<Address> addresses{v6_a, v4_a, v4_b};
    Side client;
    const TimePoint start = loop->now();
    auto future = tcp::connect(loop, addresses, client.protocol());
    settle(loop);
    CHECK(outcome(future) == "connected");
    CHECK(loop->now() == start);

    // One that fails while another is under way: the remaining one starts then.
    loop.sim().blackhole(v6_a);
    loop.sim().set_latency(10ms, 10ms);
    Side second;
    auto later = tcp::connect(loop, addresses, second.protocol());
    settle(loop);
    pass(loop, 250ms); // v4_a is begun, and refuses after 20 ms
    pass(loop, 20ms);
    pass(loop, 20ms);
    CHECK(outcome(later) == "connected");
}

TEST_CASE("Without a delay, or with a port of our own, addresses are tried strictly one after the "
          "other [s99]") {
    TestLoop loop(simulated_kernels().front());
    Service service(loop, "10.0.0.2:80");
    loop.sim().blackhole(v4_a);
    const auto descriptors = loop.sim().open_descriptors();
    ConnectOptions options;
    if (GENERATE(true, false)) {
        options.attempt_delay = Duration::max();
    } else {
        options.local_address = parsed("10.0.0.9:4711");
    }
    Side client;
    const std::vector<Address> addresses{v4_a, v4_b};
    auto future = tcp::connect(loop, addresses, client.protocol(), options);
    settle(loop);
    for (int second = 0; second < 126; ++second)
        pass(loop, 1s);
    CHECK_FALSE(future.done());
    CHECK(loop.sim().open_descriptors() == descriptors + 1);
    pass(loop, 1s); // the system gives up (tcp(7), tcp_syn_retries)
    CHECK(outcome(future) == "connected");
    CHECK(client.transport().peer_address() == v4_b);
}

TEST_CASE(
    "The time limit is for all of it, and the error tells which addresses did not answer [F23]") {
    TestLoop loop(simulated_kernels().front());
    const auto descriptors = loop.sim().open_descriptors();
    loop.sim().blackhole(v4_a);
    loop.sim().blackhole(v6_a);
    ConnectOptions options;
    options.timeout = 5s;
    Side client;
    const std::vector<Address> addresses{v4_b, v4_a, v6_a};
    auto future = tcp::connect(loop, addresses, client.protocol(), options);
    settle(loop);
    pass(loop, 1s);
    pass(loop, 3999ms);
    CHECK_FALSE(future.done());
    pass(loop, 1ms);
    CHECK(future.error_code() == std::errc::timed_out);
    CHECK(outcome(future) ==
          "connect to 10.0.0.2:80, 10.0.0.1:80, [2001:db8::1]:80 (10.0.0.2:80: Connection refused; "
          "10.0.0.1:80: no answer; [2001:db8::1]:80: no answer): Connection timed out");
    CHECK(client->events.empty());
    CHECK(client->destroyed);
    CHECK(loop.sim().open_descriptors() == descriptors);
    CHECK(loop->stats().sources == 0);
    CHECK(loop->stats().timers == 0);

    auto single = tcp::connect(loop, "10.0.0.1:80", Side().protocol(), options);
    settle(loop);
    pass(loop, 5s);
    CHECK(outcome(single) == "connect to 10.0.0.1:80: Connection timed out");
}

TEST_CASE(
    "A server whose backlog is full does not answer, and the time limit ends the wait [F23]") {
    TestLoop loop(simulated_kernels().front());
    ListenOptions listening;
    listening.backlog = 0;
    Service service(loop, "127.0.0.1:0", std::move(listening));
    service.server.pause_accepting();
    ConnectOptions options;
    options.timeout = 3s;
    Side client;
    auto first = tcp::connect(loop, service.text(), client.protocol(), options);
    auto second = tcp::connect(loop, service.text(), Side().protocol(), options);
    settle(loop);
    CHECK(outcome(first) == "connected");
    pass(loop, 3s);
    CHECK(second.error_code() == std::errc::timed_out);
    CHECK_FALSE(client->lost); // what is connected knows no limit
}

TEST_CASE("Names are looked up, and a name that is not known fails with the resolver's reason "
          "[s99] [F51]") {
    TestLoop loop(simulated_kernels().front());
    Service service(loop, "10.0.0.1:80");
    loop.sim().add_host("host.example", {parsed("10.0.0.1:0")});
    Side client;
    auto future = tcp::connect(loop, "host.example:80", client.protocol());
    CHECK_FALSE(future.done());
    CHECK(loop->run_until(future).get() == client->transport);
    CHECK(client.transport().peer_address() == v4_a);

    Side other;
    auto unknown = tcp::connect(loop, "nobody.example:80", other.protocol());
    CHECK_THROWS_AS(loop->run_until(unknown), std::system_error);
    CHECK(unknown.error_code().category().name() == std::string("resolver"));
    CHECK(outcome(unknown).starts_with("connect to nobody.example:80 (look-up): "));
    CHECK(other->destroyed);
    CHECK(loop->stats().jobs == 0);
}

TEST_CASE("A failing look-up fails the connection with its code [F51]") {
    WEFT_TEST_KERNEL(faulty_kernels);
    TestLoop loop(kernel_kind);
    faults(loop).fail(sim::Call::resolve, ENETDOWN);
    Side client;
    auto future = tcp::connect(loop, "host.example:80", client.protocol());
    CHECK_THROWS_AS(loop->run_until(future), std::system_error);
    CHECK(future.error_code() == std::errc::network_down);
    CHECK(client->destroyed);
}

TEST_CASE("A loop may have a resolver of its own, which answers at once, later, or not any more") {
    struct Answering final : Resolver {
        Future<std::vector<Address>> look_up(Loop& loop, const std::string& host,
                                             std::uint16_t port) override {
            asked = host + ' ' + std::to_string(port);
            promise.emplace(loop);
            promise->on_cancel([this] { cancelled = true; });
            auto future = promise->future();
            if (at_once) promise->set_value(std::vector{answer});
            return future;
        }
        bool at_once = false, cancelled = false;
        Address answer = parsed("10.0.0.1:80");
        std::string asked;
        std::optional<Promise<std::vector<Address>>> promise;
    };
    auto owned = std::make_unique<Answering>();
    Answering& resolver = *owned;
    LoopOptions options;
    options.resolver = std::move(owned);
    TestLoop loop(simulated_kernels().front(), std::move(options));
    Service service(loop, "10.0.0.1:80");
    Side client;
    resolver.at_once = GENERATE(true, false);
    auto future = tcp::connect(loop, "host.example:80", client.protocol());
    CHECK(resolver.asked == "host.example 80");
    SECTION("answered") {
        if (!resolver.at_once) resolver.promise->set_value(std::vector{resolver.answer});
        CHECK(loop->run_until(future).get() == client->transport);
        CHECK(client.transport().peer_address() == v4_a);
    }
    SECTION("refused") {
        if (resolver.at_once) return;
        resolver.promise->set_error({errno_code(ENETDOWN), "no servers"});
        until(loop, [&] { return future.done(); });
        CHECK(future.error_code() == std::errc::network_down);
    }
    SECTION("cancelled") {
        future.cancel();
        CHECK(resolver.cancelled == !resolver.at_once);
        CHECK(client->destroyed);
    }
    loop->run_once();
}

TEST_CASE("localhost means both loopback addresses and is not looked up [s99]") {
    WEFT_TEST_KERNEL(faulty_kernels);
    TestLoop loop(kernel_kind);
    const auto listening = GENERATE(as<std::string>(), "127.0.0.1:0", "[::1]:0");
    Service service(loop, listening);
    Side client;
    const std::string target = "localhost:" + std::to_string(service.server.port());
    auto future = tcp::connect(loop, target, client.protocol());
    until(loop, [&] { return future.done(); });
    CHECK(outcome(future) == "connected");
    CHECK(client.transport().peer_address() == service.address());
    CHECK(faults(loop).calls(sim::Call::resolve) == 0);
}
