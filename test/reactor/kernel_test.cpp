#include "kernel_support.hpp"

#include <fcntl.h>
#include <poll.h>
#include <thread>
#include <unistd.h>

using namespace kernel_test;
namespace ready = weft::ready;

TEST_CASE("A registration can be made once, changed and forgotten [F6]") {
    Fixture kernel(every_kernel());
    Pair pair = unix_pair(*kernel);
    CHECK(kernel->modify(pair.near, 1, Interest::read).error() == ENOENT);
    CHECK(kernel->remove(pair.near).error() == ENOENT);
    REQUIRE(kernel->add(pair.near, 1, Interest::write).ok());
    CHECK(kernel->add(pair.near, 2, Interest::write).error() == EEXIST);
    CHECK(look(*kernel, 1) == ready::writable);
    REQUIRE(kernel->modify(pair.near, 3, Interest::read).ok());
    CHECK(look(*kernel, 3) == 0);
    put_text(*kernel, pair.far, "x");
    CHECK(look(*kernel, 3) == ready::readable);
    REQUIRE(kernel->remove(pair.near).ok());
    CHECK(look(*kernel, 3) == 0);
    CHECK(kernel->add(-1, 1, Interest::read).error() == EBADF);
}

TEST_CASE("Files and directories can not be waited for [F6]") {
    Fixture kernel(every_kernel());
    for (const char* path : {"/proc/self/exe", "/tmp"}) {
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        REQUIRE(fd >= 0);
        CHECK(kernel->add(fd, 1, Interest::read).error() == EPERM);
        close(fd);
    }
}

TEST_CASE("A level-triggered event comes for as long as the state lasts") {
    Fixture kernel(every_kernel());
    Pair pair = unix_pair(*kernel);
    REQUIRE(kernel->add(pair.near, 1, Interest::read).ok());
    put_text(*kernel, pair.far, "abcdef");
    CHECK(look(*kernel, 1) == ready::readable);
    CHECK(look(*kernel, 1) == ready::readable);
    CHECK(got_text(*kernel, pair.near, 3) == "abc");
    CHECK(look(*kernel, 1) == ready::readable);
    CHECK(got_text(*kernel, pair.near) == "def");
    CHECK(look(*kernel, 1) == 0);
}

TEST_CASE("An edge-triggered event comes once until the socket was found empty or full") {
    Fixture kernel(every_kernel());
    Pair pair = unix_pair(*kernel);
    REQUIRE(kernel->add(pair.near, 1, Interest::stream).ok());
    CHECK(look(*kernel, 1) == ready::writable);
    CHECK(look(*kernel, 1) == 0);
    put_text(*kernel, pair.far, "abcdef");
    CHECK((look(*kernel, 1) & ready::readable) != 0);
    CHECK(look(*kernel, 1) == 0);
    CHECK(sleeps(*kernel));                          // a paused reader costs nothing
    CHECK(got_text(*kernel, pair.near) == "abcdef"); // fewer than asked for: it is empty now
    CHECK(look(*kernel, 1) == 0);
    put_text(*kernel, pair.far, "x");
    CHECK((look(*kernel, 1) & ready::readable) != 0);
    CHECK(got_text(*kernel, pair.near, 1) == "x");
    CHECK(got_text(*kernel, pair.near, 1) == "(Resource temporarily unavailable)");

    const std::string block(1 << 16, 'x');
    while (kernel->send(pair.near, block.data(), block.size()).ok()) {
    }
    CHECK(look(*kernel, 1) == 0);
    while (got_text(*kernel, pair.far, 1 << 16)[0] == 'x') {
    }
    CHECK((look(*kernel, 1) & ready::writable) != 0);
    CHECK(look(*kernel, 1) == 0);
}

