// Both styles on one connection: wrapped_protocol 127.0.0.1:8011
//
// A protocol written with callbacks checks a password, as an existing program might. Then a
// coroutine takes the connection over as a stream, with whatever the client has sent already.

#include <weft/coro/coro.hpp>
#include <weft/protocols/codecs/framed_protocol.hpp>

#include <csignal>
#include <cstdio>
#include <string>

using namespace weft;

void add_numbers(coro::Stream& peer) {
    long sum = 0;
    while (const auto line = peer.read_line()) {
        sum += std::stol(std::string(*line));
        peer.write("the sum is " + std::to_string(sum) + "\n");
    }
}

struct Login final : LineProtocol {
    void line_received(std::string_view line) override {
        if (line != "password sesame") return transport().close();
        write_line("welcome");
        auto task = coro::spawn(transport().loop(), [peer = coro::Stream(transport())]() mutable {
            try {
                add_numbers(peer);
            } catch (const std::exception& error) {
                std::fprintf(stderr, "a connection ended: %s\n", error.what());
            }
        });
        task.detach(); // the loop's own from now on
    }
};

int main(int argc, char** argv) try {
    Loop loop;
    auto server = tcp::listen(loop, argc > 1 ? argv[1] : "127.0.0.1:8011", [] {
                      return std::make_unique<Login>();
                  }).value();
    auto terminate = loop.on_signal(SIGTERM, [&] { loop.stop(); }).value();
    std::printf("listening on %s\n", server.addresses().front().to_string().c_str());
    std::fflush(stdout);
    loop.run();
} catch (const std::exception& error) {
    std::fprintf(stderr, "wrapped_protocol: %s\n", error.what());
    return 1;
}
