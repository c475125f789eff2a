#include "stream_support.hpp"

using namespace weft;
using namespace weft::test;
using sim::Call;

TEST_CASE(
    "A failing read ends the connection with its error; odd ones are reported as well [s83]") {
    WEFT_TEST_KERNEL(all_kernels);
    const int error = GENERATE(ECONNRESET, EPIPE, ECONNABORTED, ETIMEDOUT, ENOTCONN, EHOSTUNREACH,
                               EIO, ENOMEM, EBADF, ECONNREFUSED);
    const Reading reading = GENERATE(Reading::push, Reading::buffered, Reading::pull);
    INFO(errno_code(error).message());
    FaultyWorld world(kernel_kind);
    world.prepare = [&](Journal& journal) {
        journal.reading = reading;
        journal.hooks["read_ready"] = [&](Transport& t) {
            std::array<std::byte, 8> room;
            const ReadResult got = t.try_read(room);
            CHECK(got.state == ReadResult::State::failed);
            CHECK(t.read_error() == errno_code(error));
        };
    };
    world.listen();
    RawPeer peer = world.connect();
    RawPeer other = world.connect();
    const auto journal = world.journals[0];
    world.faulty->fail(Call::recv, error);
    peer.send("x");
    world.until([&] { return journal->lost; });
    CHECK(journal->reason == errno_code(error));
    CHECK(journal->received.empty());
    const bool quiet = error == ECONNRESET || error == EPIPE || error == ECONNABORTED;
    REQUIRE(world.loop.unhandled.size() == (quiet ? 0 : 1));
    if (!quiet) {
        CHECK_THAT(
            world.loop.unhandled[0],
            Catch::Matchers::StartsWith("a connection failed: receiving of the connection") &&
                Catch::Matchers::Contains("127.0.0.1:"));
    }
    world.until([&] { return world.server.connections() == 1; });
}

