// Where the error of a datagram is told, and what a socket keeps.

#include "stream_support.hpp"
#include "support/heap.hpp"

#include <weft/reactor/loop_core.hpp>

#include <array>
#include <string_view>

using namespace weft;
using namespace weft::test;
using coro::DatagramSocket;

namespace {

const Address nowhere = Address::loopback_ipv4(0); // port 0 can not be sent to

std::string receive(DatagramSocket& socket, coro::Deadline deadline = 1h) {
    std::array<std::byte, 2048> buffer;
    return std::string(text_of(Bytes(buffer).first(socket.recv_from(buffer, deadline).size)));
}

} // namespace

TEST_CASE("An answer that cannot be sent does not end those that receive", "[s104][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto server = DatagramSocket::bind("127.0.0.1:0");
        auto client = DatagramSocket::bind("127.0.0.1:0");
        const Address other = client.local_address();
        server.send_to("to port 0", nowhere);
        server.send_to("broadcast", Address::ipv4({127, 255, 255, 255}, 9)); // EACCES
        settle();
        client.send_to("one", server.local_address());
        CHECK(receive(server) == "one");
        server.send_to("answer", other); // nor sending to somebody else
        CHECK(receive(client) == "answer");
        // The next send to that address is told, once.
        CHECK(throws_code(std::errc::invalid_argument, [&] { server.send_to("x", nowhere); }));
        server.send_to("y", nowhere);
        // And `flush` and `drain` tell what became of what was sent.
        CHECK(throws_code(std::errc::permission_denied, [&] { server.flush(); }));
        CHECK(throws_code(std::errc::invalid_argument, [&] { server.flush(); }));
        server.flush();
        server.send_to("z", nowhere);
        CHECK(throws_code(std::errc::invalid_argument, [&] { server.drain(); }));
        server.drain();
        CHECK(server.is_open());
    });
}

TEST_CASE("ICMP errors of many clients do not end the coroutine that serves them", "[s104][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        UdpOptions options;
        options.report_errors = true;
        auto server = DatagramSocket::bind("127.0.0.1:0", options);
        Address gone;
        for (int i = 0; i < 40; ++i) {
            auto client = DatagramSocket::bind("127.0.0.1:0");
            gone = client.local_address();
            client.close();
            client.wait_closed();
            server.send_to("answer", gone);
            settle();
        }
        settle(300);
        auto client = DatagramSocket::bind("127.0.0.1:0");
        client.send_to("one", server.local_address());
        CHECK(receive(server) == "one");
        server.send_to("answer", client.local_address());
        CHECK(receive(client) == "answer");
        CHECK(throws_code(std::errc::connection_refused, [&] { server.send_to("x", gone); }));
    });
}

TEST_CASE("A batch stays as it is while others receive, and when the socket is gone",
          "[s68][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto here = DatagramSocket::bind("127.0.0.1:0");
        auto there = DatagramSocket::bind("127.0.0.1:0");
        const Address to = there.local_address();
        coro::Event got, go;
        auto holder = coro::spawn([&] {
            const auto batch = there.recv_batch();
            got.set();
            go.wait();
            return std::string(text_of(batch[0].data)) + batch[0].from.to_string();
        });
        auto other = coro::spawn([&] { return std::string(text_of(there.recv_batch()[0].data)); });
        settle();
        here.send_to("first", to);
        here.flush();
        got.wait();
        here.send_to("other", to);
        here.flush();
        CHECK(other.join() == "other");
        here.send_to("third", to);
        CHECK(receive(there) == "third");
        there.close();
        settle();
        go.set();
        CHECK(holder.join() == "first" + here.local_address().to_string());
    });
}

TEST_CASE("Of a batch of datagrams all are taken or none, whatever is wrong with one",
          "[s122][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto here = DatagramSocket::bind("127.0.0.1:0");
        auto there = DatagramSocket::bind("127.0.0.1:0");
        const Address to = there.local_address();
        CHECK_THROWS_AS(here.send_batch(std::array<coro::Outgoing, 2>{
                            {{bytes_of("1"), to}, {bytes_of("2"), {}}}}),
                        UsageError);
        CHECK(here.transport()->write_buffer_size() == 0);
        auto connected = DatagramSocket::connect(to);
        CHECK_THROWS_AS(connected.send_batch(std::array<coro::Outgoing, 2>{
                            {{bytes_of("1"), {}}, {bytes_of("2"), here.local_address()}}}),
                        UsageError);
        CHECK(connected.transport()->write_buffer_size() == 0);
        here.send_to("3", to);
        CHECK(receive(there) == "3");
    });
}

TEST_CASE("drain waits until everything has left", "[s91][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        auto& network =
            dynamic_cast<sim::SimKernel&>(weft::detail::core_of(coro::this_loop()).kernel());
        network.set_latency(10ms, 10ms);
        auto here = DatagramSocket::bind("127.0.0.1:0");
        auto there = DatagramSocket::bind("127.0.0.1:0");
        const std::string text(20000, 'x'); // below the mark, and more than the socket takes
        for (int i = 0; i < 5; ++i)
            here.send_to(text, there.local_address());
        CHECK_THROWS_AS(here.drain(1ms), coro::TimeoutError);
        CHECK(here.transport()->write_buffer_size() > 0);
        here.drain(1h);
        CHECK(here.transport()->write_buffer_size() == 0);
        here.drain();
        for (int i = 0; i < 5; ++i)
            here.send_to(text, there.local_address());
        auto waits = coro::spawn([&] { here.drain(); });
        settle();
        here.abort();
        CHECK(throws_code(Errc::closed, [&] { waits.join(); }));
    });
}

TEST_CASE("The memory of a burst is given back when it was read", "[F17][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    const bool batches = GENERATE(false, true);
    run_on(kernel_kind, [&] {
        dynamic_cast<sim::SimKernel&>(weft::detail::core_of(coro::this_loop()).kernel())
            .set_buffer_sizes(8 << 20, 8 << 20);
        auto here = DatagramSocket::bind("127.0.0.1:0");
        const std::string text(60000, 'x');
        std::vector<std::byte> buffer(65536);
        std::vector<DatagramSocket> sockets;
        for (int i = 0; i < 10; ++i)
            sockets.push_back(DatagramSocket::bind("127.0.0.1:0"));
        const auto burst = [&](DatagramSocket& socket) {
            for (int i = 0; i < 64; ++i)
                here.send_to(text, socket.local_address());
            here.flush();
            settle(300);
            if (batches) {
                for (std::size_t got = 0; got < 64;)
                    got += socket.recv_batch(64, 1h).size();
            } else {
                for (int i = 0; i < 64; ++i)
                    (void)socket.recv_from(buffer, 1h);
            }
        };
        burst(sockets[0]); // what the endpoints of a loop share
        const auto before = weft::test::heap().live_bytes;
        for (DatagramSocket& socket : sockets)
            burst(socket);
        const auto after = weft::test::heap().live_bytes;
        INFO("before " << before << ", after " << after);
        CHECK(after < before + sockets.size() * 100'000);
    });
}