TEST_CASE("A wake-up ends the present or the next wait, once") {
    Fixture kernel(every_kernel());
    for (int i = 0; i < 3; ++i)
        kernel->wake();
    CHECK(look(*kernel, 1, never) == 0);
    CHECK(look(*kernel, 1) == 0);
    std::thread waker([&] { kernel->wake(); });
    CHECK(look(*kernel, 1, never) == 0);
    waker.join();
    // The wake-up was used up: only the deadline ends this wait.
    const TimePoint deadline = kernel->now() + 1ms;
    CHECK(look(*kernel, 1, deadline) == 0);
    CHECK(kernel->now() >= deadline);
}

TEST_CASE("A wait never ends before its deadline without a wake-up [s14] [F27]") {
    Fixture kernel(every_kernel());
    for (const auto delay : {1ns, 999ns, 50'000ns, 999'999ns, 1'000'001ns, 2'500'000ns}) {
        const TimePoint deadline = kernel->now() + delay;
        CHECK(look(*kernel, 1, deadline) == 0);
        CHECK(kernel->now() >= deadline);
    }
    CHECK(look(*kernel, 1, kernel->now() - 1h) == 0);
    CHECK(look(*kernel, 1, TimePoint(-1h)) == 0);
}

TEST_CASE("The event bits of every end of a stream are those of the table [F10]") {
    Fixture kernel(every_kernel());
    constexpr std::uint32_t in = ready::readable, out = ready::writable, err = ready::error,
                            hup = ready::hangup, rdhup = ready::read_hangup;
    // Registering looks at the present state, and asks for all there is.
    const auto bits_of = [&](int fd) {
        REQUIRE(kernel->add(fd, 7, Interest::stream).ok());
        const std::uint32_t bits = look(*kernel, 7);
        CHECK(look(*kernel, 7) == 0); // edges: told once
        CHECK(sleeps(*kernel));
        REQUIRE(kernel->remove(fd).ok());
        return bits;
    };

    SECTION("TCP before connect") {
        const int fd = taken(kernel->socket(AF_INET, SOCK_STREAM, 0));
        if (kernel->name() != "kqueue")
            CHECK(bits_of(fd) == (out | hup)); // of that it tells nothing
        kernel->close(fd);
    }
    SECTION("TCP connected, then the peer's end, then ours") {
        Pair pair = tcp_pair(*kernel);
        CHECK(bits_of(pair.near) == out);
        REQUIRE(kernel->shutdown_write(pair.far).ok());
        CHECK(bits_of(pair.near) == (in | out | rdhup));
        CHECK(got_text(*kernel, pair.near).empty());
        REQUIRE(kernel->shutdown_write(pair.near).ok());
        CHECK(bits_of(pair.near) == (in | out | hup | rdhup));
    }
    SECTION("TCP reset by the peer") {
        Pair pair = tcp_pair(*kernel);
        put_text(*kernel, pair.far, "last words");
        pair.close_far(true);
        CHECK(bits_of(pair.near) == (in | out | err | hup | rdhup));
        CHECK(kernel->get_option(pair.near, SocketOption::error).count() == ECONNRESET);
    }
    SECTION("TCP refused") {
        Address address;
        kernel->close(tcp_listener(*kernel, address));
        const int fd = taken(kernel->socket(AF_INET, SOCK_STREAM, 0));
        REQUIRE(kernel->connect(fd, address).error() == EINPROGRESS);
        CHECK(bits_of(fd) == (in | out | err | hup | rdhup));
        CHECK(kernel->get_option(fd, SocketOption::error).count() == ECONNREFUSED);
        kernel->close(fd);
    }
    SECTION("the peer of a Unix stream is gone") {
        Pair pair = unix_pair(*kernel);
        pair.close_far();
        CHECK(bits_of(pair.near) == (in | out | hup | rdhup));
    }
    SECTION("the writer of a pipe is gone") {
        Pair pair = pipe_pair(*kernel);
        put_text(*kernel, pair.far, "x");
        pair.close_far();
        CHECK(bits_of(pair.near) == (in | hup));
        CHECK(got_text(*kernel, pair.near) == "x");
        CHECK(bits_of(pair.near) == hup);
        CHECK(got_text(*kernel, pair.near).empty());
    }
    SECTION("the reader of a pipe is gone") {
        Pair pair = pipe_pair(*kernel);
        pair.close_near();
        CHECK(bits_of(pair.far) == (out | err));
    }
}

