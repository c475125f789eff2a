#include "support/kernels.hpp"

#include <weft/reactor/loop_core.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace std::chrono_literals;
using namespace weft::test;
using weft::Errc;
using weft::Watch;

TEST_CASE(
    "A watch reports for as long as the state lasts, one direction apart from the other [s12]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    SocketPair pair(loop.kernel);
    auto watch = loop->watch(pair.near).value();
    int readable = 0, writable = 0;
    watch.on_readable([&] { ++readable; });
    watch.on_writable([&] { ++writable; });
    loop->run_once();
    CHECK(readable == 0);
    CHECK(writable == 1);
    pair.send("abc");
    loop->run_once();
    loop->run_once();
    CHECK(readable == 2);
    CHECK(writable == 3);
    CHECK(watch.stop_writing());
    CHECK(!watch.stop_writing());
    loop->run_once();
    CHECK(readable == 3);
    CHECK(writable == 3);
    pair.receive();
    loop->run_once();
    CHECK(readable == 3);
    watch.on_writable([&] { ++writable; });
    CHECK(watch.stop_reading());
    CHECK(!watch.stop_reading());
    pair.send("x");
    loop->run_once();
    CHECK(readable == 3);
    CHECK(writable == 4);
    CHECK(watch.fd() == pair.near);
    watch.cancel();
    watch.cancel();
    CHECK(!watch.active());
    CHECK(watch.fd() == -1);
    CHECK(!watch.stop_reading());
    watch.on_readable([&] { ++readable; }); // of an ended watch: nothing
    loop->run_once();
    CHECK(readable == 3);
    CHECK(loop->stats().sources == 0);
}

TEST_CASE(
    "Setting a callback replaces the old one and destroys it, also from inside it [s12] [F7]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    SocketPair pair(loop.kernel);
    auto watch = loop->watch(pair.near).value();
    auto capture = std::make_shared<int>(0);
    int second = 0;
    watch.on_readable([capture] { *capture += 100; });
    watch.on_readable([&, capture] {
        watch.on_readable([&] { ++second; });
        ++*capture; // the replaced one lives until it returns
    });
    CHECK(capture.use_count() == 2);
    pair.send("x");
    loop->run_once();
    CHECK(*capture == 1);
    CHECK(capture.use_count() == 1);
    loop->run_once();
    CHECK(second == 1);
}

TEST_CASE("A watch may end itself, its other direction and other watches of the batch [s12] [F7]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    SocketPair one(loop.kernel), two(loop.kernel);
    std::optional<Watch> first = loop->watch(one.near).value();
    std::optional<Watch> second = loop->watch(two.near).value();
    auto capture = std::make_shared<int>(0);
    const auto end_all = [&, capture] {
        ++*capture;
        first.reset();
        second.reset();
    };
    first->on_readable(end_all);
    first->on_writable(end_all);
    second->on_readable(end_all);
    second->on_writable(end_all);
    one.send("x");
    two.send("x");
    loop->run_once();
    loop->run_once();
    CHECK(*capture == 1);
    CHECK(loop->stats().sources == 0);
    CHECK(loop->stats().stale_events == 1);

    auto watch = loop->watch(one.near).value();
    watch.on_readable([&] { CHECK(watch.stop_writing()); });
    watch.on_writable([&] { FAIL("ended in the same event"); });
    loop->run_once();
}

TEST_CASE("An event for a number that was closed and given anew goes to nobody [s13] [F4]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    std::optional<SocketPair> one(std::in_place, loop.kernel);
    SocketPair two(loop.kernel);
    const int number = one->near;
    auto watch = loop->watch(number).value();
    auto other = loop->watch(two.near).value();
    std::optional<SocketPair> fresh;
    int wrong = 0, swaps = 0;
    // Whichever comes first closes the other's descriptor and opens one that gets its number.
    const auto swap = [&](Watch& victim, SocketPair& pair, int fd) {
        ++swaps;
        victim.cancel();
        pair.close_near();
        fresh.emplace(loop.kernel);
        CHECK((fresh->near == fd || fresh->far == fd));
        victim = loop->watch(fresh->near).value();
        victim.on_readable([&] { ++wrong; });
    };
    watch.on_readable([&] { swap(other, two, two.near); });
    other.on_readable([&] { swap(watch, *one, number); });
    one->send("x");
    two.send("x");
    loop->run_once();
    CHECK(swaps == 1);
    CHECK(wrong == 0);
    CHECK(loop->stats().stale_events == 1);
}

