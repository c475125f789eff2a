#include "support/codec.hpp"
#include "support/fake_transport.hpp"

#include <weft/protocols/codecs/framed_protocol.hpp>

#include <catch2/catch.hpp>

using namespace weft;
using namespace weft::test;
using namespace std::string_literals;

namespace {

/// `value` in `width` bytes, spelled out the slow way.
std::string number(std::uint64_t value, std::size_t width, ByteOrder order) {
    std::string text;
    for (std::size_t i = 0; i < width; ++i) {
        text.insert(order == ByteOrder::big ? 0 : text.size(), 1, static_cast<char>(value & 0xff));
        value >>= 8;
    }
    return text;
}

} // namespace

TEST_CASE("Length-prefixed messages are the same however cut, for every width and byte order") {
    for (std::size_t width = 1; width <= 8; ++width) {
        for (ByteOrder order : {ByteOrder::big, ByteOrder::little}) {
            INFO("width " << width);
            const LengthFramer framer(width, order);
            const std::string whole = number(3, width, order) + "one" + number(0, width, order) +
                                      number(2, width, order) + "xx";
            check_decodes(framer, whole, {{"one", "", "xx"}, ""});
            check_decodes(framer, whole.substr(0, whole.size() - 1), {{"one", ""}, "incomplete"});
            Sink sink;
            for (const char* message : {"one", "", "xx"})
                write_message(sink, framer, bytes_of(message));
            CHECK(sink.text == whole);
            CHECK(sink.calls == 3);
        }
    }
    CHECK_THROWS_AS(LengthFramer(0), UsageError);
    CHECK_THROWS_AS(LengthFramer(9), UsageError);
}

TEST_CASE("A length may count its own bytes, and may then not be shorter than they are") {
    const LengthFramer framer(4, ByteOrder::big, 100, Counting::frame);
    check_decodes(framer, "\0\0\0\7abc\0\0\0\4"s, {{"abc", ""}, ""});
    check_decodes(framer, "\0\0\0\4\0\0\0\3"s, {{""}, "malformed"});
    check_decodes(framer, number(104, 4, ByteOrder::big) + std::string(100, 'x'),
                  {{std::string(100, 'x')}, ""});
    check_decodes(framer, number(105, 4, ByteOrder::big), {{}, "too_long"});
    Sink sink;
    write_message(sink, framer, bytes_of("abc"));
    CHECK(sink.text == "\0\0\0\7abc"s);
}

TEST_CASE(
    "A message of exactly the limit is taken, one byte more is refused by its length alone [F55]") {
    const std::string eight = "12345678";
    check_decodes(LengthFramer(2, ByteOrder::big, 8), "\0\10"s + eight, {{eight}, ""});
    check_decodes(LengthFramer(2, ByteOrder::big, 8), "\0\11"s, {{}, "too_long"});
    check_decodes(VarintFramer(ByteOrder::little, 8), "\10" + eight, {{eight}, ""});
    check_decodes(VarintFramer(ByteOrder::little, 8), "\11", {{}, "too_long"});
    check_decodes(VarintFramer(ByteOrder::big, 8), "\10" + eight, {{eight}, ""});
    check_decodes(VarintFramer(ByteOrder::big, 8), "\11", {{}, "too_long"});
    check_decodes(NetstringFramer(8), "8:" + eight + ",", {{eight}, ""});
    check_decodes(NetstringFramer(8), "9", {{}, "too_long"});
    check_decodes(NetstringFramer(0), "0:,", {{""}, ""});
    check_decodes(NetstringFramer(0), "1", {{}, "too_long"});
    check_decodes(NetstringFramer(100), "100:"s + std::string(100, 'x') + ",",
                  {{std::string(100, 'x')}, ""});
    check_decodes(NetstringFramer(100), "101", {{}, "too_long"});

    Decoder<LengthFramer> decoder;
    Bytes input = bytes_of("\1\0\0\1"s);
    CHECK(LengthFramer().max_message() == 16 * 1024 * 1024);
    const std::string header = "\1\0\0\1"s;
    input = bytes_of(header);
    REQUIRE(decoder.next(input).state == Decoder<LengthFramer>::State::error);
    CHECK(decoder.capacity() == 0);
    CHECK(decoder.error().message() == "length framing, a message of 16777217 bytes, "
                                       "limit 16777216 bytes: message longer than the limit");
}

