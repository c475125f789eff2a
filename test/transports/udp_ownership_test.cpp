#include "udp_support.hpp"

#include <cerrno>
#include <sys/socket.h>

// Everything that a callback of a datagram endpoint may do to the endpoint, in every callback.

using namespace udp_test;

namespace {

enum class Action { nothing, close, abort, fail };
enum class Callback { made, single, batch, error, pause, resume, lost };

/// Does `action` the first time that `callback` comes, and writes down what comes.
struct Actor final : DatagramProtocol {
    Actor(Lines& out, Action a, Callback c) : lines(out), action(a), callback(c) {}

    void came(Callback which, const char* name) {
        // Calls that come inside one another would show here; the loop must never make them.
        if (which != Callback::pause) CHECK(depth == 0);
        ++depth;
        lines.emplace_back(name);
        const auto before = lines.size();
        if (which == callback && !std::exchange(acted, true)) act();
        CHECK(lines.size() == before); // nothing is called before close and abort return
        --depth;
    }
    void act() {
        switch (action) {
        case Action::nothing:
            return;
        case Action::close:
            return transport->close();
        case Action::abort:
            return transport->abort();
        case Action::fail:
            --depth;
            throw std::runtime_error("on purpose");
        }
    }
    void connection_made(DatagramTransport& t) override {
        transport = &t;
        came(Callback::made, "made");
    }
    void datagram_received(const Datagram&) override { came(Callback::single, "single"); }
    void datagrams_received(std::span<const Datagram> batch) override {
        if (callback == Callback::batch) return came(Callback::batch, "batch");
        DatagramProtocol::datagrams_received(batch);
    }
    void error_received(std::error_code, const Address&) override {
        came(Callback::error, "error");
    }
    void pause_writing() override { came(Callback::pause, "pause"); }
    void resume_writing() override { came(Callback::resume, "resume"); }
    void connection_lost(std::error_code reason) override {
        lost_with = reason;
        came(Callback::lost, "lost");
    }
    ~Actor() override { lines.emplace_back("destroyed"); }

    Lines& lines;
    Action action;
    Callback callback;
    DatagramTransport* transport = nullptr;
    int depth = 0;
    bool acted = false;
    inline static std::error_code lost_with;
};

} // namespace

TEST_CASE("Any callback may close, abort or throw, and the end comes once and last [s104] [F7] "
          "[F20] [F21] "
          "[F28]") {
    Lines lines;
    Bench bench(every_kernel());
    const auto action = GENERATE(Action::nothing, Action::close, Action::abort, Action::fail);
    const auto callback =
        GENERATE(Callback::made, Callback::single, Callback::batch, Callback::error,
                 Callback::pause, Callback::resume, Callback::lost);
    CAPTURE(static_cast<int>(action), static_cast<int>(callback));
    int fds[2];
    REQUIRE(bench.kernel->socketpair(SOCK_DGRAM, fds).ok());
    UdpOptions options;
    options.write_limits = weft::WriteLimits{0, 0};
    DatagramRef endpoint =
        weft::adopt_datagram_endpoint(bench.loop, fds[0],
                                      std::make_unique<Actor>(lines, action, callback), options)
            .value();
    bench.settle();
    for (const char* text : {"1", "2", "3"})
        CHECK(bench.kernel->send(fds[1], text, 1).ok() == static_cast<bool>(endpoint));
    bench.settle();
    if (endpoint) {
        bench.kernel->fail(Call::send_batch, EPERM);
        endpoint->send(bytes_of("fails"));
        bench.settle();
    }
    if (endpoint) {
        bench.kernel->fail(Call::send_batch, EAGAIN);
        endpoint->send(bytes_of("waits"));
        bench.settle();
    }
    bench.kernel->clear();
    const bool was_open = static_cast<bool>(endpoint);
    if (was_open) endpoint->close();
    bench.settle();
    CHECK_FALSE(endpoint);
    CHECK(count(lines, "made") == 1);
    CHECK(count(lines, "lost") == 1);
    REQUIRE(lines.size() >= 2);
    CHECK(lines[lines.size() - 2] == "lost");
    CHECK(lines.back() == "destroyed");

    const bool flow_control = callback == Callback::pause || callback == Callback::resume;
    const bool fails = action == Action::fail;
    CHECK(bench.unhandled.size() == (fails ? 1 : 0));
    CHECK(was_open ==
          (action == Action::nothing || callback == Callback::lost || (fails && flow_control)));
    if (!was_open && action == Action::abort) CHECK(Actor::lost_with == weft::Errc::aborted);
    if (!was_open && fails) CHECK(Actor::lost_with == weft::Errc::callback_threw);
    if (was_open || action == Action::close) CHECK_FALSE(Actor::lost_with);
    bench.kernel->close(fds[1]);
}

