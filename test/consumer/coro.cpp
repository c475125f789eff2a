// A user's program with coroutines: the echo server of the README, which tells its port and ends on
// SIGTERM so that a script can drive it.

#include <weft/coro/coro.hpp>

#include <array>
#include <csignal>
#include <cstdio>

namespace coro = weft::coro;

int main() {
    coro::run([] {
        auto serving = coro::spawn([] {
            coro::ServeOptions options;
            options.started = [](const auto& addresses) {
                std::printf("%u\n", static_cast<unsigned>(addresses.front().port()));
                std::fflush(stdout);
            };
            const auto echo = [](coro::Stream& peer) {
                std::array<std::byte, 2048> buffer;
                while (auto n = peer.read_some(buffer))
                    peer.write(weft::Bytes(buffer).first(n));
            };
            coro::serve("127.0.0.1:0", echo, std::move(options));
        });
        const auto end = coro::this_loop().on_signal(SIGTERM, [&] { serving.cancel(); });
        serving.wait();
    });
}
