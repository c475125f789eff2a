// Hosts that watch the pollable descriptor in all the ways there are.
// test/reactor/embedding_test.cpp has the rest.

#include "support/kernels.hpp"

#include <weft/reactor/loop_core.hpp>

#include <atomic>
#include <csignal>
#include <functional>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace std::chrono_literals;
using namespace weft::test;
using weft::Loop;
using weft::LoopOptions;
using weft::StepResult;
using weft::TimePoint;
using weft::Timer;
using weft::UsageError;

namespace {

/// A main loop over epoll(7), as GLib, libuv and others have one.
class EpollHost {
public:
    explicit EpollHost(TestLoop& loop, std::uint32_t how = 0)
        : loop_(loop.loop), set_(epoll_create1(EPOLL_CLOEXEC)) {
        epoll_event event{};
        event.events = EPOLLIN | how;
        fd_ = loop->pollable_fd().value();
        REQUIRE(epoll_ctl(set_, EPOLL_CTL_ADD, fd_, &event) == 0);
    }
    ~EpollHost() { close(set_); }
    EpollHost(const EpollHost&) = delete;
    EpollHost& operator=(const EpollHost&) = delete;

    bool told(int milliseconds = 0) const {
        epoll_event event;
        return epoll_wait(set_, &event, 1, milliseconds) == 1;
    }
    /// What poll(2) says of the descriptor.
    bool readable() const {
        pollfd entry{fd_, POLLIN, 0};
        return poll(&entry, 1, 0) == 1;
    }
    /// One step per time that it is told, until `done()`. A wake-up that does not come is a
    /// failure.
    template<class Done>
    int run_until(Done done, int most = 100'000) {
        int wake_ups = 0;
        for (; !done(); ++wake_ups) {
            REQUIRE(wake_ups < most);
            REQUIRE(told(5000));
            (void)loop_.step(budget);
        }
        return wake_ups;
    }

    Loop::Budget budget;

private:
    Loop& loop_;
    int set_;
    int fd_;
};

/// A registration that outlives its descriptor, as a forked child's copy makes it.
struct Stale : weft::detail::Source {
    explicit Stale(TestLoop& loop) : pair(loop.kernel) {
        const auto token = weft::detail::core_of(*loop).sources().add(*this);
        REQUIRE(loop.kernel.add(pair.near, token, weft::Interest::read).ok());
        duplicate = dup(pair.near);
        pair.close_near();
        weft::detail::core_of(*loop).remove_source(token);
        pair.send("x");
    }
    ~Stale() { close(duplicate); }
    void on_ready(std::uint32_t) override { ++events; }
    void on_loop_closing() override {}
    SocketPair pair;
    int duplicate = -1;
    int events = 0;
};

} // namespace

TEST_CASE(
    "A host that watches the descriptor edge-triggered hears of all that a step leaves [s127]") {
    WEFT_TEST_KERNEL(pollable_kernels);
    TestLoop loop(kernel_kind);
    SocketPair pair(loop.kernel);
    EpollHost host(loop, EPOLLET);
    int got = 0, ran = 0, fired = 0;
    SECTION("a descriptor that stays ready") {
        auto watch = loop->watch(pair.near).value();
        watch.on_readable([&] { got += static_cast<int>(pair.receive(1).size()); });
        pair.send("0123456789");
        CHECK(host.run_until([&] { return got == 10; }) <= 11);
        while (host.told())
            (void)loop->step();
        pair.send("ab");
        host.run_until([&] { return got == 12; });
    }
    SECTION("callbacks, timers and posts beyond the budget") {
        host.budget = {1h, 1};
        std::vector<Timer> timers;
        for (int i = 0; i < 5; ++i) {
            loop->call_soon([&] { ++ran; });
            (void)loop->post([&] { ++ran; });
            timers.push_back(loop->call_later(-1s, [&] { ++fired; }));
        }
        host.run_until([&] { return ran == 10 && fired == 5; });
    }
    SECTION("timers one after the other") {
        Timer timer = loop->call_every(1ms, [&] { ++fired; });
        host.run_until([&] { return fired == 5; });
    }
    SECTION("posts of a thread") {
        std::thread other([&, remote = loop->remote()] {
            for (int i = 0; i < 1000; ++i)
                (void)remote->post([&] { ++ran; }, {});
        });
        host.run_until([&] { return ran == 1000; });
        other.join();
    }
}

