// Unix datagram sockets whose receivers have no room.

#include "udp_support.hpp"

#include <weft/reactor/loop_core.hpp>

#include <cstdlib>
#include <filesystem>
#include <sys/socket.h>

using namespace udp_test;
using weft::Errc;

namespace {

/// Three bare sockets with names: one that sends, and two that may receive.
struct Sockets {
    explicit Sockets(Bench& bench) : kernel(weft::detail::core_of(bench.loop).kernel()) {
        if (kernel.name() == "sim") {
            folder = "/run";
        } else {
            std::string name = "/tmp/weft-test-XXXXXX";
            REQUIRE(mkdtemp(name.data()) != nullptr);
            folder = name;
        }
        mine = make("mine");
        lazy = make("lazy");
        busy = make("busy");
    }
    ~Sockets() {
        for (const int fd : {lazy, busy})
            kernel.close(fd);
        if (folder != "/run") std::filesystem::remove_all(folder);
    }
    Address address(const std::string& name) const {
        return Address::unix_path(folder + "/" + name).value();
    }
    int make(const std::string& name) {
        const weft::Sys made = kernel.socket(AF_UNIX, SOCK_DGRAM, 0);
        REQUIRE(made.ok());
        REQUIRE(kernel.bind(made.fd(), address(name)).ok());
        return made.fd();
    }
    /// What lies there, one behind the other.
    std::string take(int fd) {
        std::string all;
        char piece[256];
        for (weft::Sys got = 0; (got = kernel.recv(fd, piece, sizeof piece)).ok();)
            all.append(piece, got.count());
        return all;
    }

    weft::Kernel& kernel;
    std::string folder;
    int mine, lazy, busy;
};

} // namespace

TEST_CASE("A receiver without room holds up nobody else, and the loop does not spin [s124]") {
    Lines lines;
    Bench bench(every_kernel());
    Sockets sockets(bench);
    auto endpoint =
        weft::adopt_datagram_endpoint(bench.loop, sockets.mine, recorder(lines)).value();
    bench.loop.run_once();
    constexpr int many = 2000;
    for (int i = 0; i < many; ++i)
        endpoint->send_to("x", sockets.address("lazy"));
    endpoint->send_to("for busy", sockets.address("busy"));
    CHECK(sockets.take(sockets.busy) == "for busy");
    endpoint->send_to("more", sockets.address("busy"));
    CHECK(sockets.take(sockets.busy) == "more");
    const std::size_t waiting = endpoint->write_buffer_size();
    CHECK(waiting > 0);

    // Tried again with pauses that grow: not at every turn.
    const auto before = bench.kernel->calls(Call::send_batch);
    bool over = false;
    auto end = bench.loop.call_later(200ms, [&] { over = true; });
    while (!over)
        bench.loop.run_once(true);
    CHECK(bench.kernel->calls(Call::send_batch) - before < 20);
    CHECK(endpoint->write_buffer_size() == waiting);
    CHECK(lines == Lines{"made"});

    // When there is room it comes, in order.
    endpoint->send_to("last", sockets.address("lazy"));
    auto sent = endpoint->drain();
    std::string all;
    while (!sent.done()) {
        all += sockets.take(sockets.lazy);
        bench.loop.run_once(true);
    }
    all += sockets.take(sockets.lazy);
    CHECK(all == std::string(many, 'x') + "last");
    CHECK(endpoint->write_buffer_size() == 0);
    endpoint->close();
    bench.settle();
    CHECK(lines.back() == "lost");
}

TEST_CASE(
    "What waits for a receiver counts, pauses the writer, and goes with the endpoint [s104]") {
    Lines lines;
    Bench bench(every_kernel());
    Sockets sockets(bench);
    UdpOptions options;
    options.write_limits = weft::WriteLimits{1000, 100};
    auto endpoint =
        weft::adopt_datagram_endpoint(bench.loop, sockets.mine, recorder(lines), options).value();
    bench.loop.run_once();
    for (int i = 0; i < 4000 && count(lines, "pause") == 0; ++i)
        endpoint->send_to("x", sockets.address("lazy"));
    CHECK(count(lines, "pause") == 1);
    CHECK(endpoint->write_buffer_size() == 1001);
    auto sent = endpoint->drain();
    while (count(lines, "resume") == 0) {
        (void)sockets.take(sockets.lazy);
        bench.loop.run_once(true);
    }
    for (int i = 0; i < 2000; ++i)
        endpoint->send_to("y", sockets.address("lazy"));
    endpoint->close(); // which waits for the receiver
    for (int i = 0; i < 5; ++i)
        bench.loop.run_once();
    CHECK(count(lines, "lost") == 0);
    endpoint->abort();
    bench.settle();
    CHECK(lines.back() == "lost aborted");
    CHECK(sent.done());
}

TEST_CASE("A receiver that is gone is told of, and what waited for it goes [s104]") {
    Lines lines;
    Bench bench(every_kernel());
    Sockets sockets(bench);
    auto endpoint =
        weft::adopt_datagram_endpoint(bench.loop, sockets.mine, recorder(lines)).value();
    bench.loop.run_once();
    for (int i = 0; i < 2000; ++i)
        endpoint->send_to("x", sockets.address("lazy"));
    REQUIRE(endpoint->write_buffer_size() > 0);
    weft::detail::core_of(bench.loop).kernel().close(sockets.lazy);
    sockets.lazy = sockets.make("other");
    while (endpoint->write_buffer_size() > 0)
        bench.loop.run_once(true);
    bench.settle();
    CHECK(lines.size() > 1);
    CHECK(lines.back() ==
          "error " + std::to_string(ECONNREFUSED) + " " + sockets.address("lazy").to_string());
}

TEST_CASE("Endpoints that are closed while each waits for the other's room end, and so does one "
          "that waits for its own [s124]") {
    Lines lines;
    Bench bench(every_kernel());
    Sockets sockets(bench);
    const auto full = [](DatagramRef from, auto send) {
        while (from->write_buffer_size() < 1000)
            send();
        from->pause_reading();
    };
    auto alone = weft::adopt_datagram_endpoint(bench.loop, sockets.mine, recorder(lines)).value();
    int fds[2];
    REQUIRE(bench.kernel->socketpair(SOCK_DGRAM, fds).ok());
    auto one = weft::adopt_datagram_endpoint(bench.loop, fds[0], recorder(lines)).value();
    auto other = weft::adopt_datagram_endpoint(bench.loop, fds[1], recorder(lines)).value();
    full(alone, [&] { alone->send_to("to itself", sockets.address("mine")); });
    full(one, [&] { one->send("one"); });
    full(other, [&] { other->send("other"); });
    for (const DatagramRef& each : {alone, one, other})
        each->close();
    while (bench.loop.stats().sources != 0)
        bench.loop.run_once(true);
    CHECK(count(lines, "lost") == 3);
}
