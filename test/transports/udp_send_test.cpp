#include "support/heap.hpp"
#include "udp_support.hpp"

#include <cerrno>
#include <functional>
#include <sys/socket.h>

using namespace udp_test;

namespace {

/// An endpoint on one end of a Unix socket pair, which can be filled, and the bare other end.
struct Pair {
    Bench& bench;
    DatagramRef endpoint;
    int far = -1;

    Pair(Bench& b, std::unique_ptr<DatagramProtocol> protocol, const UdpOptions& options = {})
        : bench(b) {
        int fds[2];
        REQUIRE(b.kernel->socketpair(SOCK_DGRAM, fds).ok());
        far = fds[1];
        endpoint =
            weft::adopt_datagram_endpoint(b.loop, fds[0], std::move(protocol), options).value();
    }
    ~Pair() { bench.kernel->close(far); }
    /// The next datagram at the far end, "(none)" if there is none.
    std::string take() {
        std::string text(4096, '\0');
        const weft::Sys got = bench.kernel->recv(far, text.data(), text.size());
        if (!got.ok()) return "(none)";
        text.resize(got.count());
        return text;
    }
    /// Sends numbers of `size` bytes until `line` was written.
    int send_until(const Lines& lines, std::string_view line, std::size_t size = 100) {
        int sent = 0;
        while (count(lines, line) == 0) {
            REQUIRE(sent < 100000);
            endpoint->send(bytes_of(number(sent++, size)));
        }
        return sent;
    }
    static std::string number(int n, std::size_t size = 100) {
        std::string text = std::to_string(n);
        text.resize(std::max(size, text.size()), '.');
        return text;
    }
};

UdpOptions limits(std::size_t high, std::size_t low) {
    UdpOptions options;
    options.write_limits = weft::WriteLimits{high, low};
    return options;
}

/// A port of 127.0.0.1 that nobody is bound to.
Address dead_port(Bench& bench) {
    const int fd = bench.kernel->socket(AF_INET, SOCK_DGRAM, 0).fd();
    REQUIRE(bench.kernel->bind(fd, Address::loopback_ipv4(0)).ok());
    Address address;
    REQUIRE(bench.kernel->local_address(fd, address).ok());
    bench.kernel->close(fd);
    return address;
}

std::string error_line(int error, const Address& to) {
    return "error " + std::to_string(error) + " " + to.to_string();
}

} // namespace

TEST_CASE("What does not fit is buffered, and keeps its order and its boundaries [s104] [F17]") {
    Lines lines;
    Bench bench(every_kernel());
    Pair pair(bench, recorder(lines), limits(2000, 500));
    const int sent = pair.send_until(lines, "pause");
    CHECK(pair.endpoint->write_buffer_size() > 2000);
    CHECK(pair.endpoint->write_buffer_size() < 3000);
    pair.endpoint->send(Bytes()); // an empty one in the middle
    pair.endpoint->send(bytes_of("last"));
    bench.settle(); // waiting for room must not keep the loop busy
    CHECK(lines == Lines{"pause", "made"});
    std::vector<std::string> got, wanted;
    for (int i = 0; i < sent; ++i)
        wanted.push_back(Pair::number(i));
    wanted.insert(wanted.end(), {"", "last"});
    while (got.size() < wanted.size()) {
        const std::string text = pair.take();
        if (text != "(none)") {
            got.push_back(text);
            continue;
        }
        const std::size_t before = pair.endpoint->write_buffer_size();
        bench.settle();
        REQUIRE(pair.endpoint->write_buffer_size() < before);
    }
    bench.settle();
    CHECK(got == wanted);
    CHECK(pair.take() == "(none)");
    CHECK(lines == Lines{"pause", "made", "resume"});
    CHECK(pair.endpoint->write_buffer_size() == 0);
}

TEST_CASE("Writing pauses once per crossing and resumes once, at the low-water mark [F17]") {
    Lines lines;
    Bench bench(every_kernel());
    Pair pair(bench, recorder(lines), limits(0, 0));
    CHECK(pair.endpoint->write_buffer_limits().high == 0);
    pair.send_until(lines, "pause");
    pair.endpoint->send(bytes_of("more"));
    CHECK(count(lines, "pause") == 1);
    pair.endpoint->set_write_buffer_limits(100000);
    CHECK(count(lines, "resume") == 1); // takes effect at once
    CHECK(pair.endpoint->write_buffer_limits().low == 25000);
    pair.endpoint->set_write_buffer_limits(10, 5);
    CHECK(count(lines, "pause") == 2);
    CHECK_THROWS_AS(pair.endpoint->set_write_buffer_limits(1, 2), UsageError);
    while (pair.endpoint->write_buffer_size() > 0) {
        while (pair.take() != "(none)") {
        }
        bench.settle();
    }
    CHECK(count(lines, "pause") == 2);
    CHECK(count(lines, "resume") == 2);
}

