// The same small Redis with a coroutine for each client: redis_coro 127.0.0.1:6379

#include "redis.hpp"

#include <weft/coro/coro.hpp>
#include <weft/protocols/decoder.hpp>

#include <csignal>
#include <cstdio>

using namespace weft;

void serve_client(redis::Store& store, coro::Stream& peer) {
    Decoder<redis::Framer> commands;
    while (const Buffer arrived = peer.read()) {
        // What is stored is shared with what it came in, where that saves a copy.
        const auto keep = [&](Bytes part) {
            if (commands.holds(part)) return commands.keep(part);
            if (part.size() < arrived.size() / 2) return Buffer::copy(part);
            return arrived.share(static_cast<std::size_t>(part.data() - arrived.data()), part.size());
        };
        Bytes rest = arrived;
        while (const auto next = commands.next(rest))
            if (!store.execute(next.message, peer, keep)) return;
        if (commands.failed()) {
            return peer.write("-ERR Protocol error: " + commands.error().message() + "\r\n");
        }
    }
}

int main(int argc, char** argv) try {
    redis::Store store;
    coro::run([&] {
        coro::CancelScope serving;
        auto terminate = coro::this_loop().on_signal(SIGTERM, [&] { serving.cancel(); }).value();
        serving.run([&] {
            coro::serve(argc > 1 ? argv[1] : "127.0.0.1:6379",
                        [&](coro::Stream& peer) { serve_client(store, peer); },
                        {.started = [](auto& addresses) {
                            std::printf("listening on %s\n", addresses.front().to_string().c_str());
                            std::fflush(stdout);
                        }});
        });
    });
} catch (const std::exception& error) {
    std::fprintf(stderr, "redis_coro: %s\n", error.what());
    return 1;
}
