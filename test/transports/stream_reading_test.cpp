#include "stream_support.hpp"

using namespace weft;
using namespace weft::test;

TEST_CASE("Callbacks come in order: made, data, eof, lost, each of the ends once [s82] [F20]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    Journal& journal = world.last();
    CHECK(journal.events == "made");
    peer.send("one");
    world.until([&] { return journal.received == "one"; });
    peer.send("two");
    world.until([&] { return journal.received == "onetwo"; });
    peer.finish_sending();
    world.until([&] { return journal.lost; });
    CHECK(journal.events == "made data eof lost");
    CHECK(!journal.reason);
    CHECK(journal.destroyed);
    world.settle();
    CHECK(journal.events == "made data eof lost");
    CHECK(world.loop.unhandled.empty());
}

TEST_CASE("A connection that a peer opened and closed at once is made, then lost [s82]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = RawPeer::connect(world.loop.kernel, world.server.addresses()[0]);
    peer.close();
    world.until([&] { return !world.journals.empty() && world.last().lost; });
    CHECK(world.last().events == "made eof lost");
}

TEST_CASE(
    "A connection that was reset before it was accepted is made and lost, or never made [F3]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    world.listen();
    RawPeer::connect(world.loop.kernel, world.server.addresses()[0]).reset();
    RawPeer sound = RawPeer::connect(world.loop.kernel, world.server.addresses()[0]);
    sound.send("hello");
    world.until([&] { return !world.journals.empty() && world.last().received == "hello"; });
    world.settle();
    if (world.journals.size() == 2) {
        const Journal& gone = *world.journals[0];
        CHECK(gone.events == "made lost");
        CHECK(gone.reason == std::errc::connection_reset);
    }
    CHECK(world.server.connections() == 1);
    CHECK(world.loop.unhandled.empty());
}

TEST_CASE("A throwing connection_made ends that connection only [s82] [F28]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    world.listen();
    RawPeer first = world.connect();
    world.prepare = [](Journal& journal) {
        journal.hooks["made"] = [](Transport& transport) {
            transport.write("never seen");
            throw std::runtime_error("no");
        };
    };
    RawPeer second = world.connect();
    world.until([&] { return world.last().lost; });
    CHECK(world.last().events == "made lost");
    CHECK(world.last().reason == Errc::callback_threw);
    second.receive_all(world.loop);
    CHECK(second.received.empty());
    REQUIRE(world.loop.unhandled.size() == 1);
    CHECK(world.loop.unhandled[0].starts_with("connection_made of the connection "));
    CHECK(world.loop.unhandled[0].ends_with(": no"));
    first.send("still here");
    world.until([&] { return world.journals[0]->received == "still here"; });
}

TEST_CASE("What a data callback throws is reported and ends the connection with an error [s84]") {
    WEFT_TEST_STREAM(all_streams);
    const Reading reading = GENERATE(Reading::push, Reading::buffered, Reading::pull);
    const char* callback = reading == Reading::push       ? "data_received"
                           : reading == Reading::buffered ? "buffer_updated"
                                                          : "read_ready";
    World world(kernel_kind);
    world.prepare = [&](Journal& journal) {
        journal.reading = reading;
        journal.hooks[callback] = [](Transport&) { throw std::runtime_error("no"); };
    };
    world.listen();
    RawPeer peer = world.connect();
    peer.send("x");
    world.until([&] { return world.last().lost; });
    CHECK(world.last().reason == Errc::callback_threw);
    REQUIRE(world.loop.unhandled.size() == 1);
    // What a layer delivers is pushed to the layer, and reported so.
    const bool layered = kernel_kind.transport.layers != 0;
    CHECK(world.loop.unhandled[0].starts_with(layered ? "data_received" : callback));
}

