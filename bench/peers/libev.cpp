// libev: it tells when a socket is ready, receiving and sending are the program's.

#include "../sockets.hpp"
#include "peer.hpp"

#include <ev.h>
#include <unistd.h>

namespace {

peer::Options options;
char buffer[peer::buffer_size];

struct Connection {
    ev_io io;
    peer::Lines lines;
    std::string backlog; ///< what the socket did not take; nothing is read meanwhile
};

void drop(struct ev_loop* loop, Connection* connection) {
    ev_io_stop(loop, &connection->io);
    ::close(connection->io.fd);
    delete connection;
}

void wait_for(struct ev_loop* loop, Connection* connection, int events) {
    ev_io_stop(loop, &connection->io);
    ev_io_set(&connection->io, connection->io.fd, events);
    ev_io_start(loop, &connection->io);
}

void answer(Connection* connection, std::string_view data) {
    if (connection->backlog.empty()) {
        const ssize_t sent = ::send(connection->io.fd, data.data(), data.size(), MSG_NOSIGNAL);
        if (sent > 0) data.remove_prefix(sent);
    }
    connection->backlog += data;
}

void on_ready(struct ev_loop* loop, ev_io* io, int events) {
    auto* connection = static_cast<Connection*>(io->data);
    if (events & EV_WRITE) {
        std::string backlog = std::move(connection->backlog);
        connection->backlog.clear();
        answer(connection, backlog);
        if (connection->backlog.empty()) wait_for(loop, connection, EV_READ);
        return;
    }
    const ssize_t size = ::recv(io->fd, buffer, sizeof buffer, 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) return drop(loop, connection);
    const std::string_view data(buffer, size);
    if (options.lines) {
        connection->lines.feed(data, [&](std::string_view line) { answer(connection, line); });
    } else {
        peer::work(options, buffer);
        answer(connection, data);
    }
    if (!connection->backlog.empty()) wait_for(loop, connection, EV_WRITE);
}

void on_connection(struct ev_loop* loop, ev_io* listener, int) {
    for (int fd; (fd = bench::accept_one(listener->fd)) >= 0;) {
        auto* connection = new Connection;
        ev_io_init(&connection->io, on_ready, fd, EV_READ);
        connection->io.data = connection;
        ev_io_start(loop, &connection->io);
    }
}

} // namespace

int main(int argc, char** argv) try {
    options = peer::parse(argc, argv);
    if (options.udp) peer::fail("libev", "there is no echo of datagrams here");
    struct ev_loop* loop = ev_default_loop(EVBACKEND_EPOLL);
    ev_io listener;
    ev_io_init(&listener, on_connection, bench::open_server(SOCK_STREAM, options.port), EV_READ);
    ev_io_start(loop, &listener);
    ev_run(loop, 0);
} catch (const std::exception& error) {
    peer::fail("libev", error.what());
}
