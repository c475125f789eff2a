#include "reactor/sim_support.hpp"

#include <csignal>
#include <thread>

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;
using sim::SimKernel;
using sim::SimOptions;

namespace {
std::vector<std::byte> random_bytes(Kernel& kernel, std::size_t count) {
    std::vector<std::byte> bytes(count);
    kernel.random(bytes);
    return bytes;
}
} // namespace

TEST_CASE("The virtual clock stands still but in wait, which goes to the deadline at once [s119]") {
    SimKernel kernel;
    const TimePoint start = kernel.now();
    CHECK(start == SimOptions().start);
    std::vector<Event> events(4);
    CHECK(kernel.wait(events, TimePoint::min()).count() == 0);
    CHECK(kernel.wait(events, start).count() == 0);
    CHECK(kernel.wait(events, start - 1s).count() == 0);
    CHECK(kernel.now() == start);
    CHECK(kernel.wait(events, start + 3h).count() == 0);
    CHECK(kernel.now() == start + 3h);
    kernel.advance(1ns);
    CHECK(kernel.now() == start + 3h + 1ns);
}

TEST_CASE("A wait that nothing can ever end is reported as a deadlock [F43]") {
    SimKernel kernel;
    std::vector<Event> events(4);
    CHECK(kernel.wait(events, TimePoint::max()).error() == EDEADLK);
    Pair pair(kernel);
    REQUIRE(kernel.add(pair.client, 1, Interest::read).ok());
    CHECK(kernel.wait(events, TimePoint::max()).error() == EDEADLK);
    CHECK(send_text(kernel, pair.server, "x") == 1);
    CHECK(kernel.wait(events, TimePoint::max()).count() == 1);
}

TEST_CASE("Wake-ups end the present or the next wait, and coalesce") {
    SimKernel kernel;
    std::vector<Event> events(4);
    kernel.wake();
    kernel.wake();
    CHECK(kernel.wait(events, TimePoint::max()).count() == 0);
    CHECK(kernel.now() == SimOptions().start);
    CHECK(kernel.wait(events, TimePoint::max()).error() == EDEADLK);

    kernel.set_block_when_idle(true);
    std::thread waker([&] { kernel.wake(); });
    CHECK(kernel.wait(events, TimePoint::max()).ok());
    waker.join();
}

TEST_CASE("The clock waits for work on other threads [s119]") {
    SimKernel kernel;
    std::vector<Event> events(4);
    kernel.outside_work(+1);
    std::thread worker([&] {
        kernel.wake();
        kernel.outside_work(-1);
    });
    const TimePoint deadline = kernel.now() + 1h;
    CHECK(kernel.wait(events, deadline).count() == 0);
    CHECK(kernel.now() == SimOptions().start); // the wake-up came before the deadline was gone to
    CHECK(kernel.wait(events, deadline).count() == 0);
    CHECK(kernel.now() == deadline);
    worker.join();
}

TEST_CASE("The same seed gives the same random bytes, another one others [s120]") {
    SimKernel one, same, other(SimOptions{.seed = 2});
    const auto bytes = random_bytes(one, 100);
    CHECK(bytes == random_bytes(same, 100));
    CHECK(bytes != random_bytes(other, 100));
    CHECK(bytes != random_bytes(one, 100));
}

TEST_CASE("Descriptors are numbered apart from real ones and the lowest free one is reused [F4]") {
    SimKernel kernel;
    const int a = open_socket(kernel), b = open_socket(kernel), c = open_socket(kernel);
    CHECK(a >= 1'000'000);
    CHECK(b == a + 1);
    CHECK(c == a + 2);
    CHECK(kernel.open_descriptors() == 3);
    kernel.close(b);
    kernel.close(a);
    CHECK(kernel.open_descriptors() == 1);
    CHECK(open_socket(kernel) == a);
    CHECK(open_socket(kernel) == b);
    CHECK(kernel.kind_of(c) == FileKind::stream_socket);
    CHECK(kernel.kind_of(0) == FileKind::none);
    CHECK(kernel.kind_of(c + 1) == FileKind::none);
    CHECK(kernel.set_nonblocking(c).ok());
    CHECK(kernel.set_nonblocking(0).error() == EBADF);
    CHECK(kernel.send(0, "", 0).error() == EBADF);
}

TEST_CASE("Beyond the descriptor limit every call that makes one gives EMFILE [F1] [F2]") {
    SimKernel kernel;
    const int listener = listen_at(kernel);
    const int client = begin_connect(kernel, local(kernel, listener));
    const Sys reserve = kernel.open_reserve();
    REQUIRE(reserve.ok());
    CHECK(kernel.kind_of(reserve.fd()) == FileKind::character);
    CHECK(kernel.open_descriptors() == 3);
    kernel.set_descriptor_limit(3);
    Address from;
    int fds[2];
    CHECK(kernel.accept(listener, from).error() == EMFILE);
    CHECK(kernel.socket(AF_INET, SOCK_STREAM, 0).error() == EMFILE);
    CHECK(kernel.open_reserve().error() == EMFILE);
    kernel.set_descriptor_limit(4);
    CHECK(kernel.socketpair(SOCK_STREAM, fds).error() == EMFILE);
    CHECK(kernel.open_descriptors() == 3);
    kernel.close(reserve.fd());
    const Sys accepted = kernel.accept(listener, from);
    REQUIRE(accepted.ok());
    CHECK(from == local(kernel, client));
}

