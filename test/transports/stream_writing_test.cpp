#include "stream_support.hpp"

#include <weft/reactor/loop_core.hpp>

using namespace weft;
using namespace weft::test;

namespace {

/// Writes until the kernel takes no more; how much that was.
std::size_t fill(Transport& transport, std::string& written) {
    const std::string block = pattern(32'000);
    while (transport.write_buffer_size() == 0) {
        transport.write(block);
        written += block;
    }
    return written.size();
}

/// Everything that `peer` still has to get, while the loop runs.
void receive(World& world, RawPeer& peer, std::size_t size) {
    world.until([&] {
        peer.receive();
        return peer.received.size() >= size;
    });
}

} // namespace

TEST_CASE("A write leaves at once if it can, and what does not fit follows in order [s87] [F16]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    Transport& transport = world.transport();
    transport.write("small");
    CHECK(transport.write_buffer_size() == 0);
    const std::string big = pattern(8 << 20); // more than any socket buffer takes
    std::string copy = big;
    transport.write(copy);
    CHECK(copy == big); // the caller's buffer is the caller's again
    copy.assign(copy.size(), 'x');
    CHECK(transport.write_buffer_size() > 2 * 64 * 1024); // several chunks
    std::string expected = "small" + big;
    for (int i = 0; i < 5000; ++i) {
        const std::string piece = std::to_string(i) + ",";
        transport.write(piece);
        expected += piece;
    }
    receive(world, peer, expected.size());
    CHECK((peer.received == expected));
    world.settle();
    CHECK(transport.write_buffer_size() == 0);
}

TEST_CASE("Writing nothing does nothing [s87]") {
    WEFT_TEST_STREAM(all_streams);
    FaultyWorld world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    world.faulty->reset_counts();
    const std::array<Bytes, 3> empties{};
    world.transport().write("");
    world.transport().write_all(empties);
    world.transport().write_all({});
    CHECK(world.faulty->calls(sim::Call::send) + world.faulty->calls(sim::Call::sendv) == 0);
    world.transport().write_eof();
    world.transport().write("");
    world.transport().write_all(empties);
}

TEST_CASE(
    "Pieces are written as one, whatever their number, with empty ones anywhere [s87] [F16]") {
    WEFT_TEST_STREAM(all_streams);
    const std::size_t count = GENERATE(1, 3, 63, 64, 65, 200, 3000);
    const std::size_t size = GENERATE(1, 700);
    FaultyWorld world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    const std::string text = pattern(count * size);
    std::vector<Bytes> pieces{Bytes()};
    for (std::size_t i = 0; i < count; ++i) {
        pieces.push_back(bytes_of(text).subspan(i * size, size));
        if (i % 7 == 0) pieces.push_back(Bytes());
    }
    std::string expected;
    SECTION("outside of callbacks") {
        world.faulty->reset_counts();
        world.transport().write_all(pieces);
        expected = text;
        if (kernel_kind.transport.layers == 0)
            CHECK(world.faulty->calls(sim::Call::send) + world.faulty->calls(sim::Call::sendv) <=
                  (count + 63) / 64);
    }
    SECTION("inside of one, behind what gathered there") {
        world.last().hooks["data_received"] = [&](Transport& transport) {
            transport.write("head ");
            transport.write_all(pieces);
            transport.write(" tail");
        };
        peer.send("go");
        expected = "head " + text + " tail";
    }
    SECTION("behind what is queued already") {
        fill(world.transport(), expected);
        world.transport().write_all(pieces);
        expected += text;
    }
    receive(world, peer, expected.size());
    CHECK((peer.received == expected));
}

TEST_CASE("Bytes arrive whole and in order however little each call takes [F16]") {
    WEFT_TEST_STREAM(all_streams);
    const std::size_t most = GENERATE(1, 2, 7, 4096);
    FaultyWorld world(kernel_kind);
    for (const sim::Call call : {sim::Call::recv, sim::Call::send, sim::Call::sendv})
        world.faulty->limit(call, most);
    world.listen();
    RawPeer peer = world.connect();
    std::string expected;
    const std::string small = pattern(300);
    const std::string big = pattern(20'000); // does not fit into the cork buffer
    world.last().hooks["data_received"] = [&](Transport& transport) {
        if (!expected.empty()) return;
        const std::array<Bytes, 4> pieces{bytes_of(small), Bytes(), bytes_of(big), bytes_of("end")};
        transport.write(small);
        transport.write_all(pieces);
        transport.write(big);
        expected = small + small + big + "end" + big;
    };
    peer.send(small);
    world.until([&] { return world.last().received.size() == small.size(); });
    CHECK(world.last().received == small);
    receive(world, peer, expected.size());
    CHECK((peer.received == expected));
}

TEST_CASE("After close writes are dropped, after write_eof they are a mistake [s87]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    Transport& transport = world.transport();
    SECTION("after write_eof") {
        transport.write("last");
        transport.write_eof();
        transport.write_eof();
        CHECK_THROWS_AS(transport.write("x"), UsageError);
        const std::array<Bytes, 2> pieces{Bytes(), bytes_of("x")};
        CHECK_THROWS_AS(transport.write_all(pieces), UsageError);
        try {
            transport.write("x");
        } catch (const UsageError& error) {
            CHECK_THAT(error.what(), Catch::Matchers::Contains("write_eof was called") &&
                                         Catch::Matchers::Contains("of the connection "));
        }
    }
    SECTION("after close") {
        transport.write("last");
        transport.close();
        transport.write("dropped");
        transport.write_eof();
        const std::array<Bytes, 1> pieces{bytes_of("dropped")};
        transport.write_all(pieces);
    }
    SECTION("after close inside a callback") {
        world.last().hooks["data_received"] = [](Transport& inside) {
            inside.write("last");
            inside.close();
            inside.write("dropped");
        };
        peer.send("x");
    }
    peer.receive_all(world.loop);
    CHECK(peer.received == "last");
    CHECK(peer.error == 0);
}

TEST_CASE("The end is sent after everything written before it [s88] [F12]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    world.prepare = [](Journal& journal) { journal.keep_open = true; };
    world.listen();
    RawPeer peer = world.connect();
    std::string expected;
    fill(world.transport(), expected);
    world.transport().write_eof();
    world.settle();
    CHECK(!world.transport().is_closing());
    peer.receive_all(world.loop);
    CHECK((peer.received == expected));
    peer.send("still talking");
    world.until([&] { return world.last().received == "still talking"; });
}

TEST_CASE("Water marks: the defaults, what is derived, and what is refused [s90]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    Transport& transport = world.transport();
    CHECK(transport.write_buffer_limits().high == 64 * 1024);
    CHECK(transport.write_buffer_limits().low == 16 * 1024);
    transport.set_write_buffer_limits(1000, {});
    CHECK(transport.write_buffer_limits().high == 1000);
    CHECK(transport.write_buffer_limits().low == 250);
    transport.set_write_buffer_limits(1000, 1000);
    CHECK(transport.write_buffer_limits().low == 1000);
    CHECK_THROWS_WITH(transport.set_write_buffer_limits(10, 11),
                      "set_write_buffer_limits: low (11) is above high (10)");
    CHECK(transport.write_buffer_limits().high == 1000);
}

TEST_CASE("pause_writing comes once above the high mark, resume_writing once at the low one [s90] "
          "[F17]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    Transport& transport = world.transport();
    Journal& journal = world.last();
    std::size_t at_resume = SIZE_MAX;
    journal.hooks["resume_writing"] = [&](Transport& t) { at_resume = t.write_buffer_size(); };
    transport.set_write_buffer_limits(40'000, 10'000);
    std::string written;
    fill(transport, written);
    const std::string block = pattern(1000);
    while (transport.write_buffer_size() <= 40'000) {
        CHECK(journal.count("pause") == 0);
        transport.write(block);
        written += block;
    }
    CHECK(journal.count("pause") == 1);
    for (int i = 0; i < 100; ++i) {
        transport.write(block);
        written += block;
    }
    CHECK(journal.count("pause") == 1);
    receive(world, peer, written.size());
    world.settle();
    CHECK((peer.received == written));
    CHECK(journal.events == "made pause resume");
    CHECK(at_resume <= 10'000);
}

TEST_CASE("With a high mark of 0 any buffering pauses, and marks take effect at once [s90]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    Transport& transport = world.transport();
    std::string written;
    SECTION("0") {
        transport.set_write_buffer_limits(0, {});
        transport.write("x");
        CHECK(world.last().events == "made");
        fill(transport, written);
        CHECK(world.last().events == "made pause");
        receive(world, peer, written.size());
        world.settle();
        CHECK(world.last().events == "made pause resume");
    }
    SECTION("moved around what is buffered") {
        transport.set_write_buffer_limits(1 << 20, {});
        fill(transport, written);
        CHECK(world.last().events == "made");
        transport.set_write_buffer_limits(transport.write_buffer_size() - 1, {});
        CHECK(world.last().events == "made pause");
        transport.set_write_buffer_limits(1 << 20, transport.write_buffer_size());
        CHECK(world.last().events == "made pause resume");
    }
    SECTION("moved inside a callback, whose writes go on gathering") {
        transport.set_write_buffer_limits(0, {});
        fill(transport, written);
        bool resumed = false, before = false;
        world.last().hooks["resume_writing"] = [&](Transport& t) {
            resumed = true;
            t.write("resumed ");
        };
        world.last().hooks["data_received"] = [&](Transport& t) {
            before = resumed;
            t.write("one ");
            t.set_write_buffer_limits(1 << 20, 1 << 20);
            t.write("two");
        };
        peer.send("x");
        world.until([&] { return world.last().received == "x"; });
        receive(world, peer, written.size() + 15);
        // A kernel that went on taking what waited has let it resume before the callback.
        CHECK(peer.received.ends_with(before ? "resumed one two" : "one resumed two"));
        if (std::string_view(kernel_kind.name) == "sim") CHECK_FALSE(before);
    }
}

TEST_CASE("What pause_writing or resume_writing throws is reported and nothing else changes [s90] "
          "[F28]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    const auto complain = [](Transport&) { throw std::runtime_error("no"); };
    world.last().hooks["pause_writing"] = complain;
    world.last().hooks["resume_writing"] = complain;
    std::string written;
    fill(world.transport(), written);
    world.transport().write(pattern(100'000));
    written += pattern(100'000);
    world.transport().write("end");
    written += "end";
    receive(world, peer, written.size());
    world.settle();
    CHECK((peer.received == written));
    CHECK(world.last().events == "made pause resume");
    REQUIRE(world.loop.unhandled.size() == 2);
    CHECK(world.loop.unhandled[0].starts_with("pause_writing of the connection"));
    CHECK(world.loop.unhandled[1].starts_with("resume_writing of the connection"));
    CHECK(!world.last().lost);
}

TEST_CASE("Everything is allowed inside pause_writing and resume_writing [F21]") {
    WEFT_TEST_STREAM(all_streams);
    const std::string callback = GENERATE("pause_writing", "resume_writing");
    const std::string action = GENERATE("close", "abort", "write", "write_eof", "limits");
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    std::string written;
    world.last().hooks[callback] = [&](Transport& t) {
        if (action == "close") t.close();
        if (action == "abort") t.abort(Errc::aborted);
        if (action == "write") t.write("more");
        if (action == "write_eof") t.write_eof();
        if (action == "limits") t.set_write_buffer_limits(1 << 20, 1 << 20);
        CHECK(!world.last().lost);
    };
    fill(world.transport(), written);
    world.transport().write(pattern(100'000));
    written += pattern(100'000);
    if (action == "write") written += "more";
    world.until([&] {
        peer.receive();
        return peer.ended || peer.error || peer.received.size() >= written.size();
    });
    peer.close();
    world.until([&] { return world.last().lost; });
    if (action != "abort") CHECK((peer.received == written));
    CHECK(world.last().count("lost") == 1);
    CHECK(world.loop.unhandled.empty());
}

TEST_CASE("drain waits for the low mark, wakes every waiter, and is done at once otherwise [s91]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    Transport& transport = world.transport();
    CHECK(transport.drain().done());
    std::string written;
    fill(transport, written);
    CHECK(transport.drain().done()); // buffered, but below the high mark
    transport.write(pattern(100'000));
    written += pattern(100'000);
    std::vector<Future<void>> waiters{transport.drain(), transport.drain(), transport.drain()};
    waiters[1].cancel();
    CHECK(!waiters[0].done());
    receive(world, peer, written.size());
    world.until([&] { return waiters[0].done() && waiters[2].done(); });
    waiters[0].result();
    waiters[2].result();
    CHECK(transport.drain().done());
}

TEST_CASE("drain fails with the reason when the connection goes, now and later [s91] [F14]") {
    WEFT_TEST_STREAM(streams_that_reset);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    Transport& transport = world.transport();
    std::string written;
    fill(transport, written);
    transport.write(pattern(100'000));
    std::vector<Future<void>> waiters{transport.drain(), transport.drain()};
    std::optional<Future<void>> after;
    world.last().hooks["lost"] = [&](Transport& t) { after = t.drain(); };
    std::error_code expected;
    SECTION("abort") {
        transport.abort(std::make_error_code(std::errc::timed_out));
        expected = std::make_error_code(std::errc::timed_out);
        CHECK(transport.drain().error_code() == expected);
    }
    SECTION("the peer resets") {
        peer.reset();
        expected = std::make_error_code(std::errc::connection_reset);
    }
    world.until([&] { return world.last().lost; });
    CHECK(world.last().reason == expected);
    for (const auto& waiter : waiters) {
        REQUIRE(waiter.done());
        CHECK(waiter.error_code() == expected);
    }
    REQUIRE(after);
    CHECK(after->error_code() == expected);
    world.settle();
    CHECK(world.loop.unhandled.empty());
}

TEST_CASE("A writer whose peer is gone hears of it once, and no write loops on [s91] [F14]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    world.prepare = [](Journal& journal) { journal.keep_open = true; };
    world.listen();
    RawPeer peer = world.connect();
    peer.close();
    world.until([&] { return world.last().count("eof") == 1; });
    world.transport().write("the first one still goes");
    int writes = 0;
    world.until([&] {
        if (world.last().lost) return true;
        world.transport().write("x");
        (void)world.transport().drain().error_code();
        return ++writes > 100'000;
    });
    CHECK(world.last().lost);
    CHECK(writes < 100'000);
    CHECK(world.last().events == "made eof lost");
    CHECK((world.last().reason == std::errc::broken_pipe ||
           world.last().reason == std::errc::connection_reset));
    CHECK(world.loop.unhandled.empty());
}

TEST_CASE("A peer that pipelines and never reads is held back at a bound [F18]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    world.prepare = [](Journal& journal) {
        journal.hooks["data_received"] = [&journal](Transport& t) {
            // Each byte is a request with an answer ten times as long.
            for (std::size_t i = 0; i < journal.chunks.back(); ++i)
                t.write("0123456789");
        };
        journal.hooks["pause_writing"] = [](Transport& t) { t.pause_reading(); };
        journal.hooks["resume_writing"] = [](Transport& t) { t.resume_reading(); };
    };
    world.listen();
    RawPeer peer = world.connect();
    const std::string requests(4 << 20, 'r');
    std::size_t sent = 0;
    std::size_t most = 0;
    for (int quiet = 0; quiet < 100;) {
        const std::size_t part = peer.send_some(requests.substr(0, 65'536));
        sent += part;
        quiet = part == 0 ? quiet + 1 : 0;
        world.loop->run_once();
        most = std::max(most, world.transport().write_buffer_size());
        REQUIRE(sent < 64u << 20);
    }
    // What one receive buffer of requests makes, beyond the high-water mark.
    CHECK(most <= 64 * 1024 + 10 * weft::detail::core_of(*world.loop).options().receive_buffer);
    CHECK(!world.transport().is_reading());
    receive(world, peer, sent * 10);
    CHECK(peer.received.size() == sent * 10);
}
