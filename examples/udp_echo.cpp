// A UDP echo server: udp_echo 127.0.0.1:8007. What arrives together is answered with one system
// call.

#include <weft/transports/datagram/udp.hpp>

#include <csignal>
#include <cstdio>

struct Echo final : weft::DatagramProtocol {
    void connection_made(weft::DatagramTransport& t) override {
        transport = &t;
        std::printf("listening on %s\n", t.local_address().to_string().c_str());
        std::fflush(stdout);
    }
    void datagram_received(const weft::Datagram& datagram) override {
        transport->send_to(datagram.data, datagram.from);
    }
    weft::DatagramTransport* transport = nullptr;
};

int main(int argc, char** argv) try {
    weft::Loop loop;
    auto endpoint =
        weft::udp::bind(loop, argc > 1 ? argv[1] : "127.0.0.1:8007", std::make_unique<Echo>())
            .value();
    auto terminate = loop.on_signal(SIGTERM, [&] { loop.stop(); }).value();
    loop.run();
} catch (const std::exception& error) {
    std::fprintf(stderr, "udp_echo: %s\n", error.what());
    return 1;
}
