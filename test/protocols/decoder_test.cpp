#include "support/codec.hpp"
#include "support/instrumented.hpp"

#include <weft/protocols/codecs/length_framing.hpp>
#include <weft/protocols/codecs/line_framing.hpp>

#include <catch2/catch.hpp>

using namespace weft;
using namespace weft::test;

namespace {

using LineDecoder = Decoder<LineFramer>;

/// Counts the bytes it is shown, to prove that a search does not begin anew with every chunk.
struct CountingFramer {
    Scan scan(Bytes bytes, std::size_t passed) const {
        *looked_at += bytes.size();
        return inner.scan(bytes, passed);
    }
    std::size_t max_message() const { return inner.max_message(); }
    std::size_t max_frame() const { return inner.max_frame(); }
    std::string_view name() const { return "counting"; }
    LineFramer inner{LineEnd::lf, 1 << 20};
    std::size_t* looked_at;
};

/// The example of docs/protocols.md.
class CardFramer {
public:
    weft::Scan scan(weft::Bytes bytes, std::size_t) const noexcept {
        const int more = std::to_integer<int>(bytes[0]) - '0';
        if (more < 0 || more > 9) return weft::Scan::malformed();
        const std::size_t size = 80 * (1 + static_cast<std::size_t>(more));
        return bytes.size() < size ? weft::Scan::more(size) : weft::Scan::frame(1, size - 1, size);
    }
    std::size_t max_message() const noexcept { return 799; }
    std::size_t max_frame() const noexcept { return 800; }
    std::string_view name() const noexcept { return "card framing"; }
};

/// Breaks the framer's contract on purpose.
struct BadFramer {
    Scan scan(Bytes, std::size_t) const { return answer; }
    std::size_t max_message() const { return 4; }
    std::size_t max_frame() const { return 4; }
    std::string_view name() const { return "bad framing"; }
    Scan answer = Scan::more();
};

} // namespace

TEST_CASE("A message that lies whole in the input is a view of it and needs no memory") {
    LineDecoder decoder;
    const std::string chunk = "one\r\ntwo\r\n";
    Bytes input = bytes_of(chunk);
    const auto one = decoder.next(input);
    REQUIRE(one.state == LineDecoder::State::message);
    CHECK(one.message.data() == bytes_of(chunk).data());
    CHECK(one.message.size() == 3);
    CHECK(text_of(input) == "two\r\n");
    const auto two = decoder.next(input);
    CHECK(two.message.data() == bytes_of(chunk).data() + 5);
    CHECK(input.empty());
    CHECK(decoder.next(input).state == LineDecoder::State::more);
    CHECK(decoder.capacity() == 0);
}

TEST_CASE("Memory is held only while a cut message is incomplete") {
    LineDecoder decoder;
    Bytes input = bytes_of("one\r\ntw");
    CHECK(text_of(decoder.next(input).message) == "one");
    CHECK(decoder.capacity() == 0);
    CHECK(decoder.next(input).state == LineDecoder::State::more);
    CHECK(decoder.capacity() > 0);
    CHECK(text_of(decoder.partial()) == "tw");
    input = bytes_of("o\r\nthree\r\n");
    CHECK(text_of(decoder.next(input).message) == "two");
    CHECK(text_of(input) == "three\r\n");
    CHECK(decoder.partial().empty());
    CHECK(text_of(decoder.next(input).message) == "three");
    CHECK(decoder.capacity() == 0);
    input = bytes_of("four");
    CHECK(decoder.next(input).state == LineDecoder::State::more);
    input = bytes_of("\n");
    CHECK(text_of(decoder.next(input).message) == "four");
    decoder.release();
    CHECK(decoder.capacity() == 0);
}

TEST_CASE("The memory for a cut message never exceeds the longest frame [F55]") {
    LineDecoder decoder(LineFramer(LineEnd::any, 1000));
    const std::string big(5000, 'x');
    for (std::size_t size : {std::size_t{1}, std::size_t{300}, std::size_t{699}}) {
        Bytes input = bytes_of(std::string_view(big).substr(0, size));
        REQUIRE(decoder.next(input).state == LineDecoder::State::more);
        CHECK(decoder.capacity() <= 1002);
    }
    Bytes input = bytes_of(big);
    CHECK(decoder.next(input).state == LineDecoder::State::error);
    CHECK(decoder.capacity() <= 1002);
    CHECK(decoder.partial().size() == 1000);
    CHECK(input.size() == 5000);
    CHECK(decoder.next(input).state == LineDecoder::State::error);
    decoder.reset();
    CHECK(decoder.capacity() == 0);
    input = bytes_of("fine\n");
    CHECK(text_of(decoder.next(input).message) == "fine");
}