TEST_CASE("Descriptors are registered once, reserves never, and reset forgets all [F6]") {
    SimKernel kernel;
    const int fd = open_socket(kernel);
    CHECK(kernel.add(0, 1, Interest::read).error() == EBADF);
    CHECK(kernel.modify(fd, 1, Interest::read).error() == ENOENT);
    CHECK(kernel.remove(fd).error() == ENOENT);
    CHECK(kernel.add(fd, 1, Interest::both).ok());
    CHECK(kernel.add(fd, 2, Interest::both).error() == EEXIST);
    CHECK(bits(kernel, 1) == (out | hup));
    CHECK(kernel.modify(fd, 3, Interest::read).ok());
    CHECK(bits(kernel, 3) == hup);
    CHECK(kernel.reset().ok());
    CHECK(look(kernel).empty());
    CHECK(kernel.add(fd, 4, Interest::write).ok());
    kernel.close(fd);
    CHECK(look(kernel).empty());
    const int same = open_socket(kernel);
    CHECK(same == fd);
    CHECK(look(kernel).empty()); // the new owner of the number is not registered
    CHECK(kernel.add(kernel.open_reserve().fd(), 5, Interest::read).error() == EPERM);
    CHECK(kernel.pollable_fd().error() == ENOTSUP);
    CHECK(kernel.arm(TimePoint::max()).error() == ENOTSUP);
}

TEST_CASE(
    "Events come in the order of their causes, and a full batch leaves the rest for the next") {
    SimKernel kernel;
    std::vector<int> fds;
    for (Token token = 0; token < 6; ++token) {
        fds.push_back(open_socket(kernel));
        REQUIRE(kernel.add(fds.back(), token, Interest::write).ok());
    }
    std::vector<Event> batch(4);
    std::vector<Token> order;
    for (int i = 0; i < 3; ++i) {
        REQUIRE(kernel.wait(batch, TimePoint::min()).count() == 4);
        for (const Event& event : batch)
            order.push_back(event.token);
    }
    CHECK(order == std::vector<Token>{0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5});
}

TEST_CASE("Only watched signals arrive, merged, and wake the loop [s116] [F30]") {
    SimKernel kernel;
    std::vector<Event> events(4);
    CHECK(kernel.watch_signal(SIGKILL).error() == EINVAL);
    CHECK(kernel.watch_signal(0).error() == EINVAL);
    CHECK(kernel.watch_signal(65).error() == EINVAL);
    CHECK(!kernel.deliver_signal(SIGTERM));
    REQUIRE(kernel.watch_signal(SIGTERM).ok());
    REQUIRE(kernel.watch_signal(64).ok());
    CHECK(kernel.signal_watched(SIGTERM));
    for (int i = 0; i < 100; ++i)
        CHECK(kernel.deliver_signal(SIGTERM));
    CHECK(kernel.deliver_signal(64));
    CHECK(kernel.wait(events, TimePoint::max()).count() == 0);
    CHECK(kernel.take_signals() == (std::uint64_t(1) << (SIGTERM - 1) | std::uint64_t(1) << 63));
    CHECK(kernel.take_signals() == 0);
    CHECK(kernel.unwatch_signal(SIGTERM).ok());
    CHECK(kernel.unwatch_signal(SIGTERM).error() == ENOENT);
    CHECK(!kernel.deliver_signal(SIGTERM));
}

TEST_CASE("Host names are looked up in the table of the test, literals in none [F51]") {
    SimKernel kernel;
    std::vector<Address> found;
    kernel.add_host("example.test", {Address::ipv4({10, 0, 0, 1}, 0), Address::loopback_ipv6(0)});
    REQUIRE(!kernel.resolve("example.test", 80, found));
    CHECK(found == std::vector{Address::ipv4({10, 0, 0, 1}, 80), Address::loopback_ipv6(80)});
    REQUIRE(!kernel.resolve("localhost", 1, found));
    CHECK(found.front() == Address::loopback_ipv4(1));
    REQUIRE(!kernel.resolve("10.2.3.4", 5, found));
    CHECK(found == std::vector{Address::ipv4({10, 2, 3, 4}, 5)});
    REQUIRE(!kernel.resolve("::1", 5, found));
    CHECK(found == std::vector{Address::loopback_ipv6(5)});
    for (const char* name : {"nobody.test", "", "*", "0x7f.1"}) {
        const std::error_code code = kernel.resolve(name, 80, found);
        CHECK(code);
        CHECK(!code.message().empty());
        CHECK(code.category().name() == std::string("resolver"));
        CHECK(found.empty());
    }
}
