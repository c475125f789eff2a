// Asio with C++20 coroutines.

#include "peer.hpp"

#include <asio.hpp>
#include <vector>

namespace {

using asio::awaitable;
using asio::use_awaitable;
using asio::ip::tcp;

awaitable<void> echo(tcp::socket socket, std::size_t buffer_size) {
    std::vector<char> buffer(buffer_size);
    for (;;) {
        const std::size_t size =
            co_await socket.async_read_some(asio::buffer(buffer), use_awaitable);
        co_await asio::async_write(socket, asio::buffer(buffer, size), use_awaitable);
    }
}

awaitable<void> echo_lines(tcp::socket socket, std::size_t) {
    std::string input;
    for (;;) {
        const std::size_t size = co_await asio::async_read_until(
            socket, asio::dynamic_buffer(input), '\n', use_awaitable);
        co_await asio::async_write(socket, asio::buffer(input, size), use_awaitable);
        input.erase(0, size);
    }
}

awaitable<void> serve(peer::Options options) {
    const auto executor = co_await asio::this_coro::executor;
    tcp::acceptor acceptor(executor, {asio::ip::address_v4::loopback(), options.port});
    for (;;) {
        tcp::socket socket = co_await acceptor.async_accept(use_awaitable);
        socket.set_option(tcp::no_delay(true));
        const auto conversation = options.lines ? echo_lines : echo;
        asio::co_spawn(executor, conversation(std::move(socket), options.buffer), asio::detached);
    }
}

} // namespace

int main(int argc, char** argv) {
    const peer::Options options = peer::parse(argc, argv);
    if (options.udp) peer::fail("asio_await", "there is no echo of datagrams here");
    asio::io_context context(1);
    asio::co_spawn(context, serve(options), [](std::exception_ptr error) {
        if (error) std::rethrow_exception(error);
    });
    try {
        context.run();
    } catch (const std::exception& error) {
        peer::fail("asio", error.what());
    }
}
