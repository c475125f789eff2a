// Codecs over the transport that ships, where test/protocols has them over one that is played.

#include <weft/protocols/codecs/framed_protocol.hpp>
#include <weft/reactor/loop.hpp>
#include <weft/transports/connect/connect.hpp>

#include <catch2/catch.hpp>

using namespace weft;

namespace {

using Log = std::vector<std::string>;

struct Lines final : LineProtocol {
    explicit Lines(Log& calls) : log(calls) {}
    void line_received(std::string_view line) override {
        log.push_back("line " + std::string(line));
        if (on_line) on_line(*this, line);
    }
    void connection_lost(std::error_code reason) override {
        log.push_back("lost" + (reason ? " " + reason.message() : std::string()));
    }
    Log& log;
    Function<void(Lines&, std::string_view)> on_line;
};

/// Collects what comes, by any reading contract, in pieces of 3 bytes where it has the choice.
struct Collect final : Protocol {
    Collect(std::string& into, Reading how) : collected(into), how_(how) {}
    void connection_made(Transport& made) override { transport = &made; }
    void data_received(Bytes data) override { collected += text_of(data); }
    MutableBytes get_buffer(std::size_t) override { return buffer; }
    void buffer_updated(std::size_t size) override {
        collected += text_of(Bytes(buffer).first(size));
    }
    void read_ready() override {
        ReadResult result = transport->try_read(buffer);
        for (; result.state == ReadResult::State::data; result = transport->try_read(buffer)) {
            buffer_updated(result.size);
        }
        if (result.state == ReadResult::State::eof) collected += "<end>";
    }
    bool eof_received() override {
        collected += "<end>";
        return false;
    }
    Reading reading() const noexcept override { return how_; }

    std::string& collected;
    Reading how_;
    Transport* transport = nullptr;
    std::array<std::byte, 3> buffer;
};

struct Pair {
    Pair() {
        auto owned = std::make_unique<Lines>(log);
        lines = owned.get();
        auto ends = connected_pair(loop, std::move(owned), std::make_unique<Protocol>());
        near = ends.first;
        far = ends.second;
        turns();
    }
    /// More turns than any exchange here takes, without waiting.
    void turns() {
        for (int i = 0; i < 20; ++i)
            loop.run_once();
    }
    void send(std::string_view text) {
        far->write(text);
        turns();
    }
    Log log;
    Loop loop;
    Lines* lines;
    TransportRef near, far;
};

} // namespace

TEST_CASE("A framed protocol paused in a message gets the rest after resume_reading, then the end "
          "[s85] [s86]") {
    Pair pair;
    pair.lines->on_line = [](Lines& lines, std::string_view) { lines.transport().pause_reading(); };
    pair.far->write("one\ntwo\nthree\n");
    pair.far->write_eof();
    pair.turns();
    CHECK(pair.log == Log{"line one"});
    pair.near->resume_reading();
    CHECK(pair.log == Log{"line one"});
    pair.turns();
    CHECK(pair.log == Log{"line one", "line two"});
    pair.lines->on_line.reset();
    pair.near->resume_reading();
    pair.turns();
    CHECK(pair.log == Log{"line one", "line two", "line three", "lost"});
}

TEST_CASE("An upgrade over a transport loses and duplicates no byte, whichever way the new "
          "protocol reads [s92]") {
    for (Reading reading : {Reading::push, Reading::buffered, Reading::pull}) {
        for (bool paused : {false, true}) {
            Pair pair;
            std::string collected;
            pair.lines->on_line = [&](Lines& lines, std::string_view) {
                if (paused) lines.transport().pause_reading();
                lines.upgrade(std::make_unique<Collect>(collected, reading));
            };
            pair.send("UPGR");
            pair.far->write("ADE\nfirst\nsecond");
            pair.far->write_eof();
            pair.turns();
            if (paused) {
                CHECK(collected.empty());
                pair.near->resume_reading();
                pair.turns();
            }
            INFO("reading " << static_cast<int>(reading) << ", paused " << paused);
            CHECK(pair.log == Log{"line UPGRADE"});
            CHECK(collected == "first\nsecond<end>");
        }
    }
}

TEST_CASE("After close in a message over a transport no further one comes, and the answer still "
          "leaves [s89]") {
    Pair pair;
    pair.lines->on_line = [](Lines& lines, std::string_view line) {
        lines.write_line(line);
        lines.transport().close();
    };
    std::string collected;
    auto collect = std::make_unique<Collect>(collected, Reading::push);
    const auto replaced = pair.far->set_protocol(std::move(collect));
    pair.send("one\ntwo\nthree\n");
    CHECK(pair.log == Log{"line one", "lost"});
    CHECK(collected == "one\r\n<end>");
}

TEST_CASE("A stream that ends inside a message loses the connection with incomplete, after its "
          "messages") {
    Pair pair;
    pair.far->write("one\ntw");
    pair.far->close();
    pair.turns();
    CHECK(pair.log == Log{"line one", "lost the stream ended inside a message"});
}

TEST_CASE("Large messages are received into their place, between small ones, byte for byte") {
    struct Sizes final : LengthPrefixedProtocol {
        explicit Sizes(Log& calls) : log(calls) {}
        void message_received(Bytes message) override {
            bool right = true;
            for (std::size_t i = 0; i < message.size(); ++i)
                right = right && message[i] == static_cast<std::byte>(i * 7 + i / 256);
            log.push_back((right ? "" : "wrong ") + std::to_string(message.size()));
            if (message.size() == pause_at) transport().pause_reading();
            if (message.size() == raw_at) set_raw_mode(3);
        }
        void raw_received(Bytes data) override {
            log.push_back("raw " + std::string(text_of(data)));
        }
        void connection_lost(std::error_code reason) override {
            log.push_back(reason ? "lost " + reason.message() : "lost");
        }
        Log& log;
        std::size_t pause_at = 1, raw_at = 1;
    };
    Log log;
    Loop loop;
    auto owned = std::make_unique<Sizes>(log);
    Sizes& sizes = *owned;
    auto [near, far] = connected_pair(loop, std::move(owned), std::make_unique<Protocol>());
    const auto send = [&](std::size_t size) {
        std::string message(size, '\0');
        for (std::size_t i = 0; i < size; ++i)
            message[i] = static_cast<char>(i * 7 + i / 256);
        write_message(*far.get(), LengthFramer(), bytes_of(message));
    };
    const auto until = [&](std::size_t count) {
        while (log.size() < count)
            loop.run_once();
    };
    for (std::size_t size : {3, 100'000, 5, 1'000'000, 40'000, 300'000, 0})
        send(size);
    until(7);
    CHECK(log == Log{"3", "100000", "5", "1000000", "40000", "300000", "0"});
    CHECK(sizes.buffer_capacity() == 0);

    // What comes behind a large message that pauses waits; behind one that asks for raw bytes it is
    // raw; and one that the end of the stream cuts is an error.
    log.clear();
    sizes.pause_at = 500'000;
    sizes.raw_at = 600'000;
    send(500'000);
    send(600'000);
    far->write("abc");
    send(9);
    until(1);
    for (int i = 0; i < 20; ++i)
        loop.run_once();
    CHECK(log == Log{"500000"});
    near->resume_reading();
    until(4);
    CHECK(log == Log{"500000", "600000", "raw abc", "9"});
    log.clear();
    const std::string cut("\0\x0f\0\0", 4);
    far->write(cut + std::string(200'000, 'x'));
    far->write_eof();
    until(1);
    CHECK(log == Log{"lost the stream ended inside a message"});
}