TEST_CASE("A host over epoll goes on hearing of a loop whose kernel was rebuilt [F5]") {
    const std::uint32_t how = GENERATE(std::uint32_t{0}, std::uint32_t{EPOLLET});
    WEFT_TEST_KERNEL(epoll_kernels);
    TestLoop loop(kernel_kind);
    LogCapture log;
    EpollHost host(loop, how);
    SocketPair pair(loop.kernel);
    {
        Stale stale(loop);
        host.run_until([&] { return log.text().find("rebuilt") != std::string::npos; }, 200);
        CHECK(stale.events == 0);
        while (host.told())
            (void)loop->step();
    }
    int fired = 0, ran = 0, got = 0;
    Timer timer = loop->call_every(1ms, [&] { ++fired; });
    host.run_until([&] { return fired == 3; });
    timer.cancel();
    while (host.told())
        (void)loop->step();
    std::thread([&, remote = loop->remote()] { (void)remote->post([&] { ++ran; }, {}); }).join();
    host.run_until([&] { return ran == 1; }, 2);
    auto watch = loop->watch(pair.near).value();
    watch.on_readable([&] { got += static_cast<int>(pair.receive().size()); });
    pair.send("x");
    host.run_until([&] { return got == 1; }, 2);
    while (host.told())
        (void)loop->step();
    CHECK(!host.readable());
}