TEST_CASE(
    "An exception that is meant to end run leaves it, and the loop can run again [s7] [s84]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    const std::string callback = GENERATE("made", "data_received", "eof_received", "lost");
    world.prepare = [&](Journal& journal) {
        journal.hooks[callback] = [](Transport&) { throw FatalError("enough"); };
    };
    world.listen();
    RawPeer first = RawPeer::connect(world.loop.kernel, world.server.addresses()[0]);
    RawPeer second = RawPeer::connect(world.loop.kernel, world.server.addresses()[0]);
    for (RawPeer* peer : {&first, &second}) {
        peer->send("x");
        peer->finish_sending();
    }
    int thrown = 0;
    const auto all_lost = [&] {
        return world.journals.size() == 2 && world.journals[0]->lost && world.journals[1]->lost;
    };
    for (int turn = 0; turn < 10'000 && !all_lost(); ++turn) {
        try {
            world.loop->run_once();
        } catch (const FatalError&) {
            ++thrown;
        }
    }
    CHECK(all_lost());
    CHECK(thrown == 2);
    CHECK(world.loop.unhandled.empty());
    world.settle();
    CHECK(world.server.connections() == 0);
}

TEST_CASE("A buffered protocol that offers no room ends with an error instead of a spin [s84]") {
    WEFT_TEST_KERNEL(all_kernels);
    struct NoRoom final : BufferedProtocol {
        explicit NoRoom(std::error_code& r) : reason(r) {}
        MutableBytes get_buffer(std::size_t) override { return {}; }
        void buffer_updated(std::size_t) override { FAIL("there was no buffer"); }
        void connection_lost(std::error_code why) override { reason = why; }
        std::error_code& reason;
    };
    HostLoop loop(kernel_kind.make);
    std::error_code reason;
    auto server =
        tcp::listen(loop, "127.0.0.1:0", [&] { return std::make_unique<NoRoom>(reason); });
    REQUIRE(server.ok());
    RawPeer peer = RawPeer::connect(loop.kernel, server->addresses()[0]);
    peer.send("x");
    until(loop, [&] { return bool(reason); });
    CHECK(reason == Errc::empty_buffer);
    REQUIRE(loop.unhandled.size() == 1);
    CHECK(loop.unhandled[0].starts_with("get_buffer of the connection"));
}

TEST_CASE(
    "eof_received decides whether the connection closes or stays open for writing [s85] [F12]") {
    WEFT_TEST_STREAM(all_streams);
    const bool keep_open = GENERATE(false, true);
    World world(kernel_kind);
    world.prepare = [&](Journal& journal) { journal.keep_open = keep_open; };
    world.listen();
    RawPeer peer = world.connect();
    peer.send("question");
    peer.finish_sending();
    world.until([&] { return world.last().count("eof") == 1; });
    world.settle();
    CHECK(world.last().lost == !keep_open);
    if (keep_open) {
        CHECK(world.last().events == "made data eof");
        CHECK(!world.transport().is_closing());
        world.transport().write("answer");
        world.transport().close();
    }
    peer.receive_all(world.loop);
    CHECK(peer.error == 0);
    CHECK(peer.received == (keep_open ? "answer" : ""));
    world.until([&] { return world.last().lost; });
    CHECK(world.last().events == "made data eof lost");
}

TEST_CASE(
    "Half-closing works in both orders, and both directions closed is the end [s85] [s88] [F12]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    world.prepare = [](Journal& journal) { journal.keep_open = true; };
    world.listen();
    RawPeer peer = world.connect();
    SECTION("the peer ends first") {
        peer.finish_sending();
        world.until([&] { return world.last().count("eof") == 1; });
        world.transport().write("last words");
        world.transport().write_eof();
    }
    SECTION("we end first") {
        world.transport().write("last words");
        world.transport().write_eof();
        CHECK(!world.transport().is_closing());
        world.settle();
        peer.send("not yet");
        world.until([&] { return world.last().received == "not yet"; });
        peer.finish_sending();
    }
    peer.receive_all(world.loop);
    CHECK(peer.error == 0);
    CHECK(peer.received == "last words");
    world.until([&] { return world.last().lost; });
    CHECK(!world.last().reason);
}

