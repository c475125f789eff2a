#include "support/codec.hpp"

#include <weft/protocols/codecs/line_framing.hpp>

#include <catch2/catch.hpp>

using namespace weft;
using namespace weft::test;
using namespace std::string_literals;

TEST_CASE("Lines are the same however the stream is cut, for every kind of line end") {
    const auto stream = "one\ntwo\r\n\n\r\n\r\rthree\r\r\nfo\rur\nlast"s;
    check_decodes(LineFramer(LineEnd::lf), stream,
                  {{"one", "two\r", "", "\r", "\r\rthree\r\r", "fo\rur"}, "incomplete"});
    check_decodes(LineFramer(LineEnd::any), stream,
                  {{"one", "two", "", "", "\r\rthree\r", "fo\rur"}, "incomplete"});
    check_decodes(LineFramer(LineEnd::crlf), stream,
                  {{"one\ntwo", "\n", "\r\rthree\r"}, "incomplete"});
    check_decodes(LineFramer(), "a\r\nb\n", {{"a", "b"}, ""});
}

TEST_CASE("A line of exactly the limit is taken and one byte more is refused") {
    for (LineEnd end : {LineEnd::lf, LineEnd::crlf, LineEnd::any}) {
        const LineFramer framer(end, 8);
        const std::string mark = end == LineEnd::lf ? "\n" : "\r\n";
        check_decodes(framer, "12345678" + mark + "x" + mark, {{"12345678", "x"}, ""});
        check_decodes(framer, "x" + mark + "123456789" + mark, {{"x"}, "too_long"});
        check_decodes(framer, "x" + mark + "123456789", {{"x"}, "too_long"});
    }
    check_decodes(LineFramer(LineEnd::any, 8), "12345678\n", {{"12345678"}, ""});
    check_decodes(LineFramer(LineEnd::any, 8), "123456789\n", {{}, "too_long"});
    check_decodes(LineFramer(LineEnd::any, 8), "12345678\rx\n", {{}, "too_long"});
    check_decodes(LineFramer(LineEnd::lf, 8), "1234567\r\n", {{"1234567\r"}, ""});
    check_decodes(LineFramer(LineEnd::lf, 8), "12345678\r\n", {{}, "too_long"});
    check_decodes(LineFramer(LineEnd::crlf, 8), "12345678\n\r\n", {{}, "too_long"});
    check_decodes(LineFramer(LineEnd::crlf, 8), "\n\n\n\n\n\n\n\n\r\n", {{"\n\n\n\n\n\n\n\n"}, ""});
    check_decodes(LineFramer(LineEnd::lf, 0), "\n\nx", {{"", ""}, "too_long"});
}

TEST_CASE(
    "A line that can only become too long is refused with its first byte over the limit [F55]") {
    for (LineEnd end : {LineEnd::lf, LineEnd::crlf, LineEnd::any}) {
        Decoder<LineFramer> decoder(LineFramer(end, 100));
        Bytes first = bytes_of(std::string_view("x"));
        for (int i = 0; i < 100; ++i) {
            first = bytes_of(std::string_view("x"));
            REQUIRE(decoder.next(first).state == Decoder<LineFramer>::State::more);
        }
        first = bytes_of(std::string_view("x"));
        CHECK(decoder.next(first).state == Decoder<LineFramer>::State::error);
        CHECK(decoder.capacity() <= 102);
        CHECK_THAT(decoder.error().message(),
                   Catch::Matchers::Equals(
                       "line framing, limit 100 bytes: message longer than the limit"));
    }
}

TEST_CASE("The default limit of a line is 64 KiB") {
    const std::string longest(65536, 'x');
    CHECK(decode(LineFramer(), longest + "\r\n", {}) == Decoded{{longest}, ""});
    CHECK(decode(LineFramer(), longest + "\r\n", {1, 40000, 65536, 65537}) ==
          Decoded{{longest}, ""});
    CHECK(decode(LineFramer(), longest + "x\r\n", {}) == Decoded{{}, "too_long"});
}

