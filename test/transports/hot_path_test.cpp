#include "stream_support.hpp"
#include "support/heap.hpp"

#include <unwind.h>

using namespace weft;
using namespace weft::test;
using sim::Call;

namespace {

struct Echo final : Protocol {
    void connection_made(Transport& made) override { transport = &made; }
    void data_received(Bytes data) override { transport->write(data); }
    Transport* transport = nullptr;
};

void listen_for_echo(World& world) {
    auto listening =
        tcp::listen(world.loop, "127.0.0.1:0", [] { return std::make_unique<Echo>(); });
    REQUIRE(listening.ok());
    world.server = std::move(*listening);
}

/// One request and its answer, without allocating; a check would. Whether it came.
bool round_trip(World& world, RawPeer& peer, std::string_view request) {
    std::array<char, 4096> answer;
    if (!world.peers().send(peer.fd(), request.data(), request.size()).ok()) return false;
    std::size_t got = 0;
    for (int turn = 0; turn < 100'000 && got < request.size(); ++turn) {
        world.loop->run_once();
        const Sys some = world.peers().recv(peer.fd(), answer.data() + got, answer.size() - got);
        if (some.ok()) got += some.count();
    }
    return got == request.size();
}

} // namespace

TEST_CASE("A request on a warm connection costs one receive, one send and no allocation") {
    WEFT_TEST_KERNEL(all_kernels);
    FaultyWorld world(kernel_kind);
    listen_for_echo(world);
    RawPeer peer = RawPeer::connect(world.peers(), world.server.addresses()[0]);
    int answered = 0;
    for (int i = 0; i < 10; ++i)
        answered += round_trip(world, peer, "warm up");
    const std::string request = pattern(64);
    world.faulty->reset_counts();
    const AllocationCount allocations;
    for (int i = 0; i < 100; ++i)
        answered += round_trip(world, peer, request);
    const std::size_t allocated = allocations.count();
    CHECK(answered == 110);
    CHECK(world.faulty->calls(Call::recv) == 100);
    CHECK(world.faulty->calls(Call::send) == 100);
    for (const Call call : {Call::sendv, Call::add, Call::modify, Call::remove, Call::wake,
                            Call::arm, Call::get_option, Call::set_option, Call::local_address})
        CHECK(world.faulty->calls(call) == 0);
    // The simulated network and poll(2) do work of their own for an event; neither is the
    // transport's.
    if (kernel_kind.name != std::string_view("sim")) CHECK(allocated == 0);
    // The loopback of a busy system may need a second look.
    if (kernel_kind.name == std::string_view("sim")) CHECK(world.faulty->calls(Call::wait) == 100);
}

TEST_CASE("A connection is registered once in its life, whatever it does [F35]") {
    WEFT_TEST_KERNEL(all_kernels);
    FaultyWorld world(kernel_kind);
    world.listen();
    world.faulty->reset_counts();
    {
        RawPeer peer = world.connect();
        Transport& t = world.transport();
        peer.send("x");
        world.until([&] { return world.last().received == "x"; });
        t.pause_reading();
        peer.send("y");
        world.settle();
        t.resume_reading();
        const std::string big = pattern(8 << 20);
        t.write(big);
        world.until([&] {
            peer.receive();
            return peer.received.size() == big.size();
        });
        t.close();
        world.until([&] { return world.last().lost; });
    }
    CHECK(world.faulty->calls(Call::add) == 1);
    CHECK(world.faulty->calls(Call::modify) == 0);
    CHECK(world.faulty->calls(Call::remove) == 0);
}

TEST_CASE("What one callback writes leaves with one send, of a batch of requests too [s87]") {
    WEFT_TEST_KERNEL(all_kernels);
    FaultyWorld world(kernel_kind);
    world.prepare = [](Journal& journal) {
        journal.hooks["data_received"] = [&journal](Transport& t) {
            const std::string before = t.peer_address().to_string(); // anything in between is fine
            for (std::size_t i = 0; i < journal.chunks.back(); ++i) {
                t.write("answer ");
                CHECK(t.write_buffer_size() == 7 * (i + 1));
            }
        };
    };
    world.listen();
    RawPeer peer = world.connect();
    world.faulty->reset_counts();
    peer.send(std::string(16, '?')); // sixteen requests
    world.until([&] {
        peer.receive();
        return peer.received.size() == 16 * 7;
    });
    CHECK(world.faulty->calls(Call::recv) == 1);
    CHECK(world.faulty->calls(Call::send) == 1);
    CHECK(world.faulty->calls(Call::sendv) == 0);
}

