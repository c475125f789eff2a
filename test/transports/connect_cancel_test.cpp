#include "connect_support.hpp"

// Giving up at each stage, sockets that are the caller's, and the end of the loop.

using namespace weft;
using namespace weft::test;

namespace {

const Address silent = parsed("10.0.0.1:80");
const Address silent_too = parsed("10.0.0.2:80");

void check_nothing_happened(const Side& client, const Future<TransportRef>& future) {
    CHECK(future.cancelled());
    CHECK(client->events.empty());
    CHECK(client->destroyed);
}

} // namespace

TEST_CASE("Cancelling during the look-up ends it: nothing is connected afterwards [F22]") {
    WEFT_TEST_KERNEL(faulty_kernels);
    TestLoop loop(kernel_kind, one_thread());
    BusyExecutor busy(loop);
    Side client;
    auto future = tcp::connect(loop, "host.example:80", client.protocol());
    CHECK(future.cancel());
    check_nothing_happened(client, future);
    busy.end();
    until(loop, [&] { return loop->stats().jobs == 0; });
    settle(loop);
    CHECK(faults(loop).calls(sim::Call::resolve) == 0);
    CHECK(faults(loop).calls(sim::Call::connect) == 0);
    CHECK_FALSE(future.cancel());
}

TEST_CASE("Cancelling when the look-up's answer is on its way drops the answer [F22]") {
    TestLoop loop(simulated_kernels().front());
    loop.sim().add_host("host.example", {silent});
    Side client;
    auto future = tcp::connect(loop, "host.example:80", client.protocol());
    CHECK(future.cancel());
    check_nothing_happened(client, future);
    until(loop, [&] { return loop->stats().jobs == 0; });
    settle(loop);
    CHECK(loop->stats().sources == 0);
    CHECK(loop.unhandled.empty());
}

TEST_CASE("Cancelling while addresses are tried closes their sockets at once [F22] [s102]") {
    TestLoop loop(simulated_kernels().front());
    loop.sim().blackhole(silent);
    loop.sim().blackhole(silent_too);
    const auto descriptors = loop.sim().open_descriptors();
    const std::vector<Address> addresses{silent, silent_too};
    ConnectOptions options;
    options.timeout = 60s;
    const int stage = GENERATE(0, 1, 2);
    Side client;
    auto future = tcp::connect(loop, addresses, client.protocol(), options);
    if (stage > 0) settle(loop);
    if (stage == 2) {
        loop.sim().advance(250ms);
        settle(loop);
    }
    CHECK(loop.sim().open_descriptors() == descriptors + (stage == 2 ? 2 : 1));
    CHECK(future.cancel());
    CHECK(loop.sim().open_descriptors() == descriptors);
    CHECK(loop->stats().sources == 0);
    CHECK(loop->stats().timers == 0);
    check_nothing_happened(client, future);
    settle(loop);
}

TEST_CASE("Cancelling a connection that stands but was not announced yet closes it [F22] [s102]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Service service(loop);
    Side client;
    auto future = tcp::connect(loop, service.text(), client.protocol());
    CHECK(future.cancel());
    check_nothing_happened(client, future);
    until(loop, [&] { return service.server.counters().accepted == 1; });
    until(loop, [&] { return service.server.connections() == 0; });
}

TEST_CASE("Cancelling inside connection_made aborts the connection: never both [F22]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Service service(loop);
    Side client;
    Future<TransportRef> future;
    client->hooks["made"] = [&](Transport&) { CHECK(future.cancel()); };
    future = tcp::connect(loop, service.text(), client.protocol());
    until(loop, [&] { return client->lost; });
    CHECK(future.cancelled());
    CHECK(client->events == "made lost");
    CHECK(client->reason == Errc::aborted);
}

TEST_CASE("Cancelling after completion, or dropping the future, changes nothing [F22]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Service service(loop);
    Side client, other;
    auto future = tcp::connect(loop, service.text(), client.protocol());
    (void)tcp::connect(loop, service.text(), other.protocol());
    until(loop, [&] { return future.done() && other->made; });
    CHECK_FALSE(future.cancel());
    settle(loop);
    CHECK(client->events == "made");
    CHECK(other->events == "made");
}

TEST_CASE("Cancelling in a done callback of the failure, or twice, is harmless [F22]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    RefusingPort port(loop.kernel);
    auto future = tcp::connect(loop, port.address.to_string(), Side().protocol());
    bool called = false;
    future.add_done_callback([&](Future<TransportRef> done) {
        called = true;
        CHECK_FALSE(done.cancel());
    });
    until(loop, [&] { return called; });
    CHECK(future.error_code() == std::errc::connection_refused);
}

TEST_CASE("The time limit includes the look-up [F23] [F51]") {
    TestLoop loop(simulated_kernels().front(), one_thread());
    BusyExecutor busy(loop);
    ConnectOptions options;
    options.timeout = 2s;
    Side client;
    auto future = tcp::connect(loop, "host.example:80", client.protocol(), options);
    settle(loop);
    loop.sim().advance(2s);
    settle(loop);
    CHECK(future.error_code() == std::errc::timed_out);
    CHECK(outcome(future) == "connect to host.example:80 (look-up): Connection timed out");
    CHECK(client->destroyed);
    busy.end();
    until(loop, [&] { return loop->stats().jobs == 0; });
}

TEST_CASE("A socket of the caller's becomes the connection [s102]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Service service(loop);
    const int fd = make_socket(loop.kernel);
    ConnectOptions options;
    options.socket = fd;
    Side client;
    // Of the two loopback addresses the one of the socket's family is tried.
    const bool by_name = GENERATE(true, false);
    const std::string target =
        by_name ? "localhost:" + std::to_string(service.server.port()) : service.text();
    auto future = tcp::connect(loop, target, client.protocol(), options);
    until(loop, [&] { return future.done(); });
    REQUIRE(outcome(future) == "connected");
    CHECK(client.transport().fd() == fd);
}