TEST_CASE("A limit as large as size_t does not wrap around") {
    const auto huge = std::numeric_limits<std::size_t>::max();
    check_decodes(LineFramer(LineEnd::any, huge), "one\r\ntwo\n", {{"one", "two"}, ""});
    check_decodes(DelimiterFramer("--", huge), "one--two--", {{"one", "two"}, ""});
}

TEST_CASE("A line is written with its end in one call, and never holds one") {
    Sink sink;
    write_message(sink, LineFramer(LineEnd::lf), bytes_of("one"));
    write_message(sink, LineFramer(LineEnd::crlf), bytes_of("tw\no"));
    write_message(sink, LineFramer(LineEnd::any), bytes_of(""));
    CHECK(sink.text == "one\ntw\no\r\n\r\n");
    CHECK(sink.calls == 3);
    CHECK_THROWS_AS(write_message(sink, LineFramer(LineEnd::lf), bytes_of("a\nb")), UsageError);
    CHECK_THROWS_AS(write_message(sink, LineFramer(LineEnd::any), bytes_of("a\r\nQUIT")),
                    UsageError);
    CHECK_THROWS_AS(write_message(sink, LineFramer(LineEnd::crlf), bytes_of("a\r\nQUIT")),
                    UsageError);
    write_message(sink, LineFramer(LineEnd::lf, 3), bytes_of("123"));
    CHECK_THROWS_WITH(write_message(sink, LineFramer(LineEnd::lf, 3), bytes_of("1234")),
                      "line framing: can not write a message of 4 bytes, limit 3 bytes");
    CHECK(sink.calls == 4);
}

TEST_CASE("A delimiter may be any bytes and is found across every cut") {
    check_decodes(DelimiterFramer("\0"s), "one\0\0two\0x"s, {{"one", "", "two"}, "incomplete"});
    check_decodes(DelimiterFramer("\r\n\r\n"), "a\r\nb\r\n\r\r\n\r\n\r\n\r\n",
                  {{"a\r\nb\r\n\r", ""}, ""});
    check_decodes(DelimiterFramer("aab"), "aaaabaabab", {{"aa", ""}, "incomplete"});
    check_decodes(DelimiterFramer("abab"), "abaabababab", {{"aba", ""}, ""});
    check_decodes(DelimiterFramer("\xff\xfe"), "x\xff\xff\xfe", {{"x\xff"}, ""});
}

TEST_CASE("A delimited message of exactly the limit is taken and one byte more is refused") {
    const DelimiterFramer framer("<->", 5);
    check_decodes(framer, "12345<->1<->", {{"12345", "1"}, ""});
    check_decodes(framer, "1<->123456<->", {{"1"}, "too_long"});
    check_decodes(framer, "12345678", {{}, "too_long"});
    check_decodes(framer, "1234567", {{}, "too_long"});
    check_decodes(framer, "12345<-", {{}, "incomplete"});
    CHECK_THROWS_AS(DelimiterFramer(""), UsageError);
}

TEST_CASE("A message that would end early at its delimiter is not written") {
    Sink sink;
    write_message(sink, DelimiterFramer("abab"), bytes_of("aaba"));
    check_decodes(DelimiterFramer("abab"), sink.text, {{"aaba"}, ""});
    write_message(sink, DelimiterFramer("--"), bytes_of("a-b"));
    CHECK(sink.text == "aabaababa-b--");
    // "ab" and the delimiter make "ababab", which ends after the first "abab".
    CHECK_THROWS_AS(write_message(sink, DelimiterFramer("abab"), bytes_of("xab")), UsageError);
    CHECK_THROWS_AS(write_message(sink, DelimiterFramer("--"), bytes_of("a-")), UsageError);
    CHECK_THROWS_AS(write_message(sink, DelimiterFramer("--"), bytes_of("a--b")), UsageError);
    CHECK_THROWS_AS(write_message(sink, DelimiterFramer("-", 2), bytes_of("abc")), UsageError);
}
