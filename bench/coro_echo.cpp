// An echo service as one writes it with coroutines, with a receive buffer of a chosen size: what
// the hand-written loops are compared with where streams are read in small pieces.

#include <weft/coro/coro.hpp>

#include <CLI/CLI.hpp>
#include <iostream>
#include <string>
#include <vector>

namespace {

constexpr std::size_t largest_on_stack = 16 * 1024;
constexpr std::size_t largest_buffer = 64 * 1024;

template<std::size_t Size>
void echo(weft::coro::Stream& peer) {
    std::byte buffer[Size];
    while (const std::size_t size = peer.read_some(buffer))
        peer.write(weft::Bytes(buffer, size));
}

void echo_from_heap(weft::coro::Stream& peer) {
    std::vector<std::byte> buffer(largest_buffer);
    while (const std::size_t size = peer.read_some(buffer))
        peer.write(weft::Bytes(buffer).first(size));
}

weft::coro::StreamHandler handler_for(std::size_t buffer) {
    if (buffer <= 512) return echo<512>;
    if (buffer <= 2048) return echo<2048>;
    if (buffer <= largest_on_stack) return echo<largest_on_stack>;
    return echo_from_heap;
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app("A TCP echo server written with coroutines");
    std::uint16_t port = 8007;
    std::size_t buffer = 2048;
    app.add_option("--port", port, "port on 127.0.0.1")->capture_default_str();
    app.add_option("--buffer", buffer, "bytes of a receive: 512, 2048, 16384 or 65536")
        ->check(
            CLI::IsMember({std::size_t{512}, std::size_t{2048}, largest_on_stack, largest_buffer}))
        ->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    try {
        weft::coro::run(
            [&] { weft::coro::serve("127.0.0.1:" + std::to_string(port), handler_for(buffer)); });
    } catch (const std::exception& error) {
        std::cerr << "bench-coro-echo: port " << port << ": " << error.what() << '\n';
        return 1;
    } catch (const weft::Cancelled&) {
        return 0;
    }
}
