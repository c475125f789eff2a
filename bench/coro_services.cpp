// Services written with coroutines that are of use to benchmarks alone: an echo that computes for
// some messages, and datagrams of which some are answered.

#include "service.hpp"

#include <weft/coro/coro.hpp>
#include <weft/transports/datagram/udp.hpp>
#include <weft/transports/server/server.hpp>

#include <cstdio>

namespace {

void echo(weft::coro::Stream& peer, const bench::ServiceOptions& options) {
    while (weft::Buffer data = peer.read()) {
        if (options.hog && char(data.bytes()[0]) == '!') bench::compute();
        peer.write(std::move(data));
    }
}

void answer(weft::coro::DatagramSocket& socket, const bench::ServiceOptions& options) {
    while (socket.is_open())
        for (const weft::Datagram& datagram : socket.recv_batch())
            if (options.wants(datagram.data)) socket.send_to(datagram.data, datagram.from);
}

} // namespace

int main(int argc, char** argv) try {
    CLI::App app(
        "An echo service written with coroutines, with what benchmarks need beyond `weft echo`");
    bench::ServiceOptions options;
    options.add_to(app);
    CLI11_PARSE(app, argc, argv);
    weft::Loop loop(options.loop());
    if (options.udp) {
        auto handler = [&](weft::coro::DatagramSocket& socket) { answer(socket, options); };
        auto endpoint =
            weft::udp::bind(loop, options.address(), weft::coro::datagram_protocol(loop, handler));
        if (!endpoint) throw std::runtime_error(endpoint.error().message());
        loop.run();
        return 0;
    }
    auto handler = [&](weft::coro::Stream& peer) { echo(peer, options); };
    auto server =
        weft::tcp::listen(loop, options.address(), weft::coro::stream_protocol(loop, handler));
    if (!server) throw std::runtime_error(server.error().message());
    loop.run();
} catch (const std::exception& error) {
    std::fprintf(stderr, "bench-coro-services: %s\n", error.what());
    return 1;
}
