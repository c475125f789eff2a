#include "stream_support.hpp"

#include <weft/reactor/buffer.hpp>
#include <weft/transports/stream/transport_core.hpp>

using namespace weft;
using namespace weft::test;

namespace {

Buffer buffer_of(std::string text) {
    return Buffer(std::move(text));
}

void receive_bytes(World& world, RawPeer& peer, std::size_t size) {
    world.until([&] {
        peer.receive();
        return peer.received.size() >= size;
    });
}

} // namespace

TEST_CASE("Buffers, strings and views arrive in the order of their writes [s87] [F16]") {
    WEFT_TEST_STREAM(all_streams);
    const std::size_t size = GENERATE(1, 512, 513, 3000, 16384, 16385, 65536, 300'000);
    const bool inside = GENERATE(false, true);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    std::string expected;
    const auto constant = std::make_shared<const std::string>(pattern(size));
    const auto write = [&](Transport& transport) {
        for (int round = 0; round < 3; ++round) {
            const std::string tag = "<" + std::to_string(round) + ">";
            transport.write(tag);
            transport.write(buffer_of(pattern(size)));
            transport.write(pattern(size)); // a string that is given away
            transport.write(Buffer::shared(constant));
            transport.write(Buffer::unowned(bytes_of("literal")));
            transport.write(Buffer());
            std::vector<std::byte> bytes(size, std::byte{'v'});
            transport.write(std::move(bytes));
            expected += tag + pattern(size) + pattern(size) + *constant + "literal" +
                        std::string(size, 'v');
        }
    };
    if (inside) {
        world.last().hooks["data_received"] = write;
        peer.send("go");
        world.until([&] { return !expected.empty(); });
    } else {
        write(world.transport());
    }
    receive_bytes(world, peer, expected.size());
    CHECK((peer.received == expected));
    CHECK(constant.use_count() == 1);
}

TEST_CASE("What a callback writes leaves with one send, whatever its size and owner [s126]") {
    WEFT_TEST_STREAM(streams_of_sockets);
    FaultyWorld world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    const std::size_t size = GENERATE(64, 1024, 4096, 16384);
    world.last().hooks["data_received"] = [&](Transport& transport) {
        transport.write("head ");
        transport.write(buffer_of(std::string(size, 'b')));
        transport.write(" tail");
    };
    world.faulty->reset_counts();
    peer.send("x");
    const std::string expected = "head " + std::string(size, 'b') + " tail";
    receive_bytes(world, peer, expected.size());
    CHECK(peer.received == expected);
    CHECK(world.faulty->calls(sim::Call::send) + world.faulty->calls(sim::Call::sendv) == 1);
}

namespace {

/// Sends back what it receives, as it was handed out.
struct Mirror final : Protocol {
    void connection_made(Transport& t) override { transport = &t; }
    void data_received(Bytes data) override {
        const std::size_t half = data.size() / 2;
        transport->write(data.first(half));
        transport->write(data.subspan(half));
    }
    void pause_writing() override { transport->pause_reading(); }
    void resume_writing() override { transport->resume_reading(); }
    Transport* transport = nullptr;
};

/// Keeps everything it is handed.
struct Keeper final : Protocol {
    explicit Keeper(std::vector<Buffer>& k) : kept(k) {}
    void connection_made(Transport& t) override { transport = &t; }
    void data_received(Bytes data) override {
        kept.push_back(transport->keep(data.first(data.size() / 2)));
        kept.push_back(transport->keep(data.subspan(data.size() / 2)));
    }
    std::vector<Buffer>& kept;
    Transport* transport = nullptr;
};

} // namespace

TEST_CASE("Received bytes are sent on from where they lie, also when the peer is slow [F16]") {
    WEFT_TEST_KERNEL(all_kernels);
    const std::size_t block = GENERATE(700, 10'000, 65'536);
    LoopOptions options;
    options.receive_buffer = block;
    HostLoop loop(kernel_kind.make, std::move(options));
    auto server =
        tcp::listen(loop, "127.0.0.1:0", [] { return std::make_unique<Mirror>(); }).value();
    RawPeer peer = RawPeer::connect(loop.kernel, server.addresses().at(0));
    const std::string sent = pattern(3 << 20);
    std::size_t at = 0;
    std::size_t turns = 0;
    until(loop, [&] {
        at += peer.send_some(std::string_view(sent).substr(at));
        if (++turns % 3 == 0) peer.receive(100'000);
        return peer.received.size() == sent.size();
    });
    CHECK((peer.received == sent));
}

TEST_CASE("A callback protocol keeps what it was handed, and the loop goes on with other memory") {
    WEFT_TEST_KERNEL(all_kernels);
    std::vector<Buffer> kept;
    {
        HostLoop loop(kernel_kind.make);
        auto server = tcp::listen(loop, "127.0.0.1:0", [&] {
                          return std::make_unique<Keeper>(kept);
                      }).value();
        RawPeer peer = RawPeer::connect(loop.kernel, server.addresses().at(0));
        const std::string sent = pattern(1 << 20);
        std::size_t at = 0;
        until(loop, [&] {
            at += peer.send_some(std::string_view(sent).substr(at));
            std::size_t size = 0;
            for (const Buffer& part : kept)
                size += part.size();
            return size == sent.size();
        });
        std::string all;
        for (const Buffer& part : kept)
            all += part.text();
        CHECK((all == sent));
    }
    std::size_t size = 0;
    for (const Buffer& part : kept) // they outlive the loop
        size += part.size();
    CHECK(size == 1 << 20);
    kept.clear();
}

TEST_CASE("What a transport only refers to is copied when its keeper wants to go") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    const std::string expected = pattern(12 << 20); // more than any socket buffer takes
    {
        auto text = std::make_unique<std::string>(expected);
        world.transport().write(Buffer::unowned(bytes_of(*text)));
        REQUIRE(world.transport().write_buffer_size() != 0);
        weft::detail::TransportCore::of(world.transport())->own_queued();
        text->assign(text->size(), '!');
    }
    receive_bytes(world, peer, expected.size());
    CHECK((peer.received == expected));
}

TEST_CASE("A buffer given to a transport that is closing, or has lost its peer, is freed [F14]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    const auto constant = std::make_shared<const std::string>(pattern(100'000));
    world.transport().write(Buffer::shared(constant));
    world.transport().abort();
    Buffer late = Buffer::shared(constant);
    world.transport().write(std::move(late));
    CHECK(!late);
    world.settle();
    CHECK(constant.use_count() == 1);
}
