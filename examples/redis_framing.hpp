// A framer of one's own: the commands of Redis (RESP2), arrays of bulk strings or plain lines, as
// views of the bytes.
#pragma once

#include <weft/protocols/codecs/framing.hpp>

#include <charconv>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace redis {

/// A command and its arguments, valid during the call that receives them. Behind each stands
/// "\r\n", as it does where a value is sent, so that one can be kept together with it.
using Args = std::span<const std::string_view>;

class Framer {
public:
    weft::Scan scan(weft::Bytes bytes, std::size_t passed) {
        const std::string_view text = weft::text_of(bytes);
        if (passed == 0) { // a command begins
            parts_.clear();
            left_ = unknown;
            is_line_ = text[0] != '*';
        }
        if (is_line_) return scan_line(text, passed);
        std::size_t at = 0;
        if (left_ == unknown) {
            std::int64_t parts = 0;
            if (!number(text, '*', max_parts, at, parts)) return cut(text, at, passed);
            left_ = parts;
        }
        // Each part is passed when it is complete, and never looked at again.
        for (; left_ > 0; --left_) {
            std::size_t begin = at;
            std::int64_t size = 0;
            if (!number(text, '$', max_value, begin, size) || size < 0)
                return cut(text, at, passed);
            const std::size_t end = begin + static_cast<std::size_t>(size) + 2;
            if (text.size() < end) return weft::Scan::pass(passed + at, passed + end);
            parts_.push_back({passed + begin, static_cast<std::size_t>(size)});
            at = end;
        }
        return weft::Scan::frame(0, passed + at, passed + at);
    }

    Args message(weft::Bytes frame) {
        std::string_view text = weft::text_of(frame);
        args_.clear();
        if (is_line_) {
            split(text);
            text = line_;
        }
        for (const Part& part : parts_)
            args_.push_back(text.substr(part.begin, part.size));
        return args_;
    }

    std::size_t max_message() const noexcept { return std::size_t{1} << 30; }
    std::size_t max_frame() const noexcept { return max_message(); }
    std::string_view name() const noexcept { return "RESP"; }

private:
    static constexpr std::int64_t unknown = -2;
    static constexpr std::int64_t max_parts = 1 << 20;
    static constexpr std::int64_t max_value = 512 << 20;
    static constexpr std::size_t longest_number = 24;
    static constexpr std::size_t longest_line = 64 * 1024;
    struct Part {
        std::size_t begin; ///< in the frame
        std::size_t size;
    };

    weft::Scan scan_line(std::string_view text, std::size_t passed) const {
        const std::size_t end = text.find('\n');
        if (end != std::string_view::npos)
            return weft::Scan::frame(0, passed + end, passed + end + 1);
        if (passed + text.size() > longest_line) return weft::Scan::too_long(0, longest_line);
        return weft::Scan::pass(passed + text.size());
    }

    /// Reads "*3\r\n" or "$5\r\n" at `at` and moves it behind. False: it is not all there, or
    /// wrong.
    static bool number(std::string_view text, char kind, std::int64_t most, std::size_t& at,
                       std::int64_t& value) {
        const char* const last = text.data() + text.size();
        if (at >= text.size() || text[at] != kind) return false;
        const auto [end, error] = std::from_chars(text.data() + at + 1, last, value);
        if (error != std::errc() || last - end < 2 || end[0] != '\r' || end[1] != '\n')
            return false;
        if (value < -1 || value > most) return false;
        at = static_cast<std::size_t>(end + 2 - text.data());
        return true;
    }
    /// What stands at `at` is no whole number: because it was cut, or it never will be one.
    weft::Scan cut(std::string_view text, std::size_t at, std::size_t passed) const {
        std::string_view seen = text.substr(at, longest_number);
        if (seen.empty()) return weft::Scan::pass(passed + at);
        if (seen[0] != (left_ == unknown ? '*' : '$')) return weft::Scan::malformed();
        const std::size_t digits = seen.find_first_not_of("-0123456789", 1);
        const bool open = digits == std::string_view::npos ? seen.size() < longest_number
                                                           : seen.substr(digits) == "\r";
        return open ? weft::Scan::pass(passed + at) : weft::Scan::malformed();
    }

    /// Of a plain line, words.
    void split(std::string_view line) {
        constexpr std::string_view spaces = " \t\r";
        line_.clear();
        parts_.clear();
        for (std::size_t at = 0;
             (at = line.find_first_not_of(spaces, at)) != std::string_view::npos;) {
            const std::size_t end = std::min(line.find_first_of(spaces, at), line.size());
            parts_.push_back({line_.size(), end - at});
            (line_ += line.substr(at, end - at)) += "\r\n";
            at = end;
        }
    }

    std::vector<Part> parts_;     ///< of the present command
    std::int64_t left_ = unknown; ///< parts still to come
    bool is_line_ = false;
    std::string line_;
    std::vector<std::string_view> args_;
};

} // namespace redis