TEST_CASE("Ends that come to a registered stream are told, and only once [F10]") {
    Fixture kernel(every_kernel());
    Pair pair = tcp_pair(*kernel);
    REQUIRE(kernel->add(pair.near, 7, Interest::stream).ok());
    CHECK(look(*kernel, 7) == ready::writable);
    REQUIRE(kernel->shutdown_write(pair.far).ok());
    const std::uint32_t fin = look(*kernel, 7);
    CHECK((fin & ~ready::writable) == (ready::readable | ready::read_hangup));
    CHECK(look(*kernel, 7) == 0);
    CHECK(got_text(*kernel, pair.near).empty());
    CHECK(look(*kernel, 7) == 0); // the end of the stream stays readable, but that is known
    CHECK(sleeps(*kernel));
    // What is sent to a closed socket is answered by RST.
    pair.close_far();
    put_text(*kernel, pair.near, "x");
    const std::uint32_t rst = look(*kernel, 7, kernel->now() + 10s);
    CHECK((rst & ready::error) != 0);
    CHECK((rst & ready::hangup) != 0);
    CHECK(look(*kernel, 7) == 0);
    CHECK(sleeps(*kernel));
}

TEST_CASE("A registration made before connect tells when the connection is there") {
    Fixture kernel(every_kernel());
    Address address;
    const int listener = tcp_listener(*kernel, address);
    Pair pair(*kernel, taken(kernel->socket(AF_INET, SOCK_STREAM, 0)), -1);
    REQUIRE(kernel->add(pair.near, 7, Interest::stream).ok());
    // What kqueue's model says before it has to be connected, no BSD does.
    const std::uint32_t before = look(*kernel, 7);
    if (kernel->name() != "kqueue") CHECK(before == (ready::writable | ready::hangup));
    CHECK(look(*kernel, 7) == 0);
    (void)kernel->connect(pair.near, address);
    CHECK(look(*kernel, 7) == ready::writable);
    kernel->close(listener);
}

TEST_CASE("With no interest left, errors and hang-ups are told once and do not spin [F10]") {
    Fixture kernel(every_kernel());
    Pair pair = tcp_pair(*kernel);
    REQUIRE(kernel->add(pair.near, 7, Interest::read).ok());
    REQUIRE(kernel->modify(pair.near, 7, Interest::none).ok());
    put_text(*kernel, pair.far, "unread");
    CHECK(look(*kernel, 7) == 0);
    pair.close_far(true);
    CHECK(look(*kernel, 7) == (ready::error | ready::hangup));
    CHECK(look(*kernel, 7) == 0);
    CHECK(sleeps(*kernel));
    // Asked again, it tells all.
    REQUIRE(kernel->modify(pair.near, 7, Interest::read).ok());
    CHECK((look(*kernel, 7) & ready::readable) != 0);
}

TEST_CASE("More events than there is room for all get their turn") {
    Fixture kernel(every_kernel());
    std::vector<std::unique_ptr<Pair>> pairs;
    for (Token token = 0; token < 10; ++token) {
        pairs.emplace_back(new Pair(unix_pair(*kernel)));
        put_text(*kernel, pairs.back()->far, "x");
        REQUIRE(kernel->add(pairs.back()->near, token, Interest::read).ok());
    }
    std::vector<int> seen(10);
    for (int i = 0; i < 8; ++i) {
        std::array<Event, 5> events;
        REQUIRE(kernel->wait(events, at_once).count() == 5);
        for (const Event& event : events)
            ++seen.at(event.token);
    }
    CHECK(seen == std::vector<int>(10, 4)); // level-triggered: in turns
}

