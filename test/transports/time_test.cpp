#include "connect_support.hpp"

using namespace weft;
using namespace weft::test;

namespace {

sim::SimKernel& clock_of(World& world) {
    return dynamic_cast<sim::SimKernel&>(world.loop.kernel);
}

/// Runs until the last connection is lost: how long that took.
Duration until_lost(World& world, TimePoint from) {
    while (!world.last().lost)
        world.loop->run_once(true);
    return world.loop->now() - from;
}

} // namespace

TEST_CASE("A callback that takes longer than the idle time-out does not make its connection idle "
          "[s121]") {
    World world(simulated_kernels().front());
    ListenOptions options;
    options.idle_timeout = 300ms;
    world.prepare = [&](Journal& journal) {
        journal.hooks["data_received"] = [&](Transport&) { clock_of(world).advance(400ms); };
    };
    world.listen(std::move(options));
    RawPeer peer = world.connect();
    for (int i = 0; i < 3; ++i) {
        peer.send("x");
        world.loop->run_once();
        world.loop->run_once();
        CHECK(!world.last().lost);
    }
    const TimePoint start = world.loop->now();
    CHECK(until_lost(world, start) == 300ms);
}

TEST_CASE("What blocks the loop does not make a peer idle that has sent meanwhile [s121]") {
    World world(simulated_kernels().front());
    ListenOptions options;
    options.idle_timeout = 300ms;
    world.listen(std::move(options));
    RawPeer peer = world.connect();
    world.loop->call_soon([&] {
        clock_of(world).advance(1h);
        peer.send("x");
    });
    world.settle();
    CHECK(!world.last().lost);
    CHECK(world.last().received == "x");
}

TEST_CASE("An idle time-out waits for those whose events did not fit into one look at the kernel "
          "[s121]") {
    World world(simulated_kernels().front());
    ListenOptions options;
    options.idle_timeout = 300ms;
    world.listen(std::move(options));
    std::vector<RawPeer> peers;
    for (int i = 0; i < 1300; ++i)
        peers.push_back(world.connect());
    world.settle();
    world.loop->call_soon([&] {
        clock_of(world).advance(1h);
        for (RawPeer& peer : peers)
            peer.send("x");
    });
    world.settle();
    std::size_t lost = 0;
    for (const auto& journal : world.journals)
        lost += journal->lost ? 1 : 0;
    CHECK(lost == 0);
    world.loop->call_soon([&] { clock_of(world).advance(1h); });
    world.settle();
    for (const auto& journal : world.journals)
        lost += journal->lost ? 1 : 0;
    CHECK(lost == peers.size());
}

TEST_CASE("A time-out that is set late in a long callback counts from there [s121]") {
    World world(simulated_kernels().front());
    TimePoint asked{};
    world.prepare = [&](Journal& journal) {
        journal.hooks["data_received"] = [&](Transport& t) {
            clock_of(world).advance(120ms);
            t.set_idle_timeout(100ms);
            asked = world.loop.kernel.now();
        };
    };
    world.listen();
    RawPeer peer = world.connect();
    peer.send("x");
    CHECK(until_lost(world, TimePoint()) >= asked.time_since_epoch() + 100ms);
    CHECK(world.loop->now() - asked == 100ms);
}

TEST_CASE(
    "A lingering close, a drain and the time between accepts count from where they begin [s121]") {
    World world(simulated_kernels().front());
    world.prepare = [](Journal& journal) {
        journal.hooks["made"] = [](Transport& t) { t.pause_reading(); };
        journal.hooks["draining"] = [](Transport&) {}; // goes on
    };
    ListenOptions options;
    options.linger = Linger{.mode = Linger::Mode::unread, .bytes = 100'000, .timeout = 3s};
    world.listen(std::move(options));
    RawPeer peer = world.connect();
    TimePoint begun{};
    SECTION("linger") {
        peer.send("unread");
        world.settle();
        world.loop->call_soon([&] {
            clock_of(world).advance(10s);
            begun = world.loop.kernel.now();
            world.transport().close();
        });
        (void)until_lost(world, begun);
        CHECK(world.loop->now() - begun == 3s);
    }
    SECTION("drain") {
        Future<std::size_t> drained;
        world.loop->call_soon([&] {
            clock_of(world).advance(10s);
            begun = world.loop.kernel.now();
            drained = world.server.drain(5s);
        });
        (void)until_lost(world, begun);
        CHECK(world.loop->now() - begun == 5s);
        CHECK(world.last().reason == std::errc::timed_out);
        world.settle();
        CHECK(drained.done());
    }
}

TEST_CASE("A connect that is begun late in a long callback has all of its time [s121]") {
    TestLoop loop(simulated_kernels().front());
    const Address silent = parsed("10.0.0.1:80"), other = parsed("10.0.0.2:80");
    loop.sim().blackhole(silent);
    loop.sim().blackhole(other);
    Side side;
    ConnectOptions options;
    options.timeout = 100ms;
    Future<TransportRef> future;
    TimePoint begun{};
    loop->call_soon([&] {
        loop.sim().advance(150ms);
        begun = loop.kernel.now();
        const Address both[] = {silent, other};
        future = tcp::connect(loop, both, side.protocol(), options);
    });
    loop->run_once();
    while (!future.done())
        loop->run_once(true);
    CHECK(loop->now() - begun == 100ms);
    CHECK(future.error_code() == std::errc::timed_out);
}

TEST_CASE("A transport's huge durations are for ever [s121]") {
    const Duration huge = GENERATE(Duration::max(), Duration(std::chrono::seconds::max()),
                                   Duration(std::chrono::years(300)));
    World world(simulated_kernels().front());
    ListenOptions listening;
    listening.idle_timeout = huge;
    listening.linger = Linger{.mode = Linger::Mode::always, .bytes = 1000, .timeout = huge};
    world.prepare = [](Journal& journal) { journal.hooks["draining"] = [](Transport&) {}; };
    world.listen(std::move(listening));
    RawPeer peer = world.connect();
    ConnectOptions options;
    options.timeout = huge;
    options.attempt_delay = huge;
    const Address silent = parsed("10.0.0.1:80");
    clock_of(world).blackhole(silent);
    Side side;
    auto connecting = tcp::connect(world.loop, std::array{silent, parsed("10.0.0.2:80")},
                                   side.protocol(), options);
    auto drained = world.server.drain(huge);
    const auto wait = [&](Duration time) {
        auto end = world.loop->call_later(time, [&] { world.loop->stop(); });
        world.loop->run();
    };
    wait(100s);
    CHECK(!drained.done());
    CHECK(!connecting.done());
    CHECK(!world.last().lost);
    world.transport().close(); // lingers
    wait(1000h);
    CHECK(!world.last().lost);
    peer.close();
    wait(1s);
    CHECK(world.last().lost);
    CHECK(drained.result() == 0);
    connecting.cancel();
    world.settle();
}
