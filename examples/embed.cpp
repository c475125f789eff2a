// An echo server inside a main loop that is somebody else's, here poll(2): embed 127.0.0.1:8009
//
// The host waits for one descriptor and calls step(). Timers, signals and posts from other threads
// all make that descriptor readable; a step never waits and never takes longer than its budget.

#include <weft/transports/server/server.hpp>

#include <csignal>
#include <cstdio>
#include <poll.h>

using namespace std::chrono_literals;

struct Echo final : weft::Protocol {
    void connection_made(weft::Transport& t) override { transport = &t; }
    void data_received(weft::Bytes data) override { transport->write(data); }
    weft::Transport* transport = nullptr;
};

int main(int argc, char** argv) try {
    weft::Loop loop;
    bool done = false;
    auto server = weft::tcp::listen(loop, argc > 1 ? argv[1] : "127.0.0.1:8009", [] {
                      return std::make_unique<Echo>();
                  }).value();
    auto terminate = loop.on_signal(SIGTERM, [&] { done = true; }).value();
    std::printf("listening on %s\n", server.addresses().front().to_string().c_str());
    std::fflush(stdout);

    pollfd weft{loop.pollable_fd().value(), POLLIN, 0};
    while (!done) {
        if (poll(&weft, 1, -1) < 0) continue; // a signal; the descriptor tells
        loop.step({.time = 500us, .count = 100});
        // … the host's own work …
    }
} catch (const std::exception& error) {
    std::fprintf(stderr, "embed: %s\n", error.what());
    return 1;
}
