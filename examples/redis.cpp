// A small Redis with callbacks: redis 127.0.0.1:6379. Try redis-cli, or redis-benchmark -t get,set,incr,ping_mbulk -P 16.

#include "redis.hpp"

#include <weft/protocols/framed_protocol.hpp>
#include <weft/transports/server.hpp>

#include <csignal>
#include <cstdio>

struct Connection final : weft::FramedProtocol<redis::Framer> {
    explicit Connection(redis::Store& s) : store(s) {}

    void message_received(redis::Args command) override {
        const auto keep_part = [this](weft::Bytes part) { return keep(part); };
        if (!store.execute(command, transport(), keep_part)) transport().close();
    }
    void framing_error(const weft::Error& error) override {
        transport().write("-ERR Protocol error: " + error.message() + "\r\n");
        transport().close();
    }
    // A client that asks faster than it reads is not read from until it has caught up.
    void pause_writing() override { transport().pause_reading(); }
    void resume_writing() override { transport().resume_reading(); }

    redis::Store& store;
};

int main(int argc, char** argv) try {
    redis::Store store;
    weft::Loop loop;
    auto server = weft::tcp::listen(loop, argc > 1 ? argv[1] : "127.0.0.1:6379", [&] {
                      return std::make_unique<Connection>(store);
                  }).value();
    auto terminate = loop.on_signal(SIGTERM, [&] { loop.stop(); }).value();
    std::printf("listening on %s\n", server.addresses().front().to_string().c_str());
    std::fflush(stdout);
    loop.run();
} catch (const std::exception& error) {
    std::fprintf(stderr, "redis: %s\n", error.what());
    return 1;
}
