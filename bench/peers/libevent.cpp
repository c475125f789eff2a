// libevent: bufferevents. What a callback adds to the output buffer leaves when the loop finds the
// socket writable, so that lines are gathered.

#include "peer.hpp"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

namespace {

peer::Options options;

void on_read(bufferevent* connection, void*) {
    evbuffer* input = bufferevent_get_input(connection);
    if (!options.lines) {
        if (options.hog) peer::work(options, reinterpret_cast<char*>(evbuffer_pullup(input, 1)));
        bufferevent_write_buffer(connection, input);
        return;
    }
    std::size_t size;
    while (char* line = evbuffer_readln(input, &size, EVBUFFER_EOL_LF)) {
        line[size] = '\n'; // where the terminating zero was
        bufferevent_write(connection, line, size + 1);
        std::free(line);
    }
}

void on_event(bufferevent* connection, short what, void*) {
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) bufferevent_free(connection);
}

void on_connection(evconnlistener* listener, int fd, sockaddr*, int, void*) {
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    bufferevent* connection =
        bufferevent_socket_new(evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_set_max_single_read(connection, peer::buffer_size);
    bufferevent_set_max_single_write(connection, peer::buffer_size);
    bufferevent_setcb(connection, on_read, nullptr, on_event, nullptr);
    bufferevent_enable(connection, EV_READ | EV_WRITE);
}

} // namespace

int main(int argc, char** argv) {
    options = peer::parse(argc, argv);
    if (options.udp) peer::fail("libevent", "there is no echo of datagrams here");
    event_base* base = event_base_new();
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(options.port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (!evconnlistener_new_bind(base, on_connection, nullptr,
                                 LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE, SOMAXCONN,
                                 reinterpret_cast<sockaddr*>(&address), sizeof address))
        peer::fail("bind", std::strerror(errno));
    event_base_dispatch(base);
}
