// Boost.Asio with stackful coroutines, boost::asio::spawn on Boost.Coroutine.

#include "peer.hpp"

#include <boost/asio.hpp>
#include <boost/asio/spawn.hpp>
#include <vector>

namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

void echo(tcp::socket& socket, std::size_t buffer_size, asio::yield_context yield) {
    std::vector<char> buffer(buffer_size);
    error_code error;
    for (;;) {
        const std::size_t size = socket.async_read_some(asio::buffer(buffer), yield[error]);
        if (error) return;
        asio::async_write(socket, asio::buffer(buffer, size), yield[error]);
        if (error) return;
    }
}

void echo_lines(tcp::socket& socket, asio::yield_context yield) {
    std::string input;
    error_code error;
    for (;;) {
        const std::size_t size =
            asio::async_read_until(socket, asio::dynamic_buffer(input), '\n', yield[error]);
        if (error) return;
        asio::async_write(socket, asio::buffer(input, size), yield[error]);
        if (error) return;
        input.erase(0, size);
    }
}

} // namespace

int main(int argc, char** argv) try {
    const peer::Options options = peer::parse(argc, argv);
    if (options.udp) peer::fail("asio_stackful", "there is no echo of datagrams here");
    asio::io_context context(1);
    tcp::acceptor acceptor(context, {asio::ip::address_v4::loopback(), options.port});
    asio::spawn(context, [&](asio::yield_context yield) {
        for (;;) {
            tcp::socket socket(context);
            acceptor.async_accept(socket, yield);
            socket.set_option(tcp::no_delay(true));
            asio::spawn(
                context, [&options, socket = std::move(socket)](asio::yield_context own) mutable {
                    options.lines ? echo_lines(socket, own) : echo(socket, options.buffer, own);
                });
        }
    });
    context.run();
} catch (const std::exception& error) {
    peer::fail("asio", error.what());
}