TEST_CASE("What can not be watched is an error that names the descriptor [F6]") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    SocketPair pair(loop.kernel);
    auto watch = loop->watch(pair.near).value();
    const auto again = loop->watch(pair.near);
    REQUIRE(!again.ok());
    CHECK(again.error().code == std::errc::file_exists);
    CHECK_THAT(again.error().message(), Catch::Contains("descriptor " + std::to_string(pair.near)));
    const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    const auto regular = loop->watch(file);
    REQUIRE(!regular.ok());
    CHECK(regular.error().code == Errc::not_an_event_fd);
    close(file);
    CHECK(loop->watch(file).error().code == std::errc::bad_file_descriptor);
    CHECK(loop->watch(-1).error().code == std::errc::bad_file_descriptor);
    CHECK(loop->stats().sources == 1);
}

TEST_CASE("A descriptor closed before its watch costs nobody anything but itself [F6]") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    SocketPair pair(loop.kernel);
    auto watch = loop->watch(pair.near).value();
    close(pair.near);
    pair.near = -1;
    loop->run_once();
    if (kernel_kind.name == std::string("epoll")) {
        watch.on_readable([] {});
        CHECK_THAT(loop.unhandled.back(), Catch::Contains("watch descriptor"));
    }
    watch.cancel();
    CHECK(loop->stats().sources == 0);
}

TEST_CASE(
    "End of stream and errors wake what watches, and nobody spins when nothing does [F9] [F10]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    SocketPair pair(loop.kernel);
    auto watch = loop->watch(pair.near).value();
    int readable = 0, writable = 0;
    watch.on_readable([&] {
        ++readable;
        watch.stop_reading();
    });
    pair.close_far();
    loop->run_once();
    CHECK(readable == 1);
    // The hang-up is still there, but nobody asks.
    loop->run_once();
    auto timer = loop->call_later(3ms, [&] { loop->stop(); });
    const auto turns = loop->stats().turns;
    loop->run();
    CHECK(loop->stats().turns - turns <= 3);
    CHECK(readable == 1);
    watch.on_writable([&] {
        ++writable;
        watch.stop_writing();
    });
    watch.on_readable([&] {
        ++readable;
        watch.stop_reading();
    });
    loop->run_once();
    loop->run_once();
    CHECK(readable == 2);
    CHECK(writable == 1);
}

TEST_CASE("A FatalError out of a watch leaves it in order [s7]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    SocketPair pair(loop.kernel);
    auto watch = loop->watch(pair.near).value();
    watch.on_readable([&] {
        watch.stop_reading();
        throw weft::FatalError("stop");
    });
    pair.send("x");
    CHECK_THROWS_AS(loop->run(), weft::FatalError);
    loop->run_once();
    int readable = 0;
    watch.on_readable([&] {
        ++readable;
        throw std::runtime_error("oops");
    });
    loop->run_once();
    loop->run_once();
    CHECK(readable == 2);
    CHECK(loop.unhandled.back() == "a watched descriptor's callback: oops");
}

TEST_CASE("Events for a closed descriptor that has a duplicate are dropped, and end [F5]") {
    // Only epoll has registrations that outlive a descriptor.
    WEFT_TEST_KERNEL(epoll_kernels);
    TestLoop loop(kernel_kind);
    LogCapture log;
    SocketPair pair(loop.kernel), healthy(loop.kernel);
    // registers a descriptor and closes it without a word
    struct Careless final : weft::detail::Source {
        void on_ready(std::uint32_t) override {}
        void on_loop_closing() override {}
    } careless;
    const auto token = weft::detail::core_of(*loop).sources().add(careless);
    REQUIRE(loop.kernel.add(pair.near, token, weft::Interest::read).ok());
    const int duplicate = dup(pair.near);
    close(pair.near);
    pair.near = -1;
    weft::detail::core_of(*loop).remove_source(token);
    auto watch = loop->watch(healthy.near).value();
    int readable = 0;
    watch.on_readable([&] {
        ++readable;
        healthy.receive();
    });
    pair.send("x");
    for (int i = 0; i < 150; ++i)
        loop->run_once();
    CHECK(loop->stats().stale_events >= 100);
    CHECK(loop->stats().stale_events < 110);
    CHECK_THAT(log.text(), Catch::Contains("rebuilt"));
    // Afterwards the loop sleeps again, and the others still work.
    auto timer = loop->call_later(3ms, [&] { loop->stop(); });
    const auto turns = loop->stats().turns;
    loop->run();
    CHECK(loop->stats().turns - turns <= 3);
    healthy.send("x");
    loop->run_once();
    CHECK(readable == 1);
    close(duplicate);
}

TEST_CASE("A watch may outlive its loop, its callbacks do not [F34]") {
    WEFT_TEST_KERNEL(real_kernels);
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    auto capture = std::make_shared<int>();
    Watch watch;
    {
        TestLoop loop(kernel_kind);
        watch = loop->watch(fds[0]).value();
        watch.on_readable([capture] {});
        watch.on_writable([capture] {});
    }
    CHECK(capture.use_count() == 1);
    watch.on_readable([capture] {});
    CHECK(capture.use_count() == 1);
    CHECK(!watch.stop_reading());
    watch.cancel();
    close(fds[0]);
    close(fds[1]);
}
