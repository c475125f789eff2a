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
#include <utility>

#pragma GCC visibility push(default)

namespace weft {

/// The longest message that length-prefixed framings take unless told otherwise. 16 MiB is what a
/// 24-bit length can say and more than the usual defaults of message protocols (1 to 4 MiB), while
/// a thousand hostile peers still have to send what they want to occupy: a decoder's memory grows
/// with the bytes received, not with the length announced.
inline constexpr std::size_t default_max_message = std::size_t{16} << 20;

/// The longest line unless told otherwise: 64 KiB, as in asyncio's streams.
inline constexpr std::size_t default_max_line = std::size_t{64} << 10;

/// What a framer found. Every number counts from the first byte of the frame.
struct Scan {
    enum class State : std::uint8_t { more, frame, error };

    State state = State::more;
    /// error: the peer had announced `size` bytes, and could only add to it
    bool at_least = false;
    Errc error{};           ///< why, iff `state` is `error`: `too_long` or `malformed`
    std::size_t offset = 0; ///< frame: where its message begins
    std::size_t size = 0;   ///< frame: bytes of the message; `too_long`: of the one announced, or 0
    std::size_t consumed = 0; ///< frame: bytes of it; more: those that need not be shown again
    std::size_t need = 0; ///< more: the fewest bytes of the frame worth another scan, 0 if unknown;
                          ///< `too_long`: the limit, 0 if it is `max_message()`

    /// The frame is not complete. All of it is to be shown again, once `need` bytes of it are
    /// there.
    static constexpr Scan more(std::size_t need = 0) noexcept { return {.need = need}; }
    /// The frame is not complete, and its first `position` bytes are done with: what is behind them
    /// is to be shown, once `need` bytes of the frame are there.
    static constexpr Scan pass(std::size_t position, std::size_t need = 0) noexcept {
        return {.consumed = position, .need = need};
    }
    /// A frame of `consumed` bytes whose message is [offset, offset + size).
    static constexpr Scan frame(std::size_t offset, std::size_t size,
                                std::size_t consumed) noexcept {
        return {.state = State::frame, .offset = offset, .size = size, .consumed = consumed};
    }
    /// A message longer than the limit; `size` is its length where the peer announced it, and
    /// `limit` the limit where it is not `max_message()`.
    static constexpr Scan too_long(std::size_t size = 0, std::size_t limit = 0) noexcept {
        return {.state = State::error, .error = Errc::too_long, .size = size, .need = limit};
    }
    /// The same for a peer that has announced `size` bytes so far, and could only add to it.
    static constexpr Scan too_long_already(std::size_t size) noexcept {
        Scan scan = too_long(size);
        scan.at_least = true;
        return scan;
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

/// Where messages begin and end in a stream of bytes: a small value that looks at one frame after
/// the other. Numbers count from the first byte of the frame.
///
/// - `scan(bytes, passed)`: `bytes` is what has come of the frame behind its first `passed` bytes,
///   which the framer has said to be done with (`Scan::pass`). It is never empty, and may hold more
///   than the frame. With `passed` 0 a frame begins, or begins anew: whatever the framer remembers
///   is of the `passed` bytes, and of nothing at 0. The answer may depend on the bytes only, not on
///   how they were cut.
/// - `max_message()`: the longest message, in bytes. `scan` reports `too_long` as soon as it is
///   certain.
/// - `max_frame()`: the longest frame, with all that surrounds the message. `scan` decides by then.
/// - `name()`: the framing's name in error texts.
/// - `message(bytes)`, if there is one: what the message is to its receiver, made of its
///   bytes right after `scan` has found the frame. Any default constructible value; it is valid as
///   long as the bytes are, and until the next frame. Without it a message is `Bytes`.
///
/// What was passed is not shown again, so a frame of many parts, each passed as it is complete,
/// costs time in proportion to its bytes, whatever they are cut into. A framer may go back, by
/// `Scan::more` or by passing less than before, but not often: one that is shown the same bytes
/// again and again while a frame grows is stopped with a `UsageError` that names it.
template<class F>
concept Framer = requires(F& framer, const F& constant, Bytes bytes, std::size_t passed) {
    { framer.scan(bytes, passed) } -> std::same_as<Scan>;
    { constant.max_message() } -> std::convertible_to<std::size_t>;
    { constant.max_frame() } -> std::convertible_to<std::size_t>;
    { constant.name() } -> std::convertible_to<std::string_view>;
};

namespace detail {

template<class F>
struct MessageOf {
    using Type = Bytes;
};
template<class F>
    requires requires(F& framer, Bytes bytes) { framer.message(bytes); }
struct MessageOf<F> {
    using Type = decltype(std::declval<F&>().message(Bytes()));
};

} // namespace detail

/// What a framer's messages are: `Bytes`, or what its `message` returns.
template<Framer F>
using MessageOf = typename detail::MessageOf<F>::Type;

/// A framer that can also be written with.
///
/// - `header(message)` and `trailer()`: what goes before and after the message. Throws `UsageError`
/// if the
///   message cannot be framed: it is longer than `max_message()`, or holds the delimiter.
template<class F>
concept WritingFramer = Framer<F> && requires(const F& framer, Bytes message) {
    { framer.header(message) } -> std::same_as<FrameHeader>;
    { framer.trailer() } -> std::convertible_to<Bytes>;
};

/// Writes `message` in a frame to anything that has `write_all(std::span<const Bytes>)`, some of
/// which may be empty, as one gathered write, without allocating or copying it. Throws what
/// `framer.header` and the sink throw.
template<WritingFramer F, class Sink>
void write_message(Sink& sink, const F& framer, Bytes message) {
    const FrameHeader header = framer.header(message);
    const std::array<Bytes, 3> pieces{header.bytes(), message, framer.trailer()};
    sink.write_all(std::span<const Bytes>(pieces));
}

namespace detail {

constexpr std::size_t saturating_add(std::size_t a, std::size_t b) noexcept {
    return a > std::numeric_limits<std::size_t>::max() - b ? std::numeric_limits<std::size_t>::max()
                                                           : a + b;
}

/// The error of a failed scan, naming the framing and its limit.
Error scan_error(std::string_view framing, std::size_t max_message, const Scan& scan);
/// The stream ended `have` bytes into a message, whose frame has at least `need` if that is not 0.
Error incomplete_error(std::string_view framing, std::size_t have, std::size_t need);
/// Throws the `UsageError` for writing a message of `size` bytes under a limit of `max_message`.
[[noreturn]] void throw_unwritable(std::string_view framing, std::size_t size,
                                   std::size_t max_message);
/// Throws the `UsageError` for writing a message that holds its own delimiter.
[[noreturn]] void throw_holds_delimiter(std::string_view framing);
/// Throws the `UsageError` for a framer that says `more` beyond its own limit, ends a frame inside
/// bytes that it had called too few, or has passed bytes that are not there.
[[noreturn]] void throw_bad_framer(std::string_view framing);
/// Throws the `UsageError` for a framer that had `again` bytes shown again for a frame of `size`.
[[noreturn]] void throw_looks_again(std::string_view framing, std::size_t again, std::size_t size);

} // namespace detail
} // namespace weft

#pragma GCC visibility pop
