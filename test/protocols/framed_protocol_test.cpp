#include "support/fake_transport.hpp"

#include <weft/protocols/codecs/framed_protocol.hpp>
#include <weft/reactor/function.hpp>

#include <catch2/catch.hpp>

using namespace weft;
using namespace weft::test;

namespace {

using Log = std::vector<std::string>;

/// Records what it is called with; `on_line` acts inside the callback.
struct Lines : LineProtocol {
    explicit Lines(Log& calls, LineFramer framer = LineFramer())
        : LineProtocol(framer), log(calls) {}
    ~Lines() override { log.push_back("gone"); }

    void line_received(std::string_view line) override {
        log.push_back("line " + std::string(line));
        if (on_line) on_line(*this, line);
    }
    void raw_received(Bytes data) override {
        log.push_back("raw " + std::string(text_of(data)));
        if (on_raw) on_raw(*this, data);
    }
    void framing_error(const Error& error) override {
        log.push_back("error " + error.message());
        if (on_error) {
            on_error(*this);
        } else {
            LineProtocol::framing_error(error);
        }
    }
    bool eof_received() override {
        log.push_back("eof");
        return LineProtocol::eof_received();
    }

    Log& log;
    Function<void(Lines&, std::string_view)> on_line;
    Function<void(Lines&, Bytes)> on_raw;
    Function<void(Lines&)> on_error;
};

/// Takes whatever comes.
struct Plain : Protocol {
    explicit Plain(Log& calls, Reading how = Reading::push) : log(calls), reading_(how) {}
    void connection_made(Transport& made) override {
        log.push_back("made");
        transport = &made;
    }
    void data_received(Bytes data) override { log.push_back("data " + std::string(text_of(data))); }
    MutableBytes get_buffer(std::size_t) override { return buffer; }
    void buffer_updated(std::size_t size) override {
        log.push_back("buffer " + std::string(text_of(Bytes(buffer).first(size))));
    }
    void read_ready() override {
        const ReadResult result = transport->try_read(buffer);
        if (result.size > 0) {
            log.push_back("pulled " + std::string(text_of(Bytes(buffer).first(result.size))));
        }
    }
    Reading reading() const noexcept override { return reading_; }

    Log& log;
    Reading reading_;
    Transport* transport = nullptr;
    std::array<std::byte, 64> buffer;
};

struct Fixture {
    explicit Fixture(LineFramer framer = LineFramer())
        : owned(std::make_unique<Lines>(log, framer)), lines(*owned), transport(std::move(owned)) {}
    Log log;
    std::unique_ptr<Lines> owned;
    Lines& lines;
    FakeTransport transport;
};

} // namespace

TEST_CASE("Lines arrive as calls however they were cut") {
    Fixture f;
    f.transport.receive("one\r\ntwo\r\nth");
    CHECK(f.log == Log{"line one", "line two"});
    CHECK(f.lines.buffer_capacity() > 0);
    f.transport.receive("ree\r\n");
    CHECK(f.log == Log{"line one", "line two", "line three"});
    CHECK(f.lines.buffer_capacity() == 0);
    f.lines.write_line("hello");
    CHECK(f.transport.written == "hello\r\n");
    CHECK(f.transport.writes == 1);
}

TEST_CASE("After close or abort inside a message no further one is delivered [s89]") {
    for (bool abort : {false, true}) {
        Fixture f;
        f.lines.on_line = [&](Lines& lines, std::string_view line) {
            if (line == "two") abort ? lines.transport().abort() : lines.transport().close();
        };
        f.transport.receive("one\ntwo\nthree\nfour");
        f.transport.receive("more\n");
        CHECK(f.log == Log{"line one", "line two"});
    }
}

TEST_CASE("After pause_reading inside a message the rest waits for resume_reading [s86]") {
    for (std::string_view stream : {"one\ntwo\nthree\nfo", "one\ntwo\nthree\n"}) {
        Fixture f;
        f.lines.on_line = [&](Lines& lines, std::string_view) {
            lines.transport().pause_reading();
        };
        f.transport.receive(stream);
        CHECK(f.log == Log{"line one"});
        CHECK(f.lines.buffer_capacity() == 0);
        f.transport.receive_eof();
        f.transport.resume_reading();
        CHECK(f.log == Log{"line one"});
        f.transport.turn();
        CHECK(f.log == Log{"line one", "line two"});
        f.lines.on_line = nullptr;
        f.transport.resume_reading();
        f.transport.turn();
        REQUIRE(f.log.size() >= 4);
        CHECK(f.log[2] == "line three");
        CHECK(f.log[3] == "eof");
        CHECK(f.transport.aborted == stream.ends_with("fo"));
    }
}

