#include "stream_support.hpp"

using namespace weft;
using namespace weft::test;

namespace {

/// More than the socket buffers take, so that something stays queued.
const std::string& big() {
    static const std::string text = pattern(8 << 20);
    return text;
}

} // namespace

TEST_CASE("close sends what is buffered and then ends cleanly, however often it is called [s89]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    world.transport().write(big());
    world.transport().close();
    world.transport().close();
    CHECK(world.transport().is_closing());
    world.settle();
    CHECK(!world.last().lost);
    peer.receive_all(world.loop);
    CHECK(peer.error == 0);
    CHECK((peer.received == big()));
    world.until([&] { return world.last().lost; });
    CHECK(!world.last().reason);
    world.settle();
    CHECK(world.last().count("lost") == 1);
}

TEST_CASE("abort drops what is buffered, resets, and hands on its reason [s89]") {
    WEFT_TEST_STREAM(streams_that_reset);
    const bool after_close = GENERATE(false, true);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    world.transport().write(big());
    if (after_close) world.transport().close();
    world.transport().abort(std::make_error_code(std::errc::owner_dead));
    world.transport().abort(Errc::aborted);
    world.transport().close();
    CHECK(world.transport().write_buffer_size() == 0);
    CHECK(!world.last().lost); // never before it returns
    world.loop->run_once();
    CHECK(world.last().lost);
    CHECK(world.last().reason == std::errc::owner_dead);
    peer.receive_all(world.loop);
    CHECK(peer.error == ECONNRESET);
    CHECK(peer.received.size() < big().size());
    CHECK(world.last().events == "made pause lost");
}

TEST_CASE("A close that cannot flush ends with the error when the peer goes [s89]") {
    WEFT_TEST_STREAM(streams_that_reset);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    world.transport().write(big());
    world.transport().close();
    peer.reset();
    world.until([&] { return world.last().lost; });
    CHECK(world.last().reason == std::errc::connection_reset);
    CHECK(world.loop.unhandled.empty());
}

