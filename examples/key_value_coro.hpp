// The same server with a coroutine for each client. See key_value_callback.hpp for what a `Store`
// is.
#pragma once

#include "key_value.hpp"

#include <weft/coro/coro.hpp>

#include <csignal>
#include <cstdio>

namespace key_value {

namespace coro = weft::coro;

template<class Store>
void serve_client(Store& store, coro::Stream& peer) {
    coro::MessageReader commands(peer, Store::framer());
    const auto keep = [&](weft::Bytes part) { return commands.keep(part); };
    try {
        while (const auto command = commands.read())
            if (!store.execute(*command, peer, keep)) return;
    } catch (const coro::FramingError& error) {
        peer.write(Store::refusal(error.what()));
    }
}

template<class Store>
int serve(int argc, char** argv, const char* address) try {
    keep_memory();
    Store store;
    coro::run([&] {
        coro::ServeHandle serving;
        auto terminate = coro::this_loop().on_signal(SIGTERM, [&] { serving.close(); }).value();
        const auto started = [](const std::vector<weft::Address>& addresses) {
            std::printf("listening on %s\n", addresses.front().to_string().c_str());
            std::fflush(stdout);
        };
        coro::serve(argc > 1 ? argv[1] : address,
                    [&](coro::Stream& peer) { serve_client(store, peer); },
                    {.started = started, .handle = serving});
    });
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", argv[0], error.what());
    return 1;
}

} // namespace key_value