TEST_CASE("A long line that arrives byte by byte is searched once, not once per byte [F55]") {
    std::size_t looked_at = 0;
    Decoder<CountingFramer> decoder(CountingFramer{.looked_at = &looked_at});
    int complete = 0;
    for (int i = 0; i < 100'000; ++i) {
        Bytes input = bytes_of("x");
        complete += decoder.next(input).state != Decoder<CountingFramer>::State::more;
    }
    CHECK(complete == 0);
    CHECK(looked_at == 100'000);
}

TEST_CASE("The end of the stream is an error only inside a message") {
    LineDecoder decoder;
    CHECK(decoder.end().ok());
    CHECK(decoder.feed(bytes_of("one\n"), [](Bytes) {}));
    CHECK(decoder.end().ok());
    CHECK(decoder.feed(bytes_of("two"), [](Bytes) {}));
    REQUIRE(!decoder.end().ok());
    CHECK(decoder.end().error().code == Errc::incomplete);
    CHECK(decoder.end().error().message() ==
          "line framing, 3 bytes into a message: the stream ended inside a message");
}

TEST_CASE("A framer that breaks its contract is named") {
    Bytes input = bytes_of("12345");
    CHECK_THROWS_WITH(Decoder<BadFramer>().next(input),
                      Catch::Matchers::StartsWith("bad framing: "));
    Decoder<BadFramer> more;
    input = bytes_of("1234");
    CHECK(more.next(input).state == Decoder<BadFramer>::State::more);
    input = bytes_of("5");
    CHECK_THROWS_AS(more.next(input), UsageError);
}

TEST_CASE("A framer that passes bytes that have not come is named") {
    Bytes input = bytes_of("1");
    CHECK_THROWS_AS(Decoder<BadFramer>(BadFramer{Scan::pass(2)}).next(input), UsageError);
}

TEST_CASE("A message of known size is received into its place, which is asked for once") {
    Decoder<LengthFramer> decoder;
    const std::string message(1'000'000, 'm');
    const std::string first = std::string("\0\x0f\x42\x40", 4) + message.substr(0, 65'532);
    Bytes input = bytes_of(first);
    REQUIRE(decoder.next(input).state == Decoder<LengthFramer>::State::more);
    CHECK(decoder.capacity() == 1'000'004);
    CHECK(decoder.wants_room());
    const MutableBytes room = decoder.room();
    REQUIRE(room.size() == 1'000'004 - 65'536);
    std::memset(room.data(), 'm', 400'000);
    CHECK(decoder.filled(400'000).state == Decoder<LengthFramer>::State::more);
    const MutableBytes rest = decoder.room();
    CHECK(rest.data() == room.data() + 400'000);
    std::memset(rest.data(), 'm', rest.size());
    const auto next = decoder.filled(rest.size());
    REQUIRE(next.state == Decoder<LengthFramer>::State::message);
    CHECK(text_of(next.message) == message);
    CHECK(!decoder.wants_room());
    CHECK(decoder.room().empty());
    decoder.release();
    CHECK(decoder.capacity() == 0);
}

TEST_CASE("There is no room for what a peer has only announced [F55]") {
    Decoder<LengthFramer> decoder;
    Bytes input = bytes_of(std::string_view("\0\xff\xff\xff", 4));
    REQUIRE(decoder.next(input).state == Decoder<LengthFramer>::State::more);
    CHECK(!decoder.wants_room());
    CHECK(decoder.room().size() <= 64);
    LineDecoder lines;
    const std::string line(50'000, 'x');
    input = bytes_of(line);
    REQUIRE(lines.next(input).state == LineDecoder::State::more);
    CHECK(!lines.wants_room());
    CHECK(lines.room().empty());
}

TEST_CASE("The memory for a message of known size is sixteen times what has come, at no size more "
          "[F55]") {
    for (std::size_t size = 1; size <= 2000; size += shortened(1, 1 + size / 32)) {
        Decoder<FixedFramer> decoder{FixedFramer(size)};
        const std::string message(size, 'm');
        std::size_t worst = 0;
        for (std::size_t come = 1; come < size; ++come) {
            Bytes input = bytes_of(std::string_view(message).substr(come - 1, 1));
            (void)decoder.next(input);
            if (decoder.capacity() > 16 * come) worst = come;
        }
        INFO("a message of " << size << " bytes");
        CHECK(worst == 0);
    }
}

TEST_CASE("A framer of one's own decodes across every cut") {
    const std::string one(79, 'a');
    const std::string ten(799, 'b');
    check_decodes(CardFramer(), "0" + one + "9" + ten + "0" + one, {{one, ten, one}, ""});
    check_decodes(CardFramer(), "0" + one + "x", {{one}, "malformed"});
    check_decodes(CardFramer(), "1" + one, {{}, "incomplete"});
}

TEST_CASE("A large message that was put together is kept without a copy, a small part with one") {
    Decoder<LengthFramer> decoder;
    const std::string stream = std::string("\0\1\0\0", 4) + std::string(65'536, 'm');
    Bytes input = bytes_of(std::string_view(stream).substr(0, 60'000));
    REQUIRE(!decoder.next(input));
    input = bytes_of(std::string_view(stream).substr(60'000));
    const auto next = decoder.next(input);
    REQUIRE(next);
    REQUIRE(decoder.holds(next.message));
    CHECK(!decoder.holds(bytes_of(stream)));
    const Buffer all = decoder.keep(next.message);
    CHECK(all.data() == next.message.data());
    const Buffer part = decoder.keep(next.message.first(5000));
    CHECK(part.data() != next.message.data());
    decoder.release();
    CHECK(decoder.capacity() == 0);
    CHECK(all.text() == std::string(65'536, 'm'));
    CHECK(part.text() == std::string(5000, 'm'));
}