TEST_CASE("close sends what is buffered before connection_lost, abort drops it [s104]") {
    Lines lines;
    Bench bench(every_kernel());
    Pair pair(bench, recorder(lines), limits(1000, 0));
    const bool aborts = GENERATE(false, true);
    const int sent = pair.send_until(lines, "pause");
    if (aborts) {
        pair.endpoint->abort({});
    } else {
        pair.endpoint->close();
    }
    pair.endpoint->send(bytes_of("dropped"));
    bench.settle();
    CHECK(count(lines, "lost") == (aborts ? 1 : 0));
    int got = 0;
    for (int rounds = 0; rounds < 1000 && got < sent; ++rounds) {
        for (std::string text = pair.take(); text != "(none)"; text = pair.take())
            CHECK(text == Pair::number(got++));
        bench.settle();
    }
    CHECK((got == sent) != aborts);
    CHECK(count(lines, "lost") == 1);
    CHECK(count(lines, "resume") <= 1);
}

TEST_CASE("Interest in writing is armed while the socket is full, and at no other time") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    DatagramRef server = local(bench.loop, recorder(at_server));
    DatagramRef client = local(bench.loop, recorder(at_client));
    bench.settle();
    bench.kernel->reset_counts();
    for (int i = 0; i < 10; ++i)
        client->send_to(bytes_of("x"), bench.bound(server));
    bench.settle();
    CHECK(bench.kernel->calls(Call::modify) == 0);
    bench.kernel->fail(Call::send_batch, EAGAIN);
    client->send_to(bytes_of("late"), bench.bound(server));
    CHECK(client->write_buffer_size() == 4);
    CHECK(bench.kernel->calls(Call::modify) == 1);
    bench.settle();
    CHECK(bench.kernel->calls(Call::modify) == 2);
    CHECK(at_server.back() == "got late");
    CHECK(client->write_buffer_size() == 0);
}

TEST_CASE("What one callback sends leaves with one system call, and so does what a turn sends") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    DatagramRef server = local(bench.loop, recorder(at_server));
    const Address to = bench.bound(server);
    DatagramRef client = local(bench.loop, acting(at_client, [&](const Datagram& datagram) {
                                   for (int i = 0; i < 20; ++i)
                                       datagram.transport.send_to(datagram.data, to);
                                   if (text_of(datagram.data) == "flush")
                                       datagram.transport.flush();
                               }));
    bench.settle();
    const auto sends = [&](auto action) {
        bench.kernel->reset_counts();
        action();
        bench.settle();
        return bench.kernel->calls(Call::send_batch);
    };
    const auto go = [&](const char* text) {
        return [&, text] { server->send_to(bytes_of(text), bench.bound(client)); };
    };
    CHECK(sends(go("a")) == 2); // the server's one, the client's twenty
    CHECK(count(at_server, "got a") == 20);
    CHECK(sends(go("flush")) == 2);
    CHECK(count(at_server, "got flush") == 20);
    CHECK(sends([&] {
              bench.loop.call_soon([&] {
                  for (int i = 0; i < 20; ++i)
                      client->send_to(bytes_of("soon"), to);
              });
              bench.loop.call_soon([&] { client->send_to(bytes_of("soon"), to); });
          }) == 1);
    CHECK(count(at_server, "got soon") == 21);
    // More than one call takes: each full batch leaves at once.
    CHECK(sends([&] {
              bench.loop.call_soon([&] {
                  for (int i = 0; i < 150; ++i)
                      client->send_to(bytes_of("many"), to);
              });
          }) == 3);
    CHECK(count(at_server, "got many") == 150);
}

TEST_CASE("A batch is received with one system call, and an idle endpoint costs none") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    DatagramRef server = local(bench.loop, recorder(at_server));
    DatagramRef client = local(bench.loop, recorder(at_client));
    bench.settle();
    for (int i = 0; i < 20; ++i)
        client->send_to(bytes_of("x"), bench.bound(server));
    bench.kernel->reset_counts();
    bench.settle();
    CHECK(count(at_server, "got x") == 20);
    CHECK(bench.kernel->calls(Call::recv_batch) == 1);
    CHECK(bench.kernel->calls(Call::modify) == 0);
    bench.kernel->reset_counts();
    bench.settle();
    CHECK(bench.kernel->calls(Call::recv_batch) == 0);
}

