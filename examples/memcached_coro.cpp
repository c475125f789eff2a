// The same small memcached with a coroutine for each client: memcached_coro 127.0.0.1:11211

#include "memcached.hpp"

#include <weft/coro/coro.hpp>
#include <weft/protocols/decoder.hpp>

#include <csignal>
#include <cstdio>

using namespace weft;

void serve_client(memcached::Store& store, coro::Stream& peer) {
    Decoder<memcached::Framer> commands(memcached::framer());
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
            return peer.write("CLIENT_ERROR " + commands.error().message() + "\r\n");
        }
    }
}

int main(int argc, char** argv) try {
    memcached::Store store;
    coro::run([&] {
        coro::CancelScope serving;
        auto terminate = coro::this_loop().on_signal(SIGTERM, [&] { serving.cancel(); }).value();
        serving.run([&] {
            coro::serve(argc > 1 ? argv[1] : "127.0.0.1:11211",
                        [&](coro::Stream& peer) { serve_client(store, peer); },
                        {.started = [](auto& addresses) {
                            std::printf("listening on %s\n", addresses.front().to_string().c_str());
                            std::fflush(stdout);
                        }});
        });
    });
} catch (const std::exception& error) {
    std::fprintf(stderr, "memcached_coro: %s\n", error.what());
    return 1;
}
