#pragma once
// What the hand-written servers share: a listening socket, and a failed call that ends the program.

#include <arpa/inet.h>
#include <cstdint>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <system_error>

namespace bench {

/// Events taken from one epoll_wait: enough for every connection of the common runs in one call.
inline constexpr int harvest = 512;
/// One receive buffer per server, the size weft uses.
inline constexpr std::size_t buffer_size = 64 * 1024;

/// Returns `result`, or throws std::system_error with errno and the name of the call if it is
/// negative.
inline int check(int result, const char* call) {
    if (result < 0) throw std::system_error(errno, std::system_category(), call);
    return result;
}

/// Binds a non-blocking socket of `type` to 127.0.0.1:`port`; a stream socket also listens.
inline int open_server(int type, std::uint16_t port) {
    int fd = check(::socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
    int on = 1;
    check(::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), "setsockopt SO_REUSEADDR");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), "bind");
    if (type == SOCK_STREAM) check(::listen(fd, SOMAXCONN), "listen");
    return fd;
}

/// Adds `fd` to `epoll`, or changes its interest, with the descriptor itself as the token.
inline void control(int epoll, int operation, int fd, std::uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    check(::epoll_ctl(epoll, operation, fd, &event), "epoll_ctl");
}

/// Takes one waiting connection, non-blocking and without Nagle's delay; -1 when none waits.
inline int accept_one(int listener) {
    int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR) return -1;
        check(fd, "accept4");
    }
    int on = 1;
    check(::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "setsockopt TCP_NODELAY");
    return fd;
}

} // namespace bench
