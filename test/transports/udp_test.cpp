#include "udp_support.hpp"

#include <sys/socket.h>
#include <unistd.h>

using namespace udp_test;

TEST_CASE("Binding calls nothing before it returns, and connection_made is the first callback") {
    Lines lines;
    Bench bench(every_kernel());
    DatagramRef server = local(bench.loop, recorder(lines));
    CHECK(lines.empty());
    CHECK(server->local_address().port() != 0);
    CHECK(server->peer_address().empty());
    // It can be sent to and from already.
    DatagramRef client = local(bench.loop, recorder(lines));
    client->send_to(bytes_of("early"), server->local_address());
    bench.settle();
    CHECK(lines == Lines{"made", "got early", "made"});
}

TEST_CASE("Datagrams are echoed to the address that each came from [s104]") {
    Lines at_server, at_a, at_b;
    Bench bench(every_kernel());
    DatagramRef server = local(bench.loop, std::make_unique<Echo>(at_server));
    DatagramRef a = local(bench.loop, recorder(at_a));
    DatagramRef b = local(bench.loop, recorder(at_b));
    a->send_to(bytes_of("from a"), bench.bound(server));
    b->send_to(bytes_of("from b"), bench.bound(server));
    a->send_to(bytes_of("a again"), bench.bound(server));
    bench.settle();
    CHECK(at_server == Lines{"made", "got from a", "got from b", "got a again"});
    CHECK(at_a == Lines{"made", "got from a", "got a again"});
    CHECK(at_b == Lines{"made", "got from b"});
}

TEST_CASE("An empty datagram is a message in both directions [s104] [F46]") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    DatagramRef server = local(bench.loop, std::make_unique<Echo>(at_server));
    auto made = weft::udp::connect(bench.loop, bench.bound(server), recorder(at_client));
    DatagramRef client = made.value();
    client->send(Bytes());
    client->send(bytes_of("x"));
    client->send(Bytes());
    bench.settle();
    CHECK(at_server == Lines{"made", "got ", "got x", "got "});
    CHECK(at_client == Lines{"made", "got ", "got x", "got "});
}

TEST_CASE("An endpoint closed before its first turn still gets both callbacks, as a pair [F20]") {
    Lines lines;
    Bench bench(every_kernel());
    DatagramRef endpoint = local(bench.loop, recorder(lines));
    endpoint->close();
    CHECK(lines.empty());
    CHECK(endpoint->is_closing());
    bench.settle();
    CHECK(lines == Lines{"made", "lost"});
    CHECK_FALSE(endpoint);
}

TEST_CASE("close sends what was gathered, and what is sent afterwards is dropped [s104]") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    DatagramRef server = local(bench.loop, recorder(at_server));
    const Address to = bench.bound(server);
    DatagramRef client = local(bench.loop, acting(at_client, [&](const Datagram& datagram) {
                                   datagram.transport.send_to(bytes_of("before"), to);
                                   datagram.transport.close();
                                   datagram.transport.send_to(bytes_of("after"), to);
                                   at_client.emplace_back("still here");
                               }));
    server->send_to(bytes_of("go"), bench.bound(client));
    bench.settle();
    CHECK(at_client == Lines{"made", "got go", "still here", "lost"});
    CHECK(at_server == Lines{"made", "got before"});
    CHECK_FALSE(client);
    CHECK(server);
}

TEST_CASE("abort drops what was gathered and tells the reason, once") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    DatagramRef server = local(bench.loop, recorder(at_server));
    const Address to = bench.bound(server);
    DatagramRef client = local(bench.loop, acting(at_client, [&](const Datagram& datagram) {
                                   datagram.transport.send_to(bytes_of("dropped"), to);
                                   datagram.transport.abort();
                                   datagram.transport.abort();
                                   datagram.transport.close();
                               }));
    server->send_to(bytes_of("go"), bench.bound(client));
    bench.settle();
    const auto aborted = weft::make_error_code(weft::Errc::aborted).message();
    CHECK(at_client == Lines{"made", "got go", "lost " + aborted});
    CHECK(at_server == Lines{"made"});
}

