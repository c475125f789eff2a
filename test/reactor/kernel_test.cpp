#include "kernel_support.hpp"

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>

using namespace kernel_test;
namespace ready = weft::ready;

#define EVERY_KERNEL GENERATE(Maker(weft::make_epoll_kernel))

TEST_CASE("A registration can be made once, changed and forgotten [F6]") {
    Fixture kernel(EVERY_KERNEL);
    Pair pair = unix_pair(*kernel);
    CHECK(kernel->modify(pair.near, 1, Interest::read).error() == ENOENT);
    CHECK(kernel->remove(pair.near).error() == ENOENT);
    REQUIRE(kernel->add(pair.near, 1, Interest::write).ok());
    CHECK(kernel->add(pair.near, 2, Interest::write).error() == EEXIST);
    CHECK(look(*kernel, 1) == ready::writable);
    REQUIRE(kernel->modify(pair.near, 3, Interest::read).ok());
    CHECK(look(*kernel, 3) == 0);
    send_text(*kernel, pair.far, "x");
    CHECK(look(*kernel, 3) == ready::readable);
    REQUIRE(kernel->remove(pair.near).ok());
    CHECK(look(*kernel, 3) == 0);
    CHECK(kernel->add(-1, 1, Interest::read).error() == EBADF);
}

TEST_CASE("Files and directories can not be waited for [F6]") {
    Fixture kernel(EVERY_KERNEL);
    for (const char* path : {"/proc/self/exe", "/tmp"}) {
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        REQUIRE(fd >= 0);
        CHECK(kernel->add(fd, 1, Interest::read).error() == EPERM);
        close(fd);
    }
}

TEST_CASE("A level-triggered event comes for as long as the state lasts") {
    Fixture kernel(EVERY_KERNEL);
    Pair pair = unix_pair(*kernel);
    REQUIRE(kernel->add(pair.near, 1, Interest::read).ok());
    send_text(*kernel, pair.far, "abcdef");
    CHECK(look(*kernel, 1) == ready::readable);
    CHECK(look(*kernel, 1) == ready::readable);
    CHECK(recv_text(*kernel, pair.near, 3) == "abc");
    CHECK(look(*kernel, 1) == ready::readable);
    CHECK(recv_text(*kernel, pair.near) == "def");
    CHECK(look(*kernel, 1) == 0);
}

TEST_CASE("An edge-triggered event comes once until the socket was found empty or full") {
    Fixture kernel(EVERY_KERNEL);
    Pair pair = unix_pair(*kernel);
    REQUIRE(kernel->add(pair.near, 1, Interest::stream).ok());
    CHECK(look(*kernel, 1) == ready::writable);
    CHECK(look(*kernel, 1) == 0);
    send_text(*kernel, pair.far, "abcdef");
    CHECK((look(*kernel, 1) & ready::readable) != 0);
    CHECK(look(*kernel, 1) == 0);
    CHECK(recv_text(*kernel, pair.near) == "abcdef"); // fewer than asked for: it is empty now
    CHECK(look(*kernel, 1) == 0);
    send_text(*kernel, pair.far, "x");
    CHECK((look(*kernel, 1) & ready::readable) != 0);
    CHECK(recv_text(*kernel, pair.near, 1) == "x");
    CHECK(recv_text(*kernel, pair.near, 1) == "(Resource temporarily unavailable)");

    const std::string block(1 << 16, 'x');
    while (kernel->send(pair.near, block.data(), block.size()).ok()) {
    }
    CHECK(look(*kernel, 1) == 0);
    while (recv_text(*kernel, pair.far, 1 << 16)[0] == 'x') {
    }
    CHECK((look(*kernel, 1) & ready::writable) != 0);
    CHECK(look(*kernel, 1) == 0);
}

TEST_CASE("A wake-up ends the present or the next wait, once") {
    Fixture kernel(EVERY_KERNEL);
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
    Fixture kernel(EVERY_KERNEL);
    for (const auto delay : {1ns, 999ns, 50'000ns, 999'999ns, 1'000'001ns, 2'500'000ns}) {
        const TimePoint deadline = kernel->now() + delay;
        CHECK(look(*kernel, 1, deadline) == 0);
        CHECK(kernel->now() >= deadline);
    }
    CHECK(look(*kernel, 1, kernel->now() - 1h) == 0);
    CHECK(look(*kernel, 1, TimePoint(-1h)) == 0);
}