TEST_CASE("Pausing and resuming inside one message loses nothing [s86]") {
    Fixture f;
    f.lines.on_line = [&](Lines& lines, std::string_view) {
        lines.transport().pause_reading();
        lines.transport().resume_reading();
    };
    f.transport.receive("one\ntwo\n");
    CHECK(f.log == Log{"line one", "line two"});
    CHECK(f.transport.deliveries == 1);
}

TEST_CASE("An upgrade hands every byte behind the message to the new protocol [s92]") {
    for (Reading reading : {Reading::push, Reading::buffered, Reading::pull}) {
        for (std::size_t cut = 0; cut <= 17; ++cut) {
            Fixture f;
            f.lines.on_line = [&](Lines& lines, std::string_view line) {
                if (line != "UPGRADE") return;
                lines.upgrade(std::make_unique<Plain>(f.log, reading));
                f.log.push_back("still here");
            };
            const std::string_view stream = "a\nUPGRADE\nbinary\n\n";
            if (cut > 0) f.transport.receive(stream.substr(0, cut));
            f.transport.receive(stream.substr(cut));
            INFO("cut at " << cut);
            REQUIRE(f.log.size() >= 5);
            std::string rest;
            for (std::size_t i = 5; i < f.log.size(); ++i)
                rest += f.log[i].substr(f.log[i].find(' ') + 1);
            f.log.resize(5);
            CHECK(f.log == Log{"line a", "line UPGRADE", "made", "still here", "gone"});
            CHECK(rest == "binary\n\n");
        }
    }
}

TEST_CASE("set_protocol inside a message counts as an upgrade, also while paused [s86] [s92]") {
    Fixture f;
    std::unique_ptr<Protocol> old;
    f.lines.on_line = [&](Lines& lines, std::string_view) {
        lines.transport().pause_reading();
        old = lines.transport().set_protocol(std::make_unique<Plain>(f.log));
    };
    f.transport.receive("a\nb\nc");
    CHECK(f.log == Log{"line a"});
    f.transport.resume_reading();
    f.transport.turn();
    CHECK(f.log == Log{"line a", "data b\nc"});
}

TEST_CASE("An upgrade that throws afterwards still frees the old protocol [s92]") {
    Fixture f;
    f.lines.on_line = [&](Lines& lines, std::string_view) {
        lines.upgrade(std::make_unique<Plain>(f.log));
        throw std::runtime_error("later");
    };
    CHECK_THROWS_WITH(f.transport.receive("a\nb\n"), "later");
    CHECK(f.log == Log{"line a", "made", "gone"});
}

TEST_CASE("An upgrade outside a message, or a second one, is refused by name") {
    Fixture f;
    CHECK_THROWS_AS(f.lines.upgrade(std::make_unique<Plain>(f.log)), UsageError);
    f.lines.on_line = [&](Lines& lines, std::string_view) {
        lines.upgrade(std::make_unique<Plain>(f.log));
        CHECK_THROWS_AS(lines.upgrade(std::make_unique<Plain>(f.log)), UsageError);
    };
    f.transport.receive("a\n");
    CHECK(f.log == Log{"line a", "made", "gone"});
}

TEST_CASE("Raw mode takes effect inside a chunk, for good or for a number of bytes") {
    const std::string_view stream = "put 5\n12\n34after\nraw\nx\ny";
    for (std::size_t cut = 0; cut < stream.size(); ++cut) {
        Fixture f;
        std::string raw;
        f.lines.on_line = [&](Lines& lines, std::string_view line) {
            if (line == "put 5") lines.set_raw_mode(5);
            if (line == "put 0") lines.set_raw_mode(0);
            if (line == "raw") lines.set_raw_mode();
        };
        f.lines.on_raw = [&](Lines& lines, Bytes data) {
            raw += text_of(data);
            if (raw.size() <= 5) CHECK(lines.raw_left() == 5 - raw.size());
        };
        if (cut > 0) f.transport.receive(stream.substr(0, cut));
        f.transport.receive(stream.substr(cut));
        std::erase_if(f.log, [](const std::string& entry) { return entry.starts_with("raw "); });
        INFO("cut at " << cut);
        CHECK(f.log == Log{"line put 5", "line after", "line raw"});
        CHECK(raw == "12\n34x\ny");
        CHECK(f.lines.is_raw());
    }
}

