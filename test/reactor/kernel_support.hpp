#pragma once

#include "support/real_kernels.hpp"
#include "support/resources.hpp"

#include <weft/reactor/kernel/kernel.hpp>

#include <catch2/catch.hpp>
#include <map>
#include <netinet/in.h>
#include <string>
#include <sys/resource.h>
#include <sys/socket.h>

/// What the tests of the real kernels share.
namespace kernel_test {

using weft::Address;
using weft::Event;
using weft::Interest;
using weft::Kernel;
using weft::SocketOption;
using weft::Sys;
using weft::TimePoint;
using weft::Token;
using weft::test::open_descriptors;
using namespace std::chrono_literals;

inline constexpr TimePoint at_once = TimePoint::min();
inline constexpr TimePoint never = TimePoint::max();

using Maker = std::unique_ptr<Kernel> (*)();

/// Generates the kernels that talk to the system.
inline Maker every_kernel() {
    return GENERATE(from_range(weft::test::real_kernel_makers())).make;
}

/// A kernel and the check that it and the case leave no descriptor behind.
struct Fixture {
    std::map<int, std::string> before = open_descriptors();
    std::unique_ptr<Kernel> kernel;

    explicit Fixture(Maker maker) : kernel(maker()) {}
    ~Fixture() {
        kernel.reset();
        CHECK(open_descriptors() == before);
    }
    Kernel* operator->() const { return kernel.get(); }
    Kernel& operator*() const { return *kernel; }
};

/// A pair of descriptors closed at the end, through the kernel so that it forgets them.
struct Pair {
    Kernel& kernel;
    int near;
    int far;

    Pair(Kernel& owner, int near_fd, int far_fd) : kernel(owner), near(near_fd), far(far_fd) {}
    Pair(const Pair&) = delete;
    Pair& operator=(const Pair&) = delete;
    ~Pair() {
        close_near();
        close_far();
    }
    void close_near(bool reset = false) { close(near, reset); }
    void close_far(bool reset = false) { close(far, reset); }

private:
    void close(int& fd, bool reset) {
        if (fd >= 0) kernel.close(fd, reset);
        fd = -1;
    }
};

inline int taken(Sys result) {
    INFO(result.code().message());
    REQUIRE(result.ok());
    return result.fd();
}

inline Pair unix_pair(Kernel& kernel, int type = SOCK_STREAM) {
    int fds[2];
    REQUIRE(kernel.socketpair(type, fds).ok());
    return {kernel, fds[0], fds[1]};
}

inline Pair pipe_pair(Kernel& kernel) {
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    REQUIRE(kernel.set_nonblocking(fds[0]).ok());
    REQUIRE(kernel.set_nonblocking(fds[1]).ok());
    return {kernel, fds[0], fds[1]};
}

/// A listener on a free port of 127.0.0.1, and where it is.
inline int tcp_listener(Kernel& kernel, Address& address) {
    const int listener = taken(kernel.socket(AF_INET, SOCK_STREAM, 0));
    REQUIRE(kernel.bind(listener, Address::loopback_ipv4(0)).ok());
    REQUIRE(kernel.listen(listener, 16).ok());
    REQUIRE(kernel.local_address(listener, address).ok());
    return listener;
}

/// A TCP connection over loopback; `near` connected, `far` was accepted.
inline Pair tcp_pair(Kernel& kernel) {
    Address address;
    const int listener = tcp_listener(kernel, address);
    const int near = taken(kernel.socket(AF_INET, SOCK_STREAM, 0));
    // Over loopback the handshake is over before connect returns.
    const Sys connected = kernel.connect(near, address);
    REQUIRE((connected.ok() || connected.error() == EINPROGRESS));
    Address peer;
    const int far = taken(kernel.accept(listener, peer));
    kernel.close(listener);
    return {kernel, near, far};
}

/// The bits reported for `token` in one look; 0 for none. Fails on events for anything else.
inline std::uint32_t look(Kernel& kernel, Token token, TimePoint deadline = at_once) {
    std::array<Event, 8> events;
    const Sys got = kernel.wait(events, deadline);
    REQUIRE(got.ok());
    if (got.count() == 0) return 0;
    REQUIRE(got.count() == 1);
    CHECK(events[0].token == token);
    return events[0].ready;
}

/// Whether a wait with nothing to report gives the processor away, rather than asking over and
/// over.
inline bool sleeps(Kernel& kernel) {
    rusage before, after;
    REQUIRE(getrusage(RUSAGE_THREAD, &before) == 0);
    CHECK(look(kernel, 0, kernel.now() + 1ms) == 0);
    REQUIRE(getrusage(RUSAGE_THREAD, &after) == 0);
    return after.ru_nvcsw > before.ru_nvcsw;
}

inline std::size_t put_text(Kernel& kernel, int fd, std::string_view text) {
    const Sys sent = kernel.send(fd, text.data(), text.size());
    REQUIRE(sent.ok());
    return sent.count();
}

inline std::string got_text(Kernel& kernel, int fd, std::size_t size = 64) {
    std::string text(size, '\0');
    const Sys got = kernel.recv(fd, text.data(), size);
    if (!got.ok()) return std::string("(").append(got.code().message()).append(")");
    text.resize(got.count());
    return text;
}

} // namespace kernel_test