TEST_CASE("Closing a loop inside which everything is alive ends each endpoint once [F34]") {
    Lines a, b, c;
    {
        Bench bench(every_kernel());
        DatagramRef fresh = local(bench.loop, recorder(a));
        bench.settle();
        DatagramRef unmade = local(bench.loop, recorder(b));
        DatagramRef gathering = local(bench.loop, recorder(c));
        bench.kernel->fail(Call::send_batch, EAGAIN);
        gathering->send_to(bytes_of("x"), bench.bound(fresh));
        gathering->close();
    }
    const std::string aborted = "lost " + weft::make_error_code(weft::Errc::aborted).message();
    CHECK(a == Lines{"made", aborted});
    CHECK(b == Lines{"made", aborted});
    CHECK(c == Lines{"made", aborted});
}

TEST_CASE(
    "An endpoint that fails and is aborted in another one's callback is not touched again [F7]") {
    Lines lines;
    Bench bench(every_kernel());
    DatagramRef victim = local(bench.loop, recorder(lines));
    const Address nowhere = Address::loopback_ipv4(0);
    struct Killer final : DatagramRecorder {
        Killer(Lines& out, DatagramRef& v, const Address& to)
            : DatagramRecorder(out), victim(v), to_(to) {}
        void error_received(std::error_code, const Address&) override {
            // In the flush phase: the victim's own error would be told in the next turn's.
            if (!victim) return;
            victim->send_to(bytes_of("x"), to_);
            victim->flush();
            victim->abort();
        }
        DatagramRef& victim;
        Address to_;
    };
    DatagramRef killer = local(bench.loop, std::make_unique<Killer>(lines, victim, nowhere));
    bench.settle();
    lines.clear();
    killer->send_to(bytes_of("x"), nowhere);
    bench.settle();
    CHECK(lines == Lines{"lost " + weft::make_error_code(weft::Errc::aborted).message()});
    CHECK_FALSE(victim);
}

TEST_CASE(
    "An error that is answered by the same mistake comes once per turn and starves nobody [F25]") {
    struct Stubborn final : DatagramRecorder {
        using DatagramRecorder::DatagramRecorder;
        void error_received(std::error_code error, const Address& to) override {
            DatagramRecorder::error_received(error, to);
            transport->send_to(bytes_of("again"), to);
        }
    };
    Lines lines;
    Bench bench(every_kernel());
    DatagramRef endpoint = local(bench.loop, std::make_unique<Stubborn>(lines));
    bench.settle();
    endpoint->send_to(bytes_of("first"), Address::loopback_ipv4(0));
    for (int turn = 0; turn < 10; ++turn)
        bench.loop.run_once();
    CHECK(lines.size() >= 10);
    CHECK(lines.size() <= 12);
}

TEST_CASE("An error that must end run leaves it, and the others still get what is theirs [F28]") {
    struct Fatal final : DatagramRecorder {
        Fatal(Lines& out, bool lost) : DatagramRecorder(out), in_lost(lost) {}
        void error_received(std::error_code, const Address&) override {
            lines.emplace_back("error");
            if (!in_lost) throw weft::FatalError("on purpose");
        }
        void connection_lost(std::error_code reason) override {
            DatagramRecorder::connection_lost(reason);
            if (in_lost) throw weft::FatalError("on purpose");
        }
        bool in_lost;
    };
    Lines a, b;
    Bench bench(every_kernel());
    const bool in_lost = GENERATE(false, true);
    DatagramRef first = local(bench.loop, std::make_unique<Fatal>(a, in_lost));
    DatagramRef second = local(bench.loop, std::make_unique<Fatal>(b, in_lost));
    bench.settle();
    bench.loop.call_soon([&] {
        for (DatagramRef each : {first, second}) {
            each->send_to(bytes_of("x"), Address::loopback_ipv4(0));
            each->close();
        }
    });
    for (int times = 0; times < 2; ++times)
        CHECK_THROWS_AS(([&] {
                            for (int turn = 0; turn < 5; ++turn)
                                bench.loop.run_once();
                        }()),
                        weft::FatalError);
    bench.settle();
    CHECK(a == Lines{"made", "error", "lost"});
    CHECK(b == Lines{"made", "error", "lost"});
    CHECK(bench.loop.stats().sources == 0);
}
