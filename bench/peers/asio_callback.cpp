// Asio with completion handlers, one thread, and the hint that there is no other.

#include "peer.hpp"

#include <array>
#include <asio.hpp>
#include <memory>
#include <vector>

namespace {

using asio::ip::tcp;
using asio::ip::udp;

peer::Options options;

/// Lives for as long as an operation holds it.
class Connection : public std::enable_shared_from_this<Connection> {
public:
    explicit Connection(tcp::socket socket)
        : socket_(std::move(socket)), buffer_(options.lines ? 0 : options.buffer) {
        socket_.set_option(tcp::no_delay(true));
    }
    void start() { options.lines ? read_line() : read(); }

private:
    void read() {
        socket_.async_read_some(asio::buffer(buffer_),
                                [self = shared_from_this()](auto error, std::size_t size) {
                                    if (error) return;
                                    peer::work(options, self->buffer_.data());
                                    self->write(size);
                                });
    }
    void write(std::size_t size) {
        asio::async_write(socket_, asio::buffer(buffer_, size),
                          [self = shared_from_this()](auto error, std::size_t) {
                              if (!error) self->read();
                          });
    }

    void read_line() {
        asio::async_read_until(socket_, asio::dynamic_buffer(input_), '\n',
                               [self = shared_from_this()](auto error, std::size_t size) {
                                   if (!error) self->write_line(size);
                               });
    }
    void write_line(std::size_t size) {
        asio::async_write(socket_, asio::buffer(input_, size),
                          [self = shared_from_this(), size](auto error, std::size_t) {
                              if (error) return;
                              self->input_.erase(0, size);
                              self->read_line();
                          });
    }

    tcp::socket socket_;
    std::vector<char> buffer_;
    std::string input_; ///< lines that are not answered yet
};

void accept(tcp::acceptor& acceptor) {
    acceptor.async_accept([&acceptor](auto error, tcp::socket socket) {
        if (!error) std::make_shared<Connection>(std::move(socket))->start();
        accept(acceptor);
    });
}

void echo_datagrams(udp::socket& socket) {
    static std::array<char, peer::buffer_size> buffer;
    static udp::endpoint sender;
    socket.async_receive_from(
        asio::buffer(buffer), sender, [&socket](auto error, std::size_t size) {
            if (error || (options.sink && buffer[0] != '?')) return echo_datagrams(socket);
            socket.async_send_to(asio::buffer(buffer, size), sender,
                                 [&socket](auto, std::size_t) { echo_datagrams(socket); });
        });
}

} // namespace

int main(int argc, char** argv) try {
    options = peer::parse(argc, argv);
    asio::io_context context(1);
    const auto loopback = asio::ip::address_v4::loopback();
    if (options.udp) {
        udp::socket socket(context, {loopback, options.port});
        echo_datagrams(socket);
        context.run();
    }
    tcp::acceptor acceptor(context, {loopback, options.port});
    accept(acceptor);
    context.run();
} catch (const std::exception& error) {
    peer::fail("asio", error.what());
}
