// What framing costs, counted: the bytes a framer is shown and how often it is asked.

#include "support/codec.hpp"
#include "support/instrumented.hpp"

#include <weft/protocols/codecs/body_framing.hpp>
#include <weft/protocols/codecs/length_framing.hpp>
#include <weft/protocols/codecs/line_framing.hpp>

#include <catch2/catch.hpp>
#include <random>

using namespace weft;
using namespace weft::test;

namespace {

/// Bytes of what is long.
constexpr std::size_t many = shortened(200'000, 20'000);

struct Work {
    std::size_t calls = 0;
    std::size_t looked_at = 0; ///< bytes shown, without those behind the frame that was found
};

/// Counts what the framer inside it is asked to do.
template<Framer Inner>
struct Counted {
    Scan scan(Bytes bytes, std::size_t passed) {
        const Scan scan = inner.scan(bytes, passed);
        ++work->calls;
        work->looked_at += scan.state == Scan::State::frame ? scan.consumed - passed : bytes.size();
        return scan;
    }
    std::size_t max_message() const { return inner.max_message(); }
    std::size_t max_frame() const { return inner.max_frame(); }
    std::string_view name() const { return inner.name(); }
    Inner inner;
    Work* work;
};

/// Messages of parts, as Redis and many others frame them: "*3." and then "2:ab" for each of three.
/// It says what it needs, and passes each part.
struct PartsFramer {
    Scan scan(Bytes bytes, std::size_t passed) {
        const std::string_view text = text_of(bytes);
        if (passed == 0) parts.reset();
        std::size_t at = 0;
        while (!parts || *parts > 0) {
            std::size_t number = 0;
            std::size_t end = at;
            for (; end < text.size() && text[end] >= '0' && text[end] <= '9'; ++end)
                number = number * 10 + static_cast<std::size_t>(text[end] - '0');
            if (end == text.size()) return Scan::pass(passed + at);
            if (!parts) {
                parts = number;
                at = end + 1;
                continue;
            }
            const std::size_t behind = end + 1 + number;
            if (text.size() < behind) return Scan::pass(passed + at, passed + behind);
            at = behind;
            --*parts;
        }
        return Scan::frame(0, passed + at, passed + at);
    }
    std::size_t max_message() const { return std::size_t{1} << 30; }
    std::size_t max_frame() const { return std::size_t{1} << 30; }
    std::string_view name() const { return "parts"; }
    std::optional<std::size_t> parts;
};

/// The same by a framer that remembers nothing, and begins at the first part each time.
struct ForgetfulFramer : PartsFramer {
    Scan scan(Bytes bytes, std::size_t) {
        const Scan scan = PartsFramer::scan(bytes, 0);
        return scan.state == Scan::State::more ? Scan::more(scan.need) : scan;
    }
};

template<Framer F>
Work work_of(const F& framer, std::string_view stream, std::size_t chunk) {
    Work work;
    Decoder<Counted<F>> decoder(Counted<F>{framer, &work});
    bool fine = true;
    for (std::size_t at = 0; at < stream.size(); at += chunk)
        fine = decoder.feed(bytes_of(stream.substr(at, chunk)), [](const auto&) {}) && fine;
    REQUIRE(fine);
    REQUIRE(decoder.end().ok());
    return work;
}

/// No chunk from `smallest` on makes the framer look at more than `times` the bytes, nor be asked
/// more than once per byte and message.
template<Framer F>
void check_linear(const char* what, const F& framer, const std::string& stream, std::size_t times,
                  std::size_t smallest = 1) {
    for (std::size_t chunk : {std::size_t{1}, std::size_t{2}, std::size_t{7}, std::size_t{1448},
                              std::size_t{65536}, stream.size()}) {
        if (chunk < smallest) continue;
        const Work work = work_of(framer, stream, chunk);
        INFO(what << ", " << stream.size() << " bytes in chunks of " << chunk);
        CHECK(work.looked_at <= times * stream.size());
        CHECK(work.calls <= 2 * stream.size());
    }
}

std::string repeated(std::string_view part, std::size_t times) {
    std::string text;
    text.reserve(part.size() * times);
    for (; times > 0; --times)
        text += part;
    return text;
}

std::string message_of_parts(std::size_t parts, std::size_t size) {
    const std::string part = std::to_string(size) + ":" + std::string(size, 'x');
    return std::to_string(parts) + "." + repeated(part, parts);
}

} // namespace

TEST_CASE(
    "A message of very many parts costs as much as its bytes, whatever they are cut into [F55]") {
    for (std::size_t size : {0, 1, 5, 300, 5000})
        check_linear("parts", PartsFramer(), message_of_parts(many / (size + 8), size), 8);
    check_linear("a million parts", PartsFramer(), message_of_parts(5 * many, 0), 8);
    check_linear("parts of several messages", PartsFramer(),
                 repeated(message_of_parts(1000, 3), 200), 8);
}