TEST_CASE("An early answer reaches a peer that is still sending, without RST [F13]") {
    WEFT_TEST_STREAM(all_streams);
    const Linger::Mode mode =
        GENERATE(Linger::Mode::unread, Linger::Mode::always, Linger::Mode::never);
    World world(kernel_kind);
    world.prepare = [](Journal& journal) {
        journal.hooks["made"] = [](Transport& t) { t.pause_reading(); };
    };
    ListenOptions options;
    options.linger = Linger{.mode = mode};
    world.listen(std::move(options));
    RawPeer peer = world.connect();
    peer.send_some(pattern(200'000)); // a body that nobody wants
    world.settle();
    world.transport().write("413 Too Large");
    world.transport().close();
    world.settle();
    if (mode == Linger::Mode::never) {
        CHECK(world.last().lost);
        peer.receive_all(world.loop);
        CHECK(peer.error == ECONNRESET);
        return;
    }
    CHECK(!world.last().lost);
    for (int i = 0; i < 5; ++i) { // and goes on
        peer.send_some(pattern(10'000));
        world.settle();
    }
    peer.receive_all(world.loop);
    CHECK(peer.received == "413 Too Large");
    CHECK(peer.error == 0);
    peer.close();
    world.until([&] { return world.last().lost; });
    CHECK(!world.last().reason);
    CHECK(world.last().events == "made lost");
}

TEST_CASE("A lingering close ends after its time or its bytes [F13]") {
    World world([] { return std::make_unique<sim::SimKernel>(); });
    world.prepare = [](Journal& journal) {
        journal.hooks["made"] = [](Transport& t) { t.pause_reading(); };
    };
    ListenOptions options;
    options.linger = Linger{.mode = Linger::Mode::unread, .bytes = 100'000, .timeout = 3s};
    world.listen(std::move(options));
    RawPeer peer = world.connect();
    peer.send("unread");
    world.settle();
    const TimePoint start = world.loop->now();
    world.transport().close();
    SECTION("time") {
        while (!world.last().lost)
            world.loop->run_once(true);
        CHECK(world.loop->now() - start == 3s);
    }
    SECTION("bytes") {
        std::size_t sent = 0;
        while (!world.last().lost) {
            sent += peer.send_some(pattern(10'000));
            world.loop->run_once();
            REQUIRE(sent < 1'000'000);
        }
        CHECK(sent > 90'000);
        CHECK(world.loop->now() == start);
    }
    SECTION("abort") {
        world.settle();
        world.transport().abort(Errc::aborted);
        world.loop->run_once();
        CHECK(world.last().lost);
        CHECK(world.loop->now() == start);
    }
    CHECK(world.last().count("lost") == 1);
}

TEST_CASE("A connection that closed with all input read does not linger [F13]") {
    WEFT_TEST_STREAM(tcp_streams);
    FaultyWorld world(kernel_kind);
    world.prepare = [](Journal& journal) {
        journal.hooks["data_received"] = [](Transport& t) {
            t.write("answer");
            t.close();
        };
    };
    world.listen();
    RawPeer peer = world.connect();
    world.faulty->reset_counts();
    peer.send("request");
    world.until([&] { return world.last().lost; });
    CHECK(world.faulty->calls(sim::Call::recv) == 1);
    CHECK(world.faulty->calls(sim::Call::send) == 1);
    CHECK(world.faulty->calls(sim::Call::shutdown_write) == 0);
    CHECK(world.faulty->calls(sim::Call::close) == 1);
}

TEST_CASE(
    "Closing a connection inside another's callback leaves that one's data alone [F7] [F13]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    world.listen();
    RawPeer first = world.connect();
    RawPeer second = world.connect();
    world.journals[1]->transport->pause_reading();
    second.send(std::string(10'000, 'U'));
    world.settle(); // the second one has unread input now, and would linger
    std::string seen;
    struct Looker final : Protocol {
        Looker(std::string& s, Transport& o) : seen(s), other(o) {}
        void data_received(Bytes data) override {
            other.close();
            seen = text_of(data);
        }
        std::string& seen;
        Transport& other;
    };
    const auto old = world.journals[0]->transport->set_protocol(
        std::make_unique<Looker>(seen, *world.journals[1]->transport));
    const std::string text = pattern(1000);
    first.send(text);
    world.until([&] { return !seen.empty(); });
    CHECK(seen == text);
    second.close();
    world.until([&] { return world.journals[1]->lost; });
}

TEST_CASE("Callbacks that end their neighbours of the same batch are safe [F4] [F7]") {
    WEFT_TEST_KERNEL(all_kernels);
    const bool abort = GENERATE(false, true);
    World world(kernel_kind);
    world.listen();
    std::vector<RawPeer> peers;
    for (int i = 0; i < 20; ++i)
        peers.push_back(world.connect());
    std::size_t data = 0;
    for (auto& journal : world.journals)
        journal->hooks["data_received"] = [&](Transport&) {
            ++data;
            for (auto& other : world.journals)
                if (other->transport)
                    abort ? other->transport->abort({}) : other->transport->close();
        };
    for (RawPeer& peer : peers)
        peer.send("x");
    world.until([&] { return data > 0; });
    for (RawPeer& peer : peers)
        peer.close();
    world.until([&] { return world.server.connections() == 0; });
    CHECK(data == 1);
    for (auto& journal : world.journals)
        CHECK(journal->count("lost") == 1);
}

TEST_CASE("What a transport says of itself is true at every step, to the end [s94]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    const std::string end = GENERATE("close", "reset");
    Address local, peer_name;
    int fd = -1;
    world.prepare = [&](Journal& journal) {
        journal.hooks["made"] = [&](Transport& t) {
            CHECK(!t.is_closing());
            CHECK(t.is_reading());
            local = t.local_address();
            peer_name = t.peer_address();
            fd = t.fd();
            CHECK(&t.loop() == &world.loop.loop);
            CHECK(!t.peer_credentials());
        };
        journal.hooks["lost"] = [&](Transport& t) {
            CHECK(t.is_closing());
            CHECK(!t.is_reading());
            CHECK(t.local_address() == local);
            CHECK(t.peer_address() == peer_name);
            CHECK(t.fd() == fd);
            CHECK(t.ref().get() == &t);
            // All of these are harmless now.
            t.write("x");
            t.write_eof();
            t.close();
            t.abort(Errc::aborted);
            t.pause_reading();
            t.resume_reading();
            t.unread(bytes_of("x"));
            t.set_idle_timeout(1s);
            t.set_linger({});
            std::array<std::byte, 8> room;
            CHECK(t.try_read(room).state == ReadResult::State::failed);
        };
    };
    world.listen();
    RawPeer peer = world.connect();
    CHECK(local == world.server.addresses()[0]);
    Address of_peer;
    REQUIRE(world.loop.kernel.local_address(peer.fd(), of_peer).ok());
    CHECK(peer_name == of_peer);
    CHECK(fd >= 0);
    const TransportRef ref = world.transport().ref();
    if (end == "close") {
        world.transport().close();
        CHECK(world.transport().is_closing());
    } else {
        peer.reset();
    }
    world.until([&] { return world.last().lost; });
    CHECK(world.last().destroyed);
    CHECK(ref.get() == nullptr);
    CHECK(!ref);
    RawPeer next = world.connect(); // may well get the same slot
    CHECK(ref.get() == nullptr);
    CHECK(world.last().ref.get() == world.last().transport);
}

TEST_CASE("References outlive the loop and are empty then [s94]") {
    TransportRef ref;
    {
        World world([] { return std::make_unique<sim::SimKernel>(); });
        world.listen();
        RawPeer peer = world.connect();
        ref = world.last().ref;
        CHECK(ref.get() != nullptr);
    }
    CHECK(ref.get() == nullptr);
    CHECK(TransportRef().get() == nullptr);
}

TEST_CASE("The idle timeout comes after silence in both directions, not before [F24]") {
    World world([] { return std::make_unique<sim::SimKernel>(); });
    ListenOptions options;
    options.idle_timeout = 10s;
    world.listen(std::move(options));
    RawPeer peer = world.connect();
    const TimePoint start = world.loop->now();
    const auto run_until_lost = [&] {
        while (!world.last().lost)
            world.loop->run_once(true);
        return world.loop->now() - start;
    };
    const auto at = [&](Duration when, Function<void()> what) {
        world.loop->call_later(when, std::move(what)).detach();
    };
    SECTION("nothing happens") {
        CHECK(run_until_lost() == 10s);
        CHECK(world.last().reason == std::errc::timed_out);
        peer.receive_all(world.loop);
        CHECK(peer.ended); // an orderly end: there was nothing that a reset could drop
    }
    SECTION("something is received") {
        at(7s, [&] { peer.send("x"); });
        CHECK(run_until_lost() == 17s);
    }
    SECTION("something is sent") {
        at(9s, [&] { world.transport().write("x"); });
        CHECK(run_until_lost() == 19s);
    }
    SECTION("what the kernel does not take is no activity [F24]") {
        at(1s, [&] { world.transport().write(big()); });
        at(5s, [&] { world.transport().write("more"); });
        CHECK(run_until_lost() == 11s);
        CHECK(world.last().reason == std::errc::timed_out);
        peer.receive_all(world.loop);
        CHECK(peer.error == ECONNRESET);
    }
    SECTION("a close that can not flush is given up, too") {
        at(2s, [&] {
            world.transport().write(big());
            world.transport().close();
        });
        CHECK(run_until_lost() == 12s);
    }
    SECTION("called off, and set anew") {
        at(5s, [&] { world.transport().set_idle_timeout(0s); });
        at(100s, [&] { world.transport().set_idle_timeout(1s); });
        CHECK(run_until_lost() == 101s);
    }
    SECTION("a protocol of its own mind is told again and again") {
        int told = 0;
        world.last().hooks["idle_timeout"] = [&](Transport& t) {
            if (++told == 3) t.close();
        };
        CHECK(run_until_lost() == 30s);
        CHECK(world.last().events == "made idle idle idle lost");
        CHECK(!world.last().reason);
    }
    CHECK(world.loop->stats().timers == 0);
}

TEST_CASE("An idle timeout costs no timer call per event [F24]") {
    World world([] { return std::make_unique<sim::SimKernel>(); });
    ListenOptions options;
    options.idle_timeout = 10s;
    world.listen(std::move(options));
    RawPeer peer = world.connect();
    const auto deadline = world.loop->next_deadline();
    for (int i = 0; i < 100; ++i) {
        peer.send("x");
        world.settle();
        dynamic_cast<sim::SimKernel&>(world.loop.kernel).advance(1ms);
        CHECK(world.loop->next_deadline() == deadline);
    }
}

TEST_CASE("A loop that ends tells every connection once and leaves nothing behind [F34]") {
    WEFT_TEST_KERNEL(all_kernels);
    std::vector<std::shared_ptr<Journal>> journals;
    std::vector<Future<void>> waiting;
    std::optional<Server> survivor;
    {
        World world(kernel_kind);
        ListenOptions options;
        options.idle_timeout = 1h;
        world.listen(std::move(options));
        std::vector<RawPeer> peers;
        for (int i = 0; i < 6; ++i)
            peers.push_back(world.connect());
        journals = world.journals;
        journals[0]->transport->write(big());
        waiting.push_back(journals[0]->transport->drain());
        journals[1]->transport->write(big());
        journals[1]->transport->close();
        peers[2].send("unread");
        journals[3]->transport->pause_reading();
        peers[3].send("unread");
        world.settle();
        journals[3]->transport->close(); // lingers
        journals[4]->transport->abort({});
        journals[5]->hooks["lost"] = [](Transport&) { throw std::runtime_error("no"); };
        waiting.push_back(world.server.wait_closed());
        for (RawPeer& peer : peers)
            peer.close();
        survivor = std::move(world.server);
    }
    for (const auto& journal : journals) {
        CHECK(journal->count("lost") == 1);
        CHECK(journal->destroyed);
    }
    CHECK(journals[0]->reason == Errc::aborted);
    CHECK(waiting[0].error_code() == Errc::aborted);
    CHECK(waiting[1].done());
    // The handle of a server may outlive its loop.
    CHECK(!survivor->listening());
    CHECK(survivor->addresses().empty());
    CHECK(survivor->connections() == 0);
    survivor->resume_accepting();
    survivor->close_clients();
    survivor->close();
    CHECK_THROWS_WITH(survivor->wait_closed(), "wait_closed: the loop is closed");
    CHECK_THROWS_WITH(survivor->drain(1s), "drain: the loop is closed");
}