TEST_CASE("A paused connection delivers neither data nor the end until it is resumed [s85] [s86]") {
    WEFT_TEST_STREAM(all_streams);
    const Reading reading = GENERATE(Reading::push, Reading::buffered);
    World world(kernel_kind);
    world.prepare = [&](Journal& journal) {
        journal.reading = reading;
        const char* data = reading == Reading::push ? "data_received" : "buffer_updated";
        journal.hooks[data] = [](Transport& transport) {
            CHECK(transport.is_reading());
            transport.pause_reading();
            transport.pause_reading();
            CHECK(!transport.is_reading());
        };
    };
    world.listen();
    RawPeer peer = world.connect();
    const std::string text = pattern(10'000);
    peer.send(text);
    peer.finish_sending();
    std::size_t seen = 0;
    int deliveries = 0;
    while (!world.last().lost && deliveries < 20) {
        world.until([&] { return world.last().received.size() > seen || world.last().lost; });
        if (world.last().lost) break;
        ++deliveries;
        seen = world.last().received.size();
        world.settle();
        CHECK(world.last().received.size() == seen);
        CHECK(world.last().count("eof") == 0);
        world.transport().resume_reading();
        world.transport().resume_reading();
    }
    CHECK(world.last().received == text);
    CHECK(world.last().events == "made data eof lost");
}

TEST_CASE("Pausing and resuming are legal in every callback and on a closing transport [s86]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    const auto both = [](Transport& transport) {
        transport.pause_reading();
        transport.resume_reading();
    };
    world.prepare = [&](Journal& journal) {
        for (const char* name : {"made", "data_received", "eof_received", "lost"})
            journal.hooks[name] = both;
    };
    world.listen();
    RawPeer peer = world.connect();
    peer.send("x");
    world.until([&] { return world.last().received == "x"; });
    world.transport().close();
    both(world.transport());
    peer.send("y");
    world.until([&] { return world.last().lost; });
    CHECK(world.last().events == "made data lost");
}

TEST_CASE("A paused connection whose peer goes away costs no wake-ups [F10]") {
    WEFT_TEST_STREAM(streams_that_reset);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    world.transport().pause_reading();
    peer.send("x");
    const bool reset = GENERATE(false, true);
    peer.close(reset);
    settle(world.loop); // fails if there is always something to do
    CHECK(world.last().events == "made");
    world.transport().resume_reading();
    world.until([&] { return world.last().lost; });
    CHECK(world.last().received == "x");
    CHECK(world.last().reason == (reset ? std::errc::connection_reset : std::errc()));
}

TEST_CASE("Bytes that came before a reset are delivered before the error [F11]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = RawPeer::connect(world.loop.kernel, world.server.addresses()[0]);
    peer.send("last words");
    peer.reset();
    world.until([&] { return !world.journals.empty() && world.last().lost; });
    CHECK(world.last().events == "made data lost");
    CHECK(world.last().received == "last words");
    CHECK(world.last().reason == std::errc::connection_reset);
    CHECK(world.loop.unhandled.empty());
}

TEST_CASE("No data comes after close or abort in the middle of a flood [s86] [F21]") {
    WEFT_TEST_STREAM(all_streams);
    const bool abort = GENERATE(false, true);
    const Reading reading = GENERATE(Reading::push, Reading::buffered);
    World world(kernel_kind);
    std::size_t deliveries = 0;
    world.prepare = [&](Journal& journal) {
        journal.reading = reading;
        const char* data = reading == Reading::push ? "data_received" : "buffer_updated";
        journal.hooks[data] = [&](Transport& transport) {
            ++deliveries;
            abort ? transport.abort(Errc::aborted) : transport.close();
            CHECK(transport.is_closing());
            CHECK(!world.last().lost); // never before it returns
        };
    };
    world.listen();
    RawPeer peer = world.connect();
    peer.send_some(pattern(1 << 20));
    world.until([&] { return deliveries == 1; });
    peer.close(); // what it sent is unread: a close lingers until its end
    world.until([&] { return world.last().lost; });
    CHECK(deliveries == 1);
    CHECK(world.last().events == "made data lost");
    CHECK(world.last().reason == (abort ? make_error_code(Errc::aborted) : std::error_code()));
}
