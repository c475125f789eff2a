#pragma once

#include <weft/protocols/codecs/framing.hpp>

#include <algorithm>
#include <string>

#pragma GCC visibility push(default)

namespace weft {

/// What ends a line.
enum class LineEnd : std::uint8_t {
    lf,   ///< "\n"; a "\r" before it belongs to the line
    crlf, ///< "\r\n" only; a lone "\r" or "\n" belongs to the line
    any,  ///< "\n" or "\r\n"; writes "\r\n", as the protocols of the internet do (RFC 5198)
};

/// Lines, without their ends. An empty line is a message. `max` is the longest line in bytes, not
/// counting its end.
class LineFramer {
public:
    explicit LineFramer(LineEnd end = LineEnd::any, std::size_t max = default_max_line) noexcept
        : max_(max), end_(end) {}

    Scan scan(Bytes bytes, std::size_t passed) const noexcept {
        const std::byte* const begin = bytes.data();
        // Only the line's end may stand beyond the limit, so nothing further is searched.
        const std::size_t window = std::min(bytes.size(), max_frame() - passed);
        for (std::size_t from = 0; from < window;) {
            const void* const found = std::memchr(begin + from, '\n', window - from);
            if (found == nullptr) break;
            const auto at = static_cast<std::size_t>(static_cast<const std::byte*>(found) - begin);
            const bool after_cr = at > 0 && begin[at - 1] == std::byte{'\r'};
            if (end_ != LineEnd::crlf || after_cr) {
                const std::size_t size = passed + at - (end_ != LineEnd::lf && after_cr);
                return size <= max_ ? Scan::frame(0, size, passed + at + 1) : Scan::too_long();
            }
            from = at + 1;
        }
        // A "\r" that may begin the line's end is looked at again, with what comes.
        const std::size_t end =
            passed + bytes.size() - (end_ != LineEnd::lf && bytes.back() == std::byte{'\r'});
        return end <= max_ ? Scan::pass(end) : Scan::too_long();
    }

    std::size_t max_message() const noexcept { return max_; }
    std::size_t max_frame() const noexcept {
        return detail::saturating_add(max_, end_ == LineEnd::lf ? 1 : 2);
    }
    std::string_view name() const noexcept { return "line framing"; }

    /// Nothing; throws `UsageError` if `line` is too long or holds an end of line: code that
    /// composes lines of foreign text would otherwise send two.
    FrameHeader header(Bytes line) const {
        if (line.size() > max_) detail::throw_unwritable(name(), line.size(), max_);
        if (end_ == LineEnd::crlf ? text_of(line).find("\r\n") != std::string_view::npos
                                  : text_of(line).find('\n') != std::string_view::npos) {
            detail::throw_holds_delimiter(name());
        }
        return {};
    }
    Bytes trailer() const noexcept { return bytes_of(end_ == LineEnd::lf ? "\n" : "\r\n"); }

private:
    std::size_t max_;
    LineEnd end_;
};

/// Messages that end in a delimiter of any bytes; it is not part of them. `max` is the longest
/// message in bytes.
class DelimiterFramer {
public:
    /// Throws `UsageError` if `delimiter` is empty.
    explicit DelimiterFramer(std::string delimiter, std::size_t max = default_max_line);

    Scan scan(Bytes bytes, std::size_t passed) const noexcept {
        const std::string_view window = text_of(bytes).substr(0, max_frame() - passed);
        const std::size_t at = window.find(delimiter_);
        if (at == std::string_view::npos) return cut(window, passed);
        return Scan::frame(0, passed + at, passed + at + delimiter_.size());
    }

    std::size_t max_message() const noexcept { return max_; }
    std::size_t max_frame() const noexcept {
        return detail::saturating_add(max_, delimiter_.size());
    }
    std::string_view name() const noexcept { return "delimiter framing"; }

    /// Nothing; throws `UsageError` if `message` is too long, or if the delimiter would be found
    /// before its end.
    FrameHeader header(Bytes message) const;
    Bytes trailer() const noexcept { return bytes_of(delimiter_); }

private:
    /// The answer where no delimiter was found.
    Scan cut(std::string_view shown, std::size_t passed) const noexcept;

    std::string delimiter_;
    std::size_t max_;
};

} // namespace weft

#pragma GCC visibility pop