TEST_CASE("More than the gathering buffer holds leaves in few sends and in order [s87]") {
    WEFT_TEST_KERNEL(all_kernels);
    FaultyWorld world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    std::string expected;
    const std::size_t size = GENERATE(1, 1000, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 40'000);
    const std::string piece = pattern(size);
    world.last().hooks["data_received"] = [&](Transport& t) {
        for (int i = 0; i < 40 && expected.size() < 50'000; ++i) {
            t.write(piece);
            expected += piece;
        }
        world.faulty->reset_counts();
    };
    peer.send("go");
    world.until([&] {
        peer.receive();
        return !expected.empty() && peer.received.size() == expected.size();
    });
    CHECK((peer.received == expected));
    CHECK(world.faulty->calls(Call::send) + world.faulty->calls(Call::sendv) <= 2);
}

TEST_CASE("Another connection's callback writes to this one at once, without gathering [s87]") {
    WEFT_TEST_KERNEL(all_kernels);
    FaultyWorld world(kernel_kind);
    world.listen();
    RawPeer first = world.connect();
    RawPeer second = world.connect();
    world.journals[0]->hooks["data_received"] = [&](Transport& t) {
        t.write("to myself");
        world.faulty->reset_counts();
        world.journals[1]->transport->write("to the other");
        CHECK(world.faulty->calls(Call::send) == 1);
    };
    first.send("x");
    world.until([&] {
        first.receive();
        second.receive();
        return !first.received.empty() && !second.received.empty();
    });
    CHECK(first.received == "to myself");
    CHECK(second.received == "to the other");
}

TEST_CASE("What a callback of any way of reading writes leaves with one send [s126]") {
    WEFT_TEST_KERNEL(all_kernels);
    const auto where =
        GENERATE(as<std::string>(), "data_received", "get_buffer", "buffer_updated", "read_ready");
    INFO(where);
    FaultyWorld world(kernel_kind);
    int calls = 0;
    world.prepare = [&](Journal& journal) {
        journal.reading = where == "data_received" ? Reading::push
                          : where == "read_ready"  ? Reading::pull
                                                   : Reading::buffered;
        journal.hooks[where] = [&](Transport& transport) {
            std::array<std::byte, 64> taken;
            while (where == "read_ready" && transport.try_read(taken).size > 0) {
            }
            ++calls;
            for (int i = 0; i < 3; ++i)
                transport.write("line\n");
        };
    };
    world.listen();
    RawPeer peer = world.connect();
    for (std::size_t round = 1; round <= 10; ++round) {
        world.faulty->reset_counts();
        calls = 0;
        peer.send("x");
        peer.received.clear();
        world.until([&] {
            peer.receive();
            return calls > 0 && peer.received.size() == static_cast<std::size_t>(calls) * 15;
        });
        // A buffer is asked for once more where a read has to find out that there is nothing.
        CHECK(calls <= (where == "get_buffer" ? 2 : 1));
        CHECK(world.faulty->calls(Call::send) == static_cast<std::size_t>(calls));
        CHECK(world.faulty->calls(Call::sendv) == 0);
    }
}

TEST_CASE(
    "What is written outside of a connection's callbacks has been sent when write returns [s87]") {
    WEFT_TEST_KERNEL(all_kernels);
    const auto where =
        GENERATE(as<std::string>(), "timer", "call_soon", "post", "watch", "future", "no callback");
    INFO(where);
    FaultyWorld world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    Loop& loop = world.loop;
    Transport& transport = world.transport();
    int written = 0;
    const auto write = [&] {
        for (; written < 3; ++written) {
            const auto before = world.faulty->calls(Call::send);
            transport.write("line\n");
            CHECK(transport.write_buffer_size() == 0);
            CHECK(world.faulty->calls(Call::send) == before + 1);
        }
    };
    SocketPair pair(world.peers());
    Watch watch;
    Timer timer;
    Promise<void> promise(loop);
    Future<void> after;
    if (where == "timer") timer = loop.call_later(1ms, write);
    if (where == "call_soon") loop.call_soon(write);
    if (where == "post") loop.remote()->post(write);
    if (where == "watch") {
        watch = loop.watch(pair.near).value();
        watch.on_readable([&] {
            write();
            watch.cancel();
        });
        pair.send("x");
    }
    if (where == "future") {
        after = promise.future().then(write);
        promise.set_value();
    }
    if (where == "no callback") write();
    while (written < 3)
        loop.run_once(true);
    world.until([&] {
        peer.receive();
        return peer.received == "line\nline\nline\n";
    });
}

TEST_CASE("What is written behind a queue leaves with it, also inside pause_writing [s126] [F16]") {
    WEFT_TEST_KERNEL(all_kernels);
    FaultyWorld world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    Transport& transport = world.transport();
    std::string written = pattern(8 << 20);
    world.last().hooks["pause_writing"] = [&](Transport& paused) {
        world.faulty->reset_counts();
        for (int i = 0; i < 1000; ++i)
            paused.write("line\n");
        CHECK(world.faulty->calls(Call::send) + world.faulty->calls(Call::sendv) == 0);
    };
    transport.write(written);
    for (int i = 0; i < 1000; ++i)
        written += "line\n";
    CHECK(world.last().count("pause") == 1);
    // When no more than the lines and a little before them waits, one send takes it.
    std::size_t before = 0;
    world.until([&] {
        if (transport.write_buffer_size() > 64 * 1024) before = world.faulty->calls(Call::sendv);
        peer.receive(32 * 1024);
        return peer.received.size() == written.size();
    });
    CHECK((peer.received == written));
    CHECK(world.faulty->calls(Call::send) == 0);
    CHECK(world.faulty->calls(Call::sendv) - before <= 8);
}

namespace {

// The functions on the stack, innermost first, by their start.
std::vector<const void*> stack() {
    std::vector<const void*> frames;
    _Unwind_Backtrace(
        [](_Unwind_Context* context, void* into) {
            // The return address may be the first byte of the next function.
            auto* address = reinterpret_cast<void*>(_Unwind_GetIP(context) - 1);
            static_cast<std::vector<const void*>*>(into)->push_back(
                _Unwind_FindEnclosingFunction(address));
            return _URC_NO_REASON;
        },
        &frames);
    return frames;
}

std::vector<const void*> seen;

struct Looker final : Protocol {
    void data_received(Bytes) override;
};
[[gnu::noinline, maybe_unused]] void Looker::data_received(Bytes) {
    seen = stack();
}

[[gnu::noinline, maybe_unused]] void run_the_loop(Loop& loop) {
    loop.run();
    // Something after the call, so that it is no jump.
    CHECK(!loop.running());
}

} // namespace

TEST_CASE("Between run and data_received there are three functions of the library at most") {
#if !defined(__OPTIMIZE__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    WARN("skipped: this is a promise of optimized builds without sanitizers");
#else
    HostLoop loop(&make_default_kernel);
    auto server = tcp::listen(loop, "127.0.0.1:0", [] { return std::make_unique<Looker>(); });
    REQUIRE(server.ok());
    RawPeer peer = RawPeer::connect(loop.kernel, server->addresses()[0]);
    until(loop, [&] { return server->connections() == 1; });
    peer.send("x");
    const Timer end = loop->call_every(1ms, [&] {
        if (!seen.empty()) loop->stop();
    });
    run_the_loop(loop);
    const auto here = std::find(seen.begin(), seen.end(), reinterpret_cast<void*>(&run_the_loop));
    REQUIRE(here != seen.end());
    // stack() and data_received itself come first, run last; where run calls only one function the
    // compiler may have made them one.
    const auto between = (here - seen.begin()) - 3;
    INFO(between << " functions between");
    CHECK(between <= 3);
    CHECK(between >= 1);
#endif
}
