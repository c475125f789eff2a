#include "stream_support.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

using namespace weft;
using namespace weft::test;
using sim::Call;

namespace {

/// Takes every descriptor that is left, until it is destroyed or `release` gives some back.
class Exhaustion {
public:
    explicit Exhaustion(Kernel& kernel) : kernel_(kernel) {
        if (auto* simulated = dynamic_cast<sim::SimKernel*>(&kernel)) {
            simulated->set_descriptor_limit(simulated->open_descriptors());
            return;
        }
        getrlimit(RLIMIT_NOFILE, &before_);
        int highest = 0;
        for (const auto& [fd, target] : open_descriptors())
            highest = std::max(highest, fd);
        const rlimit low{static_cast<rlim_t>(highest + 1), before_.rlim_max};
        setrlimit(RLIMIT_NOFILE, &low);
        for (;;) { // the gaps below
            const int fd = fcntl(0, F_DUPFD_CLOEXEC, 0);
            if (fd < 0) break;
            taken_.push_back(fd);
        }
    }
    ~Exhaustion() { end(); }
    void end() {
        for (const int fd : taken_)
            ::close(fd);
        taken_.clear();
        if (before_.rlim_cur != 0) setrlimit(RLIMIT_NOFILE, &before_);
        if (auto* simulated = dynamic_cast<sim::SimKernel*>(&kernel_))
            simulated->set_descriptor_limit(1 << 20);
    }

private:
    Kernel& kernel_;
    rlimit before_{};
    std::vector<int> taken_;
};

} // namespace

TEST_CASE(
    "Without descriptors newcomers are turned away, and the established are served [s100] [F1]") {
    WEFT_TEST_KERNEL(all_kernels);
    LogCapture log;
    World world(kernel_kind);
    world.listen();
    const Address address = world.server.addresses()[0];
    RawPeer established = world.connect();
    std::vector<RawPeer> newcomers;
    for (int i = 0; i < 20; ++i) { // the sockets are there; only accepting them takes descriptors
        const Sys made = world.loop.kernel.socket(AF_INET, SOCK_STREAM, 0);
        REQUIRE(made.ok());
        newcomers.emplace_back(world.loop.kernel, made.fd());
    }
    {
        Exhaustion exhaustion(world.loop.kernel);
        for (RawPeer& peer : newcomers)
            (void)world.loop.kernel.connect(peer.fd(), address);
        // No checks in here: they might want descriptors themselves.
        for (int turn = 0; turn < 100'000 && world.server.counters().shed < 20; ++turn)
            world.loop->run_once();
        (void)world.loop.kernel.send(established.fd(), "hello", 5);
        for (int turn = 0; turn < 100'000 && world.last().received != "hello"; ++turn)
            world.loop->run_once();
    }
    CHECK(world.server.counters().shed == 20);
    CHECK(world.last().received == "hello");
    CHECK(world.journals.size() == 1);
    for (RawPeer& peer : newcomers) {
        peer.receive_all(world.loop);
        CHECK(peer.ended);
    }
    const auto lines = log.taken();
    REQUIRE(lines.size() == 1); // not one per newcomer
    CHECK(lines[0] == "accepting on " + address.to_string() + ": " + errno_code(EMFILE).message() +
                          "; 1 connections are open");
    RawPeer later = world.connect();
    later.send("there is room again");
    world.until([&] { return world.last().received == "there is room again"; });
    CHECK(world.server.counters().pauses == 0);
}

TEST_CASE("No more than 64 are turned away per turn [F1] [F26]") {
    WEFT_TEST_KERNEL(all_kernels);
    LogCapture log;
    World world(kernel_kind);
    world.listen();
    std::vector<RawPeer> newcomers;
    for (int i = 0; i < 150; ++i)
        newcomers.push_back(RawPeer::connect(world.loop.kernel, world.server.addresses()[0]));
    std::uint64_t most = 0;
    {
        Exhaustion exhaustion(world.loop.kernel);
        for (int turn = 0; turn < 100'000 && world.server.counters().shed < 150; ++turn) {
            const std::uint64_t before = world.server.counters().shed;
            world.loop->run_once();
            most = std::max(most, world.server.counters().shed - before);
        }
    }
    CHECK(world.server.counters().shed == 150);
    CHECK(most <= 64);
}

TEST_CASE("Without a reserve accepting waits, for a timer or for a descriptor of ours [F1]") {
    LogCapture log;
    FaultyWorld world(KernelKind{
        "sim", []() -> std::unique_ptr<Kernel> { return std::make_unique<sim::SimKernel>(); }});
    world.listen();
    RawPeer established = world.connect();
    world.faulty->fail(Call::accept, EMFILE, 1, 1'000'000);
    world.faulty->fail(Call::open_reserve, EMFILE, 1, 1'000'000);
    RawPeer newcomer = RawPeer::connect(world.peers(), world.server.addresses()[0]);
    world.settle();
    CHECK(world.server.counters().pauses == 1);
    const std::uint64_t calls = world.faulty->calls(Call::accept);
    world.settle();
    CHECK(world.faulty->calls(Call::accept) == calls); // it sleeps
    const TimePoint start = world.loop->now();
    world.faulty->clear();
    SECTION("a connection closes, and the newcomer is accepted at once") {
        world.transport().close();
        world.until([&] { return world.journals.size() == 2; });
        CHECK(world.loop->now() == start);
    }
    SECTION("the timer") {
        while (world.journals.size() < 2)
            world.loop->run_once(true);
        CHECK(world.loop->now() - start == 100ms);
    }
    SECTION("the server is closed meanwhile") {
        world.server.close();
        CHECK(world.loop->stats().timers == 0);
        return;
    }
    // The reserve is back: the next shortage is met by turning newcomers away.
    if (world.loop->now() == start) return;
    world.faulty->fail(Call::accept, EMFILE);
    RawPeer third = RawPeer::connect(world.peers(), world.server.addresses()[0]);
    third.receive_all(world.loop);
    CHECK(third.ended);
    CHECK(world.server.counters().shed == 1);
}

TEST_CASE("A storm of connections that come and go leaves nothing behind [s100]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    world.prepare = [](Journal& journal) {
        journal.hooks["data_received"] = [](Transport& t) { t.write("bye"); };
    };
    world.listen();
    for (int round = 0; round < 30; ++round) {
        std::vector<RawPeer> peers;
        for (int i = 0; i < 10; ++i)
            peers.push_back(RawPeer::connect(world.loop.kernel, world.server.addresses()[0]));
        for (std::size_t i = 0; i < peers.size(); ++i) {
            if (i % 3 != 0) peers[i].send("x");
            if (i % 4 == 1) peers[i].finish_sending();
            if (i % 5 == 2) peers[i].reset();
        }
        if (round % 2 == 0) world.loop->run_once();
    }
    world.until([&] { return world.server.connections() == 0; });
    for (const auto& journal : world.journals) {
        CHECK(journal->count("made") == 1);
        CHECK(journal->count("lost") == 1);
        CHECK(journal->destroyed);
    }
    CHECK(world.loop.unhandled.empty());
    CHECK(world.loop->stats().sources == 1); // the listener
}
