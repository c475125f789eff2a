#include "stream_support.hpp"

using namespace weft;
using namespace weft::test;

namespace {

/// Lets `journal` take `most` bytes per call of `read_ready`, to the end of what is there.
void pull(Journal& journal, std::size_t most = 64) {
    journal.reading = Reading::pull;
    journal.hooks["read_ready"] = [&journal, most](Transport& t) {
        std::vector<std::byte> room(most);
        for (;;) {
            const ReadResult got = t.try_read(room);
            if (got.state == ReadResult::State::data) {
                journal.received += text_of(Bytes(room).first(got.size));
                if (t.is_closing()) return;
                continue;
            }
            if (got.state == ReadResult::State::eof) {
                journal.note("end");
                t.close();
            }
            return;
        }
    };
}

} // namespace

TEST_CASE("An upgrade in the middle of the stream loses and repeats no byte [s92]") {
    WEFT_TEST_STREAM(all_streams);
    const Reading before = GENERATE(Reading::push, Reading::buffered, Reading::pull);
    const Reading after = GENERATE(Reading::push, Reading::buffered, Reading::pull);
    const std::size_t cut = GENERATE(1, 8, 9, 10, 500); // the first packet's size
    INFO("from " << int(before) << " to " << int(after) << ", first packet " << cut);
    World world(kernel_kind);
    auto next = std::make_shared<Journal>();
    if (after == Reading::pull) pull(*next);
    next->reading = after;
    std::unique_ptr<Protocol> old;
    // Text protocol up to the newline, whatever it may be from there on.
    const auto upgrade = [&](Journal& journal, Transport& t) {
        const auto line = journal.received.find('\n');
        if (line == journal.received.npos || old) return;
        const std::string rest = journal.received.substr(line + 1);
        journal.received.resize(line + 1);
        t.unread(bytes_of(rest));
        auto recorder = std::make_unique<Recorder>(next);
        recorder->connection_made(t);
        old = t.set_protocol(std::move(recorder));
        CHECK(next->received.empty()); // never before the callback has returned
    };
    world.prepare = [&](Journal& journal) {
        journal.reading = before;
        if (before == Reading::pull) {
            journal.hooks["read_ready"] = [&](Transport& t) {
                std::array<std::byte, 16> room;
                for (ReadResult got = t.try_read(room); got.state == ReadResult::State::data;
                     got = t.try_read(room)) {
                    journal.received += text_of(Bytes(room).first(got.size));
                    upgrade(journal, t);
                    if (old) return;
                }
            };
        } else {
            const char* data = before == Reading::push ? "data_received" : "buffer_updated";
            journal.hooks[data] = [&](Transport& t) { upgrade(journal, t); };
        }
    };
    world.listen();
    RawPeer peer = world.connect();
    const std::string text = "UPGRADE!\n" + pattern(5000);
    peer.send(text.substr(0, cut));
    world.settle();
    peer.send(text.substr(cut));
    peer.finish_sending();
    world.until([&] { return next->lost; });
    CHECK(world.last().received == "UPGRADE!\n");
    CHECK((next->received == text.substr(9)));
    CHECK(!world.last().lost); // it was exchanged, not lost
    CHECK(next->count("lost") == 1);
}

TEST_CASE("A protocol that is exchanged inside get_buffer is not read into [s92]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    auto next = std::make_shared<Journal>();
    world.prepare = [&](Journal& journal) {
        journal.reading = Reading::buffered;
        journal.hooks["get_buffer"] = [&](Transport& t) {
            auto recorder = std::make_unique<Recorder>(next);
            recorder->connection_made(t);
            auto old = t.set_protocol(std::move(recorder));
            t.loop().call_soon([old = std::shared_ptr<Protocol>(std::move(old))] {});
        };
    };
    next->reading = GENERATE(Reading::push, Reading::buffered);
    world.listen();
    RawPeer peer = world.connect();
    peer.send("for the next");
    world.until([&] { return next->received == "for the next"; });
    CHECK(world.last().received.empty());
}

TEST_CASE("An end that was read before an upgrade is told to the new protocol [s92]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    auto next = std::make_shared<Journal>();
    std::string rest;
    world.prepare = [&](Journal& journal) {
        journal.reading = Reading::pull;
        journal.hooks["read_ready"] = [&](Transport& t) {
            std::array<std::byte, 16> room;
            for (;;) {
                const ReadResult got = t.try_read(room);
                if (got.state == ReadResult::State::data)
                    rest += text_of(Bytes(room).first(got.size));
                if (got.state == ReadResult::State::would_block) return;
                if (got.state != ReadResult::State::eof) continue;
                CHECK(t.try_read(room).state == ReadResult::State::eof);
                t.unread(bytes_of(rest));
                auto recorder = std::make_unique<Recorder>(next);
                recorder->connection_made(t);
                auto old = t.set_protocol(std::move(recorder));
                t.loop().call_soon([old = std::shared_ptr<Protocol>(std::move(old))] {});
                return;
            }
        };
    };
    world.listen();
    RawPeer peer = world.connect();
    peer.send("all of it");
    peer.finish_sending();
    world.until([&] { return next->lost; });
    CHECK(next->received == "all of it");
    CHECK(next->events == "made data eof lost");
}

