#pragma once

#include <weft/reactor/bytes.hpp>
#include <weft/reactor/error.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string_view>

namespace weft {

/// The longest message that length-prefixed framings take unless told otherwise. 16 MiB is what a
/// 24-bit length can say and more than the usual defaults of message protocols (1 to 4 MiB), while
/// a thousand hostile peers still have to send what they want to occupy: a decoder's memory grows
/// with the bytes received, not with the length announced.
inline constexpr std::size_t default_max_message = std::size_t{16} << 20;

/// The longest line unless told otherwise: 64 KiB, as in asyncio's streams.
inline constexpr std::size_t default_max_line = std::size_t{64} << 10;

/// What a framer found at the beginning of the bytes it was shown.
struct Scan {
    enum class State : std::uint8_t { more, frame, error };

    State state = State::more;
    Errc error{};           ///< why, iff `state` is `error`: `too_long` or `malformed`
    std::size_t offset = 0; ///< frame: where its message begins
    std::size_t size =
        0; ///< frame: bytes of the message; error `too_long`: of the message announced, or 0
    std::size_t consumed = 0; ///< frame: bytes of the whole frame, from the first byte shown
    std::size_t need =
        0; ///< more: the fewest bytes, from the first one shown, worth another scan; 0 if unknown

    /// The frame is not complete.
    static constexpr Scan more(std::size_t need = 0) noexcept { return {.need = need}; }
    /// A frame of `consumed` bytes whose message is [offset, offset + size).
    static constexpr Scan frame(std::size_t offset, std::size_t size,
                                std::size_t consumed) noexcept {
        return {.state = State::frame, .offset = offset, .size = size, .consumed = consumed};
    }
    /// A message longer than the limit; `size` is its length where the peer announced it.
    static constexpr Scan too_long(std::size_t size = 0) noexcept {
        return {.state = State::error, .error = Errc::too_long, .size = size};
    }
    /// Bytes that no frame can begin with.
    static constexpr Scan malformed() noexcept {
        return {.state = State::error, .error = Errc::malformed};
    }
};

/// What precedes a message on the wire: at most 24 bytes, the length of a netstring's header. A
/// value, so that writing a message allocates nothing.
class FrameHeader {
public:
    void push(std::byte byte) noexcept { bytes_[size_++] = byte; }
    Bytes bytes() const noexcept { return {bytes_.data(), size_}; }

private:
    std::array<std::byte, 24> bytes_;
    std::uint8_t size_ = 0;
};

/// Where messages begin and end in a stream of bytes. A framer is a small value without memory of
/// the stream: `scan` is shown everything since the end of the last frame and looks at the frame at
/// its beginning.
///
/// - `scan(bytes, scanned)`: `bytes` is never empty; its first `scanned` bytes were shown before
/// and were not
///   enough, so a search can begin there. The answer may depend on the bytes only, not on how they
///   were cut.
/// - `max_message()`: the longest message, in bytes. `scan` reports `too_long` as soon as it is
/// certain.
/// - `max_frame()`: the longest frame, with all that surrounds the message. `scan` decides by then.
/// - `name()`: the framing's name in error texts.
template<class F>
concept Framer = requires(const F& framer, Bytes bytes, std::size_t scanned) {
    { framer.scan(bytes, scanned) } -> std::same_as<Scan>;
    { framer.max_message() } -> std::convertible_to<std::size_t>;
    { framer.max_frame() } -> std::convertible_to<std::size_t>;
    { framer.name() } -> std::convertible_to<std::string_view>;
};

/// A framer that can also be written with.
///
/// - `header(message)` and `trailer()`: what goes before and after the message. Throws `UsageError`
/// if the
///   message can not be framed: it is longer than `max_message()`, or holds the delimiter.
template<class F>
concept WritingFramer = Framer<F> && requires(const F& framer, Bytes message) {
    { framer.header(message) } -> std::same_as<FrameHeader>;
    { framer.trailer() } -> std::convertible_to<Bytes>;
};

/// Writes `message` in a frame to anything that has `write_all(std::span<const Bytes>)`, as one
/// gathered write, without allocating or copying it. Throws what `framer.header` and the sink
/// throw.
template<WritingFramer F, class Sink>
void write_message(Sink& sink, const F& framer, Bytes message) {
    const FrameHeader header = framer.header(message);
    std::array<Bytes, 3> pieces;
    std::size_t count = 0;
    for (Bytes piece : {header.bytes(), message, Bytes(framer.trailer())}) {
        if (!piece.empty()) pieces[count++] = piece;
    }
    if (count > 0) sink.write_all(std::span<const Bytes>(pieces.data(), count));
}

namespace detail {

constexpr std::size_t saturating_add(std::size_t a, std::size_t b) noexcept {
    return a > std::numeric_limits<std::size_t>::max() - b ? std::numeric_limits<std::size_t>::max()
                                                           : a + b;
}

/// The error of a failed scan, naming the framing and its limit.
Error scan_error(std::string_view framing, std::size_t max_message, const Scan& scan);
/// The stream ended `have` bytes into a message.
Error incomplete_error(std::string_view framing, std::size_t have);
/// Throws the `UsageError` for writing a message of `size` bytes under a limit of `max_message`.
[[noreturn]] void throw_unwritable(std::string_view framing, std::size_t size,
                                   std::size_t max_message);
/// Throws the `UsageError` for writing a message that holds its own delimiter.
[[noreturn]] void throw_holds_delimiter(std::string_view framing);
/// Throws the `UsageError` for a framer that says `more` beyond its own limit, or ends a frame that
/// it has already passed by.
[[noreturn]] void throw_bad_framer(std::string_view framing);

} // namespace detail
} // namespace weft