TEST_CASE("A connected endpoint sends to its peer only and hears it alone [s104]") {
    Lines at_peer, at_client, at_stranger;
    Bench bench(every_kernel());
    DatagramRef peer = local(bench.loop, std::make_unique<Echo>(at_peer));
    DatagramRef stranger = local(bench.loop, recorder(at_stranger));
    const Address peer_name = bench.bound(peer), stranger_name = bench.bound(stranger);
    DatagramRef client =
        weft::udp::connect(bench.loop, peer_name.to_string(), recorder(at_client)).value();
    CHECK(client->peer_address() == peer_name);
    CHECK_THROWS_WITH(client->send_to(bytes_of("no"), stranger_name),
                      Catch::Contains(stranger_name.to_string()));
    CHECK_THROWS_AS(client->send_to(bytes_of("no"), stranger_name), UsageError);
    client->send_to(bytes_of("named"), peer_name);
    client->send(bytes_of("unnamed"));
    stranger->send_to(bytes_of("psst"), bench.bound(client));
    bench.settle();
    CHECK(at_client == Lines{"made", "got named", "got unnamed"});
    CHECK(at_stranger == Lines{"made"});
}

TEST_CASE("Sending without an address is an error on an endpoint that has no peer") {
    Lines lines;
    Bench bench(every_kernel());
    DatagramRef endpoint = local(bench.loop, recorder(lines));
    CHECK_THROWS_WITH(endpoint->send(bytes_of("x")),
                      Catch::Contains(bench.bound(endpoint).to_string()));
    CHECK_THROWS_AS(endpoint->send_to(bytes_of("x"), Address()), UsageError);
}

TEST_CASE(
    "Nothing comes after pause_reading returned, and what was left of the batch comes first") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    DatagramRef server =
        local(bench.loop, acting(at_server, [](const Datagram& datagram) {
                  if (text_of(datagram.data) == "2" || text_of(datagram.data) == "4")
                      datagram.transport.pause_reading();
              }));
    DatagramRef client = local(bench.loop, recorder(at_client));
    const Address to = bench.bound(server);
    for (const char* text : {"1", "2", "3", "", "4", "5"})
        client->send_to(bytes_of(text), to);
    bench.settle();
    CHECK(at_server == Lines{"made", "got 1", "got 2"});
    client->send_to(bytes_of("6"), to);
    bench.settle();
    CHECK(at_server.size() == 3);
    server->resume_reading();
    server->resume_reading();
    CHECK(at_server.size() == 3); // never before it returns
    bench.settle();
    CHECK(at_server == Lines{"made", "got 1", "got 2", "got 3", "got ", "got 4"});
    server->resume_reading();
    bench.settle();
    CHECK(at_server == Lines{"made", "got 1", "got 2", "got 3", "got ", "got 4", "got 5", "got 6"});
}

TEST_CASE("Nothing comes after close returned, though the batch goes on") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    DatagramRef server =
        local(bench.loop,
              acting(at_server, [](const Datagram& datagram) { datagram.transport.close(); }));
    DatagramRef client = local(bench.loop, recorder(at_client));
    for (const char* text : {"1", "2", "3"})
        client->send_to(bytes_of(text), bench.bound(server));
    bench.settle();
    CHECK(at_server == Lines{"made", "got 1", "lost"});
}

TEST_CASE("A protocol that takes batches gets all of them, and what it gives back again") {
    struct Batches final : DatagramRecorder {
        using DatagramRecorder::DatagramRecorder;
        void datagrams_received(std::span<const Datagram> batch) override {
            std::string line = "batch";
            for (const Datagram& datagram : batch)
                line += " " + std::string(text_of(datagram.data));
            lines.push_back(line);
            if (batch.size() > 2) transport->unread(batch.subspan(2));
        }
    };
    Lines at_server, at_client;
    Bench bench(every_kernel());
    DatagramRef server = local(bench.loop, std::make_unique<Batches>(at_server));
    DatagramRef client = local(bench.loop, recorder(at_client));
    for (const char* text : {"1", "2", "3", "4", "5"})
        client->send_to(bytes_of(text), bench.bound(server));
    bench.settle();
    CHECK(at_server == Lines{"made", "batch 1 2 3 4 5", "batch 3 4 5", "batch 5"});
}

TEST_CASE("A paused endpoint with datagrams waiting lets the loop sleep [F9]") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    DatagramRef server = local(bench.loop, recorder(at_server));
    DatagramRef client = local(bench.loop, recorder(at_client));
    server->pause_reading();
    server->pause_reading();
    client->send_to(bytes_of("waits"), bench.bound(server));
    bench.settle(); // fails if it is reported for ever
    CHECK(at_server == Lines{"made"});
    server->resume_reading();
    bench.settle();
    CHECK(at_server == Lines{"made", "got waits"});
}

