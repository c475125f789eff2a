#pragma once

#include <weft/protocols/codecs/line_framing.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#pragma GCC visibility push(default)

namespace weft {

/// What a head says of the body behind it.
class Body {
public:
    enum class Kind : std::uint8_t { none, sized, malformed };

    /// The head is the whole message.
    static constexpr Body none() noexcept { return {}; }
    /// `size` bytes follow, and what ends a body.
    static constexpr Body of(std::uint64_t size) noexcept { return {Kind::sized, size}; }
    /// No message begins so.
    static constexpr Body malformed() noexcept { return {Kind::malformed, 0}; }

    constexpr Kind kind() const noexcept { return kind_; }
    constexpr std::uint64_t size() const noexcept { return size_; }

private:
    constexpr Body() noexcept = default;
    constexpr Body(Kind kind, std::uint64_t size) noexcept : kind_(kind), size_(size) {}
    Kind kind_ = Kind::none;
    std::uint64_t size_ = 0;
};

/// A head and the body that it announces, as one message: memcached's `set` and its value, a bulk
/// string of Redis, an HTTP head and its content. `Head` frames the head (`LineFramer`, or
/// `DelimiterFramer("\r\n\r\n")`); `body_of(std::string_view head)` says how long the body is, of
/// the head alone. It must not throw.
///
///     weft::BodyFramer framer(weft::LineFramer(), [](std::string_view line) {
///         return line.starts_with("put ") ? weft::Body::of(size_in(line)) : weft::Body::none();
///     });
template<Framer Head, class BodyOf>
class BodyFramer {
public:
    /// What a message consists of, valid as long as any message is.
    struct Message {
        std::string_view head;     ///< without what ends it
        std::optional<Bytes> body; ///< without what ends it; none if the head announces none
    };

    /// `max_body` is the longest body in bytes, `body_end` what has to stand behind each.
    explicit BodyFramer(Head head = Head(), BodyOf body_of = BodyOf(),
                        std::size_t max_body = default_max_message, std::string body_end = {})
        : head_(std::move(head)), body_of_(std::move(body_of)), end_(std::move(body_end)),
          max_body_(max_body) {}

    Scan scan(Bytes bytes, std::size_t passed) {
        if (passed == 0) body_begin_ = 0;
        if (body_begin_ != 0) return scan_body(bytes, passed);
        const Scan head = head_.scan(bytes, passed);
        if (head.state == Scan::State::error && head.error == Errc::too_long && head.need == 0) {
            return Scan::too_long(head.size, head_.max_message());
        }
        if (head.state != Scan::State::frame) return head;
        // To be read as a whole, once, by code that knows what it says.
        if (passed != 0) return Scan::more(head.consumed);
        head_at_ = head.offset;
        head_size_ = head.size;
        const Body body = body_of_(text_of(bytes.subspan(head.offset, head.size)));
        has_body_ = body.kind() == Body::Kind::sized;
        body_size_ = 0;
        if (body.kind() == Body::Kind::malformed) return Scan::malformed();
        if (!has_body_) return Scan::frame(0, head.consumed, head.consumed);
        if (body.size() > max_body_) return Scan::too_long(body.size());
        body_begin_ = head.consumed;
        body_size_ = static_cast<std::size_t>(body.size());
        return scan_body(bytes, 0);
    }

    Message message(Bytes frame) const noexcept {
        Message message;
        message.head = text_of(frame.subspan(head_at_, head_size_));
        if (has_body_) message.body = frame.subspan(body_begin_, body_size_);
        return message;
    }

    std::size_t max_message() const noexcept { return max_body_; }
    std::size_t max_frame() const noexcept {
        return detail::saturating_add(head_.max_frame(),
                                      detail::saturating_add(max_body_, end_.size()));
    }
    std::string_view name() const noexcept { return "body framing"; }

private:
    /// The head is known, and `bytes` hold the frame from `shown` on.
    Scan scan_body(Bytes bytes, std::size_t shown) const noexcept {
        const std::size_t end = body_begin_ + body_size_;
        const std::size_t all = end + end_.size();
        if (shown + bytes.size() < all) return Scan::pass(body_begin_, all);
        if (text_of(bytes.subspan(end - shown, end_.size())) != end_) return Scan::malformed();
        return Scan::frame(0, all, all);
    }

    Head head_;
    BodyOf body_of_;
    std::string end_;
    std::size_t max_body_;
    std::size_t head_at_ = 0;
    std::size_t head_size_ = 0;
    std::size_t body_begin_ = 0; ///< above 0 once the head is known
    std::size_t body_size_ = 0;
    bool has_body_ = false;
};

} // namespace weft

#pragma GCC visibility pop