TEST_CASE("A forked child's copy of a kernel that was rebuilt keeps no host busy [F5] [F31]") {
    WEFT_TEST_KERNEL(epoll_kernels);
    TestLoop loop(kernel_kind);
    LogCapture log;
    EpollHost host(loop);
    int gate[2];
    REQUIRE(pipe(gate) == 0);
    std::optional<Stale> stale(std::in_place, loop);
    const pid_t child = fork();
    if (child == 0) { // has the old set, in which the stale registration goes on
        alarm(60);
        close(gate[1]);
        char end;
        (void)!read(gate[0], &end, 1);
        _exit(0);
    }
    close(gate[0]);
    host.run_until([&] { return log.text().find("rebuilt") != std::string::npos; }, 200);
    for (int i = 0; i < 3; ++i)
        (void)loop->step();
    CHECK(!host.told());
    CHECK(!host.readable());
    close(gate[1]);
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

TEST_CASE("A host's main loop inside a callback finds this loop silent, and hears of everything "
          "afterwards [s128]") {
    const std::uint32_t how = GENERATE(std::uint32_t{0}, std::uint32_t{EPOLLET});
    WEFT_TEST_KERNEL(pollable_kernels);
    TestLoop loop(kernel_kind);
    SocketPair pair(loop.kernel), other(loop.kernel);
    EpollHost host(loop, how);
    int got = 0, ran = 0, nested = 0;
    auto watch = loop->watch(pair.near).value();
    watch.on_readable([&] {
        if (++nested == 1) { // a dialog: things happen meanwhile
            pair.send("more");
            other.send("x");
            loop->call_soon([&] { ++ran; });
            std::thread([&, remote = loop->remote()] {
                (void)remote->post([&] { ++ran; }, {});
            }).join();
            CHECK(loop->next_deadline() == TimePoint::max()); // for a host that sleeps until then
            for (int i = 0; i < 3; ++i) {
                CHECK(!host.told(1));
                CHECK(!host.readable());
            }
            try {
                (void)loop->step();
                FAIL("it was stepped");
            } catch (const UsageError& error) {
                CHECK(std::string(error.what()) == "step: called inside a callback of this loop");
            }
        }
        got += static_cast<int>(pair.receive().size());
    });
    auto second = loop->watch(other.near).value();
    second.on_readable([&] { got += static_cast<int>(other.receive().size()); });
    pair.send("x");
    host.run_until([&] { return got == 6 && ran == 2; }, 10);
    while (host.told())
        (void)loop->step();
    CHECK(!host.readable());
}

TEST_CASE("A loop may be stepped inside a callback of another one, and says in its own words when "
          "it may not [s128]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop outer(kernel_kind);
    TestLoop inner(kernel_kind);
    const auto refusal = [](auto&& call) -> std::string {
        try {
            call();
        } catch (const UsageError& error) {
            return error.what();
        }
        return "";
    };
    int ran = 0;
    outer->call_soon([&] {
        inner->call_soon([&] {
            ++ran;
            CHECK(Loop::current() == &inner.loop);
            CHECK(refusal([&] { (void)inner->step(); }) ==
                  "step: called inside a callback of this loop");
            CHECK(refusal([&] { (void)outer->step(); }) ==
                  "step: called inside a callback of this loop");
            CHECK(refusal([&] { outer->run(); }) == "run: called inside a callback of this loop");
        });
        CHECK(inner->step().ran == 1);
        CHECK(Loop::current() == &outer.loop);
        CHECK(refusal([&] { inner->run(); }) ==
              "run: called inside a callback of another loop, where only `step` is possible");
    });
    outer->run_once();
    CHECK(ran == 1);
    CHECK(Loop::current() == nullptr);
    CHECK(outer.unhandled.empty());
    CHECK(inner.unhandled.empty());
}

TEST_CASE(
    "A step tells whether stop was called, whether anything is alive, and what is left [s127]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    SocketPair pair(loop.kernel);
    StepResult result = loop->step();
    CHECK(!result.stopped);
    CHECK(!result.alive);
    CHECK(!result.more_ready);
    CHECK(result.next_deadline == TimePoint::max());
    SECTION("stop inside, and before") {
        loop->call_soon([&] { loop->stop(); });
        loop->call_soon([] {});
        result = loop->step();
        CHECK(result.stopped);
        CHECK(result.ran == 2);
        CHECK(!result.alive);
        CHECK(!loop->step().stopped);
        loop->stop();
        CHECK(loop->step().stopped);
        CHECK(!loop->step().stopped);
    }
    SECTION("a timer") {
        auto timer = loop->call_later(1h, [] {});
        result = loop->step();
        CHECK(result.alive);
        CHECK(!result.more_ready);
        CHECK(result.next_deadline == timer.when());
    }
    SECTION("a watch") {
        auto watch = loop->watch(pair.near).value();
        CHECK(loop->step().alive);
        watch.cancel();
        CHECK(!loop->step().alive);
    }
    SECTION("a job") {
        std::atomic<bool> go{false};
        auto future = loop->run_in_executor([&] {
            while (!go)
                std::this_thread::yield();
        });
        CHECK(loop->step().alive);
        go = true;
        while (!future.done())
            (void)loop->step();
        while (loop->step().more_ready) {
        }
        CHECK(!loop->step().alive);
    }
    SECTION("what the budget did not reach") {
        for (int i = 0; i < 3; ++i)
            loop->call_soon([] {});
        result = loop->step({1h, 2});
        CHECK(result.alive);
        CHECK(result.more_ready);
        result = loop->step({1h, 2});
        CHECK(!result.alive);
        CHECK(!result.more_ready);
    }
}

TEST_CASE("Another thread may step the loop later, and it is that thread's then [s127]") {
    LoopOptions options;
    options.debug = true;
    WEFT_TEST_KERNEL(pollable_kernels);
    TestLoop loop(kernel_kind, std::move(options));
    EpollHost host(loop);
    std::vector<std::thread::id> ran;
    const auto note = [&] { ran.push_back(std::this_thread::get_id()); };
    loop->call_soon(note);
    (void)loop->step();
    auto timer = loop->call_later(0s, note);
    std::thread::id second;
    std::thread([&] {
        second = std::this_thread::get_id();
        CHECK_THROWS_AS(loop->call_soon([] {}), UsageError); // it has not taken it over yet
        (void)loop->step();
        loop->call_soon(note);
        (void)loop->step();
    }).join();
    CHECK(ran == std::vector{std::this_thread::get_id(), second, second});
    CHECK_THROWS_AS(loop->call_soon([] {}), UsageError);
    (void)loop->step(); // back again
    loop->call_soon(note);
    (void)loop->step();
    CHECK(ran.back() == std::this_thread::get_id());
    CHECK(loop.unhandled.empty());
}

TEST_CASE(
    "A loop in another process's place has a descriptor of its own after after_fork [F31] [s123]") {
    WEFT_TEST_KERNEL(pollable_kernels);
    TestLoop loop(kernel_kind);
    EpollHost host(loop);
    const int fd = loop->pollable_fd().value();
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);
        int answer = 1;
        if (loop->after_fork().ok() && loop->pollable_fd().value() == fd) {
            int fired = 0;
            auto timer = loop->call_later(1ms, [&] { ++fired; });
            pollfd entry{fd, POLLIN, 0};
            while (fired == 0 && poll(&entry, 1, 5000) == 1)
                (void)loop->step();
            loop->call_soon([&] { ++fired; });
            (void)loop->step();
            answer = fired == 2 && poll(&entry, 1, 0) == 0 ? 0 : 2;
        }
        _exit(answer);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    CHECK(!host.told());
    int ran = 0;
    loop->call_soon([&] { ++ran; });
    host.run_until([&] { return ran == 1; }, 1);
    CHECK(!host.told());
}