TEST_CASE(
    "A descriptor that was closed is forgotten, and its number can be added again [F4] [F6]") {
    Fixture kernel(every_kernel());
    Pair pair = unix_pair(*kernel);
    const int number = pair.near;
    REQUIRE(kernel->add(number, 1, Interest::both).ok());
    SECTION("through the kernel") {
        pair.close_near();
    }
    SECTION("behind its back, noticed by a wait") {
        close(number);
        CHECK(look(*kernel, 1) == 0);
        CHECK(kernel->modify(number, 1, Interest::read).error() == EBADF);
    }
    SECTION("behind its back, noticed by add") {
        close(number);
    }
    pair.near = -1;
    Pair other = unix_pair(*kernel);
    REQUIRE(other.near == number);
    REQUIRE(kernel->add(number, 2, Interest::write).ok());
    CHECK(look(*kernel, 2) == ready::writable);
}

TEST_CASE("Resetting a kernel forgets all registrations and keeps it usable [F5]") {
    Fixture kernel(every_kernel());
    Pair pair = unix_pair(*kernel);
    const Sys pollable = kernel->pollable_fd();
    // A duplicate keeps epoll's registration alive beyond the close: the case that reset is for.
    const int duplicate = dup(pair.near);
    REQUIRE(kernel->add(pair.near, 1, Interest::write).ok());
    pair.close_near();
    if (kernel->name() == "epoll") CHECK(look(*kernel, 1) == ready::writable);
    REQUIRE(kernel->reset().ok());
    CHECK(look(*kernel, 1) == 0);
    CHECK(kernel->pollable_fd().error() == pollable.error());
    if (pollable.ok()) CHECK(kernel->pollable_fd().fd() == pollable.fd());
    REQUIRE(kernel->add(duplicate, 2, Interest::write).ok());
    CHECK(look(*kernel, 2) == ready::writable);
    REQUIRE(kernel->remove(duplicate).ok());
    kernel->wake();
    CHECK(look(*kernel, 2, never) == 0);
    close(duplicate);
}

TEST_CASE("A pollable descriptor is readable when a wait would return, and at the armed deadline") {
    const auto makers = weft::test::pollable_kernel_makers();
    if (makers.empty()) {
        WARN("skipped: this build has no kernel with one");
        return;
    }
    Fixture kernel(GENERATE_COPY(from_range(makers)).make);
    const auto readable = [&](int milliseconds) {
        pollfd poll_it{kernel->pollable_fd().fd(), POLLIN, 0};
        return poll(&poll_it, 1, milliseconds) == 1;
    };
    REQUIRE(kernel->pollable_fd().ok());
    kernel->announce(true);
    CHECK(!readable(0));
    kernel->wake();
    CHECK(readable(0));
    CHECK(look(*kernel, 1, never) == 0);
    CHECK(!readable(0));

    const TimePoint deadline = kernel->now() + 1ms;
    REQUIRE(kernel->arm(deadline).ok());
    CHECK(readable(10'000));
    CHECK(kernel->now() >= deadline);
    // The timer is no wake-up: a wait for something later goes on.
    const TimePoint later = kernel->now() + 1ms;
    CHECK(look(*kernel, 1, later) == 0);
    CHECK(kernel->now() >= later);
    REQUIRE(kernel->arm(kernel->now() - 1h).ok());
    CHECK(readable(0));
    REQUIRE(kernel->arm(never).ok());
    CHECK(!readable(0));
    REQUIRE(kernel->arm(TimePoint(-1ns)).ok());
    CHECK(readable(0));
    REQUIRE(kernel->reset().ok());
    REQUIRE(kernel->arm(kernel->now() + 1ms).ok());
    CHECK(readable(10'000));
}

TEST_CASE("The poll kernel says that it has no descriptor to poll") {
    Fixture kernel(weft::make_poll_kernel);
    CHECK(kernel->pollable_fd().error() == ENOTSUP);
    CHECK(kernel->arm(never).error() == ENOTSUP);
}
