#include "connect_support.hpp"

#include <fcntl.h>

// Connected sockets that were made elsewhere.

using namespace weft;
using namespace weft::test;

TEST_CASE("A connected socket from elsewhere is announced in the next turn and serves like any "
          "other [s94]") {
    WEFT_TEST_KERNEL(all_kernels);
    const auto kind = GENERATE(as<std::string>(), "tcp", "unix", "socketpair");
    INFO(kind);
    TestLoop loop(kernel_kind);
    const auto [near, far] = make_pair_of(loop.kernel, kind);
    Address local, peer;
    REQUIRE(loop.kernel.local_address(near, local).ok());
    REQUIRE(loop.kernel.peer_address(near, peer).ok());
    Side a, b;
    auto first = adopt_connection(loop, near, a.protocol());
    auto second = adopt_connection(loop, far, b.protocol());
    REQUIRE(first.ok());
    REQUIRE(second.ok());
    CHECK(a->events.empty());
    // What is written before the announcement arrives.
    first->get()->write("early ");
    until(loop, [&] { return a->made && b->made; });
    CHECK(a.transport().fd() == near);
    CHECK(a.transport().local_address() == local);
    CHECK(a.transport().peer_address() == peer);
    CHECK(a.transport().peer_credentials().has_value() == (kind != "tcp"));
    a.transport().write("hello");
    until(loop, [&] { return b->received == "early hello"; });
    b.transport().close();
    until(loop, [&] { return a->lost && b->lost; });
    CHECK(a->events == "made eof lost");
    CHECK_FALSE(a->reason);
}

TEST_CASE("What a peer sent before the socket was adopted is delivered, and so is its end") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    const auto [near, far] =
        make_pair_of(loop.kernel, GENERATE(as<std::string>(), "tcp", "unix", "socketpair"));
    REQUIRE(loop.kernel.send(far, "bye", 3).ok());
    loop.kernel.close(far);
    Side side;
    REQUIRE(adopt_connection(loop, near, side.protocol()).ok());
    until(loop, [&] { return side->lost; });
    CHECK(side->events == "made data eof lost");
    CHECK(side->received == "bye");
}

TEST_CASE("Closing or aborting an adopted connection before it was announced calls nobody") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    const auto [near, far] = make_pair_of(loop.kernel, "tcp");
    OwnFd other(loop.kernel, far);
    Side side;
    auto ref = adopt_connection(loop, near, side.protocol()).value();
    if (GENERATE(true, false)) {
        ref->close();
    } else {
        ref->abort();
    }
    settle(loop);
    CHECK(ref.get() == nullptr);
    CHECK(side->events.empty());
    CHECK(side->destroyed);
}

TEST_CASE("What is no connected stream socket is refused, named, and stays the caller's [F6]") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    const auto refuse = [&](int fd) {
        Side side;
        auto result = adopt_connection(loop, fd, side.protocol());
        REQUIRE_FALSE(result.ok());
        CHECK(result.error().context.find(std::to_string(fd)) != std::string::npos);
        CHECK(side->events.empty());
        CHECK(side->destroyed);
        return result.error().code;
    };
    int pipe_ends[2];
    REQUIRE(::pipe2(pipe_ends, O_CLOEXEC) == 0);
    OwnFd reader(loop.kernel, pipe_ends[0]), writer(loop.kernel, pipe_ends[1]);
    OwnFd file(loop.kernel, ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    OwnFd datagram(loop.kernel, make_socket(loop.kernel, AF_INET, SOCK_DGRAM));
    OwnFd fresh(loop.kernel, make_socket(loop.kernel));
    RefusingPort listening(loop.kernel);
    REQUIRE(loop.kernel.listen(listening.fd, 1).ok());
    CHECK(refuse(reader.fd) == std::errc::not_a_socket);
    CHECK(refuse(file.fd) == std::errc::not_a_socket);
    CHECK(refuse(datagram.fd) == std::errc::not_a_socket);
    CHECK(refuse(fresh.fd) == std::errc::not_connected);
    CHECK(refuse(listening.fd) == std::errc::not_connected);
    CHECK(refuse(999999) == std::errc::not_a_socket);
    CHECK(refuse(-1) == std::errc::not_a_socket);
    for (const int fd : {reader.fd, writer.fd, file.fd, datagram.fd, fresh.fd, listening.fd})
        CHECK(::fcntl(fd, F_GETFD) >= 0);
    CHECK_THROWS_AS(adopt_connection(loop, fresh.fd, nullptr), UsageError);
}

TEST_CASE("A socket that is a transport already is refused, and the transport goes on [F6]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    const auto [near, far] = make_pair_of(loop.kernel, "tcp");
    OwnFd other(loop.kernel, far);
    Side first, second;
    REQUIRE(adopt_connection(loop, near, first.protocol()).ok());
    auto again = adopt_connection(loop, near, second.protocol());
    REQUIRE_FALSE(again.ok());
    CHECK(again.error().code == std::errc::file_exists);
    CHECK(second->destroyed);
    REQUIRE(loop.kernel.send(far, "hello", 5).ok());
    until(loop, [&] { return first->received == "hello"; });
}
