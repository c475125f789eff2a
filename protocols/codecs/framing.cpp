#include <weft/protocols/codecs/framed_protocol.hpp>
#include <weft/protocols/codecs/framing.hpp>
#include <weft/protocols/codecs/line_framing.hpp>

#include <utility>

namespace weft {
namespace {

std::string with_number(std::string_view framing, std::string_view before, std::uint64_t number,
                        std::string_view after) {
    std::string text(framing);
    text += before;
    text += std::to_string(number);
    text += after;
    return text;
}

} // namespace

namespace detail {

Error scan_error(std::string_view framing, std::size_t max_message, const Scan& scan) {
    std::string context(framing);
    if (scan.error == Errc::too_long) {
        const char* const announced =
            scan.at_least ? ", a message of at least " : ", a message of ";
        if (scan.size > 0) context = with_number(context, announced, scan.size, " bytes");
        const std::size_t limit = scan.need != 0 ? scan.need : max_message;
        context = with_number(context, ", limit ", limit, " bytes");
    }
    return {scan.error, std::move(context)};
}

Error incomplete_error(std::string_view framing, std::size_t have, std::size_t need) {
    std::string context = with_number(framing, ", ", have, " bytes into a message");
    if (need != 0) context = with_number(context, " that takes at least ", need, "");
    return {Errc::incomplete, std::move(context)};
}

void throw_unwritable(std::string_view framing, std::size_t size, std::size_t max_message) {
    throw UsageError(with_number(framing, ": can not write a message of ", size, " bytes") +
                     with_number("", ", limit ", max_message, " bytes"));
}

void throw_holds_delimiter(std::string_view framing) {
    throw UsageError(std::string(framing) + ": can not write a message that holds its delimiter");
}

void throw_bad_framer(std::string_view framing) {
    throw UsageError(std::string(framing) +
                     ": the framer asked for more than its max_frame(), ended a frame "
                     "inside bytes that it had called too few, or passed bytes that have not come");
}

void throw_looks_again(std::string_view framing, std::size_t again, std::size_t size) {
    throw UsageError(with_number(framing, ": the framer had ", again, " bytes shown again") +
                     with_number("", " for a frame of ", size,
                                 " bytes so far; it must pass (Scan::pass) what it is done with"));
}

Error raw_incomplete_error(std::string_view framing, std::uint64_t missing) {
    return {Errc::incomplete,
            with_number(framing, ", ", missing, " bytes before the end of raw mode")};
}

void throw_unconnected(std::string_view framing) {
    throw UsageError(std::string(framing) +
                     ": the protocol has no transport; an override of connection_made() must call "
                     "FramedProtocol::connection_made()");
}

void throw_nested_delivery(std::string_view framing) {
    throw UsageError(std::string(framing) + ": data_received() called inside its own callback");
}

void throw_bad_rest(std::string_view framing) {
    throw UsageError(
        std::string(framing) +
        ": set_message_mode(rest) takes the end of what raw_received() is being given");
}

void throw_bad_upgrade(std::string_view framing) {
    throw UsageError(std::string(framing) +
                     ": upgrade() is for once, inside message_received() or raw_received()");
}

} // namespace detail

DelimiterFramer::DelimiterFramer(std::string delimiter, std::size_t max)
    : delimiter_(std::move(delimiter)), max_(max) {
    if (delimiter_.empty()) throw UsageError("DelimiterFramer: the delimiter is empty");
}

Scan DelimiterFramer::cut(std::string_view shown, std::size_t passed) const noexcept {
    // A delimiter that was cut can begin in the last bytes; at the limit or before it counts.
    const std::size_t all = passed + shown.size();
    const std::size_t most = std::min(shown.size(), delimiter_.size() - 1);
    std::size_t tail = most;
    const std::string_view whole = delimiter_;
    while (tail > 0 &&
           (all - tail > max_ || shown.substr(shown.size() - tail) != whole.substr(0, tail)))
        --tail;
    if (tail == 0 && all > max_) return Scan::too_long();
    return Scan::pass(all - tail);
}

FrameHeader DelimiterFramer::header(Bytes message) const {
    if (message.size() > max_) detail::throw_unwritable(name(), message.size(), max_);
    const std::string_view text = text_of(message);
    if (text.find(delimiter_) != std::string_view::npos) detail::throw_holds_delimiter(name());
    // The message's last bytes and the delimiter's first ones may form a delimiter that begins too
    // early.
    const std::size_t tail = std::min(text.size(), delimiter_.size() - 1);
    std::string seam(text.substr(text.size() - tail));
    seam += delimiter_;
    if (seam.find(delimiter_) != tail) detail::throw_holds_delimiter(name());
    return {};
}

} // namespace weft