TEST_CASE(
    "What is given back last comes first, once reading is on, and before the end [s86] [s92]") {
    WEFT_TEST_STREAM(all_streams);
    const Reading reading = GENERATE(Reading::push, Reading::buffered);
    World world(kernel_kind);
    world.prepare = [&](Journal& journal) { journal.reading = reading; };
    world.listen();
    RawPeer peer = world.connect();
    const char* data = reading == Reading::push ? "data_received" : "buffer_updated";
    Journal& journal = world.last();
    journal.hooks[data] = [&](Transport& t) {
        t.pause_reading();
        t.unread(bytes_of("three "));
        t.unread(bytes_of("two "));
        t.unread(Bytes());
        t.unread(bytes_of("one "));
        journal.hooks.clear();
        journal.received.clear();
    };
    peer.send("four");
    world.until([&] { return !world.transport().is_reading(); });
    peer.finish_sending();
    world.settle();
    CHECK(journal.received.empty());
    world.transport().resume_reading();
    world.until([&] { return journal.lost; });
    CHECK(journal.received == "one two three ");
    CHECK(journal.events == "made data eof lost");
}

TEST_CASE("Giving back in pieces what was taken in pieces keeps the order [s92]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    world.prepare = [](Journal& journal) {
        journal.hooks["made"] = [](Transport& t) { t.pause_reading(); };
    };
    world.listen();
    RawPeer peer = world.connect();
    Transport& t = world.transport();
    const std::string text = pattern(2000);
    t.unread(bytes_of(text));
    std::string got;
    std::array<std::byte, 100> room;
    for (std::size_t step = 1; got.size() < text.size(); ++step) {
        const ReadResult result = t.try_read(room);
        REQUIRE(result.state == ReadResult::State::data);
        const std::size_t keep = step % result.size + 1;
        got += text_of(Bytes(room).first(keep));
        t.unread(Bytes(room).subspan(keep, result.size - keep));
        if (step % 5 == 0) { // more than was taken
            t.unread(bytes_of("inserted"));
            REQUIRE(t.try_read(MutableBytes(room).first(8)).size == 8);
        }
    }
    CHECK((got == text));
    CHECK(t.try_read(room).state == ReadResult::State::would_block);
    t.close();
    t.unread(bytes_of("dropped"));
    world.until([&] { return world.last().lost; });
    CHECK(world.last().events == "made lost");
}

TEST_CASE("A pulling protocol is told again only after it has met an empty stream [s86]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    world.prepare = [](Journal& journal) { journal.reading = Reading::pull; };
    world.listen();
    RawPeer peer = world.connect();
    Journal& journal = world.last();
    std::array<std::byte, 8> room;
    const auto read = [&] { return world.transport().try_read(room); };
    CHECK(read().state == ReadResult::State::would_block);
    peer.send("0123456789");
    world.until([&] { return journal.count("ready") == 1; });
    peer.send("abc");
    world.settle();
    CHECK(journal.count("ready") == 1);
    CHECK(read().size == 8);
    std::size_t rest = 0; // a layer may not put together what came in two pieces
    ReadResult last = read();
    for (; last.state == ReadResult::State::data; last = read())
        rest += last.size;
    CHECK(rest == 5);
    CHECK(last.state == ReadResult::State::would_block);
    CHECK_THROWS_AS((peer.send("x"), world.settle(), world.transport().try_read({})), UsageError);
    CHECK(journal.count("ready") == 2);
    CHECK(read().size == 1);
    CHECK(read().state == ReadResult::State::would_block);
    peer.finish_sending();
    world.until([&] { return journal.count("ready") == 3; });
    CHECK(read().state == ReadResult::State::eof);
    CHECK(read().state == ReadResult::State::eof);
    CHECK(!journal.lost); // it decides itself when to close
    CHECK(journal.count("eof") == 0);
    world.transport().close();
    world.until([&] { return journal.lost; });
}

TEST_CASE("A pulling protocol finds errors where it reads [s83]") {
    WEFT_TEST_STREAM(streams_that_reset);
    World world(kernel_kind);
    world.prepare = [](Journal& journal) { journal.reading = Reading::pull; };
    world.listen();
    RawPeer peer = world.connect();
    peer.send("last words");
    peer.reset();
    world.until([&] { return world.last().count("ready") == 1; });
    std::array<std::byte, 64> room;
    CHECK(world.transport().try_read(room).size == 10);
    const ReadResult end = world.transport().try_read(room);
    CHECK(end.state == ReadResult::State::failed);
    CHECK(world.transport().read_error() == std::errc::connection_reset);
    CHECK(world.transport().try_read(room).state == ReadResult::State::failed);
    CHECK(world.transport().read_error() == std::errc::connection_reset);
    world.until([&] { return world.last().lost; });
    CHECK(world.last().reason == std::errc::connection_reset);
}

TEST_CASE("try_read takes from a pushing protocol what it would have been pushed [s82]") {
    WEFT_TEST_STREAM(all_streams);
    World world(kernel_kind);
    std::string taken;
    world.prepare = [&](Journal& journal) {
        journal.hooks["data_received"] = [&](Transport& t) {
            std::array<std::byte, 64> room;
            const ReadResult got = t.try_read(room);
            if (got.state == ReadResult::State::data) taken += text_of(Bytes(room).first(got.size));
        };
        journal.hooks["made"] = [](Transport& t) { t.unread(bytes_of("given back")); };
    };
    world.listen();
    RawPeer peer = world.connect();
    peer.send("sent");
    peer.finish_sending();
    world.until([&] { return world.last().lost; });
    CHECK(world.last().received + taken == "given backsent");
    CHECK(world.last().events == "made data eof lost");
}