TEST_CASE("Receiving and sending datagrams allocates nothing once it runs") {
    struct Bounce final : DatagramProtocol {
        void connection_made(DatagramTransport& t) override { transport = &t; }
        void datagram_received(const Datagram& datagram) override {
            ++got;
            transport->send_to(datagram.data, datagram.from);
        }
        DatagramTransport* transport = nullptr;
        int got = 0;
    };
    Bench bench(real_kernel()); // the simulated network allocates for what is on its way
    auto owned = std::make_unique<Bounce>();
    Bounce& server = *owned;
    DatagramRef a = local(bench.loop, std::move(owned));
    DatagramRef b = local(bench.loop, std::make_unique<Bounce>());
    bench.settle();
    const std::string large(1400, 'x');
    for (int i = 0; i < 40; ++i)
        b->send_to(bytes_of(large), bench.bound(a));
    b->send_to(Bytes(), bench.bound(a));
    const auto turns = [&] {
        for (int i = 0; i < 50; ++i)
            bench.loop.run_once();
    };
    turns();
    const int before = server.got;
    const weft::test::AllocationCount allocations;
    turns();
    CHECK(allocations.count() == 0);
    CHECK(server.got - before >= 40 * 20);
}

TEST_CASE("A datagram that is too long is reported with its address, and the others go [F46]") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    const bool queued = GENERATE(false, true);
    UdpOptions options;
    options.report_errors = queued;
    DatagramRef server = local(bench.loop, recorder(at_server));
    const Address to = bench.bound(server);
    bool inside = false;
    const std::string huge(70000, 'x');
    auto act = [&](const Datagram& datagram) {
        inside = true;
        datagram.transport.send_to(bytes_of("before"), to);
        datagram.transport.send_to(bytes_of(huge),
                                   to); // more than is gathered: it is tried at once
        datagram.transport.send_to(bytes_of("after"), to);
        inside = false;
    };
    struct Watching final : DatagramRecorder {
        Watching(Lines& out, const bool& flag, std::function<void(const Datagram&)> a)
            : DatagramRecorder(out), in_callback(flag), action(std::move(a)) {}
        void datagram_received(const Datagram& datagram) override { action(datagram); }
        void error_received(std::error_code error, const Address& where) override {
            CHECK_FALSE(in_callback);
            DatagramRecorder::error_received(error, where);
        }
        const bool& in_callback;
        std::function<void(const Datagram&)> action;
    };
    auto protocol = std::make_unique<Watching>(at_client, inside, act);
    DatagramRef client = local(bench.loop, std::move(protocol), options);
    server->send_to(bytes_of("go"), bench.bound(client));
    bench.settle();
    CHECK(at_server == Lines{"made", "got before", "got after"});
    CHECK(at_client == Lines{"made", error_line(EMSGSIZE, to)});
}

TEST_CASE("A datagram that can not be sent is dropped and reported, the rest goes on [F46]") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    const int error = GENERATE(EPERM, ENOBUFS, ENETUNREACH, EHOSTUNREACH, ENOMEM);
    DatagramRef server = local(bench.loop, recorder(at_server));
    DatagramRef client = local(bench.loop, recorder(at_client));
    const Address to = bench.bound(server);
    bench.settle();
    bench.loop.call_soon([&] {
        for (const char* text : {"1", "2", "3"})
            client->send_to(bytes_of(text), to);
    });
    bench.kernel->fail(Call::send_batch, error, 1, 2);
    bench.settle();
    CHECK(at_server == Lines{"made", "got 3"});
    CHECK(at_client == Lines{"made", error_line(error, to), error_line(error, to)});
    client->send_to(bytes_of("4"), to);
    bench.settle();
    CHECK(at_server.back() == "got 4");
}

TEST_CASE("The middle of a batch fails alone when the kernel refuses it [F46]") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    DatagramRef server = local(bench.loop, recorder(at_server));
    DatagramRef client = local(bench.loop, recorder(at_client));
    const Address to = bench.bound(server);
    const Address nowhere = Address::loopback_ipv4(0);
    bench.settle();
    bench.loop.call_soon([&] {
        client->send_to(bytes_of("1"), to);
        client->send_to(bytes_of("2"), nowhere);
        client->send_to(bytes_of("3"), to);
        client->send_to(bytes_of("4"), nowhere);
    });
    bench.settle();
    CHECK(at_server == Lines{"made", "got 1", "got 3"});
    CHECK(at_client == Lines{"made", error_line(EINVAL, nowhere), error_line(EINVAL, nowhere)});
}