TEST_CASE("A datagram longer than the slot is truncated and says so [F46]") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    std::vector<bool> truncated;
    UdpOptions options;
    options.datagram_size = 8;
    auto see = [&](const Datagram& datagram) { truncated.push_back(datagram.truncated); };
    DatagramRef server = local(bench.loop, acting(at_server, see), options);
    DatagramRef client = local(bench.loop, recorder(at_client));
    for (const char* text : {"12345678", "123456789", "1"})
        client->send_to(bytes_of(text), bench.bound(server));
    bench.settle();
    CHECK(at_server == Lines{"made", "got 12345678", "got 12345678", "got 1"});
    CHECK(truncated == std::vector<bool>{false, true, false});
}

TEST_CASE("The longest datagram arrives whole with the default options") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    std::string got;
    DatagramRef server = local(bench.loop, acting(at_server, [&](const Datagram& datagram) {
                                   got = text_of(datagram.data);
                                   CHECK_FALSE(datagram.truncated);
                               }));
    DatagramRef client = local(bench.loop, recorder(at_client));
    std::string longest(65507, 'a');
    longest.back() = 'z';
    client->send_to(bytes_of(longest), bench.bound(server));
    bench.settle();
    CHECK(got == longest);
}

TEST_CASE("Endpoints with different slots share the loop's memory without mixing anything up") {
    Lines at_small, at_large, at_client;
    Bench bench(every_kernel());
    UdpOptions small;
    small.datagram_size = 100;
    small.batch = 3;
    DatagramRef client = local(bench.loop, recorder(at_client));
    DatagramRef a = local(bench.loop, recorder(at_small), small);
    DatagramRef b = local(bench.loop, recorder(at_large));
    const std::string text(500, 'x');
    for (int round = 0; round < 3; ++round) {
        for (int i = 0; i < 5; ++i) {
            client->send_to(bytes_of(text).first(50), bench.bound(a));
            client->send_to(bytes_of(text), bench.bound(b));
        }
        bench.settle();
    }
    CHECK(count(at_small, "got " + text.substr(0, 50)) == 15);
    CHECK(count(at_large, "got " + text) == 15);
}

TEST_CASE("An endpoint may be made inside the callback of another one") {
    Lines at_first, at_second, at_client;
    Bench bench(every_kernel());
    DatagramRef second;
    UdpOptions tiny;
    tiny.datagram_size = 64;
    tiny.batch = 2;
    DatagramRef first = local(bench.loop,
                              acting(at_first,
                                     [&](const Datagram& datagram) {
                                         // Larger slots than the loop has so far, while its slots
                                         // are in use.
                                         if (!second)
                                             second = local(bench.loop, recorder(at_second));
                                         CHECK(text_of(datagram.data).size() == 5);
                                     }),
                              tiny);
    DatagramRef client = local(bench.loop, recorder(at_client), tiny);
    for (const char* text : {"one 1", "two 2", "three"})
        client->send_to(bytes_of(text), bench.bound(first));
    bench.settle();
    CHECK(at_first == Lines{"made", "got one 1", "got two 2", "got three"});
    const std::string large(5000, 'y');
    client->send_to(bytes_of(large), bench.bound(second));
    bench.settle();
    CHECK(at_second == Lines{"made", "got " + large});
}

TEST_CASE("A flooded endpoint leaves the others their turn [F19]") {
    Lines lines, at_client;
    LoopOptions options;
    options.reads_per_turn = 2;
    Bench bench(every_kernel(), std::move(options));
    UdpOptions small;
    small.batch = 4;
    DatagramRef flooded = local(bench.loop, recorder(lines), small);
    DatagramRef client = local(bench.loop, recorder(at_client));
    bench.settle();
    for (int i = 0; i < 40; ++i)
        client->send_to(bytes_of("flood"), bench.bound(flooded));
    bench.loop.run_once();
    CHECK(count(lines, "got flood") == 8); // two reads of four
    bench.settle();
    CHECK(count(lines, "got flood") == 40);
}

