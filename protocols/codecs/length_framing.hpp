#pragma once

#include <weft/protocols/codecs/framing.hpp>

#include <bit>

#pragma GCC visibility push(default)

namespace weft {

/// Which end of a number comes first on the wire.
enum class ByteOrder : std::uint8_t {
    big,    ///< the most significant first: network order (RFC 1700)
    little, ///< the least significant first
};

/// What a length field counts.
enum class Counting : std::uint8_t {
    message, ///< the bytes behind it
    frame,   ///< its own bytes too
};

/// Messages behind a fixed-width length. `max` is the longest message in bytes; what the length can
/// not say is a limit too.
class LengthFramer {
public:
    /// `width` bytes of length, 1 to 8. Throws `UsageError` for any other width.
    explicit LengthFramer(std::size_t width = 4, ByteOrder order = ByteOrder::big,
                          std::size_t max = default_max_message,
                          Counting counting = Counting::message);

    Scan scan(Bytes bytes, std::size_t passed) const noexcept {
        (void)passed;
        if (bytes.size() < width_) return Scan::more(width_);
        std::uint64_t length = load(bytes.data());
        if (counting_ == Counting::frame) {
            if (length < width_) return Scan::malformed();
            length -= width_;
        }
        if (length > max_) return Scan::too_long(length);
        const auto size = static_cast<std::size_t>(length);
        const std::size_t all = detail::saturating_add(width_, size);
        return bytes.size() < all ? Scan::more(all) : Scan::frame(width_, size, all);
    }

    std::size_t max_message() const noexcept { return max_; }
    std::size_t max_frame() const noexcept { return detail::saturating_add(width_, max_); }
    std::string_view name() const noexcept { return "length framing"; }

    /// The length; throws `UsageError` if `message` is longer than `max_message()`.
    FrameHeader header(Bytes message) const;
    Bytes trailer() const noexcept { return {}; }

private:
    std::uint64_t load(const std::byte* at) const noexcept {
        // The usual width without a loop; the others are rare enough for one.
        if (width_ == 4) {
            std::uint32_t value;
            std::memcpy(&value, at, 4);
            const bool swap =
                (order_ == ByteOrder::big) == (std::endian::native == std::endian::little);
            return swap ? __builtin_bswap32(value) : value;
        }
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < width_; ++i) {
            const std::size_t from = order_ == ByteOrder::big ? i : width_ - 1 - i;
            value = value << 8 | std::to_integer<std::uint64_t>(at[from]);
        }
        return value;
    }

    std::size_t max_;
    std::uint8_t width_;
    ByteOrder order_;
    Counting counting_;
};

/// Messages behind a length in groups of 7 bits, each in a byte whose high bit says that another
/// one follows. Little order is LEB128, as protocol buffers delimit messages; big order is the
/// variable-length quantity of MIDI files and ASN.1 tags. A length has one spelling: one padded
/// with empty groups is `malformed`, and one that 64 bits cannot hold is `too_long`. `max` is the
/// longest message in bytes.
class VarintFramer {
public:
    explicit VarintFramer(ByteOrder order = ByteOrder::little,
                          std::size_t max = default_max_message) noexcept
        : max_(max), order_(order) {}

    Scan scan(Bytes bytes, std::size_t passed) const noexcept;
    std::size_t max_message() const noexcept { return max_; }
    std::size_t max_frame() const noexcept { return detail::saturating_add(longest, max_); }
    std::string_view name() const noexcept { return "varint framing"; }

    /// The length; throws `UsageError` if `message` is too long.
    FrameHeader header(Bytes message) const;
    Bytes trailer() const noexcept { return {}; }

private:
    static constexpr std::size_t longest = 10; ///< 64 bits in groups of 7

    std::size_t max_;
    ByteOrder order_;
};

/// Netstrings: "5:hello,". A length has one spelling, without leading zeros. `max` is the longest
/// message in bytes.
class NetstringFramer {
public:
    explicit NetstringFramer(std::size_t max = default_max_message) noexcept : max_(max) {}

    Scan scan(Bytes bytes, std::size_t passed) const noexcept;
    std::size_t max_message() const noexcept { return max_; }
    std::size_t max_frame() const noexcept { return detail::saturating_add(around, max_); }
    std::string_view name() const noexcept { return "netstring framing"; }

    /// The length and a colon; throws `UsageError` if `message` is too long.
    FrameHeader header(Bytes message) const;
    Bytes trailer() const noexcept { return bytes_of(","); }

private:
    static constexpr std::size_t around = 22; ///< 20 digits of 64 bits, the colon and the comma

    std::size_t max_;
};

/// Messages of one size, with nothing around them.
class FixedFramer {
public:
    /// Throws `UsageError` if `size` is 0.
    explicit FixedFramer(std::size_t size);

    Scan scan(Bytes bytes, std::size_t passed) const noexcept {
        (void)passed;
        return bytes.size() < size_ ? Scan::more(size_) : Scan::frame(0, size_, size_);
    }
    std::size_t max_message() const noexcept { return size_; }
    std::size_t max_frame() const noexcept { return size_; }
    std::string_view name() const noexcept { return "fixed framing"; }

    /// Nothing; throws `UsageError` if `message` has any other size.
    FrameHeader header(Bytes message) const;
    Bytes trailer() const noexcept { return {}; }

private:
    std::size_t size_;
};

} // namespace weft

#pragma GCC visibility pop
