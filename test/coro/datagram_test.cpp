#include "stream_support.hpp"

#include <array>

using namespace weft;
using namespace weft::test;
using coro::DatagramSocket;

namespace {

struct Two {
    DatagramSocket here = DatagramSocket::bind("127.0.0.1:0");
    DatagramSocket there = DatagramSocket::bind("127.0.0.1:0");
    void send(std::string_view text) {
        here.send_to(bytes_of(text), there.local_address());
        here.flush();
    }
    std::string receive(coro::Deadline deadline = 1h) {
        std::array<std::byte, 2048> buffer;
        const coro::Received got = there.recv_from(buffer, deadline);
        CHECK(got.from == here.local_address());
        CHECK_FALSE(got.truncated);
        return std::string(text_of(Bytes(buffer).first(got.size)));
    }
};

} // namespace

TEST_CASE("Datagrams come whole, one for one, with their sender", "[s104][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        Two two;
        for (const char* text : {"one", "", "three"}) {
            two.send(text);
            CHECK(two.receive() == text);
        }
        two.send("too long for the memory");
        std::array<std::byte, 3> little;
        const coro::Received got = two.there.recv_from(little);
        CHECK(got.size == 3);
        CHECK(got.truncated);
        // A reader that waits gets it straight out of the transport's hands.
        auto reader = coro::spawn([&] { return two.receive(); });
        settle();
        two.send("awaited");
        CHECK(reader.join() == "awaited");
    });
}

TEST_CASE("recv_batch shows what is there, and the views last as long as the batch",
          "[s104][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        Two two;
        for (int i = 0; i < 20; ++i)
            two.send(std::to_string(i));
        int next = 0;
        while (next < 20) {
            const auto batch = two.there.recv_batch(7, 1h);
            CHECK(batch.size() <= 7);
            two.send("more"); // which must not disturb the views
            settle();
            for (const Datagram& datagram : batch) {
                if (next < 20) CHECK(text_of(datagram.data) == std::to_string(next));
                CHECK(datagram.from == two.here.local_address());
                ++next;
            }
        }
        CHECK_THROWS_AS(two.there.recv_batch(0), UsageError);
    });
}

TEST_CASE("Of datagrams that nobody waits for a bounded number is kept", "[F17][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        Two two;
        two.there.set_queue_limits(4, 1 << 20);
        CHECK_THROWS_AS(two.there.set_queue_limits(0, 1), UsageError);
        for (int i = 0; i < 40; ++i) {
            two.send(std::to_string(i));
            settle(300); // turns that look at the kernel
        }
        CHECK_FALSE(two.there.transport()->is_reading());
        for (int i = 0; i < 40; ++i)
            CHECK(two.receive() == std::to_string(i));
        CHECK(two.there.transport()->is_reading());
    });
}

TEST_CASE("Several receivers share a socket, and a cancelled one takes nothing", "[s68][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        Two two;
        std::vector<std::string> got;
        std::vector<coro::Task<void>> tasks;
        for (int i = 0; i < 4; ++i)
            tasks.push_back(coro::spawn([&] { got.push_back(two.receive()); }));
        settle();
        tasks[0].cancel();
        CHECK_THROWS_AS(two.receive(0ms), coro::TimeoutError);
        for (const char* text : {"a", "b", "c"})
            two.send(text);
        for (auto& task : tasks)
            task.wait();
        CHECK(got == std::vector<std::string>{"a", "b", "c"});
    });
}