TEST_CASE("A raw mode of 0 bytes is none") {
    Fixture f;
    f.lines.on_line = [&](Lines& lines, std::string_view) { lines.set_raw_mode(0); };
    f.transport.receive("a\nb\n");
    CHECK(f.log == Log{"line a", "line b"});
}

TEST_CASE("set_message_mode gives the end of the raw data back to the framing") {
    for (std::string_view first :
         {"", "raw\nab", "raw\nabEND", "raw\nabENDon", "raw\nabENDone\nraw\ncd"}) {
        Fixture f;
        f.lines.on_line = [&](Lines& lines, std::string_view line) {
            if (line == "raw") lines.set_raw_mode();
        };
        f.lines.on_raw = [&](Lines& lines, Bytes data) {
            const auto at = text_of(data).find("END");
            if (at != std::string_view::npos) lines.set_message_mode(data.subspan(at + 3));
        };
        const std::string_view stream = "raw\nabENDone\nraw\ncdENDtwo\n";
        if (!first.empty()) f.transport.receive(first);
        f.transport.receive(stream.substr(first.size()));
        std::erase_if(f.log, [](const std::string& entry) { return entry.starts_with("raw "); });
        CHECK(f.log == Log{"line raw", "line one", "line raw", "line two"});
        CHECK_FALSE(f.lines.is_raw());
    }
}

TEST_CASE("set_message_mode refuses bytes that are not the end of those received") {
    Fixture f;
    CHECK_THROWS_AS(f.lines.set_message_mode(bytes_of("x")), UsageError);
    f.lines.set_raw_mode();
    f.lines.on_raw = [&](Lines& lines, Bytes data) {
        CHECK_THROWS_AS(lines.set_message_mode(data.first(1)), UsageError);
        CHECK_THROWS_AS(lines.set_message_mode(bytes_of("b")), UsageError);
        lines.set_message_mode(data);
    };
    f.transport.receive("ab\n");
    CHECK(f.log == Log{"raw ab\n", "line ab"});
}

TEST_CASE("Raw mode between callbacks includes what is there of the next message [s92]") {
    Fixture f;
    f.transport.receive("a\nhal");
    f.lines.set_raw_mode(4);
    CHECK(f.log == Log{"line a"});
    f.transport.turn();
    f.transport.receive("f\nb\n");
    CHECK(f.log == Log{"line a", "raw hal", "raw f", "line ", "line b"});
}

TEST_CASE("A pause inside raw mode keeps the rest raw [s86]") {
    Fixture f;
    f.lines.set_raw_mode(2);
    f.lines.on_raw = [&](Lines& lines, Bytes) { lines.transport().pause_reading(); };
    f.transport.receive("abc\n");
    CHECK(f.log == Log{"raw ab"});
    f.transport.resume_reading();
    f.transport.turn();
    CHECK(f.log == Log{"raw ab", "line c"});
}

TEST_CASE("An overlong line aborts with too_long, unless framing_error closes") {
    Fixture f(LineFramer(LineEnd::any, 4));
    f.transport.receive("1234\n12345\nnext\n");
    CHECK(f.log ==
          Log{"line 1234", "error line framing, limit 4 bytes: message longer than the limit"});
    CHECK(f.transport.aborted);
    CHECK(f.transport.reason == Errc::too_long);

    Fixture polite(LineFramer(LineEnd::any, 4));
    polite.lines.on_error = [](Lines& lines) {
        lines.transport().write("500\r\n");
        lines.transport().close();
    };
    polite.transport.receive("12345\nnext\n");
    CHECK(polite.log.size() == 1);
    CHECK_FALSE(polite.transport.aborted);
    CHECK(polite.transport.written == "500\r\n");

    Fixture idle(LineFramer(LineEnd::any, 4));
    idle.lines.on_error = [](Lines&) {};
    idle.transport.receive("12345\nnext\n");
    CHECK(idle.transport.aborted);
    CHECK(idle.transport.reason == Errc::too_long);
}

