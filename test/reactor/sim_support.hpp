#pragma once

#include <weft/reactor/sim/sim_kernel.hpp>

#include <catch2/catch.hpp>
#include <cerrno>
#include <netinet/in.h>
#include <sys/socket.h>

// Short forms of the kernel's calls, for any kernel. They require success where a test is not about
// failing.

namespace weft::test {

inline constexpr std::uint32_t in = ready::readable, out = ready::writable, err = ready::error,
                               hup = ready::hangup, rdhup = ready::read_hangup;

inline const Address loopback = Address::loopback_ipv4(0);

inline int open_socket(Kernel& kernel, int family = AF_INET, int type = SOCK_STREAM) {
    const Sys made = kernel.socket(family, type, 0);
    REQUIRE(made.ok());
    return made.fd();
}

inline Address local(Kernel& kernel, int fd) {
    Address address;
    REQUIRE(kernel.local_address(fd, address).ok());
    return address;
}

inline Address peer(Kernel& kernel, int fd) {
    Address address;
    REQUIRE(kernel.peer_address(fd, address).ok());
    return address;
}

inline int set_option(Kernel& kernel, int fd, SocketOption option, int value) {
    return kernel.set_option(fd, option, value).error();
}

inline int get_option(Kernel& kernel, int fd, SocketOption option) {
    const Sys value = kernel.get_option(fd, option);
    REQUIRE(value.ok());
    return static_cast<int>(value.value());
}

inline int pending_error(Kernel& kernel, int fd) {
    return get_option(kernel, fd, SocketOption::error);
}

inline int family_of(const Address& address) {
    if (address.family() == Address::Family::unix_socket) return AF_UNIX;
    return address.family() == Address::Family::ipv4 ? AF_INET : AF_INET6;
}

/// A listening socket; its address is `local(kernel, fd)`.
inline int listen_at(Kernel& kernel, const Address& address = loopback, int backlog = 128) {
    const int fd = open_socket(kernel, family_of(address));
    REQUIRE(kernel.bind(fd, address).error() == 0);
    REQUIRE(kernel.listen(fd, backlog).error() == 0);
    return fd;
}

/// A socket that has been told to connect; the outcome is not waited for.
inline int begin_connect(Kernel& kernel, const Address& to) {
    const int fd = open_socket(kernel, family_of(to));
    const Sys begun = kernel.connect(fd, to);
    REQUIRE((begun.ok() || begun.error() == EINPROGRESS));
    return fd;
}

inline int accept_from(Kernel& kernel, int listener) {
    Address from;
    const Sys accepted = kernel.accept(listener, from);
    REQUIRE(accepted.error() == 0);
    return accepted.fd();
}

/// Bytes sent, or minus the errno value.
inline int send_text(Kernel& kernel, int fd, std::string_view text) {
    const Sys sent = kernel.send(fd, text.data(), text.size());
    return sent.ok() ? static_cast<int>(sent.count()) : -sent.error();
}

/// What one recv returns: the text, "EOF", or "errno N".
inline std::string recv_text(Kernel& kernel, int fd, std::size_t limit = 65536) {
    std::string text(limit, '\0');
    const Sys got = kernel.recv(fd, text.data(), text.size());
    if (!got.ok()) return "errno " + std::to_string(got.error());
    if (got.count() == 0) return "EOF";
    text.resize(got.count());
    return text;
}

inline std::string error_text(int number) {
    return "errno " + std::to_string(number);
}

/// The events that are there now.
inline std::vector<Event> look(Kernel& kernel) {
    std::vector<Event> events(64);
    const Sys got = kernel.wait(events, TimePoint::min());
    REQUIRE(got.ok());
    events.resize(got.count());
    return events;
}

/// The bits reported for `token` now, 0 if it is not reported.
inline std::uint32_t bits(Kernel& kernel, Token token) {
    for (const Event& event : look(kernel))
        if (event.token == token) return event.ready;
    return 0;
}

/// What a level-triggered registration for reading and writing would report now.
inline std::uint32_t state_of(Kernel& kernel, int fd) {
    const Token token = ~Token(0) - 7; // no test uses it
    REQUIRE(kernel.add(fd, token, Interest::both).error() == 0);
    const std::uint32_t found = bits(kernel, token);
    REQUIRE(kernel.remove(fd).ok());
    return found;
}

/// Waits for one thing to happen, moving the virtual clock; how many events it was.
inline std::size_t wait_for_event(Kernel& kernel, TimePoint deadline = TimePoint::max()) {
    std::vector<Event> events(64);
    const Sys got = kernel.wait(events, deadline);
    REQUIRE(got.ok());
    return got.count();
}

/// Two connected sockets and their listener.
struct Pair {
    explicit Pair(Kernel& kernel_, const Address& address = loopback) : kernel(kernel_) {
        listener = listen_at(kernel, address);
        client = begin_connect(kernel, local(kernel, listener));
        server = accept_from(kernel, listener);
    }
    ~Pair() {
        for (const int fd : {listener, client, server})
            if (fd >= 0) kernel.close(fd);
    }
    Pair(const Pair&) = delete;
    Pair& operator=(const Pair&) = delete;
    void close(int& fd, bool reset = false) {
        kernel.close(fd, reset);
        fd = -1;
    }

    Kernel& kernel;
    int listener, client, server;
};

} // namespace weft::test