TEST_CASE("An error is thrown once by the next call, and the endpoint stays", "[s104][coro]") {
    WEFT_TEST_KERNEL(real_kernels);
    run_on(kernel_kind, [] {
        std::string nobody;
        {
            DatagramSocket gone = DatagramSocket::bind("127.0.0.1:0");
            nobody = gone.local_address().to_string();
            gone.close();
            gone.wait_closed();
        }
        DatagramSocket socket = DatagramSocket::connect(nobody);
        socket.send(bytes_of("anybody?"));
        std::array<std::byte, 16> buffer;
        std::string text;
        CHECK(throws_code(std::errc::connection_refused, [&] {
            try {
                (void)socket.recv_from(buffer, 1h);
            } catch (const std::system_error& error) {
                text = error.what();
                throw;
            }
        }));
        CHECK(contains(text, nobody));
        CHECK_THROWS_AS(socket.recv_from(buffer, 0ms), coro::TimeoutError);
        CHECK(socket.is_open());
        DatagramSocket back = DatagramSocket::bind(nobody);
        socket.send(bytes_of("now"));
        CHECK(back.recv_from(buffer, 1h).size == 3);
    });
}

TEST_CASE("A batch is sent in order, to the peer or to the addresses in it", "[s104][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        Two two;
        const Address to = two.there.local_address();
        const std::array<coro::Outgoing, 3> batch{
            {{bytes_of("x"), to}, {{}, to}, {bytes_of("z"), to}}};
        two.here.send_batch(batch);
        two.here.drain();
        CHECK(two.receive() == "x");
        CHECK(two.receive().empty());
        CHECK(two.receive() == "z");
        CHECK_THROWS_AS(two.here.send(bytes_of("to nobody")), UsageError);
        DatagramSocket connected = DatagramSocket::connect(to.to_string());
        connected.send_batch(std::array<coro::Outgoing, 1>{{{bytes_of("peer"), {}}}});
        std::array<std::byte, 8> buffer;
        CHECK(two.there.recv_from(buffer).from == connected.local_address());
        CHECK(connected.peer_address() == to);
        CHECK_THROWS_AS(connected.send_to(bytes_of("x"), two.here.local_address()), UsageError);
    });
}

TEST_CASE("Those that wait in a socket are told when it is closed or destroyed", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto socket = std::make_unique<DatagramSocket>(DatagramSocket::bind("127.0.0.1:0"));
        auto destroyed = coro::spawn([&] { (void)socket->recv_batch(); });
        Two two;
        auto closed = coro::spawn([&] { (void)two.receive({}); });
        settle();
        socket.reset();
        CHECK(throws_code(Errc::closed, [&] { destroyed.join(); }));
        two.there.close();
        CHECK(throws_code(Errc::closed, [&] { closed.join(); }));
        CHECK_THROWS_AS(two.receive(), UsageError);
        two.there.wait_closed(1h);
        CHECK_FALSE(two.there.is_open());
        DatagramSocket none;
        CHECK_THROWS_AS(none.recv_batch(), UsageError);
        CHECK_THROWS_AS(DatagramSocket::bind("nonsense"), std::system_error);
    });
}

TEST_CASE("A coroutine handles an endpoint of callbacks", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        UnhandledLog unhandled;
        Loop& loop = coro::this_loop();
        auto serve = [](DatagramSocket& socket) {
            for (;;)
                for (const Datagram& datagram : socket.recv_batch()) {
                    if (text_of(datagram.data) == "end") throw std::runtime_error("as asked");
                    socket.send_to(datagram.data, datagram.from);
                }
        };
        DatagramRef endpoint =
            udp::bind(loop, "127.0.0.1:0", coro::datagram_protocol(loop, serve)).value();
        DatagramSocket client = DatagramSocket::connect(endpoint->local_address().to_string());
        std::array<std::byte, 64> buffer;
        for (const char* text : {"one", "", "three"}) {
            client.send(bytes_of(text));
            CHECK(text_of(Bytes(buffer).first(client.recv_from(buffer, 1h).size)) == text);
        }
        client.send(bytes_of("end"));
        settle();
        while (endpoint.get() != nullptr)
            coro::yield();
        REQUIRE(unhandled.texts.size() == 1);
        CHECK(contains(unhandled.texts[0], "the handler of a datagram endpoint"));
    });
}