TEST_CASE(
    "ICMP errors of a connected endpoint are reported once each and it stays open [F45] [s104]") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    const bool reading = GENERATE(true, false);
    const Address dead = dead_port(bench);
    DatagramRef client = weft::udp::connect(bench.loop, dead, recorder(at_client)).value();
    if (!reading) client->pause_reading();
    client->send(bytes_of("x"));
    bench.settle();
    CHECK(at_client == Lines{"made", error_line(ECONNREFUSED, dead)});
    client->send(bytes_of("y"));
    bench.settle();
    CHECK(count(at_client, error_line(ECONNREFUSED, dead)) == 2);
    // Somebody opens the port: what is sent arrives, although an error of the past is still around.
    client->send(bytes_of("lost"));
    DatagramRef server = weft::udp::bind(bench.loop, dead, recorder(at_server)).value();
    client->send(bytes_of("arrives"));
    bench.settle();
    CHECK(at_server == Lines{"made", "got arrives"});
    CHECK(count(at_client, error_line(ECONNREFUSED, dead)) == 3);
}

TEST_CASE("An unconnected endpoint hears of ICMP errors if asked to, with addresses [F45]") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    const Address dead = dead_port(bench), gone = dead_port(bench);
    UdpOptions options;
    options.report_errors = true;
    DatagramRef server = local(bench.loop, recorder(at_server));
    DatagramRef client = local(bench.loop, recorder(at_client), options);
    bench.settle();
    bench.loop.call_soon([&] {
        for (int i = 0; i < 3; ++i) {
            client->send_to(bytes_of("x"), dead);
            client->send_to(bytes_of("good"), bench.bound(server));
            client->send_to(bytes_of("x"), gone);
        }
    });
    bench.settle(); // fails if the queue is not emptied
    CHECK(count(at_client, error_line(ECONNREFUSED, dead)) == 3);
    CHECK(count(at_client, error_line(ECONNREFUSED, gone)) == 3);
    CHECK(at_client.size() == 7);
    CHECK(at_server == Lines{"made", "got good", "got good", "got good"});
    server->send_to(bytes_of("back"), bench.bound(client));
    bench.settle();
    CHECK(at_client.back() == "got back");
}

TEST_CASE("Without being asked to, an unconnected endpoint hears nothing of ICMP errors [F45]") {
    Lines lines;
    Bench bench(every_kernel());
    DatagramRef client = local(bench.loop, recorder(lines));
    const Address dead = dead_port(bench);
    for (int i = 0; i < 3; ++i)
        client->send_to(bytes_of("x"), dead);
    bench.settle();
    CHECK(lines == Lines{"made"});
}

TEST_CASE("An error that receiving meets is reported, and the datagrams after it arrive [F46]") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    const int error = GENERATE(ENOMEM, EHOSTUNREACH, ECONNRESET, EIO);
    DatagramRef server = local(bench.loop, recorder(at_server));
    DatagramRef client = local(bench.loop, recorder(at_client));
    bench.settle();
    bench.kernel->fail(Call::recv_batch, error);
    client->send_to(bytes_of("x"), bench.bound(server));
    bench.settle();
    CHECK(at_server == Lines{"made", error_line(error, Address()), "got x"});
}

TEST_CASE("A descriptor that was closed behind our back ends the endpoint with the error [F6]") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    DatagramRef server = local(bench.loop, recorder(at_server));
    DatagramRef client = local(bench.loop, recorder(at_client));
    bench.settle();
    bench.kernel->fail(Call::recv_batch, EBADF);
    client->send_to(bytes_of("x"), bench.bound(server));
    bench.settle();
    CHECK(at_server == Lines{"made", "lost " + std::generic_category().message(EBADF)});
}

TEST_CASE("A readiness that was wrong is passed over in silence [F9]") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    DatagramRef server = local(bench.loop, recorder(at_server));
    DatagramRef client = local(bench.loop, recorder(at_client));
    bench.settle();
    bench.kernel->fail(Call::recv_batch, EAGAIN);
    client->send_to(bytes_of("x"), bench.bound(server));
    bench.settle();
    CHECK(at_server == Lines{"made", "got x"});
}

TEST_CASE("Batches that the kernel cuts short lose and reorder nothing [F46]") {
    Lines at_server, at_client, wanted{"made"};
    Bench bench(every_kernel());
    bench.kernel->limit(Call::send_batch, 3);
    bench.kernel->limit(Call::recv_batch, 2);
    DatagramRef server = local(bench.loop, recorder(at_server));
    DatagramRef client = local(bench.loop, recorder(at_client));
    bench.loop.call_soon([&] {
        for (int i = 0; i < 100; ++i)
            client->send_to(bytes_of(std::to_string(i)), bench.bound(server));
    });
    bench.settle();
    for (int i = 0; i < 100; ++i)
        wanted.push_back("got " + std::to_string(i));
    CHECK(at_server == wanted);
}

