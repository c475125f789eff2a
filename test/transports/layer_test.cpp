#include "stream_support.hpp"

using namespace weft;
using namespace weft::test;

// Beside what every case of the contract checks of layers: `stream_*_test.cpp`.

namespace {

/// What one end writes to a layered connection arrives at the other.
struct Echoing {
    explicit Echoing(const KernelKind& kernel) : world(kernel) {
        world.prepare = [](Journal& journal) {
            journal.hooks["data_received"] = [&journal](Transport& t) {
                t.write("you said " + journal.received);
                journal.received.clear();
            };
        };
    }
    World world;
};

/// Speaks a line of its own before anything else, and opens when it has that of its peer.
class Greeting final : public LayeredTransport {
public:
    explicit Greeting(std::unique_ptr<Protocol> above)
        : LayeredTransport(std::move(above), Handles::input) {}

private:
    void begin() override { below().write("hello\n"); }
    void received(Bytes data) override {
        line_ += text_of(data);
        const auto end = line_.find('\n');
        if (end == line_.npos) return;
        const std::string rest = line_.substr(end + 1);
        if (line_.substr(0, end) != "hello")
            return abort(make_error_code(std::errc::protocol_error));
        open();
        pass_input();
        below().unread(bytes_of(rest));
    }
    std::string line_;
};

/// Lets nothing out until it is told to.
class Valve final : public LayeredTransport {
public:
    explicit Valve(std::unique_ptr<Protocol> above)
        : LayeredTransport(std::move(above), Handles::output) {
        hold_output();
    }
    using LayeredTransport::hold_output;
    using LayeredTransport::release_output;
};

} // namespace

TEST_CASE("A server's connections, and one that connects, have the layers of their options") {
    WEFT_TEST_KERNEL(all_kernels);
    Echoing echoing(kernel_kind);
    World& world = echoing.world;
    ListenOptions options;
    options.layer = layered<XorTransport>(7u);
    world.listen(options);
    auto journal = std::make_shared<Journal>();
    ConnectOptions through;
    through.layer = options.layer;
    auto connected = connect(world.loop, world.server.addresses()[0],
                             std::make_unique<Recorder>(journal), through);
    world.until([&] { return connected.done(); });
    TransportRef ref = connected.take();
    CHECK(ref.get() == journal->transport); // what its protocol has, and not what is below
    ref->write("hello");
    world.until([&] { return journal->received == "you said hello"; });
    ref->close();
    world.until([&] { return journal->lost && world.last().lost; });
    CHECK(!ref);
    CHECK(journal->events == "made data lost");
    CHECK(world.last().events == "made data eof lost");
}

TEST_CASE("A layer opens when it has settled what it has to, and the connection with it") {
    WEFT_TEST_KERNEL(all_kernels);
    const bool speaks = GENERATE(true, false);
    World world(kernel_kind);
    ListenOptions options;
    options.layer = layered<Greeting>();
    world.listen(options);
    RawPeer peer = RawPeer::connect(world.loop.kernel, world.server.addresses()[0]);
    world.until([&] {
        peer.receive();
        return peer.received == "hello\n";
    });
    REQUIRE(world.journals.size() == 1);
    CHECK(!world.last().made);
    peer.send(speaks ? "hel" : "who is there?\n");
    world.settle();
    if (speaks) {
        CHECK(!world.last().made);
        peer.send("lo\nfirst ");
        world.until([&] { return world.last().received == "first "; });
        peer.send("second");
        world.until([&] { return world.last().received == "first second"; });
        peer.close();
        world.until([&] { return world.last().lost; });
        CHECK(world.last().events == "made data eof lost");
    } else {
        peer.receive_all(world.loop);
        world.until([&] { return world.last().destroyed; });
        CHECK(world.last().events.empty()); // it never had a connection
    }
}

TEST_CASE("A connection attempt fails with its layer, and in time") {
    WEFT_TEST_KERNEL(simulated_kernels);
    const bool answers = GENERATE(true, false);
    World world(kernel_kind);
    world.listen();
    auto journal = std::make_shared<Journal>();
    ConnectOptions options;
    options.layer = layered<Greeting>();
    options.timeout = 3s;
    auto connected = connect(world.loop, world.server.addresses()[0],
                             std::make_unique<Recorder>(journal), options);
    world.prepare = [&](Journal& j) {
        if (answers) j.hooks["made"] = [](Transport& t) { t.write("go away\n"); };
    };
    while (!connected.done())
        world.loop->run_once(true);
    CHECK(connected.error_code() == (answers ? std::errc::protocol_error : std::errc::timed_out));
    world.settle();
    CHECK(journal->destroyed);
    CHECK(journal->events.empty());
}

TEST_CASE("A connection attempt that is cancelled while its layer opens leaves nothing") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    world.listen();
    auto journal = std::make_shared<Journal>();
    ConnectOptions options;
    options.layer = layered<Greeting>();
    auto connected = connect(world.loop, world.server.addresses()[0],
                             std::make_unique<Recorder>(journal), options);
    world.until([&] { return !world.journals.empty() && world.last().received == "hello\n"; });
    connected.cancel();
    world.until([&] { return journal->destroyed && world.last().lost; });
    CHECK(journal->events.empty());
}