TEST_CASE("Cancelling or failing gives the caller's socket back, open and no longer watched [s102] "
          "[F22]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Service service(loop);
    RefusingPort port(loop.kernel);
    OwnFd socket(loop.kernel, make_socket(loop.kernel));
    ConnectOptions options;
    options.socket = socket.fd;
    Side client;
    const bool cancel = GENERATE(true, false);
    auto future = tcp::connect(loop, cancel ? service.text() : port.address.to_string(),
                               client.protocol(), options);
    if (cancel) CHECK(future.cancel());
    until(loop, [&] { return future.done(); });
    CHECK(client->events.empty());
    CHECK(client->destroyed);
    CHECK(loop.kernel.kind_of(socket.fd) == FileKind::stream_socket);
    auto watch = loop->watch(socket.fd);
    CHECK(watch.ok());
}

TEST_CASE("A socket of the caller's that does not fit is refused and left alone [s102]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Service service(loop);
    const auto error_with = [&](int fd, std::string_view target) {
        ConnectOptions options;
        options.socket = fd;
        Side client;
        auto future = tcp::connect(loop, target, client.protocol(), options);
        until(loop, [&] { return future.done(); });
        CHECK(client->events.empty());
        CHECK(client->destroyed);
        return future.error_code();
    };
    OwnFd datagram(loop.kernel, make_socket(loop.kernel, AF_INET, SOCK_DGRAM));
    OwnFd six(loop.kernel, make_socket(loop.kernel, AF_INET6));
    RefusingPort listening(loop.kernel);
    REQUIRE(loop.kernel.listen(listening.fd, 1).ok());
    CHECK(error_with(datagram.fd, service.text()) == std::errc::not_a_socket);
    CHECK(error_with(999999, service.text()) == std::errc::not_a_socket);
    CHECK(error_with(six.fd, service.text()) == std::errc::address_family_not_supported);
    CHECK(error_with(listening.fd, service.text()) == std::errc::already_connected);
    CHECK(loop.kernel.kind_of(six.fd) == FileKind::stream_socket);
    CHECK(loop.kernel.is_listening(listening.fd));
}

TEST_CASE("A socket that the caller watches is refused, and the watch goes on [s102] [F6]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Service service(loop);
    OwnFd socket(loop.kernel, make_socket(loop.kernel));
    auto watch = loop->watch(socket.fd).value();
    int seen = 0;
    watch.on_writable([&] {
        ++seen;
        watch.on_writable({});
    });
    ConnectOptions options;
    options.socket = socket.fd;
    auto future = tcp::connect(loop, service.text(), Side().protocol(), options);
    until(loop, [&] { return future.done(); });
    CHECK(future.error_code() == std::errc::file_exists);
    until(loop, [&] { return seen == 1; });
}

TEST_CASE("Closing the loop ends what is being connected with aborted, without a call [F34]") {
    const int stage = GENERATE(0, 1, 2);
    Side client;
    Future<TransportRef> future;
    {
        TestLoop loop(simulated_kernels().front(), one_thread());
        loop.sim().blackhole(silent);
        std::unique_ptr<BusyExecutor> busy;
        ConnectOptions options;
        options.timeout = 60s;
        if (stage == 0) {
            busy = std::make_unique<BusyExecutor>(loop);
            future = tcp::connect(loop, "host.example:80", client.protocol(), options);
            settle(loop);
            busy->end(); // a job that runs is waited for
        } else {
            future = tcp::connect(loop, "10.0.0.1:80", client.protocol(), options);
            if (stage == 2) settle(loop);
        }
        loop->close();
        CHECK(future.error_code() == Errc::aborted);
        CHECK(outcome(future).find("the loop was closed") != std::string::npos);
    }
    CHECK(client->events.empty());
    CHECK(client->destroyed);
}

TEST_CASE("Closing the loop gives the caller's socket back [s102] [F34]") {
    WEFT_TEST_KERNEL(real_kernels);
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0);
    {
        TestLoop loop(kernel_kind);
        Service service(loop);
        ConnectOptions options;
        options.socket = fd;
        Side client;
        auto future = tcp::connect(loop, service.text(), client.protocol(), options);
        loop->close();
        CHECK(future.error_code() == Errc::aborted);
        CHECK(client->destroyed);
    }
    CHECK(::close(fd) == 0);
}

TEST_CASE("Thousands of attempts that fail or are cancelled leave no memory behind") {
    TestLoop loop(simulated_kernels().front());
    loop.sim().blackhole(silent);
    // Ports of our own: the simulated network remembers every port that was ever used.
    ConnectOptions first, second;
    first.local_address = parsed("10.0.0.9:4711");
    second.local_address = parsed("10.0.0.9:4712");
    const auto round = [&] {
        for (int i = 0; i < 100; ++i) {
            auto cancelled = tcp::connect(loop, "10.0.0.1:80", Side().protocol(), first);
            auto refused = tcp::connect(loop, "10.0.0.3:80", Side().protocol(), second);
            settle(loop);
            CHECK(refused.error_code() == std::errc::connection_refused);
            CHECK(cancelled.cancel());
        }
        loop.sim().advance(200s); // what was on its way is dropped
        settle(loop);
    };
    round();
    const auto before = heap().live_bytes;
    for (int i = 0; i < 20; ++i)
        round();
    CHECK(heap().live_bytes <= before + 4096);
}
