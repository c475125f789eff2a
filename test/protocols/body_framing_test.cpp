#include "support/codec.hpp"
#include "support/fake_transport.hpp"

#include <weft/protocols/codecs/body_framing.hpp>
#include <weft/protocols/codecs/framed_protocol.hpp>

#include <catch2/catch.hpp>
#include <charconv>

using namespace weft;
using namespace weft::test;

namespace {

/// "put N" has a body of N bytes, everything else none.
Body body_of(std::string_view line) {
    if (!line.starts_with("put ")) return Body::none();
    std::uint64_t size = 0;
    const auto [end, error] = std::from_chars(line.data() + 4, line.data() + line.size(), size);
    return error == std::errc() && end == line.data() + line.size() ? Body::of(size)
                                                                    : Body::malformed();
}

using Puts = BodyFramer<LineFramer, Body (*)(std::string_view)>;

/// Shows head and body in one text, for the helpers that compare bytes.
struct Shown : Puts {
    using Puts::Puts;
    Bytes message(Bytes frame) {
        const Puts::Message message = Puts::message(frame);
        text = std::string(message.head) + "|" +
               (message.body ? std::string(text_of(*message.body)) : "none");
        return bytes_of(text);
    }
    std::string text;
};

Shown shown(std::size_t max_body = 100) {
    return Shown(LineFramer(LineEnd::any, 20), body_of, max_body, "\r\n");
}

} // namespace

TEST_CASE("A head and the body it announces are one message, however they are cut") {
    check_decodes(shown(), "get a\r\nput 5\r\nhe\r\no\r\nput 0\n\r\n\r\n",
                  {{"get a|none", "put 5|he\r\no", "put 0|", "|none"}, ""});
    check_decodes(shown(), "put 5\r\nhello", {{}, "incomplete"});
    check_decodes(shown(), "get\r\nput x\r\n", {{"get|none"}, "malformed"});
    check_decodes(shown(), "get\r\nput 2\r\nabc\r\n", {{"get|none"}, "malformed"});
    check_decodes(shown(), "put 101\r\n", {{}, "too_long"});
    check_decodes(shown(), std::string(21, 'x'), {{}, "too_long"});
}

TEST_CASE("A head may end in a blank line, and a body in nothing") {
    using Http = BodyFramer<DelimiterFramer, Body (*)(std::string_view)>;
    Http framer(
        DelimiterFramer("\r\n\r\n"),
        [](std::string_view head) {
            return head.find("length: 3") == std::string_view::npos ? Body::none() : Body::of(3);
        },
        10);
    std::string seen;
    Decoder<Http> decoder(framer);
    for (char c : std::string_view("GET /\r\n\r\nPOST /\r\nlength: 3\r\n\r\nabcGET /\r\n\r\n")) {
        REQUIRE(decoder.feed(bytes_of({&c, 1}), [&](const Http::Message& message) {
            seen += message.head.substr(0, 4);
            if (message.body) seen += text_of(*message.body);
            seen += ';';
        }));
    }
    CHECK(seen == "GET ;POSTabc;GET ;");
}

TEST_CASE("The error of a message above the limit tells the size that was announced") {
    const auto error_of = [](auto framer, std::string_view stream) {
        Decoder<decltype(framer)> decoder(std::move(framer));
        CHECK(!decoder.feed(bytes_of(stream), [](const auto&) {}));
        return std::pair(decoder.announced(), decoder.error().message());
    };
    CHECK(error_of(shown(), "put 101\r\n") ==
          std::pair(std::size_t{101}, std::string("body framing, a message of 101 bytes, limit 100 "
                                                  "bytes: message longer than the limit")));
    CHECK(error_of(shown(), std::string(21, 'x')) ==
          std::pair(std::size_t{0}, std::string("body framing, limit 20 bytes: message longer than "
                                                "the limit")));
    CHECK(error_of(LengthFramer(2, ByteOrder::big, 9), std::string_view("\0\12", 2)).first == 10);
    CHECK(error_of(NetstringFramer(50), "123:") ==
          std::pair(std::size_t{123}, std::string("netstring framing, a message of at least 123 "
                                                  "bytes, limit 50 bytes: message longer than the "
                                                  "limit")));
    CHECK(error_of(NetstringFramer(~std::size_t{0}), "18446744073709551616").first ==
          ~std::size_t{0});
    CHECK(error_of(VarintFramer(ByteOrder::little, 100), "\xff\x01").first == 127);
    CHECK(error_of(VarintFramer(ByteOrder::big, 100), "\x81\x80\x80").first == 128);
}

TEST_CASE("The end of the stream inside a message tells how much was to come") {
    Decoder<LengthFramer> decoder;
    REQUIRE(decoder.feed(bytes_of(std::string_view("\0\0\0\5abc", 7)), [](Bytes) {}));
    CHECK(decoder.end().error().message() ==
          "length framing, 7 bytes into a message that takes at least 9: the stream ended inside a "
          "message");
}

TEST_CASE(
    "A protocol receives what its framer makes of the bytes, and asks it what was announced") {
    struct Store : FramedProtocol<Puts> {
        Store() : FramedProtocol(Puts(LineFramer(), body_of, 5, "\r\n")) {}
        void message_received(Puts::Message message) override {
            log += message.head;
            if (message.body) log += "=" + std::string(text_of(*message.body));
            log += ";";
        }
        void framing_error(const Error&) override {
            log += std::to_string(announced());
            transport().close();
        }
        std::string log;
    };
    auto owned = std::make_unique<Store>();
    Store& store = *owned;
    FakeTransport transport(std::move(owned));
    transport.receive("get\r\nput 3\r\na");
    transport.receive("bc\r\nput 6\r\n");
    CHECK(store.log == "get;put 3=abc;6");
}

TEST_CASE("A delimiter framer refuses with the first byte that makes it certain [F55]") {
    const auto certain = [](const DelimiterFramer& framer, std::string_view stream) {
        Decoder<DelimiterFramer> decoder(framer);
        for (std::size_t i = 0; i < stream.size(); ++i)
            if (!decoder.feed(bytes_of(stream.substr(i, 1)), [](Bytes) {})) return i + 1;
        return std::size_t{0};
    };
    CHECK(certain(DelimiterFramer("--", 4), "abcdefgh") == 5);
    CHECK(certain(DelimiterFramer("--", 4), "abcd-e") == 6);
    CHECK(certain(DelimiterFramer("--", 4), "abcde--") == 5);
    CHECK(certain(DelimiterFramer("\r\n\r\n", 4), "abcdefghij") == 5);
    CHECK(certain(DelimiterFramer("\r\n\r\n", 4), "abcd\r\n\rx") == 8);
    CHECK(certain(DelimiterFramer("\r\n\r\n", 4), "abc\r\n\n") == 6);
    // A delimiter may begin in what looked like the beginning of another.
    CHECK(certain(DelimiterFramer("aab", 1), "aaab") == 0);
    CHECK(certain(DelimiterFramer("aab", 1), "aaaa") == 4);
    CHECK(certain(DelimiterFramer("-", 0), "x") == 1);
}
