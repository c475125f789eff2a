// A server of keys and values with callbacks. A `Store` knows a protocol: how its commands are
// framed, what they do, and what is said to a client whose bytes are none.
#pragma once

#include "key_value.hpp"

#include <weft/protocols/codecs/framed_protocol.hpp>
#include <weft/transports/server/server.hpp>

#include <csignal>
#include <cstdio>
#include <memory>

namespace key_value {

template<class Store>
struct Connection final : weft::FramedProtocol<typename Store::Framer> {
    explicit Connection(Store& s) : Connection::FramedProtocol(Store::framer()), store(s) {}

    void message_received(typename Connection::Message command) override {
        const auto keep = [this](weft::Bytes part) { return this->keep(part); };
        if (!store.execute(command, this->transport(), keep)) this->transport().close();
    }
    void framing_error(const weft::Error& error) override {
        this->transport().write(Store::refusal(error.message()));
        this->transport().close();
    }
    // A client that asks faster than it reads is not read from until it has caught up.
    void pause_writing() override { this->transport().pause_reading(); }
    void resume_writing() override { this->transport().resume_reading(); }

    Store& store;
};

template<class Store>
int serve(int argc, char** argv, const char* address) try {
    keep_memory();
    Store store;
    weft::Loop loop;
    auto server = weft::listen(loop, argc > 1 ? argv[1] : address, [&] {
                      return std::make_unique<Connection<Store>>(store);
                  }).value();
    auto terminate = loop.on_signal(SIGTERM, [&] { loop.stop(); }).value();
    std::printf("listening on %s\n", server.addresses().front().to_string().c_str());
    std::fflush(stdout);
    loop.run();
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", argv[0], error.what());
    return 1;
}

} // namespace key_value
