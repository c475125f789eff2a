#pragma once

#include <weft/protocols/codecs/decoder.hpp>

#include <catch2/catch.hpp>
#include <string>
#include <vector>

namespace weft::test {

/// What a decoder made of a stream: the messages, then the error if it met one, in words that a
/// failing check can print. The error's text is "too_long", "malformed" or "incomplete".
struct Decoded {
    std::vector<std::string> messages;
    std::string error;
    friend bool operator==(const Decoded&, const Decoded&) = default;
    friend std::ostream& operator<<(std::ostream& out, const Decoded& decoded) {
        for (const std::string& message : decoded.messages) {
            out << '"';
            for (unsigned char c : message) {
                if (c >= 32 && c < 127) {
                    out << c;
                } else {
                    out << "\\" << int{c};
                }
            }
            out << "\" ";
        }
        return out << decoded.error;
    }
};

inline std::string name_of(const std::error_code& code) {
    if (code == Errc::too_long) return "too_long";
    if (code == Errc::malformed) return "malformed";
    if (code == Errc::incomplete) return "incomplete";
    return code.message();
}

/// Feeds `stream`, cut before each of the offsets in `cuts`, then its end. Every chunk is a heap
/// block of its own that dies after it was fed, so that a sanitizer finds a view that is held too
/// long.
template<Framer F>
Decoded decode(const F& framer, std::string_view stream, const std::vector<std::size_t>& cuts) {
    Decoder<F> decoder(framer);
    Decoded result;
    std::size_t begin = 0;
    for (std::size_t i = 0; i <= cuts.size(); ++i) {
        const std::size_t end = i < cuts.size() ? cuts[i] : stream.size();
        const std::vector<char> chunk(stream.begin() + begin, stream.begin() + end);
        begin = end;
        const bool fine = decoder.feed(bytes_of({chunk.data(), chunk.size()}), [&](Bytes message) {
            result.messages.emplace_back(text_of(message));
        });
        if (decoder.capacity() > framer.max_frame()) result.error = "over capacity";
        if (!fine) {
            result.error = name_of(decoder.error());
            return result;
        }
    }
    if (const auto ended = decoder.end(); !ended.ok()) result.error = name_of(ended.error());
    return result;
}

/// Checks that `stream` decodes to the same whole, byte by byte, and cut in two and three at every
/// place.
template<Framer F>
void check_decodes(const F& framer, std::string_view stream, const Decoded& expected) {
    INFO("stream of " << stream.size() << " bytes, framer " << framer.name());
    CHECK(decode(framer, stream, {}) == expected);
    std::vector<std::size_t> every;
    for (std::size_t i = 1; i < stream.size(); ++i)
        every.push_back(i);
    CHECK(decode(framer, stream, every) == expected);
    for (std::size_t first : every) {
        INFO("cut at " << first);
        if (const auto decoded = decode(framer, stream, {first}); decoded != expected) {
            CHECK(decoded == expected);
        }
        // The number of pairs grows with the square: short streams only.
        if (stream.size() > 48) continue;
        for (std::size_t second = first; second < stream.size(); ++second) {
            INFO("and at " << second);
            if (const auto decoded = decode(framer, stream, {first, second}); decoded != expected) {
                CHECK(decoded == expected);
            }
        }
    }
}

/// Collects what `write_message` sends.
struct Sink {
    void write_all(std::span<const Bytes> pieces) {
        ++calls;
        for (Bytes piece : pieces)
            text += text_of(piece);
    }
    std::string text;
    int calls = 0;
};

} // namespace weft::test
