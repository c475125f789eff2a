#include <weft/protocols/codecs/length_framing.hpp>

#include <algorithm>
#include <charconv>
#include <string>

namespace weft {

LengthFramer::LengthFramer(std::size_t width, ByteOrder order, std::size_t max, Counting counting)
    : width_(static_cast<std::uint8_t>(width)), order_(order), counting_(counting) {
    if (width < 1 || width > 8) {
        throw UsageError("LengthFramer: a length has 1 to 8 bytes, not " + std::to_string(width));
    }
    const std::uint64_t sayable = ~std::uint64_t{0} >> (64 - 8 * width);
    max_ = std::min<std::uint64_t>(max, counting == Counting::frame ? sayable - width : sayable);
}

FrameHeader LengthFramer::header(Bytes message) const {
    if (message.size() > max_) detail::throw_unwritable(name(), message.size(), max_);
    const std::uint64_t length = message.size() + (counting_ == Counting::frame ? width_ : 0);
    FrameHeader header;
    for (int i = 0; i < width_; ++i) {
        const int place = order_ == ByteOrder::big ? width_ - 1 - i : i;
        header.push(static_cast<std::byte>(length >> (8 * place)));
    }
    return header;
}

Scan VarintFramer::scan(Bytes bytes, std::size_t) const noexcept {
    std::uint64_t length = 0;
    std::size_t i = 0;
    while (true) {
        if (i == bytes.size()) return Scan::more();
        const auto byte = std::to_integer<std::uint8_t>(bytes[i]);
        const std::uint64_t group = byte & 0x7f;
        const bool last = byte < 0x80;
        if (order_ == ByteOrder::little) {
            if (last && group == 0 && i > 0) return Scan::malformed();
            // The tenth group holds the 64th bit and nothing else.
            if (i == longest - 1 && (group > 1 || !last)) return Scan::too_long();
            length |= group << (7 * i);
        } else {
            if (byte == 0x80 && i == 0) return Scan::malformed();
            if (length >> 57 != 0) return Scan::too_long();
            length = length << 7 | group;
        }
        ++i;
        // Further groups can only add to it.
        if (length > max_) return last ? Scan::too_long(length) : Scan::too_long_already(length);
        if (last) break;
    }
    const std::size_t all = detail::saturating_add(i, length);
    return bytes.size() < all ? Scan::more(all) : Scan::frame(i, length, all);
}

FrameHeader VarintFramer::header(Bytes message) const {
    if (message.size() > max_) detail::throw_unwritable(name(), message.size(), max_);
    const std::uint64_t length = message.size();
    int groups = 1;
    while (groups < static_cast<int>(longest) && length >> (7 * groups) != 0)
        ++groups;
    FrameHeader header;
    for (int i = 0; i < groups; ++i) {
        const int place = order_ == ByteOrder::big ? groups - 1 - i : i;
        const auto group = static_cast<std::byte>(length >> (7 * place) & 0x7f);
        header.push(i < groups - 1 ? group | std::byte{0x80} : group);
    }
    return header;
}

Scan NetstringFramer::scan(Bytes bytes, std::size_t) const noexcept {
    std::uint64_t length = 0;
    std::size_t i = 0;
    for (;; ++i) {
        if (i == bytes.size()) return Scan::more();
        const auto c = std::to_integer<char>(bytes[i]);
        if (c == ':' && i > 0) break;
        if (c < '0' || c > '9') return Scan::malformed();
        // After a leading zero only the colon may come.
        if (i > 0 && length == 0) return Scan::malformed();
        const auto digit = static_cast<std::uint64_t>(c - '0');
        // Asked digit by digit, so that no number of digits can overflow or fill the memory.
        if (digit > max_ || length > (max_ - digit) / 10) {
            const std::uint64_t most = ~std::uint64_t{0};
            return Scan::too_long_already(length > (most - digit) / 10 ? most
                                                                       : length * 10 + digit);
        }
        length = length * 10 + digit;
    }
    const std::size_t begin = i + 1;
    const std::size_t end = detail::saturating_add(begin, length);
    if (bytes.size() <= end) return Scan::more(detail::saturating_add(end, 1));
    return bytes[end] == std::byte{','} ? Scan::frame(begin, length, end + 1) : Scan::malformed();
}

FrameHeader NetstringFramer::header(Bytes message) const {
    if (message.size() > max_) detail::throw_unwritable(name(), message.size(), max_);
    std::array<char, 20> digits;
    const auto end =
        std::to_chars(digits.data(), digits.data() + digits.size(), message.size()).ptr;
    FrameHeader header;
    for (const char* digit = digits.data(); digit != end; ++digit) {
        header.push(static_cast<std::byte>(*digit));
    }
    header.push(std::byte{':'});
    return header;
}

FixedFramer::FixedFramer(std::size_t size) : size_(size) {
    if (size == 0) throw UsageError("FixedFramer: a message has at least 1 byte");
}

FrameHeader FixedFramer::header(Bytes message) const {
    if (message.size() != size_) {
        throw UsageError("fixed framing: can not write a message of " +
                         std::to_string(message.size()) + " bytes, all have " +
                         std::to_string(size_));
    }
    return {};
}

} // namespace weft
