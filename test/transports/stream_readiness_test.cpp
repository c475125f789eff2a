// Readiness that is cleared without proof, and writing that is taken for drained when it is broken.

#include "stream_support.hpp"

#include <fcntl.h>
#include <unistd.h>

using namespace weft;
using namespace weft::test;

namespace {

/// A file with this content that is gone when it is closed.
class TextFile {
public:
    explicit TextFile(std::string_view text) {
        char name[] = "/tmp/weft-test-XXXXXX";
        fd_ = ::mkstemp(name);
        REQUIRE(fd_ >= 0);
        ::unlink(name);
        REQUIRE(::write(fd_, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    }
    ~TextFile() { ::close(fd_); }
    int fd() const noexcept { return fd_; }

private:
    int fd_;
};

// more than any socket buffer takes
std::string more_than_fits(std::size_t size = 12 << 20) {
    return pattern(size);
}

} // namespace

TEST_CASE("Whatever is written behind a file that has not begun follows it [s93] [s124]") {
    WEFT_TEST_STREAM(all_streams);
    const bool inside = GENERATE(true, false);
    const int how = GENERATE(range(0, 6));
    CAPTURE(inside, how);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    const TextFile file("FILE");
    Future<std::uint64_t> sent;
    std::string expected;
    const auto act = [&](Transport& t) {
        const Bytes two[] = {bytes_of("a"), bytes_of("b")};
        if (how == 5) {
            t.write_all(two);
            expected += "ab";
        }
        sent = t.send_file(file.fd());
        expected += "FILE";
        if (how == 0) t.write("ab");
        if (how == 1) t.write_all(two);
        if (how == 2) t.write(Buffer(std::string("ab")));
        if (how == 3) {
            t.write("a");
            (void)t.send_file(file.fd(), 1, 2);
            t.write("b");
        }
        if (how == 4) {
            t.write_all(two);
            t.close();
        }
        if (how != 5) expected += how == 3 ? "aILb" : "ab";
    };
    if (inside) {
        world.last().hooks["data_received"] = act;
        peer.send("GET");
        world.until([&] { return sent.valid(); });
    } else {
        act(world.transport());
    }
    world.until([&] {
        peer.receive();
        return peer.received.size() >= expected.size();
    });
    CHECK(peer.received == expected);
    world.until([&] { return sent.done(); });
    CHECK(sent.take() == 4);
}

TEST_CASE("Pieces behind a file that had its share of the turn are not forgotten [s124]") {
    WEFT_TEST_STREAM(all_streams);
    LoopOptions options;
    options.reads_per_turn = 1;
    World world(kernel_kind, std::move(options));
    world.listen();
    RawPeer peer = world.connect();
    const std::string text = pattern(2 << 20);
    const TextFile file(text);
    auto sent = world.transport().send_file(file.fd());
    std::string expected = text;
    for (int i = 0; i < 20; ++i) {
        const Bytes two[] = {bytes_of("one "), bytes_of("two ")};
        world.transport().write_all(two);
        expected += "one two ";
        peer.receive(100'000);
        world.loop->run_once();
    }
    world.until([&] {
        peer.receive();
        return peer.received.size() >= expected.size();
    });
    CHECK((peer.received == expected));
    CHECK(sent.done());
}

TEST_CASE(
    "What comes behind an urgent byte is read, though the read before ended at its mark [s124]") {
    WEFT_TEST_KERNEL(real_kernels);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    for (int round = 0; round < 3; ++round) {
        const std::size_t before = world.last().received.size();
        peer.send("abc");
        REQUIRE(::send(peer.fd(), "!", 1, MSG_OOB) == 1);
        peer.send("def");
        world.until([&] { return world.last().received.size() == before + 6; });
        CHECK(world.last().received.substr(before) == "abcdef");
    }
    // Also when the mark comes while the loop is reading.
    world.last().hooks["data_received"] = [&](Transport&) {
        world.last().hooks.erase("data_received");
        REQUIRE(::send(peer.fd(), "?", 1, MSG_OOB) == 1);
        peer.send("after");
    };
    peer.send("before");
    world.until([&] { return world.last().received.ends_with("beforeafter"); });
}

TEST_CASE("A writer that goes on until it is paused ends when sending has failed [s125] [F14]") {
    WEFT_TEST_STREAM(streams_of_sockets);
    const bool was_paused = GENERATE(true, false);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    Transport& transport = world.transport();
    transport.pause_reading();
    int resumed = 0;
    bool paused = false;
    std::size_t writes = 0;
    const std::string chunk = pattern(16'384);
    const auto pump = [&] {
        while (!paused && !transport.is_closing()) {
            transport.write(chunk);
            REQUIRE(++writes < 100'000);
        }
    };
    world.last().hooks["pause_writing"] = [&](Transport&) { paused = true; };
    world.last().hooks["resume_writing"] = [&](Transport&) {
        paused = false;
        ++resumed;
        pump();
    };
    if (was_paused) {
        pump();
        peer.send("unread");
        world.settle();
        resumed = 0;                // the kernel may have gone on taking what waited
        transport.resume_reading(); // there is something to be read before the reset is
        peer.reset();
        world.settle();
    } else {
        peer.send("unread");
        world.settle();
        peer.reset();
        pump(); // which finds out by failing
        CHECK((paused || transport.is_closing()));
    }
    CHECK(resumed == 0);
    CHECK((world.last().lost || transport.write_error()));
}

TEST_CASE("Waiting for room fails with the reason once the connection is aborted [s91] [s125]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    world.transport().write(more_than_fits());
    auto room = world.transport().drain();
    REQUIRE(!room.done());
    world.loop->call_soon([&] {
        world.transport().abort(std::make_error_code(std::errc::timed_out));
        world.transport().set_write_buffer_limits(64 << 20);
    });
    world.until([&] { return room.done(); });
    CHECK(room.error_code() == std::errc::timed_out);
    CHECK(world.last().count("resume") == 0);
}

TEST_CASE(
    "A protocol that takes over while writing is paused is never resumed unpaused [s90] [s92]") {
    WEFT_TEST_STREAM(all_streams);
    const bool writes = GENERATE(true, false);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    Transport& transport = world.transport();
    const std::string first = more_than_fits();
    transport.write(first);
    REQUIRE(world.last().count("pause") == 1);
    auto next = std::make_shared<Journal>();
    next->made = true;
    next->transport = &transport;
    std::unique_ptr<Protocol> old = transport.set_protocol(std::make_unique<Recorder>(next));
    auto room = transport.drain();
    CHECK(!room.done());
    if (writes) transport.write("more");
    CHECK(next->count("pause") == (writes ? 1 : 0));
    world.until([&] {
        peer.receive();
        return peer.received.size() == first.size() + (writes ? 4 : 0);
    });
    world.until([&] { return room.done(); });
    CHECK(!room.error_code());
    CHECK(next->count("resume") == next->count("pause"));
    CHECK(world.last().count("resume") == 0);
}

TEST_CASE("Small writes in any callback leave with one send [s126]") {
    WEFT_TEST_KERNEL(all_kernels);
    FaultyWorld world(kernel_kind);
    std::string written;
    const auto ten = [&](Transport& transport) {
        for (int i = 0; i < 10; ++i) {
            transport.write("line\n");
            written += "line\n";
        }
    };
    const auto sends = [&] {
        return world.faulty->calls(sim::Call::send) + world.faulty->calls(sim::Call::sendv);
    };
    SECTION("connection_made") {
        world.prepare = [&](Journal& journal) { journal.hooks["made"] = ten; };
        world.listen();
        world.faulty->reset_counts();
        RawPeer peer = world.connect();
        CHECK(sends() == 1);
    }
    SECTION("eof_received") {
        world.listen();
        RawPeer peer = world.connect();
        world.last().keep_open = true;
        world.last().hooks["eof_received"] = ten;
        world.faulty->reset_counts();
        peer.finish_sending();
        world.until([&] { return !written.empty(); });
        CHECK(sends() == 1);
    }
    SECTION("idle_timeout") {
        world.listen();
        RawPeer peer = world.connect();
        world.last().hooks["idle_timeout"] = [&](Transport& transport) {
            transport.set_idle_timeout(0s);
            ten(transport);
        };
        world.faulty->reset_counts();
        world.transport().set_idle_timeout(1ms);
        while (written.empty())
            world.loop->run_once(true);
        CHECK(sends() == 1);
    }
    SECTION("draining") {
        world.listen();
        RawPeer peer = world.connect();
        world.last().hooks["draining"] = ten;
        world.faulty->reset_counts();
        auto drained = world.server.drain(1h);
        world.until([&] { return !written.empty(); });
        CHECK(sends() == 1);
        world.transport().close();
        world.settle();
    }
    const bool moved = GENERATE(false, true);
    SECTION("resume_writing") {
        world.listen();
        RawPeer peer = world.connect();
        RawPeer other = world.connect();
        Journal& slow = *world.journals[0];
        slow.transport->write(more_than_fits());
        std::size_t before = 0;
        slow.hooks["resume_writing"] = [&](Transport& transport) {
            before = sends();
            ten(transport);
        };
        std::size_t after = 0;
        if (moved) {
            // Inside a callback of another connection, which moves the marks of this one.
            world.journals[1]->hooks["data_received"] = [&](Transport& transport) {
                transport.write("before ");
                slow.transport->set_write_buffer_limits(64 << 20);
                after = sends();
                transport.write("after");
            };
            other.send("x");
            world.until([&] { return after != 0; });
            CHECK(after - before == 0); // behind what waits already
            world.until([&] {
                other.receive();
                return other.received == "before after";
            });
        } else {
            world.until([&] {
                peer.receive();
                return before != 0;
            });
            CHECK(sends() - before <= 1);
        }
        slow.transport->abort();
        world.settle();
    }
}