TEST_CASE("Segments arrive as datagrams, split by the kernel or, when it can not, here [F46]") {
    Lines at_server, at_client;
    Bench bench(every_kernel());
    const int error = GENERATE(0, EIO, EINVAL, ENOPROTOOPT, EMSGSIZE);
    DatagramRef server = local(bench.loop, recorder(at_server));
    DatagramRef client = local(bench.loop, recorder(at_client));
    bench.settle();
    if (error != 0) bench.kernel->fail(Call::send_batch, error);
    DatagramTransport::SendOptions segments;
    segments.segment_size = 100;
    std::string text;
    for (int i = 0; i < 70; ++i)
        text += Pair::number(i);
    text += "rest";
    client->send_to(bytes_of(text), bench.bound(server), segments);
    client->send_to(bytes_of("short"), bench.bound(server), segments);
    bench.settle();
    Lines wanted{"made"};
    for (int i = 0; i < 70; ++i)
        wanted.push_back("got " + Pair::number(i));
    wanted.insert(wanted.end(), {"got rest", "got short"});
    CHECK(at_server == wanted);
    CHECK(at_client == Lines{"made"});
    // What the kernel can not do is not asked for again; it told it of one datagram only with
    // EMSGSIZE.
    bench.kernel->reset_counts();
    bench.loop.call_soon([&] { client->send_to(bytes_of(text), bench.bound(server), segments); });
    bench.settle();
    CHECK(at_server.size() == 2 * wanted.size() - 2);
    CHECK(bench.kernel->calls(Call::send_batch) == (error == 0 || error == EMSGSIZE ? 1 : 2));
}

TEST_CASE("Segments of a Unix socket arrive as datagrams, which its kernel would not split [F46]") {
    Lines lines;
    Bench bench(every_kernel());
    Pair pair(bench, recorder(lines));
    DatagramTransport::SendOptions segments;
    segments.segment_size = 100;
    pair.endpoint->send_to(bytes_of(Pair::number(1) + Pair::number(2) + "rest"), Address(),
                           segments);
    bench.settle();
    CHECK(pair.take() == Pair::number(1));
    CHECK(pair.take() == Pair::number(2));
    CHECK(pair.take() == "rest");
    CHECK(pair.take() == "(none)");
}

TEST_CASE("A Unix socket with report_errors loses nothing when it sends what is too long [F14]") {
    Lines lines;
    Bench bench(every_kernel());
    UdpOptions options;
    options.report_errors = true;
    Pair pair(bench, recorder(lines), options);
    REQUIRE(bench.kernel->send(pair.far, "waits", 5).ok());
    pair.endpoint->send(bytes_of(Pair::number(1, 4 << 20)));
    bench.settle();
    CHECK(count(lines, "got waits") == 1);
}

TEST_CASE("An endpoint that is aborted behind its close hears of no error any more [s104]") {
    Lines lines;
    Bench bench(every_kernel());
    UdpOptions options;
    options.report_errors = true;
    DatagramRef endpoint = local(bench.loop, recorder(lines), options);
    bench.settle();
    bench.loop.call_soon([&] {
        endpoint->send_to(bytes_of(std::string(70000, 'x')), dead_port(bench)); // longer than any
        endpoint->flush();
        endpoint->close();
        endpoint->abort();
    });
    bench.settle();
    CHECK(lines == Lines{"made", "lost"});
}

TEST_CASE("More ICMP errors than are taken at once fail no datagram to somebody else [F45]") {
    Lines at_server, at_client;
    weft::sim::SimKernel* network = nullptr;
    LoopOptions loop_options;
    auto kernel = std::make_unique<weft::sim::SimKernel>();
    network = kernel.get();
    network->set_latency(1ms, 1ms);
    loop_options.kernel = std::move(kernel);
    Loop loop(std::move(loop_options));
    UdpOptions options;
    options.report_errors = true;
    DatagramRef server = local(loop, recorder(at_server));
    DatagramRef client = local(loop, recorder(at_client), options);
    loop.run_once();
    for (int i = 0; i < 200; ++i)
        client->send_to("x", Address::loopback_ipv4(1));
    network->advance(5ms); // all of them are answered, and nobody has been told
    client->send_to("good", server->local_address());
    for (int i = 0; i < 20; ++i) {
        network->advance(1ms);
        loop.run_once();
    }
    CHECK(count(at_server, "got good") == 1);
    CHECK(count(at_client, error_line(ECONNREFUSED, Address::loopback_ipv4(1))) == 200);
}
