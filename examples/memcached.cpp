// A small memcached with callbacks: memcached 127.0.0.1:11211

#include "memcached.hpp"

#include <weft/protocols/framed_protocol.hpp>
#include <weft/transports/server.hpp>

#include <csignal>
#include <cstdio>

struct Connection final : weft::FramedProtocol<memcached::Framer> {
    explicit Connection(memcached::Store& s) : FramedProtocol(memcached::framer()), store(s) {}

    void message_received(memcached::Command command) override {
        const auto keep_part = [this](weft::Bytes part) { return keep(part); };
        if (!store.execute(command, transport(), keep_part)) transport().close();
    }
    void framing_error(const weft::Error& error) override {
        transport().write("CLIENT_ERROR " + error.message() + "\r\n");
        transport().close();
    }
    // A client that asks faster than it reads is not read from until it has caught up.
    void pause_writing() override { transport().pause_reading(); }
    void resume_writing() override { transport().resume_reading(); }

    memcached::Store& store;
};

int main(int argc, char** argv) try {
    memcached::Store store;
    weft::Loop loop;
    auto server = weft::tcp::listen(loop, argc > 1 ? argv[1] : "127.0.0.1:11211", [&] {
                      return std::make_unique<Connection>(store);
                  }).value();
    auto terminate = loop.on_signal(SIGTERM, [&] { loop.stop(); }).value();
    std::printf("listening on %s\n", server.addresses().front().to_string().c_str());
    std::fflush(stdout);
    loop.run();
} catch (const std::exception& error) {
    std::fprintf(stderr, "memcached: %s\n", error.what());
    return 1;
}