TEST_CASE("framing_error may go on with the refused bytes in raw mode or another protocol [s92]") {
    for (std::size_t cut : {0, 3, 5, 7}) {
        const std::string_view stream = "a\n1234567\nnext\n";
        Fixture f(LineFramer(LineEnd::any, 4));
        f.lines.on_error = [](Lines& lines) { lines.set_raw_mode(8); };
        if (cut > 0) f.transport.receive(stream.substr(0, cut));
        f.transport.receive(stream.substr(cut));
        std::string raw;
        for (const std::string& entry : f.log) {
            if (entry.starts_with("raw ")) raw += entry.substr(4);
        }
        CHECK(raw == "1234567\n");
        CHECK(f.log.back() == "line next");
        CHECK_FALSE(f.transport.closing);

        Fixture other(LineFramer(LineEnd::any, 4));
        other.lines.on_error = [&](Lines& lines) {
            lines.upgrade(std::make_unique<Plain>(other.log));
        };
        if (cut > 0) other.transport.receive(stream.substr(0, cut));
        other.transport.receive(stream.substr(cut));
        std::string data;
        for (const std::string& entry : other.log) {
            if (entry.starts_with("data ")) data += entry.substr(5);
        }
        CHECK(data == "1234567\nnext\n");
    }
}

TEST_CASE("The end of the stream inside a message is reported as incomplete") {
    Fixture f;
    f.transport.receive("one\ntw");
    f.transport.receive_eof();
    CHECK(f.log ==
          Log{"line one", "eof",
              "error line framing, 2 bytes into a message: the stream ended inside a message"});
    CHECK(f.transport.reason == Errc::incomplete);

    Fixture raw;
    raw.lines.set_raw_mode(5);
    raw.lines.on_error = [](Lines&) {};
    raw.transport.receive("abc");
    raw.transport.receive_eof();
    CHECK(raw.log.back() == "error line framing, 2 bytes before the end of raw mode: the stream "
                            "ended inside a message");
    CHECK(raw.transport.reason == Errc::incomplete);

    Fixture clean;
    clean.transport.receive("one\n");
    clean.lines.set_raw_mode();
    clean.transport.receive("abc");
    clean.transport.receive_eof();
    CHECK(clean.transport.closing);
    CHECK_FALSE(clean.transport.aborted);
    CHECK(clean.log.back() == "eof");
}

TEST_CASE("A message that throws leaves the protocol able to end [s84]") {
    Fixture f;
    f.lines.on_line = [&](Lines&, std::string_view) { throw std::runtime_error("mine"); };
    CHECK_THROWS_WITH(f.transport.receive("a\nb\n"), "mine");
    f.lines.on_line = nullptr;
    f.transport.receive("c\n");
    CHECK(f.log == Log{"line a", "line c"});
}

TEST_CASE("Misuse of a framed protocol is named") {
    Log log;
    Lines lonely(log);
    CHECK_THROWS_WITH(lonely.write_line("x"), Catch::Matchers::Contains("connection_made"));
    CHECK_THROWS_WITH(lonely.data_received(bytes_of("x")),
                      Catch::Matchers::Contains("connection_made"));
    Fixture f;
    f.lines.on_line = [&](Lines& lines, std::string_view) { lines.data_received(bytes_of("x\n")); };
    CHECK_THROWS_WITH(f.transport.receive("a\n"),
                      Catch::Matchers::Contains("inside its own callback"));
}

TEST_CASE("What is missing of a large message goes straight into its place") {
    struct Big final : LengthPrefixedProtocol {
        void message_received(Bytes message) override {
            sizes.push_back(message.size());
            CHECK(message.back() == std::byte{'z'});
        }
        std::vector<std::size_t> sizes;
    };
    auto owned = std::make_unique<Big>();
    Big& big = *owned;
    FakeTransport transport(std::move(owned));
    const std::string message = std::string("\0\3\x0d\x40", 4) + std::string(199'999, 'x') + "z";
    const std::string small = std::string("\0\0\0\1z", 5);
    transport.receive(small + message.substr(0, 60'000));
    CHECK(big.reading() == Reading::buffered);
    CHECK(transport.placed == 0);
    transport.receive(message.substr(60'000, 100'000));
    CHECK(transport.placed == 1);
    transport.receive(message.substr(160'000) + small + small);
    CHECK(transport.placed == 2);
    CHECK(big.reading() == Reading::push);
    CHECK(big.sizes == std::vector<std::size_t>{1, 200'000, 1, 1});
    CHECK(big.buffer_capacity() == 0);
}