TEST_CASE("A length that is announced and not sent costs no memory [F55]") {
    Decoder<LengthFramer> decoder;
    const std::string header = "\1\0\0\0"s; // 16 MiB
    Bytes input = bytes_of(header);
    REQUIRE(decoder.next(input).state == Decoder<LengthFramer>::State::more);
    CHECK(decoder.capacity() <= 64);
    const std::string some(10'000, 'x');
    input = bytes_of(some);
    REQUIRE(decoder.next(input).state == Decoder<LengthFramer>::State::more);
    CHECK(decoder.capacity() <= 16 * 10'004);
}

TEST_CASE("The largest length of every width is no overflow") {
    for (std::size_t width = 1; width <= 8; ++width) {
        const std::string all(width, '\xff');
        const auto unlimited = std::numeric_limits<std::size_t>::max();
        const LengthFramer framer(width, ByteOrder::big, unlimited);
        CHECK(framer.max_message() == ~std::uint64_t{0} >> (64 - 8 * width));
        check_decodes(framer, all + "x", {{}, "incomplete"});
        check_decodes(LengthFramer(width, ByteOrder::big, 254), all + "x", {{}, "too_long"});
    }
    check_decodes(VarintFramer(ByteOrder::little, ~std::size_t{0}),
                  "\xff\xff\xff\xff\xff\xff\xff\xff\xff\1x", {{}, "incomplete"});
    check_decodes(VarintFramer(ByteOrder::big, ~std::size_t{0}),
                  "\x81\xff\xff\xff\xff\xff\xff\xff\xff\x7fx", {{}, "incomplete"});
    check_decodes(NetstringFramer(~std::size_t{0}), "18446744073709551615:x", {{}, "incomplete"});
    check_decodes(NetstringFramer(~std::size_t{0}), "18446744073709551616", {{}, "too_long"});
}

TEST_CASE("A message longer than its length field can say is not written") {
    Sink sink;
    write_message(sink, LengthFramer(1), bytes_of(std::string(255, 'x')));
    CHECK_THROWS_AS(write_message(sink, LengthFramer(1), bytes_of(std::string(256, 'x'))),
                    UsageError);
    const LengthFramer framer(1, ByteOrder::big, 1000, Counting::frame);
    write_message(sink, framer, bytes_of(std::string(254, 'x')));
    CHECK_THROWS_WITH(write_message(sink, framer, bytes_of(std::string(255, 'x'))),
                      "length framing: can not write a message of 255 bytes, limit 254 bytes");
    CHECK_THROWS_AS(write_message(sink, VarintFramer(ByteOrder::big, 3), bytes_of("1234")),
                    UsageError);
    CHECK_THROWS_AS(write_message(sink, NetstringFramer(3), bytes_of("1234")), UsageError);
    CHECK(sink.calls == 2);
}

TEST_CASE("Varint lengths come in both orders and grow by a group at every power of 128") {
    const std::string x(300, 'x');
    check_decodes(VarintFramer(), "\xac\2"s + x + "\1y\0"s, {{x, "y", ""}, ""});
    check_decodes(VarintFramer(ByteOrder::big), "\x82\x2c"s + x + "\1y\0"s, {{x, "y", ""}, ""});
    for (ByteOrder order : {ByteOrder::little, ByteOrder::big}) {
        for (std::size_t size : {0, 1, 127, 128, 16'383, 16'384, 2'097'151, 2'097'152}) {
            Sink sink;
            const std::string message(size, 'm');
            write_message(sink, VarintFramer(order), bytes_of(message));
            const std::size_t groups = 1 + (size > 127) + (size > 16'383) + (size > 2'097'151);
            CHECK(sink.text.size() == size + groups);
            CHECK(decode(VarintFramer(order), sink.text, {1}).messages == std::vector{message});
        }
    }
}

TEST_CASE("A varint with empty groups, or of more than 64 bits, is refused") {
    const VarintFramer little(ByteOrder::little, ~std::size_t{0});
    check_decodes(little, "\x80\0"s, {{}, "malformed"});
    check_decodes(little, "\x81\x80\0x"s, {{}, "malformed"});
    check_decodes(little, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\1", {{}, "too_long"});
    check_decodes(little, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\2", {{}, "too_long"});
    const VarintFramer big(ByteOrder::big, ~std::size_t{0});
    check_decodes(big, "\x80\1x", {{}, "malformed"});
    check_decodes(big, "\x82\x80\x80\x80\x80\x80\x80\x80\x80\0"s, {{}, "too_long"});
    for (std::size_t max : {0, 1, 5}) {
        check_decodes(VarintFramer(ByteOrder::big, max),
                      "\x81\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", {{}, "too_long"});
        check_decodes(VarintFramer(ByteOrder::little, max),
                      "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", {{}, "too_long"});
    }
}

TEST_CASE("Netstrings have one spelling") {
    check_decodes(NetstringFramer(), "5:hello,0:,1:,,", {{"hello", "", ","}, ""});
    check_decodes(NetstringFramer(), "5:hello", {{}, "incomplete"});
    check_decodes(NetstringFramer(), "5", {{}, "incomplete"});
    for (const char* wrong :
         {":", "01:x,", "00:,", "-1:x,", "+1:x,", " 1:x,", "1 :x,", "1x", "0x1:", ","}) {
        INFO(wrong);
        check_decodes(NetstringFramer(), "1:y,"s + wrong, {{"y"}, "malformed"});
    }
    check_decodes(NetstringFramer(), "1:yx", {{}, "malformed"});
    check_decodes(NetstringFramer(), "2:yx\n", {{}, "malformed"});
    check_decodes(NetstringFramer(), std::string(40, '9'), {{}, "too_long"});
    Sink sink;
    for (const char* message : {"hello", "", "0123456789"}) {
        write_message(sink, NetstringFramer(), bytes_of(message));
    }
    CHECK(sink.text == "5:hello,0:,10:0123456789,");
    CHECK(sink.calls == 3);
}

TEST_CASE("The longest header of a netstring fits") {
    // Views of memory that is not there; only their sizes are looked at.
    const Bytes huge(static_cast<const std::byte*>(nullptr), std::size_t{0});
    CHECK(NetstringFramer(~std::size_t{0}).header(huge).bytes().size() == 2);
    FrameHeader header;
    for (int i = 0; i < 24; ++i)
        header.push(std::byte{1});
    CHECK(header.bytes().size() == 24);
}

TEST_CASE("Fixed messages have one size") {
    check_decodes(FixedFramer(3), "onetwox", {{"one", "two"}, "incomplete"});
    check_decodes(FixedFramer(1), "abc", {{"a", "b", "c"}, ""});
    CHECK_THROWS_AS(FixedFramer(0), UsageError);
    Sink sink;
    write_message(sink, FixedFramer(3), bytes_of("one"));
    CHECK(sink.text == "one");
    CHECK_THROWS_AS(write_message(sink, FixedFramer(3), bytes_of("four")), UsageError);
}

TEST_CASE("A length-prefixed protocol answers a batch, each message with its own write") {
    struct Echo : LengthPrefixedProtocol {
        Echo() : LengthPrefixedProtocol(LengthFramer(2)) {}
        void message_received(Bytes message) override { write_message(message); }
    };
    FakeTransport transport(std::make_unique<Echo>());
    const std::string batch = "\0\3one\0\0\0\2xx"s;
    transport.receive(batch);
    CHECK(transport.written == batch);
    CHECK(transport.writes == 3);
    transport.receive("\0"s);
    transport.receive_eof();
    CHECK(transport.reason == Errc::incomplete);
}
