// A TCP echo server: echo 127.0.0.1:8007

#include <weft/transports/server/server.hpp>

#include <csignal>
#include <cstdio>

struct Echo final : weft::Protocol {
    void connection_made(weft::Transport& t) override { transport = &t; }
    void data_received(weft::Bytes data) override { transport->write(data); }
    // A peer that sends more than it reads is not read from until it has caught up.
    void pause_writing() override { transport->pause_reading(); }
    void resume_writing() override { transport->resume_reading(); }
    weft::Transport* transport = nullptr;
};

int main(int argc, char** argv) try {
    weft::Loop loop;
    auto server = weft::tcp::listen(loop, argc > 1 ? argv[1] : "127.0.0.1:8007", [] {
                      return std::make_unique<Echo>();
                  }).value();
    auto terminate = loop.on_signal(SIGTERM, [&] { loop.stop(); }).value();
    std::printf("listening on %s\n", server.addresses().front().to_string().c_str());
    std::fflush(stdout);
    loop.run();
} catch (const std::exception& error) {
    std::fprintf(stderr, "echo: %s\n", error.what());
    return 1;
}