TEST_CASE("A layer that is put on in the middle of a stream has what was not delivered yet") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    Transport* secured = nullptr;
    world.prepare = [&](Journal& journal) {
        journal.hooks["data_received"] = [&](Transport& t) {
            if (secured != nullptr) return secured->write(journal.received);
            const auto line = journal.received.find('\n');
            if (line == journal.received.npos) return;
            const std::string rest = journal.received.substr(line + 1);
            t.write("go ahead\n");
            t.unread(bytes_of(rest));
            secured = &add_layer(t, std::make_unique<XorTransport>(nullptr, 0));
            journal.transport = secured;
            journal.ref = secured->ref();
            journal.received.clear();
        };
    };
    world.listen();
    RawPeer peer = world.connect();
    XorStream out(0);
    peer.send("start\n" + std::string(text_of(out.crossed(bytes_of("sec")))));
    world.until([&] { return world.last().received == "sec"; });
    peer.send(text_of(out.crossed(bytes_of("ret"))));
    world.until([&] { return world.last().received == "secret"; });
    world.until([&] {
        peer.receive();
        return peer.received.size() == 9 + 3 + 6;
    });
    XorStream in(0);
    CHECK(peer.received.substr(0, 9) == "go ahead\n");
    CHECK(text_of(in.crossed(bytes_of(peer.received.substr(9)))) == "secsecret");
    peer.close();
    world.until([&] { return world.last().lost; });
    CHECK(world.last().events == "made data eof lost"); // made once
    CHECK(!world.last().ref);
}

TEST_CASE("A layer that is replaced is empty to those who refer to it") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    TransportRef upper;
    world.prepare = [&](Journal& journal) {
        journal.hooks["made"] = [&](Transport& t) { upper = t.ref(); };
    };
    struct Open final : LayeredTransport {
        explicit Open(std::unique_ptr<Protocol> above)
            : LayeredTransport(std::move(above), Handles::both) {}
        using LayeredTransport::below;
    };
    Transport* below = nullptr;
    ListenOptions options;
    Open* layer = nullptr;
    options.layer = [&](std::unique_ptr<Protocol> above) {
        auto made = std::make_unique<Open>(std::move(above));
        layer = made.get();
        return made;
    };
    world.listen(options);
    RawPeer peer = world.connect();
    REQUIRE(upper.get() == layer);
    below = &layer->below();
    const std::size_t sources = world.loop->stats().sources;
    auto next = std::make_shared<Journal>();
    auto recorder = std::make_unique<Recorder>(next);
    recorder->connection_made(*below);
    (void)below->set_protocol(std::move(recorder));
    CHECK(!upper);
    CHECK(world.loop->stats().sources == sources - 1);
    CHECK(world.last().destroyed);
    CHECK(!world.last().lost); // it was exchanged
    peer.send("plain");
    world.until([&] { return next->received == "plain"; });
}

TEST_CASE("What a layer holds counts as buffered, leaves in order, and closing waits for it") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    Valve* valve = nullptr;
    ListenOptions options;
    options.layer = [&](std::unique_ptr<Protocol> above) {
        auto made = std::make_unique<Valve>(std::move(above));
        valve = made.get();
        return made;
    };
    world.listen(options);
    RawPeer peer = world.connect();
    Transport& t = world.transport();
    Journal& journal = world.last();
    t.set_write_buffer_limits(100, 10);
    t.write("one ");
    t.write(Buffer(std::string("two ")));
    CHECK(t.write_buffer_size() == 8);
    CHECK(journal.count("pause") == 0);
    auto before = t.drain();
    CHECK(before.done());
    t.write_all({"three ", std::string(100, '.')});
    CHECK(journal.count("pause") == 1);
    auto drained = t.drain();
    CHECK(!drained.done());
    const int how = GENERATE(0, 1, 2, 3);
    INFO("how " << how);
    if (how == 0) t.write_eof();
    if (how == 1) t.close();
    if (how == 2) t.abort(make_error_code(std::errc::interrupted));
    if (how == 3) t.close_within(1ms);
    world.settle();
    peer.receive();
    CHECK(peer.received.empty());
    if (how < 2) {
        valve->release_output();
        world.until([&] {
            peer.receive();
            return peer.ended;
        });
        CHECK(peer.received == "one two three " + std::string(100, '.'));
        CHECK(!drained.error_code());
        if (how == 0) {
            CHECK(journal.count("resume") == 1);
            CHECK(t.write_buffer_size() == 0);
            t.close();
        }
    }
    while (!journal.lost)
        world.loop->run_once(true);
    CHECK(journal.reason == (how == 2   ? make_error_code(std::errc::interrupted)
                             : how == 3 ? make_error_code(std::errc::timed_out)
                                        : std::error_code()));
    if (how >= 2) CHECK(drained.error_code() == journal.reason);
}

TEST_CASE("A protocol cannot be pushed what it gave back before its callback has returned") {
    // also where the layer delivers in pieces
    struct Pieces final : LayeredTransport {
        explicit Pieces(std::unique_ptr<Protocol> above)
            : LayeredTransport(std::move(above), Handles::input) {}
        void received(Bytes data) override {
            for (const std::byte& byte : data)
                deliver({&byte, 1});
        }
    };
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    world.prepare = [](Journal& journal) {
        journal.hooks["data_received"] = [&journal](Transport& t) {
            if (!journal.received.ends_with("b") || journal.received.size() > 2) return;
            t.unread(bytes_of("B"));
            t.pause_reading();
        };
    };
    ListenOptions options;
    options.layer = layered<Pieces>();
    world.listen(options);
    RawPeer peer = world.connect();
    peer.send("abcd");
    peer.finish_sending();
    world.settle();
    CHECK(world.last().received == "ab");
    world.transport().resume_reading();
    world.until([&] { return world.last().lost; });
    CHECK(world.last().received == "abBcd");
    CHECK(world.last().events == "made data eof lost");
}
