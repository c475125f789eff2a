#include "support/codec.hpp"

#include <weft/protocols/codecs/length_framing.hpp>
#include <weft/protocols/codecs/line_framing.hpp>

#include <catch2/catch.hpp>
#include <optional>
#include <random>

using namespace weft;
using namespace weft::test;

namespace {

// References that see the whole stream and look at it byte by byte, written for being obvious. Each
// removes one message from `stream`, says why it can not, or returns nothing if there is too
// little.
struct Found {
    std::string message;
    std::string error;
};
using Reference = std::optional<Found> (*)(std::string& stream, std::size_t max);

std::optional<Found> take_line(std::string& stream, std::size_t max, LineEnd end) {
    for (std::size_t i = 0; i < stream.size(); ++i) {
        const bool crlf = stream[i] == '\n' && i > 0 && stream[i - 1] == '\r';
        if (stream[i] == '\n' && (crlf || end != LineEnd::crlf)) {
            const std::string line = stream.substr(0, crlf && end != LineEnd::lf ? i - 1 : i);
            if (line.size() > max) return Found{"", "too_long"};
            stream.erase(0, i + 1);
            return Found{line, ""};
        }
    }
    // Too long already, unless an end of line may still begin with the last byte.
    const bool cr = end != LineEnd::lf && !stream.empty() && stream.back() == '\r';
    if (stream.size() - cr > max) return Found{"", "too_long"};
    return {};
}

std::optional<Found> take_delimited(std::string& stream, std::size_t max) {
    for (std::size_t i = 0; i < stream.size() && i <= max; ++i) {
        if (stream.compare(i, 3, "aba") != 0) continue;
        const std::string message = stream.substr(0, i);
        stream.erase(0, i + 3);
        return Found{message, ""};
    }
    // Too long already, unless a delimiter has begun by the limit.
    for (std::size_t i = 0; i <= stream.size() && i <= max; ++i)
        if (std::string("aba").starts_with(stream.substr(i))) return {};
    return Found{"", "too_long"};
}

std::optional<Found> take_counted(std::string& stream, std::size_t begin, std::uint64_t size) {
    if (stream.size() < begin + size) return {};
    const std::string message = stream.substr(begin, size);
    stream.erase(0, begin + size);
    return Found{message, ""};
}

std::optional<Found> take_length16(std::string& stream, std::size_t max) {
    if (stream.size() < 2) return {};
    const unsigned size =
        static_cast<unsigned char>(stream[1]) * 256 + static_cast<unsigned char>(stream[0]);
    if (size > max) return Found{"", "too_long"};
    return take_counted(stream, 2, size);
}

// Ten groups of 7 bits.
__extension__ typedef unsigned __int128 Wide;

std::optional<Found> take_varint(std::string& stream, std::size_t max, bool big) {
    Wide value = 0;
    for (std::size_t i = 0; i < stream.size(); ++i) {
        const unsigned byte = static_cast<unsigned char>(stream[i]);
        if (big && i == 0 && byte == 0x80) return Found{"", "malformed"};
        if (!big && i > 0 && byte == 0) return Found{"", "malformed"};
        if (big) {
            value = value * 128 + byte % 128;
        } else {
            value += static_cast<Wide>(byte % 128) << (7 * i);
        }
        if (value > max) return Found{"", "too_long"};
        if (byte < 128) return take_counted(stream, i + 1, static_cast<std::uint64_t>(value));
        if (i == 9) return Found{"", "too_long"};
    }
    return {};
}

std::optional<Found> take_netstring(std::string& stream, std::size_t max) {
    std::size_t value = 0;
    for (std::size_t i = 0; i < stream.size(); ++i) {
        if (i > 0 && stream[i] == ':') {
            if (stream.size() < i + value + 2) return {};
            if (stream[i + value + 1] != ',') return Found{"", "malformed"};
            auto found = take_counted(stream, i + 1, value);
            stream.erase(0, 1);
            return found;
        }
        if (std::string("0123456789").find(stream[i]) == std::string::npos)
            return Found{"", "malformed"};
        if (i > 0 && stream[0] == '0') return Found{"", "malformed"};
        value = value * 10 + static_cast<std::size_t>(stream[i] - '0');
        if (value > max) return Found{"", "too_long"};
    }
    return {};
}

Decoded reference_decode(std::string stream, std::size_t max, Reference reference) {
    Decoded result;
    while (true) {
        const auto found = reference(stream, max);
        if (found && found->error.empty()) {
            result.messages.push_back(found->message);
            continue;
        }
        result.error = found ? found->error : stream.empty() ? "" : "incomplete";
        return result;
    }
}

using Tokens = std::vector<std::string>;

Tokens each_of(std::string_view characters) {
    Tokens tokens;
    for (char c : characters)
        tokens.emplace_back(1, c);
    return tokens;
}

/// Streams of random `tokens`, cut at random, through the framer and the reference.
template<class F>
void compare(const char* what, const F& framer, Reference reference, const Tokens& tokens) {
    std::mt19937 random(20'240'607);
    const auto below = [&](std::size_t limit) { return random() % limit; };
    std::size_t messages = 0;
    std::size_t errors = 0;
    for (int round = 0; round < 4000; ++round) {
        std::string stream;
        for (std::size_t left = below(80); left > 0; --left)
            stream += tokens[below(tokens.size())];
        std::vector<std::size_t> cuts(below(6));
        for (std::size_t& cut : cuts)
            cut = below(stream.size() + 1);
        std::sort(cuts.begin(), cuts.end());
        const Decoded expected = reference_decode(stream, framer.max_message(), reference);
        const Decoded decoded = decode(framer, stream, cuts);
        INFO(what << ", round " << round);
        if (decoded != expected) REQUIRE(decoded == expected);
        messages += expected.messages.size();
        errors += !expected.error.empty();
    }
    // The streams must have had something to find.
    INFO(what);
    CHECK(messages > 1000);
    CHECK(errors > 100);
}

} // namespace

TEST_CASE("Framers agree with references that read byte by byte, on random streams and cuts") {
    compare(
        "lf", LineFramer(LineEnd::lf, 9),
        [](std::string& s, std::size_t max) { return take_line(s, max, LineEnd::lf); },
        each_of("abc\r\n"));
    compare(
        "crlf", LineFramer(LineEnd::crlf, 9),
        [](std::string& s, std::size_t max) { return take_line(s, max, LineEnd::crlf); },
        each_of("a\r\n"));
    compare(
        "any", LineFramer(LineEnd::any, 9),
        [](std::string& s, std::size_t max) { return take_line(s, max, LineEnd::any); },
        each_of("abc\r\n"));
    compare("delimiter", DelimiterFramer("aba", 12), take_delimited, each_of("ab"));
    compare("length", LengthFramer(2, ByteOrder::little, 12), take_length16,
            each_of(std::string_view("\0\0\0\0\0\0\1\2\3\13", 10)));
    compare(
        "varint", VarintFramer(ByteOrder::little, 300),
        [](std::string& s, std::size_t max) { return take_varint(s, max, false); },
        each_of(std::string_view("\0\1\2\3\4\5\x80\x82", 8)));
    compare(
        "vlq", VarintFramer(ByteOrder::big, 300),
        [](std::string& s, std::size_t max) { return take_varint(s, max, true); },
        each_of(std::string_view("\0\1\2\3\4\5\x80\x81", 8)));
    compare("netstring", NetstringFramer(12), take_netstring,
            Tokens{"0:,", "1:a,", "2:,,,", "12", ":", ",", "11:0123456789a,", "3:abc,", "1:,,"});
}