TEST_CASE("A failing write ends the connection with its error, once [s83] [F14]") {
    WEFT_TEST_STREAM(streams_of_sockets);
    const int error = GENERATE(ECONNRESET, EPIPE, ENOBUFS, ENOMEM, ETIMEDOUT, EHOSTUNREACH);
    const std::string way = GENERATE("send", "sendv", "gathered", "flush");
    INFO(way << ": " << errno_code(error).message());
    if (way == "sendv" && kernel_kind.transport.layers != 0) return; // it makes one of two
    FaultyWorld world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    Transport& t = world.transport();
    const std::array<Bytes, 2> pieces{bytes_of("a"), bytes_of("b")};
    if (way == "send") {
        world.faulty->fail(Call::send, error);
        t.write("x");
    } else if (way == "sendv") {
        world.faulty->fail(Call::sendv, error);
        t.write_all(pieces);
    } else if (way == "gathered") {
        world.last().hooks["data_received"] = [&](Transport& inside) {
            inside.write("x");
            world.faulty->fail(Call::send, error);
        };
        peer.send("x");
        world.until([&] { return !world.last().received.empty(); });
    } else {
        t.write(pattern(8 << 20));
        world.faulty->fail(Call::sendv, error);
        world.until([&] {
            peer.receive(65'536);
            return world.faulty->failures(Call::sendv) == 1;
        });
    }
    if (!world.last().lost) {
        t.write("dropped");
        t.write_all(pieces);
        CHECK(t.write_buffer_size() == 0);
        CHECK(t.drain().error_code() == errno_code(error));
    }
    world.until([&] { return world.last().lost; });
    CHECK(world.last().reason == errno_code(error));
    CHECK(world.last().count("lost") == 1);
    CHECK(world.loop.unhandled.size() == (error == ECONNRESET || error == EPIPE ? 0 : 1));
}

TEST_CASE("What had arrived before sending failed is delivered before the error [F11] [F14]") {
    WEFT_TEST_STREAM(streams_of_sockets);
    const Reading reading = GENERATE(Reading::push, Reading::buffered, Reading::pull);
    FaultyWorld world(kernel_kind);
    world.prepare = [&](Journal& journal) {
        journal.reading = reading;
        journal.hooks["read_ready"] = [&journal](Transport& t) {
            std::array<std::byte, 8> room;
            for (;;) {
                const ReadResult got = t.try_read(room);
                if (got.state != ReadResult::State::data) return;
                journal.received += text_of(Bytes(room).first(got.size));
            }
        };
    };
    world.listen();
    RawPeer peer = world.connect();
    world.transport().pause_reading();
    peer.send("last words, more than one buffer of eight");
    world.settle();
    world.faulty->fail(Call::send, EPIPE);
    world.transport().resume_reading();
    world.transport().write("x");
    CHECK(!world.last().lost);
    world.until([&] { return world.last().lost; });
    CHECK(world.last().received == "last words, more than one buffer of eight");
    CHECK(world.last().reason == std::errc::broken_pipe);
}

TEST_CASE("A peer that resets is no end of the stream when pulling, though sending was told of it "
          "first [F11] [F14]") {
    WEFT_TEST_STREAM(streams_of_sockets);
    FaultyWorld world(kernel_kind);
    std::vector<ReadResult::State> found;
    world.prepare = [&](Journal& journal) {
        journal.reading = Reading::pull;
        journal.hooks["read_ready"] = [&found](Transport& t) {
            std::array<std::byte, 8> room;
            do {
                found.push_back(t.try_read(room).state);
            } while (found.back() == ReadResult::State::data);
            if (found.back() == ReadResult::State::failed)
                CHECK(t.read_error() == std::errc::broken_pipe);
            CHECK(t.try_read(room).state == found.back()); // again and again
        };
    };
    world.listen();
    RawPeer peer = world.connect();
    world.transport().pause_reading();
    peer.send("cut");
    peer.finish_sending(); // a reset that sending was told of is read like this
    world.settle();
    world.faulty->fail(Call::send, EPIPE);
    world.transport().resume_reading();
    world.transport().write("x");
    world.until([&] { return world.last().lost; });
    REQUIRE(!found.empty());
    // Above a layer, which has read ahead, it is `connection_lost` that tells.
    if (kernel_kind.transport.layers == 0) CHECK(found.back() == ReadResult::State::failed);
    CHECK(std::count(found.begin(), found.end(), ReadResult::State::eof) == 0);
    CHECK(world.last().reason == std::errc::broken_pipe);
}

TEST_CASE("Readiness that turns out to be none costs nothing and loses nothing [F9]") {
    WEFT_TEST_STREAM(tcp_streams);
    const Reading reading = GENERATE(Reading::push, Reading::buffered);
    FaultyWorld world(kernel_kind);
    world.prepare = [&](Journal& journal) { journal.reading = reading; };
    world.listen();
    RawPeer peer = world.connect();
    world.faulty->fail(Call::recv, EAGAIN);
    world.faulty->reset_counts();
    peer.send("one ");
    world.until([&] { return world.faulty->failures(Call::recv) == 1; });
    world.settle();
    CHECK(world.faulty->calls(Call::recv) == 2);
    CHECK(world.last().received == "one ");
    peer.send("two");
    world.until([&] { return world.last().received == "one two"; });
    CHECK(world.last().events == "made data");
    CHECK(world.loop.unhandled.empty());
}

TEST_CASE("A connection that can not be registered is closed, and the others are not disturbed "
          "[F1] [F2]") {
    WEFT_TEST_KERNEL(all_kernels);
    const int error = GENERATE(ENOSPC, ENOMEM);
    LogCapture log;
    FaultyWorld world(kernel_kind);
    world.listen();
    RawPeer first = world.connect();
    world.faulty->fail(Call::add, error);
    RawPeer second = RawPeer::connect(world.peers(), world.server.addresses()[0]);
    second.receive_all(world.loop);
    CHECK(world.journals.size() == 2); // its protocol was made, and never called
    CHECK(!world.last().made);
    CHECK(world.last().destroyed);
    CHECK(world.server.connections() == 1);
    CHECK(world.server.counters().pauses == 1);
    first.send("still here");
    world.until([&] { return world.journals[0]->received == "still here"; });
}

TEST_CASE("Listening that fails at any call says what failed and leaves nothing open [s99] [F2]") {
    WEFT_TEST_KERNEL(all_kernels);
    const auto [call, error] = GENERATE(table<Call, int>({{Call::socket, EMFILE},
                                                          {Call::socket, EAFNOSUPPORT},
                                                          {Call::set_option, ENOPROTOOPT},
                                                          {Call::bind, EACCES},
                                                          {Call::bind, EADDRINUSE},
                                                          {Call::bind, EADDRNOTAVAIL},
                                                          {Call::listen, EADDRINUSE},
                                                          {Call::add, ENOSPC}}));
    const bool second = GENERATE(false, true); // of two addresses: all or none
    INFO(sim::name_of(call) << ": " << errno_code(error).message());
    FaultyWorld world(kernel_kind);
    std::uint64_t nth = 1;
    const std::vector<std::string> addresses{"127.0.0.1:0", "127.0.0.2:0"};
    if (second) { // so many calls does the first one make
        auto both = tcp::listen(world.loop, std::span(addresses), world.factory());
        REQUIRE(both.ok());
        nth = world.faulty->calls(call) / 2 + 1;
    }
    world.faulty->fail(call, error, nth);
    auto server = tcp::listen(world.loop, std::span(addresses), world.factory());
    REQUIRE(!server.ok());
    CHECK(server.error().code == errno_code(error));
    // With the port that the system had chosen, if it came so far.
    CHECK_THAT(
        server.error().message(),
        Catch::Matchers::StartsWith("listen on 127.0.0." + std::to_string(second ? 2 : 1) + ":") &&
            Catch::Matchers::EndsWith(": " + errno_code(error).message()));
    CHECK(world.loop->stats().sources == 0);
}

TEST_CASE("Errors of single connections in the queue do not disturb the listener [s100] [F3]") {
    WEFT_TEST_KERNEL(all_kernels);
    const int error = GENERATE(ECONNABORTED, EPROTO, EPERM, ENETDOWN, EHOSTUNREACH, ENETUNREACH);
    FaultyWorld world(kernel_kind);
    world.listen();
    world.faulty->fail(Call::accept, error, 1, 3);
    RawPeer peer = world.connect();
    peer.send("hello");
    world.until([&] { return world.last().received == "hello"; });
    CHECK(world.loop.unhandled.empty());
    CHECK(world.server.counters().pauses == 0);
}

TEST_CASE("An accept that does nothing but fail is put off instead of repeated [F1] [F3]") {
    LogCapture log;
    FaultyWorld world(simulated_kernels().front());
    const int error = GENERATE(EPERM, ENFILE, ENOBUFS, ENOMEM);
    world.listen();
    world.faulty->fail(Call::accept, error, 1, 1'000'000);
    RawPeer peer = RawPeer::connect(world.peers(), world.server.addresses()[0]);
    const TimePoint start = world.loop->now();
    world.settle();
    const std::uint64_t calls = world.faulty->calls(Call::accept);
    CHECK(calls <= (error == EPERM ? 64 : 1));
    CHECK(world.server.counters().pauses == 1);
    // Patience grows from 100 ms to a second.
    while (world.server.counters().pauses < 8)
        world.loop->run_once(true);
    CHECK(world.loop->now() - start == 100ms + 200ms + 400ms + 800ms + 1s + 1s + 1s);
    world.faulty->clear();
    while (world.journals.empty())
        world.loop->run_once(true);
    CHECK(world.last().made);
    // And starts small again.
    world.faulty->fail(Call::accept, error, 1, 1'000'000);
    RawPeer second = RawPeer::connect(world.peers(), world.server.addresses()[0]);
    world.settle();
    const TimePoint again = world.loop->now();
    world.faulty->clear();
    while (world.journals.size() == 1)
        world.loop->run_once(true);
    CHECK(world.loop->now() - again == 100ms);
    // One line, not one per connection, and not another within ten seconds.
    const auto lines = log.taken();
    REQUIRE(lines.size() == 1);
    CHECK(lines[0] == "accepting on " + world.server.addresses()[0].to_string() + ": " +
                          errno_code(error).message() + "; 0 connections are open");
}

TEST_CASE("A listening socket that is no such thing any more ends the server with a report [F6]") {
    WEFT_TEST_KERNEL(all_kernels);
    const int error = GENERATE(EBADF, ENOTSOCK, EINVAL, EOPNOTSUPP);
    FaultyWorld world(kernel_kind);
    world.listen();
    RawPeer first = world.connect();
    world.faulty->fail(Call::accept, error, 1, 1000);
    RawPeer second = RawPeer::connect(world.peers(), world.server.addresses()[0]);
    world.until([&] { return !world.server.listening(); });
    REQUIRE(world.loop.unhandled.size() == 1);
    CHECK(world.loop.unhandled[0].starts_with("a listening socket failed: accept on 127.0.0.1:"));
    first.send("still here");
    world.until([&] { return world.last().received == "still here"; });
}