TEST_CASE("A reference is empty once connection_lost has returned, and after the loop") {
    DatagramRef kept;
    {
        Lines lines;
        Bench bench(every_kernel());
        kept = local(bench.loop, recorder(lines));
        DatagramRef closed = local(bench.loop, recorder(lines));
        CHECK(kept);
        closed->close();
        CHECK(closed);
        bench.settle();
        CHECK_FALSE(closed);
        bench.end();
        CHECK(lines.back() == "lost " + weft::make_error_code(weft::Errc::aborted).message());
        CHECK(count(lines, "made") == 2);
        CHECK_FALSE(kept);
    }
    CHECK_FALSE(kept);
}

TEST_CASE("A descriptor that is no datagram socket stays the caller's") {
    Lines lines;
    Bench bench(real_kernel());
    const auto code = [&](int fd) {
        return weft::adopt_datagram_endpoint(bench.loop, fd, recorder(lines)).error().code;
    };
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    CHECK(code(fds[0]) == std::errc::not_a_socket);
    ::close(fds[0]);
    ::close(fds[1]);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    CHECK(code(fds[0]) == std::errc::invalid_argument);
    CHECK(write(fds[0], "x", 1) == 1);
    ::close(fds[0]);
    ::close(fds[1]);
    CHECK(code(fds[0]) == std::errc::bad_file_descriptor);
    const auto what =
        weft::adopt_datagram_endpoint(bench.loop, fds[0], recorder(lines)).error().message();
    CHECK_THAT(what, Catch::Contains("descriptor " + std::to_string(fds[0])));
    CHECK(lines.empty());
}

TEST_CASE("An adopted socket works as one that was made here") {
    Lines at_server, at_client;
    Bench bench(real_kernel());
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    REQUIRE(fd >= 0);
    const Address any = Address::loopback_ipv4(0);
    REQUIRE(::bind(fd, any.data(), any.size()) == 0);
    DatagramRef server =
        weft::adopt_datagram_endpoint(bench.loop, fd, std::make_unique<Echo>(at_server)).value();
    CHECK(server->fd() == fd);
    DatagramRef client = local(bench.loop, recorder(at_client));
    client->send_to(bytes_of("hello"), bench.bound(server));
    bench.settle();
    CHECK(at_client == Lines{"made", "got hello"});
}

TEST_CASE("A failure to bind or connect names the address and leaves nothing behind") {
    Lines lines;
    Bench bench(every_kernel());
    DatagramRef first = local(bench.loop, recorder(lines));
    const std::string taken = bench.bound(first).to_string();
    const auto again = weft::udp::bind(bench.loop, taken, recorder(lines));
    REQUIRE_FALSE(again.ok());
    CHECK(again.error().code == std::errc::address_in_use);
    CHECK_THAT(again.error().message(), Catch::Contains(taken));
    const auto name = weft::udp::bind(bench.loop, "example.org:1", recorder(lines));
    CHECK(name.error().code == weft::Errc::bad_address);
    const auto path = weft::udp::connect(bench.loop, "unix:/tmp/x", recorder(lines));
    CHECK(path.error().code == weft::Errc::bad_address);
    UdpOptions from;
    from.local_address = bench.bound(first);
    const auto busy = weft::udp::connect(bench.loop, "127.0.0.1:9", recorder(lines), from);
    CHECK(busy.error().code == std::errc::address_in_use);
    CHECK_THAT(busy.error().message(), Catch::Contains(taken));
    CHECK_THROWS_AS(weft::udp::bind(bench.loop, "127.0.0.1:0", nullptr), UsageError);
    CHECK(bench.loop.stats().sources == 1);
}

TEST_CASE("localhost is 127.0.0.1, and a connected endpoint sends from where it was told to") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    Address from;
    auto see = [&](const Datagram& datagram) { from = datagram.from; };
    DatagramRef server = weft::udp::bind(bench.loop, "localhost:0", acting(at_server, see)).value();
    CHECK(bench.bound(server).host() == "127.0.0.1");
    UdpOptions options;
    options.local_address = Address::ipv4({127, 0, 0, 3}, 0);
    const std::string to = "localhost:" + std::to_string(bench.bound(server).port());
    DatagramRef client = weft::udp::connect(bench.loop, to, recorder(at_client), options).value();
    client->send(bytes_of("x"));
    bench.settle();
    CHECK(from.host() == "127.0.0.3");
    CHECK(from == bench.bound(client));
}
