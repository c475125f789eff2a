#include "connect_support.hpp"

#include <random>

// Pairs in memory, beside TCP connections, which they are to be like.

using namespace weft;
using namespace weft::test;

namespace {

/// A connection in the making: both ends' protocols.
struct Pair {
    Pair(TestLoop& loop, const std::string& kind) {
        if (kind == "memory") {
            std::tie(first, second) = connected_pair(loop, a.protocol(), b.protocol());
        } else {
            const auto [near, far] = make_pair_of(loop.kernel, kind);
            first = adopt_connection(loop, near, a.protocol()).value();
            second = adopt_connection(loop, far, b.protocol()).value();
        }
    }
    /// Waits for both announcements.
    Pair& open(Loop& loop) {
        until(loop, [&] { return a->made && b->made; });
        return *this;
    }
    bool over() const { return a->lost && b->lost; }
    Side a, b;
    TransportRef first, second;
};

/// The kind of the connection of this run.
#define WEFT_TEST_PAIRS()                                                                          \
    WEFT_TEST_KERNEL(all_kernels);                                                                 \
    const auto kind = GENERATE(as<std::string>(), "memory", "tcp");                                \
    INFO(kind)

} // namespace

TEST_CASE(
    "Both ends are announced in the next turn, before any data, and nothing is called earlier") {
    WEFT_TEST_PAIRS();
    TestLoop loop(kernel_kind);
    Pair pair(loop, kind);
    pair.first->write("early");
    CHECK(pair.a->events.empty());
    CHECK(pair.b->events.empty());
    until(loop, [&] { return pair.b->received == "early"; });
    CHECK(pair.a->events == "made");
    CHECK(pair.b->events == "made data");
    CHECK(pair.first.get() == pair.a->transport);
    pair.second->close();
    until(loop, [&] { return pair.over(); });
    CHECK(pair.a->events == "made eof lost");
    CHECK(pair.b->events == "made data lost");
    CHECK(pair.first.get() == nullptr);
    CHECK(pair.second.get() == nullptr);
}

TEST_CASE("What is written inside a callback arrives, and so does an answer to it") {
    WEFT_TEST_PAIRS();
    TestLoop loop(kernel_kind);
    Pair pair(loop, kind);
    int rounds = 0;
    pair.a->hooks["made"] = [](Transport& t) { t.write("ping"); };
    pair.b->hooks["data_received"] = [](Transport& t) { t.write("pong"); };
    pair.a->hooks["data_received"] = [&](Transport& t) {
        ++rounds < 100 ? t.write("ping") : t.close();
    };
    until(loop, [&] { return pair.over(); });
    CHECK(rounds == 100);
    CHECK_FALSE(pair.a->reason);
    CHECK_FALSE(pair.b->reason);
}

