#include "stream_support.hpp"

using namespace weft;
using namespace weft::test;

// Counted in turns of the loop, not in time.

TEST_CASE("A connection that floods does not keep others, timers or callbacks waiting [F19]") {
    WEFT_TEST_KERNEL(all_kernels);
    const Reading reading = GENERATE(Reading::push, Reading::buffered);
    LoopOptions options;
    options.receive_buffer = 512; // small, so that what one socket holds is a flood
    options.reads_per_turn = 4;
    World world(kernel_kind, std::move(options));
    world.prepare = [&](Journal& journal) {
        journal.reading = reading;
        if (reading == Reading::buffered) journal.hooks["get_buffer"] = [](Transport&) {};
    };
    world.listen();
    RawPeer flooder = world.connect();
    RawPeer neighbour = world.connect();
    Journal& flood = *world.journals[0];
    Journal& quiet = *world.journals[1];
    std::size_t sent = 0;
    const std::string block = pattern(50'000);
    std::size_t before = 0;
    for (int request = 1; request <= 50; ++request) {
        sent += flooder.send_some(block);
        neighbour.send("x");
        int timers = 0, callbacks = 0;
        const Timer timer = world.loop->call_later(0ns, [&] { ++timers; });
        world.loop->call_soon([&] { ++callbacks; });
        int turns = 0;
        while (quiet.received.size() < std::size_t(request) || timers == 0 || callbacks == 0) {
            before = flood.chunks.size();
            world.loop->run_once();
            ++turns;
            // Its own event, and what an earlier turn had put off.
            CHECK(flood.chunks.size() - before <= 2 * 4);
            REQUIRE(turns < 1000);
        }
        // One turn may pass without a look at the kernel, because callbacks were queued.
        if (kernel_kind.name == std::string_view("sim")) CHECK(turns <= 2);
        CHECK(flood.received.size() < sent);
    }
    world.until([&] { return flood.received.size() == sent; });
}

TEST_CASE("Discarding a flood after close is bounded per turn as well [F13] [F19]") {
    LoopOptions options;
    options.receive_buffer = 512;
    options.reads_per_turn = 4;
    World world([] { return std::make_unique<sim::SimKernel>(); }, std::move(options));
    world.prepare = [](Journal& journal) {
        journal.hooks["made"] = [](Transport& t) { t.pause_reading(); };
    };
    world.listen();
    RawPeer peer = world.connect();
    peer.send(pattern(50'000));
    world.settle();
    world.transport().close();
    peer.close();
    int turns = 0;
    while (!world.last().lost && turns < 1000) {
        world.loop->run_once();
        ++turns;
    }
    CHECK(turns >= 50'000 / (512 * 4));
    CHECK(turns < 100);
}

TEST_CASE("A crowd of new connections is taken 64 at a time, and timers fire in between [F26]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    ListenOptions options;
    options.backlog = 512;
    world.listen(std::move(options));
    std::vector<RawPeer> crowd;
    for (int i = 0; i < 200; ++i)
        crowd.push_back(RawPeer::connect(world.loop.kernel, world.server.addresses()[0]));
    while (world.journals.size() < crowd.size()) {
        const std::size_t before = world.journals.size();
        bool fired = false;
        const Timer timer = world.loop->call_later(0ns, [&] { fired = true; });
        world.loop->run_once();
        CHECK(world.journals.size() - before <= 64);
        CHECK(fired);
    }
    // And reading is not kept waiting by accepting: everybody is served in the same turns.
    for (RawPeer& peer : crowd)
        peer.send("x");
    world.until([&] {
        return std::all_of(world.journals.begin(), world.journals.end(),
                           [](const auto& journal) { return journal->received == "x"; });
    });
}
