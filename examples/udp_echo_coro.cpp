// A UDP echo server with a coroutine: udp_echo_coro 127.0.0.1:8007. A stranger to whom nothing can
// be sent ends nothing.

#include <weft/coro/coro.hpp>

#include <csignal>
#include <cstdio>

using namespace weft;

void echo(coro::DatagramSocket& socket) {
    for (;;) {
        // What has come together is answered with one system call.
        for (const Datagram& datagram : socket.recv_batch()) {
            try {
                socket.send_to(datagram.data, datagram.from);
                // an earlier answer to this address could not be sent
            } catch (const std::system_error& error) {
                std::fprintf(stderr, "udp_echo_coro: %s\n", error.what());
            }
        }
    }
}

int main(int argc, char** argv) try {
    coro::run([&] {
        auto socket = coro::DatagramSocket::bind(argc > 1 ? argv[1] : "127.0.0.1:8007");
        std::printf("listening on %s\n", socket.local_address().to_string().c_str());
        std::fflush(stdout);
        coro::CancelScope serving;
        auto terminate = coro::this_loop().on_signal(SIGTERM, [&] { serving.cancel(); }).value();
        serving.run([&] { echo(socket); });
    });
} catch (const std::exception& error) {
    std::fprintf(stderr, "udp_echo_coro: %s\n", error.what());
    return 1;
}