TEST_CASE("A reader that pauses makes the writer pause, and nothing is lost or changes order") {
    WEFT_TEST_PAIRS();
    TestLoop loop(kernel_kind);
    Pair pair(loop, kind);
    pair.b->hooks["made"] = [](Transport& t) { t.pause_reading(); };
    pair.open(loop);
    const std::string text = pattern(12'000'000); // more than any socket buffer
    for (std::size_t at = 0; at < 200'000; at += 777)
        pair.a.transport().write(
            std::string_view(text).substr(at, std::min<std::size_t>(777, 200'000 - at)));
    pair.a.transport().write(std::string_view(text).substr(200'000));
    settle(loop);
    CHECK(pair.a->events == "made pause");
    CHECK(pair.b->received.empty());
    const auto waiting = pair.a.transport().write_buffer_size();
    CHECK(waiting > 0);
    auto drained = pair.a.transport().drain();
    CHECK_FALSE(drained.done());
    pair.b.transport().resume_reading();
    until(loop, [&] { return pair.b->received.size() == text.size(); });
    CHECK((pair.b->received == text));
    until(loop, [&] { return drained.done(); });
    CHECK(pair.a->events == "made pause resume");
    CHECK(pair.a.transport().write_buffer_size() == 0);
}

TEST_CASE("Either end can stop sending and still receive; when both have, the connection is over") {
    WEFT_TEST_PAIRS();
    TestLoop loop(kernel_kind);
    Pair pair(loop, kind);
    pair.a->keep_open = pair.b->keep_open = true;
    pair.open(loop);
    pair.a.transport().write("last words");
    pair.a.transport().write_eof();
    until(loop, [&] { return pair.b->events.ends_with("eof"); });
    CHECK(pair.b->received == "last words");
    CHECK_THROWS_AS(pair.a.transport().write("more"), UsageError);
    pair.b.transport().write("still here");
    until(loop, [&] { return pair.a->received == "still here"; });
    CHECK_FALSE(pair.a.transport().is_closing());
    pair.b.transport().write_eof();
    until(loop, [&] { return pair.over(); });
    CHECK(pair.a->events == "made data eof lost");
    CHECK(pair.b->events == "made data eof lost");
    CHECK_FALSE(pair.a->reason);
    CHECK_FALSE(pair.b->reason);
}

TEST_CASE("Both ends may stop sending, or close, at the same time") {
    WEFT_TEST_PAIRS();
    TestLoop loop(kernel_kind);
    Pair pair(loop, kind);
    pair.a->keep_open = pair.b->keep_open = true;
    pair.open(loop);
    const bool close = GENERATE(true, false);
    for (Side* side : {&pair.a, &pair.b})
        close ? side->transport().close() : side->transport().write_eof();
    until(loop, [&] { return pair.over(); });
    CHECK(pair.a->events == (close ? "made lost" : "made eof lost"));
    CHECK(pair.b->events == (close ? "made lost" : "made eof lost"));
    CHECK_FALSE(pair.a->reason);
    CHECK_FALSE(pair.b->reason);
}

TEST_CASE("The end of the stream comes after everything that was queued before it") {
    WEFT_TEST_PAIRS();
    TestLoop loop(kernel_kind);
    Pair pair(loop, kind);
    pair.open(loop);
    const std::string text = pattern(5'000'000);
    pair.a.transport().write(text);
    pair.a.transport().close();
    pair.a->hooks["lost"] = [&](Transport& t) { CHECK(t.write_buffer_size() == 0); };
    until(loop, [&] { return pair.over(); });
    CHECK((pair.b->received == text));
    CHECK(pair.b->events == "made data eof lost");
}

TEST_CASE("An abort is a reset at the other end, after the data that had arrived [F11]") {
    WEFT_TEST_PAIRS();
    TestLoop loop(kernel_kind);
    Pair pair(loop, kind);
    pair.open(loop);
    pair.a.transport().write("last words");
    pair.a.transport().abort();
    until(loop, [&] { return pair.over(); });
    CHECK(pair.a->events == "made lost");
    CHECK(pair.a->reason == Errc::aborted);
    CHECK(pair.b->events == "made data lost");
    CHECK(pair.b->received == "last words");
    CHECK(pair.b->reason == std::errc::connection_reset);
    CHECK(loop.unhandled.empty());
}

TEST_CASE("A reset reaches an end that reads no more, and one that waits to write [F14]") {
    WEFT_TEST_PAIRS();
    TestLoop loop(kernel_kind);
    Pair pair(loop, kind);
    pair.b->keep_open = true;
    pair.open(loop);
    if (GENERATE(true, false)) {
        pair.a.transport().write_eof();
        until(loop, [&] { return pair.b->events == "made eof"; });
    } else {
        pair.a.transport().pause_reading();
        pair.b.transport().pause_reading();
        pair.b.transport().write(std::string(12'000'000, 'x'));
        settle(loop);
    }
    pair.a.transport().abort();
    until(loop, [&] { return pair.over(); });
    CHECK((pair.b->reason == std::errc::connection_reset ||
           pair.b->reason == std::errc::broken_pipe));
    CHECK(loop.unhandled.empty());
}

TEST_CASE("Closing with unread input discards it, so that the last words arrive and the end is "
          "clean [F13]") {
    WEFT_TEST_PAIRS();
    TestLoop loop(kernel_kind);
    Pair pair(loop, kind);
    pair.b->hooks["made"] = [](Transport& t) { t.pause_reading(); };
    pair.open(loop);
    pair.a.transport().write("nobody reads this");
    settle(loop);
    pair.b.transport().write("no, thanks");
    pair.b.transport().close();
    until(loop, [&] { return pair.over(); });
    CHECK(pair.a->events == "made data eof lost");
    CHECK(pair.a->received == "no, thanks");
    CHECK_FALSE(pair.a->reason);
    CHECK_FALSE(pair.b->reason);
    CHECK(pair.b->received.empty());
}

TEST_CASE("Closing with unread input and without lingering is a reset [F13]") {
    WEFT_TEST_PAIRS();
    TestLoop loop(kernel_kind);
    Pair pair(loop, kind);
    pair.b->hooks["made"] = [](Transport& t) {
        t.pause_reading();
        t.set_linger({.mode = Linger::Mode::never});
    };
    pair.open(loop);
    pair.a.transport().write("nobody reads this");
    settle(loop);
    pair.b.transport().close();
    until(loop, [&] { return pair.over(); });
    CHECK(pair.a->events == "made lost");
    CHECK(pair.a->reason == std::errc::connection_reset);
    CHECK_FALSE(pair.b->reason);
}

TEST_CASE("Closing or aborting inside any callback ends the pair in order [F21]") {
    WEFT_TEST_PAIRS();
    TestLoop loop(kernel_kind);
    Pair pair(loop, kind);
    const auto where = GENERATE(as<std::string>(), "made", "data", "eof");
    const bool abort = GENERATE(true, false);
    INFO(where << (abort ? " abort" : " close"));
    bool called = false;
    const auto end = [abort, &pair, &called](Transport& t) {
        called = true;
        abort ? t.abort() : t.close();
        CHECK(t.is_closing());
        CHECK_FALSE(pair.b->lost);
    };
    pair.b->hooks[where == "made"   ? where
                  : where == "data" ? "data_received"
                                    : "eof_received"] = end;
    pair.first->write("x");
    pair.first->write_eof();
    until(loop, [&] { return pair.over(); });
    CHECK(called);
    CHECK(pair.b->events == (where == "made"   ? "made lost"
                             : where == "data" ? "made data lost"
                                               : "made data eof lost"));
    CHECK(pair.b->reason == (abort ? make_error_code(Errc::aborted) : std::error_code()));
}

TEST_CASE("Random writes, pauses and reads both ways keep every byte in order [F16]") {
    WEFT_TEST_PAIRS();
    TestLoop loop(kernel_kind);
    Pair pair(loop, kind);
    pair.open(loop);
    std::mt19937 random(4711);
    const std::string text = pattern(3'000'000);
    std::size_t sent[2] = {};
    Side* sides[2] = {&pair.a, &pair.b};
    while (sent[0] < text.size() || sent[1] < text.size()) {
        const auto end = random() % 2;
        Transport& transport = sides[end]->transport();
        switch (random() % 4) {
        case 0:
            transport.pause_reading();
            break;
        case 1:
            transport.resume_reading();
            break;
        case 2:
            loop->run_once();
            break;
        default: {
            const std::size_t most = random() % 8 == 0 ? 200'000 : 3000;
            const auto size = std::min<std::size_t>(random() % most, text.size() - sent[end]);
            transport.write(std::string_view(text).substr(sent[end], size));
            sent[end] += size;
        }
        }
    }
    for (Side* side : sides)
        side->transport().resume_reading();
    until(loop, [&] {
        return pair.a->received.size() == text.size() && pair.b->received.size() == text.size();
    });
    CHECK((pair.a->received == text));
    CHECK((pair.b->received == text));
}

TEST_CASE(
    "A pair in memory has 64 KiB of room each way, no descriptor, no names and no system calls") {
    WEFT_TEST_KERNEL(faulty_kernels);
    TestLoop loop(kernel_kind);
    Pair pair(loop, "memory");
    pair.b->keep_open = true;
    pair.b->hooks["made"] = [](Transport& t) { t.pause_reading(); };
    pair.open(loop);
    Transport& a = pair.a.transport();
    CHECK(a.fd() == -1);
    CHECK(a.local_address().empty());
    CHECK(a.peer_address().empty());
    CHECK_FALSE(a.peer_credentials().has_value());
    a.write(std::string(65'536, 'x'));
    CHECK(a.write_buffer_size() == 0);
    a.write("y");
    CHECK(a.write_buffer_size() == 1);
    pair.b.transport().resume_reading();
    until(loop, [&] { return pair.b->received.size() == 65'537; });
    // Also an error that arrives when the stream has ended is found without asking a descriptor.
    a.write_eof();
    until(loop, [&] { return pair.b->events.ends_with("eof"); });
    a.abort();
    until(loop, [&] { return pair.over(); });
    CHECK(pair.b->reason == std::errc::connection_reset);
    using sim::Call;
    for (const Call call : {Call::recv, Call::send, Call::sendv, Call::shutdown_write, Call::close,
                            Call::get_option, Call::add, Call::remove, Call::local_address})
        CHECK(faults(loop).calls(call) == 0);
}

TEST_CASE("Ending a pair before it is announced calls nobody at that end") {
    WEFT_TEST_PAIRS();
    TestLoop loop(kernel_kind);
    Pair pair(loop, kind);
    const bool abort = GENERATE(true, false);
    abort ? pair.first->abort() : pair.first->close();
    until(loop, [&] { return pair.b->lost; });
    CHECK(pair.a->events.empty());
    CHECK(pair.a->destroyed);
    CHECK(pair.b->events == (abort ? "made lost" : "made eof lost"));
}

TEST_CASE(
    "Closing the loop ends both ends with aborted, and an unannounced pair without a call [F34]") {
    WEFT_TEST_PAIRS();
    Side a, b, c, d;
    {
        TestLoop loop(kernel_kind);
        Pair open(loop, kind), fresh(loop, kind == "tcp" ? "socketpair" : kind);
        open.open(loop);
        Pair late(loop, kind);
        late.first->write("unread");
        a = open.a, b = open.b, c = late.a, d = late.b;
        loop->close();
    }
    for (const Side* side : {&a, &b}) {
        CHECK((*side)->events == "made lost");
        CHECK((*side)->reason == Errc::aborted);
    }
    CHECK(c->events.empty());
    CHECK(d->events.empty());
    CHECK(c->destroyed);
    CHECK(d->destroyed);
}

TEST_CASE("Thousands of pairs, ended in every way, leave no memory behind") {
    TestLoop loop(simulated_kernels().front());
    std::mt19937 random(1);
    const auto round = [&] {
        std::vector<std::unique_ptr<Pair>> pairs;
        for (int i = 0; i < 1000; ++i)
            pairs.push_back(std::make_unique<Pair>(loop, "memory"));
        settle(loop);
        for (auto& pair : pairs) {
            if (random() % 2) pair->b.transport().pause_reading();
            pair->a.transport().write(std::string(random() % 1000, 'x'));
            if (random() % 2) loop->run_once();
            Transport& one = random() % 2 ? pair->a.transport() : *pair->second.get();
            random() % 2 ? one.close() : one.abort();
        }
        settle(loop);
        for (auto& pair : pairs)
            for (const TransportRef& ref : {pair->first, pair->second})
                if (ref) ref->close();
        loop.sim().advance(10s); // lingering ends
        settle(loop);
        CHECK(loop->stats().sources == 0);
    };
    round();
    const auto before = heap().live_bytes;
    for (int i = 0; i < 5; ++i)
        round();
    CHECK(heap().live_bytes <= before + 4096);
}
