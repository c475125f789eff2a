// A TCP echo server, written with coroutines: echo_coro 127.0.0.1:8007

#include <weft/coro/coro.hpp>

#include <csignal>
#include <cstdio>

using namespace weft;

void echo(coro::Stream& peer) {
    while (auto data = peer.read())
        peer.write(std::move(data));
}

int main(int argc, char** argv) try {
    coro::run([&] {
        coro::CancelScope serving;
        auto terminate = coro::this_loop().on_signal(SIGTERM, [&] { serving.cancel(); }).value();
        serving.run([&] {
            coro::serve(argc > 1 ? argv[1] : "127.0.0.1:8007", echo,
                        {.started = [](auto& addresses) {
                            std::printf("listening on %s\n", addresses.front().to_string().c_str());
                            std::fflush(stdout);
                        }});
        });
    });
} catch (const std::exception& error) {
    std::fprintf(stderr, "echo_coro: %s\n", error.what());
    return 1;
}
