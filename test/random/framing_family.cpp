// Framings against references that see the whole stream: what they find, that it does not depend on
// the cuts, and what it costs.

#include "family.hpp"

#include <weft/protocols/codecs/body_framing.hpp>
#include <weft/protocols/codecs/decoder.hpp>
#include <weft/protocols/codecs/length_framing.hpp>
#include <weft/protocols/codecs/line_framing.hpp>

#include <algorithm>
#include <optional>
#include <vector>

using namespace weft;
using namespace weft::test;

namespace {

struct Expected {
    std::vector<std::string> messages;
    std::string error; ///< "", "too_long", "malformed", "incomplete"
};

/// A stream, message by message, and what is to be found in it. Half of them end in something
/// wrong.
struct Stream {
    std::string bytes;
    Expected expected;
};

std::string text(Random& random, std::size_t size, std::string_view of) {
    std::string made(size, '\0');
    for (char& c : made)
        c = of[random.below(of.size())];
    return made;
}

std::string digits(std::uint64_t value, std::size_t width, bool big) {
    std::string made;
    for (std::size_t i = 0; i < width; ++i)
        made += static_cast<char>(value >> (8 * (big ? width - 1 - i : i)));
    return made;
}

std::string groups(std::uint64_t value, bool big) {
    std::string made(1, static_cast<char>(value & 0x7f));
    while ((value >>= 7) != 0) {
        const char group = static_cast<char>((value & 0x7f) | 0x80);
        if (big) {
            made.insert(made.begin(), group);
        } else {
            made.back() = static_cast<char>(made.back() | 0x80);
            made += static_cast<char>(value & 0x7f);
        }
    }
    return made;
}

/// Messages of parts, each with its length before it: "3;2:ab0:1:c". A framer with a memory.
struct Parts {
    Scan scan(Bytes bytes, std::size_t passed) {
        const std::string_view seen = text_of(bytes);
        if (passed == 0) left.reset();
        for (std::size_t at = 0;;) {
            if (left == 0u) return Scan::frame(0, passed + at, passed + at);
            std::size_t number = 0, end = at;
            for (; end < seen.size() && seen[end] >= '0' && seen[end] <= '9'; ++end)
                number = number * 10 + static_cast<std::size_t>(seen[end] - '0');
            if (number > max) return Scan::too_long(number);
            if (end == seen.size()) return Scan::pass(passed + at);
            if (end == at || seen[end] != (left ? ':' : ';')) return Scan::malformed();
            if (!left) {
                left = number;
                at = end + 1;
                continue;
            }
            if (seen.size() < end + 1 + number)
                return Scan::pass(passed + at, passed + end + 1 + number);
            at = end + 1 + number;
            --*left;
        }
    }
    std::size_t max_message() const { return std::size_t{1} << 32; }
    std::size_t max_frame() const { return std::size_t{1} << 32; }
    std::string_view name() const { return "parts"; }
    static constexpr std::size_t max = 100'000;
    std::optional<std::size_t> left;
};

Body body_of(std::string_view head) {
    if (head.empty() || head[0] == 'n') return Body::none();
    if (head[0] != 'b') return Body::malformed();
    std::uint64_t size = 0;
    for (const char c : head.substr(1))
        size = size * 10 + static_cast<std::uint64_t>(c - '0');
    return Body::of(size);
}
struct Headed : BodyFramer<LineFramer, Body (*)(std::string_view)> {
    using BodyFramer::BodyFramer;
    Bytes message(Bytes frame) {
        const Message found = BodyFramer::message(frame);
        joined =
            std::string(found.head) + (found.body ? "+" + std::string(text_of(*found.body)) : "");
        return bytes_of(joined);
    }
    std::string joined;
};

struct Work {
    std::uint64_t calls = 0, looked_at = 0;
};
template<Framer Inner>
struct Counted {
    Scan scan(Bytes bytes, std::size_t passed) {
        const Scan scan = inner.scan(bytes, passed);
        ++work->calls;
        work->looked_at += scan.state == Scan::State::frame ? scan.consumed - passed : bytes.size();
        return scan;
    }
    Bytes message(Bytes bytes) {
        if constexpr (requires { inner.message(bytes); }) return inner.message(bytes);
        return bytes;
    }
    std::size_t max_message() const { return inner.max_message(); }
    std::size_t max_frame() const { return inner.max_frame(); }
    std::string_view name() const { return inner.name(); }
    Inner inner;
    Work* work;
};

/// Feeds `stream` in random pieces, into the decoder's own room where it wants that, and compares.
template<Framer F>
void compare(Round& round, const char* what, const F& framer, const Stream& stream) {
    Random& random = round.random;
    round.operation(what, static_cast<std::int64_t>(stream.bytes.size()));
    const std::size_t most = random.one_in(4) ? 1 : random.one_in(2) ? 64 : 100'000;
    using State = typename Decoder<Counted<F>>::State;
    Work work;
    Decoder<Counted<F>> decoder(Counted<F>{framer, &work});
    std::size_t found = 0;
    std::string error;
    const auto message = [&](Bytes bytes) {
        RANDOM_CHECK(found < stream.expected.messages.size(),
                     what << ": one too many of " << found);
        RANDOM_CHECK(text_of(bytes) == stream.expected.messages[found],
                     what << ": message " << found);
        ++found;
    };
    for (std::size_t at = 0; at < stream.bytes.size() && error.empty();) {
        std::size_t size = std::min(1 + random.size(most), stream.bytes.size() - at);
        round.operation("a piece of % bytes at %", static_cast<std::int64_t>(size),
                        static_cast<std::int64_t>(at));
        if (const MutableBytes room = decoder.room(); !room.empty() && random.one_in(2)) {
            size = std::min(size, room.size());
            std::copy_n(bytes_of(stream.bytes).begin() + static_cast<std::ptrdiff_t>(at), size,
                        room.begin());
            const auto next = decoder.filled(size);
            if (next.state == State::error)
                error = decoder.error().code == Errc::too_long ? "too_long" : "malformed";
            if (next.state == State::message) message(next.message);
        } else {
            // A block of its own that dies, so that a sanitizer finds a view that is kept.
            const std::vector<char> block(stream.bytes.begin() + static_cast<std::ptrdiff_t>(at),
                                          stream.bytes.begin() +
                                              static_cast<std::ptrdiff_t>(at + size));
            if (!decoder.feed(bytes_of({block.data(), size}), message))
                error = decoder.error().code == Errc::too_long ? "too_long" : "malformed";
        }
        RANDOM_CHECK(decoder.capacity() <= std::max<std::size_t>(16 * (at + size), 256),
                     what << ": " << decoder.capacity());
        at += size;
    }
    if (error.empty() && !decoder.end().ok()) error = "incomplete";
    RANDOM_EQUAL(error, stream.expected.error);
    RANDOM_EQUAL(found, stream.expected.messages.size());
    RANDOM_CHECK(work.looked_at <= 12 * (stream.bytes.size() + 100),
                 what << " looked at " << work.looked_at);
    RANDOM_CHECK(work.calls <= 2 * stream.bytes.size() + 2,
                 what << " was asked " << work.calls << " times");
}

/// Adds messages with `frame`, and then what `wrong` makes of it, or a message that is cut.
template<class Frame, class Wrong>
Stream stream_of(Random& random, std::string_view alphabet, std::size_t longest, Frame frame,
                 Wrong wrong) {
    Stream stream;
    for (std::size_t count = random.size(200); count > 0; --count) {
        std::string message =
            text(random,
                 random.one_in(50) ? random.size(longest)
                                   : random.size(std::min<std::size_t>(longest, 100)),
                 alphabet);
        stream.bytes += frame(message);
        stream.expected.messages.push_back(std::move(message));
    }
    if (random.one_in(3)) {
        stream.expected.error = wrong(stream.bytes);
    } else if (random.one_in(2)) {
        const std::string whole = frame(text(random, random.size(longest), alphabet));
        if (whole.size() > 1) {
            stream.bytes += whole.substr(0, 1 + random.below(whole.size() - 1));
            stream.expected.error = "incomplete";
        }
    }
    return stream;
}

void play(Round& round) {
    Random& random = round.random;
    const std::size_t max = random.one_in(2) ? random.size(300) : random.size(200'000);
    const bool big = random.one_in(2);
    const ByteOrder order = big ? ByteOrder::big : ByteOrder::little;
    const auto too_long_text = [&](std::string& into) {
        into += text(random, max + 1 + random.size(50), "ab");
        return "too_long";
    };
    switch (random.below(9)) {
    case 0:
    case 1: {
        const auto end = random.pick(std::array{LineEnd::lf, LineEnd::crlf, LineEnd::any});
        const char* const mark = end == LineEnd::lf ? "\n" : "\r\n";
        return compare(round, "lines of % bytes", LineFramer(end, max),
                       stream_of(
                           random, end == LineEnd::crlf ? "ab\n" : "ab", max,
                           [&](const std::string& m) { return m + mark; }, too_long_text));
    }
    case 2: {
        const std::string mark = random.pick(std::array{"-", "--", "\r\n\r\n", "--c--d"});
        return compare(round, "delimited % bytes", DelimiterFramer(mark, max),
                       stream_of(
                           random, mark[0] == '-' ? "ab" : "a\n", max,
                           [&](const std::string& m) { return m + mark; }, too_long_text));
    }
    case 3: {
        const std::size_t width = 1 + random.below(8);
        const LengthFramer framer(width, order, max);
        return compare(round, "lengths of % bytes", framer,
                       stream_of(
                           random, "\r\n\x01", framer.max_message(),
                           [&](const std::string& m) { return digits(m.size(), width, big) + m; },
                           [&](std::string& into) {
                               const std::uint64_t sayable = ~std::uint64_t{0} >> (64 - 8 * width);
                               if (sayable == framer.max_message()) return "";
                               into += digits(framer.max_message() + 1, width, big) +
                                       text(random, random.size(9), "xy");
                               return "too_long";
                           }));
    }
    case 4:
        return compare(round, "varints of % bytes", VarintFramer(order, max),
                       stream_of(
                           random, "\x80\x01", max,
                           [&](const std::string& m) { return groups(m.size(), big) + m; },
                           [&](std::string& into) {
                               into += groups(max + 1 + random.size(1'000'000'000), big);
                               return "too_long";
                           }));
    case 5:
        return compare(
            round, "netstrings of % bytes", NetstringFramer(max),
            stream_of(
                random, "1:,", max,
                [&](const std::string& m) { return std::to_string(m.size()) + ":" + m + ","; },
                [&](std::string& into) {
                    if (random.one_in(2)) {
                        into += "0:x";
                        return "malformed";
                    }
                    into += std::to_string(max + 1 + random.size(1'000'000'000));
                    return "too_long";
                }));
    case 6: {
        Stream stream;
        const std::size_t size = 1 + random.size(max);
        for (std::size_t count = random.size(20); count > 0; --count) {
            stream.expected.messages.push_back(text(random, size, "abc"));
            stream.bytes += stream.expected.messages.back();
        }
        return compare(round, "fixed messages of % bytes", FixedFramer(size), stream);
    }
    case 7: {
        Stream stream;
        for (std::size_t count = random.size(30); count > 0; --count) {
            const std::size_t parts = random.one_in(20) ? random.size(20'000) : random.size(30);
            std::string message = std::to_string(parts) + ";";
            for (std::size_t i = 0; i < parts; ++i) {
                const std::size_t size =
                    random.one_in(2000) ? random.size(Parts::max) : random.size(20);
                message += std::to_string(size) + ":" + text(random, size, "12:;");
            }
            stream.bytes += message;
            stream.expected.messages.push_back(std::move(message));
        }
        return compare(round, "messages of parts, % bytes", Parts(), stream);
    }
    default: {
        Stream stream;
        for (std::size_t count = random.size(100); count > 0; --count) {
            std::string head = "n" + text(random, random.size(50), "xyz"), message = head;
            if (random.one_in(2)) {
                const std::string body =
                    text(random,
                         random.one_in(20) ? random.size(max)
                                           : random.size(std::min<std::size_t>(max, 50)),
                         "ab\r\n");
                head = "b" + std::to_string(body.size());
                message = head + "+" + body;
                stream.bytes += head + "\r\n" + body + "ok";
            } else {
                stream.bytes += head + "\r\n";
            }
            stream.expected.messages.push_back(std::move(message));
        }
        if (random.one_in(3)) {
            const bool head = random.one_in(2);
            stream.bytes += head ? "wrong\n" : "b0\r\noc";
            stream.expected.error = "malformed";
        } else if (random.one_in(3)) {
            stream.bytes += "b" + std::to_string(max + 1) + "\n";
            stream.expected.error = "too_long";
        }
        return compare(round, "heads and bodies of % bytes",
                       Headed(LineFramer(), &body_of, max, "ok"), stream);
    }
    }
}

const RegisterFamily family({"framing", "framings against references, with random cuts and limits",
                             &play, true, false});

} // namespace