TEST_CASE("Very many small messages cost as much as their bytes in every codec [F55]") {
    // A million of them come in chunks as a socket hands them out, and some byte by byte.
    const bool all = GENERATE(false, true);
    const std::size_t times = all ? 5 * many : many / 6;
    const std::size_t smallest = all ? 1448 : 1;
    const auto check = [&](const char* what, const auto& framer, std::string_view message,
                           std::size_t bound) {
        check_linear(what, framer, repeated(message, times), bound, smallest);
    };
    for (LineEnd end : {LineEnd::lf, LineEnd::crlf, LineEnd::any}) {
        check("lines", LineFramer(end), "a\r\n", 4);
        check("empty lines", LineFramer(end), "\r\n", 4);
    }
    check("delimited", DelimiterFramer("--"), "a--", 4);
    check("lengths", LengthFramer(1), "\1a", 4);
    check("empty lengths", LengthFramer(4), std::string_view("\0\0\0\0", 4), 4);
    check("varints", VarintFramer(), "\1a", 4);
    check("netstrings", NetstringFramer(), "1:a,", 6);
    check("fixed", FixedFramer(1), "x", 2);
    const auto size_of = [](std::string_view head) { return Body::of(head.size()); };
    check("bodies", BodyFramer(LineFramer(), size_of, 1 << 20, "\r\n"), "ab\r\nxy\r\n", 8);
}

TEST_CASE("Very long messages cost as much as their bytes in every codec [F55]") {
    const std::string x(many, 'x');
    for (LineEnd end : {LineEnd::lf, LineEnd::crlf, LineEnd::any}) {
        const LineFramer framer(end, 1 << 20);
        check_linear("a long line", framer, x + x + "\r\n", 4);
        check_linear("a line of CR", framer, std::string(many, '\r') + "\r\n", 4);
    }
    check_linear("LF in CRLF lines", LineFramer(LineEnd::crlf, 1 << 20),
                 std::string(many, '\n') + "\r\n", 4);
    check_linear("delimited", DelimiterFramer("aaab", 1 << 20), repeated("a", many) + "b", 8);
    const std::string length{0, static_cast<char>(many >> 16), static_cast<char>(many >> 8),
                             static_cast<char>(many)};
    check_linear("lengths", LengthFramer(4), length + x, 4);
    const std::string varint{static_cast<char>(many | 0x80), static_cast<char>(many >> 7 | 0x80),
                             static_cast<char>(many >> 14)};
    check_linear("varints", VarintFramer(), varint + x, 4);
    check_linear("netstrings", NetstringFramer(), std::to_string(many) + ":" + x + ",", 4);
    check_linear("fixed", FixedFramer(many / 2), x, 4);
    const auto size_of = [](std::string_view head) { return Body::of(head.size()); };
    check_linear("bodies", BodyFramer(LineFramer(LineEnd::any, 1 << 20), size_of, 1 << 20),
                 x + "\r\n" + x, 8);
}

TEST_CASE(
    "A framer that forgets what it has seen is asked twice per chunk, not once per part [F55]") {
    const std::string message = message_of_parts(10'000, 5);
    for (std::size_t chunk : {std::size_t{8192}, std::size_t{65536}, message.size()}) {
        const Work work = work_of(ForgetfulFramer(), message, chunk);
        INFO("chunks of " << chunk);
        CHECK(work.calls <= 4 * (message.size() / chunk + 1) + 20);
    }
}

TEST_CASE("A framer that looks at the same bytes again and again is stopped, and named [F55]") {
    Work work;
    using Forgetful = Counted<ForgetfulFramer>;
    Decoder<Forgetful> decoder(Forgetful{{}, &work});
    const std::string message = message_of_parts(1'000'000, 0);
    const auto in_little_pieces = [&] {
        for (std::size_t at = 0; at < message.size(); at += 16)
            (void)decoder.feed(bytes_of(std::string_view(message).substr(at, 16)), [](Bytes) {});
    };
    CHECK_THROWS_WITH(in_little_pieces(), Catch::Matchers::StartsWith("parts: the framer had ") &&
                                              Catch::Matchers::Contains("Scan::pass"));
    // Until then it has looked at no more than it is granted.
    CHECK(work.looked_at < std::size_t{32} * 1024 * 1024);
}

TEST_CASE("Nobody is stopped whose header is long and comes byte by byte") {
    // A head of 8 KB, which is looked at from its beginning each time.
    struct Head {
        Scan scan(Bytes bytes, std::size_t) const {
            const std::size_t at = text_of(bytes).find("\r\n\r\n");
            return at == std::string_view::npos ? Scan::more() : Scan::frame(0, at, at + 4);
        }
        std::size_t max_message() const { return 16 * 1024; }
        std::size_t max_frame() const { return 16 * 1024 + 4; }
        std::string_view name() const { return "head"; }
    };
    const std::string head(16 * 1024 - 8, 'h');
    CHECK(decode(Head(), head + "\r\n\r\n", {}).messages.size() == 1);
    Decoder<Head> decoder;
    std::size_t found = 0;
    for (char c : head + "\r\n\r\n")
        REQUIRE(decoder.feed(bytes_of({&c, 1}), [&](Bytes message) { found = message.size(); }));
    CHECK(found == head.size());
}
