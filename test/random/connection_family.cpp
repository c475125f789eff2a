// A connection's whole API, from every callback and from outside, on both of its ends, against a
// model of the contract: which callbacks may come and in what order, which bytes, and what has to
// have arrived at the end.

#include "connection_model.hpp"

#include <weft/reactor/loop_core.hpp>

#include <cerrno>
#include <sys/socket.h>
#include <unistd.h>

using namespace weft;
using namespace weft::test;

namespace {

// What a user may do with a connection, from wherever the chance says.
void act(Side& side, Round& round) {
    Random& random = round.random;
    if (side.transport == nullptr) return;
    const std::uint64_t what = random.below(100);
    if (what < 26) return side.write(random.one_in(4) ? random.size(200000) : random.size(3000));
    if (what < 36) return side.write_pieces();
    if (what < 42) return side.send_file(random.size(150000));
    if (what < 50) return side.pause_reading();
    if (what < 60) return side.resume_reading();
    if (what < 65) return side.try_read();
    if (what < 69) return side.unread();
    if (what < 74) return side.exchange();
    if (what < 80) return side.set_limits();
    if (what < 86) return side.drain();
    if (what < 87) return side.set_idle_timeout();
    if (what < 88) return side.set_linger();
    if (what < 89) return side.change_reading();
    if (what < 90) return side.look();
    if (what < 91) return side.gather();
    if (what < 92) return side.world->use_server();
    // Ends are rare, so that most rounds see much before.
    if (!random.one_in(8)) return;
    if (what < 94) return side.write_eof();
    if (what < 97) return random.one_in(2) ? side.close() : side.close_within();
    if (what < 98) return side.abort();
    if (what < 99) return side.cancel_file();
    if (side.in_callback != 0) {
        round.operation("throw");
        side.ended_badly = true;
        throw std::runtime_error("thrown by the family");
    }
}

// The first side is a server's connection, the second has connected to it.
void connect_to_server(Round& round, Loop& loop, World& world) {
    const bool path = round.random.one_in(2);
    round.note("through a server, Unix: %", path);
    const std::string name = "@weft-random-" + std::to_string(::getpid());
    auto factory = [&world]() -> std::unique_ptr<Protocol> {
        return world.sides[0].actor == nullptr ? world.protocol(0) : nullptr;
    };
    auto server =
        path ? unix_socket::listen(loop, name, factory) : tcp::listen(loop, "127.0.0.1:0", factory);
    RANDOM_CHECK(server.ok(), server.error().message());
    world.server = std::move(*server);
    const std::string address = world.server->addresses().at(0).to_string();
    world.connecting = weft::connect(loop, address, world.protocol(1));
}

// A pair over what the chance says; both are made when the next turns are over.
void connect(Round& round, Loop& loop, World& world) {
    Random& random = round.random;
    const auto kind = random.below(4);
    if (kind == 3) return connect_to_server(round, loop, world);
    const auto small = random.one_in(2);
    round.note("a pair over % (0 memory, 1 Unix, 2 TCP), small buffers: %",
               static_cast<std::int64_t>(kind), small);
    auto first = world.protocol(0), second = world.protocol(1);
    if (kind == 0) {
        (void)connected_pair(loop, std::move(first), std::move(second));
        return;
    }
    Kernel& kernel = weft::detail::core_of(loop).kernel();
    int fds[2] = {-1, -1};
    if (kind == 1) {
        RANDOM_CHECK(kernel.socketpair(SOCK_STREAM, fds).ok());
    } else {
        const Sys listener = kernel.socket(AF_INET, SOCK_STREAM, 0);
        RANDOM_CHECK(listener.ok() && kernel.bind(listener.fd(), Address::loopback_ipv4(0)).ok());
        RANDOM_CHECK(kernel.listen(listener.fd(), 1).ok());
        Address at;
        RANDOM_CHECK(kernel.local_address(listener.fd(), at).ok());
        const Sys near = kernel.socket(AF_INET, SOCK_STREAM, 0);
        RANDOM_CHECK(near.ok());
        const Sys begun = kernel.connect(near.fd(), at);
        RANDOM_CHECK(begun.ok() || begun.error() == EINPROGRESS, "error " << begun.error());
        fds[0] = near.fd();
        // Over loopback it is connected when connect returns; a simulated network may take its
        // time.
        for (;;) {
            if (round.simulated())
                dynamic_cast<sim::SimKernel&>(kernel).advance(std::chrono::milliseconds(1));
            const Sys far = kernel.accept(listener.fd(), at);
            if (far.ok()) {
                fds[1] = far.fd();
                break;
            }
            RANDOM_CHECK(far.would_block(), "error " << far.error());
        }
        Address peer;
        while (kernel.peer_address(fds[0], peer).error() == ENOTCONN && round.simulated())
            dynamic_cast<sim::SimKernel&>(kernel).advance(std::chrono::milliseconds(1));
        kernel.close(listener.fd());
    }
    for (const int fd : fds) {
        // With a window that small real TCP waits for its timers.
        const int size = small && (kind == 1 || round.simulated()) ? 4096 : 128 * 1024;
        (void)kernel.set_option(fd, SocketOption::send_buffer, size);
        (void)kernel.set_option(fd, SocketOption::receive_buffer, size);
    }
    for (const int index : {0, 1}) {
        const auto adopted =
            adopt_connection(loop, fds[index], std::move(index == 0 ? first : second));
        RANDOM_CHECK(adopted.ok(), adopted.error().message());
    }
}

void turn(Round& round, Loop& loop) {
    if (round.simulated() && round.random.one_in(20))
        dynamic_cast<sim::SimKernel&>(weft::detail::core_of(loop).kernel())
            .advance(std::chrono::milliseconds(round.random.size(5000)));
    loop.run_once();
}

// Runs turns until `done()`. Nothing else is done meanwhile: what has to come has to come by
// itself.
template<class Done>
void until(World& world, Loop& loop, const char* what, Done done) {
    Round& round = world.round;
    round.operation(what);
    int idle = 0;
    while (!done()) {
        // With a virtual clock an idle loop waits, so that lingering ends; where nothing can happen
        // it says so.
        const bool wait = idle > 3;
        try {
            idle = loop.run_once(wait) == 0 ? idle + 1 : 0;
        } catch (const std::system_error&) {
            RANDOM_CHECK(false, what << ": nothing more happens: " << world.sides[0] << ", "
                                     << world.sides[1]);
        }
    }
}

void play(Round& round) {
    World world(round);
    LoopOptions options;
    sim::SimOptions sim;
    if (round.random.one_in(3)) sim.send_buffer = sim.receive_buffer = 1 + round.random.size(10000);
    options.kernel = round.make_kernel(sim);
    if (round.random.one_in(4)) options.receive_buffer = 1 + round.random.size(70000);
    if (round.random.one_in(4))
        options.reads_per_turn = static_cast<int>(1 + round.random.below(3));
    options.debug = round.random.one_in(8);
    options.slow_callback = std::chrono::hours(1);
    Loop loop(std::move(options));
    if (round.simulated() && round.random.one_in(3))
        dynamic_cast<sim::SimKernel&>(weft::detail::core_of(loop).kernel())
            .set_segment_size(1 + round.random.size(5000), 1);
    loop.on_unhandled([&](const Unhandled&) {});
    connect(round, loop, world);
    until(world, loop, "both are made", [&] { return world.sides[0].made && world.sides[1].made; });
    world.act = &act;
    const std::size_t count = 20 + round.random.size(200);
    for (std::size_t i = 0; i < count; ++i) {
        Side& side = world.sides[round.random.below(2)];
        if (round.random.one_in(2)) act(side, round);
        turn(round, loop);
        world.bury();
    }
    world.act = nullptr;
    if (round.random.one_in(10)) {
        round.operation("close the loop");
        loop.close();
        for (Side& side : world.sides)
            RANDOM_CHECK(side.lost);
        return;
    }
    // Everything that was written arrives without anybody doing more than read.
    for (Side& side : world.sides)
        side.read_on();
    until(world, loop, "what was written arrives", [&] {
        return world.sides[0].satisfied(world.sides[1]) && world.sides[1].satisfied(world.sides[0]);
    });
    for (Side& side : world.sides)
        if (side.transport != nullptr) side.close();
    // Two that read no more and wait for each other's room would do so for ever.
    for (Side& side : world.sides)
        if (side.transport != nullptr && side.transport->write_buffer_size() != 0) {
            side.limited = true;
            side.transport->close_within(Duration(0));
        }
    until(world, loop, "both are lost", [&] { return world.sides[0].lost && world.sides[1].lost; });
    world.check_end();
    until(world, loop, "nothing is left in the loop",
          [&] { return loop.stats().sources == 0 && loop.stats().timers == 0; });
}

const RegisterFamily family(
    {"connection", "a connection's whole API from every callback, bytes and order checked", &play});

} // namespace
