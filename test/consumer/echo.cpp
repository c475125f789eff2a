// A user's program, built against an installed weft: the echo server of the README, which tells its
// port and ends on SIGTERM so that a script can drive it.

#include <weft/protocols/protocol.hpp>
#include <weft/protocols/transport.hpp>
#include <weft/reactor/loop.hpp>
#include <weft/transports/server/server.hpp>

#include <csignal>
#include <cstdio>
#include <memory>

struct Echo final : weft::Protocol {
    void connection_made(weft::Transport& t) override { transport = &t; }
    void data_received(weft::Bytes data) override { transport->write(data); }
    weft::Transport* transport = nullptr;
};

int main() {
    weft::Loop loop;
    auto server = weft::tcp::listen(loop, "127.0.0.1:0", [] { return std::make_unique<Echo>(); });
    if (!server) {
        std::fprintf(stderr, "%s\n", server.error().message().c_str());
        return 1;
    }
    auto end = loop.on_signal(SIGTERM, [&] { loop.stop(); });
    std::printf("%u\n", static_cast<unsigned>(server->port()));
    std::fflush(stdout);
    loop.run();
}
