// State Threads, on epoll if it was built with that: a thread for each connection, with a stack of
// 64 KiB. Debian's was not, so that it polls.

#include "../sockets.hpp"
#include "peer.hpp"

#include <st.h>
#include <vector>

namespace {

peer::Options options;
constexpr int stack_size = 64 * 1024;

void* serve(void* argument) {
    auto* socket = static_cast<st_netfd_t>(argument);
    std::vector<char> buffer(options.buffer);
    peer::Lines lines;
    bool open = true;
    while (open) {
        const ssize_t size = st_read(socket, buffer.data(), buffer.size(), ST_UTIME_NO_TIMEOUT);
        if (size <= 0) break;
        const auto answer = [&](std::string_view data) {
            open = open && st_write(socket, data.data(), data.size(), ST_UTIME_NO_TIMEOUT) ==
                               static_cast<ssize_t>(data.size());
        };
        const std::string_view data(buffer.data(), size);
        if (options.lines)
            lines.feed(data, answer);
        else
            answer(data);
    }
    st_netfd_close(socket);
    return nullptr;
}

} // namespace

int main(int argc, char** argv) try {
    options = peer::parse(argc, argv);
    if (options.udp) peer::fail("state_threads", "there is no echo of datagrams here");
    // The default is select, which ends at 1024 descriptors.
    st_set_eventsys(ST_EVENTSYS_ALT);
    if (st_get_eventsys() != ST_EVENTSYS_ALT) st_set_eventsys(ST_EVENTSYS_POLL);
    if (st_init() != 0) peer::fail("st_init", std::strerror(errno));
    st_netfd_t listener = st_netfd_open_socket(bench::open_server(SOCK_STREAM, options.port));
    for (;;) {
        st_netfd_t socket = st_accept(listener, nullptr, nullptr, ST_UTIME_NO_TIMEOUT);
        if (!socket) peer::fail("st_accept", std::strerror(errno));
        const int on = 1;
        ::setsockopt(st_netfd_fileno(socket), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (!st_thread_create(serve, socket, 0, stack_size))
            peer::fail("st_thread_create", std::strerror(errno));
    }
} catch (const std::exception& error) {
    peer::fail("state_threads", error.what());
}
