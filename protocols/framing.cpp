#include <weft/protocols/framed_protocol.hpp>
#include <weft/protocols/framing.hpp>
#include <weft/protocols/line_framing.hpp>

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
        if (scan.size > 0) context = with_number(context, ", a message of ", scan.size, " bytes");
        context = with_number(context, ", limit ", max_message, " bytes");
    }
    return {scan.error, std::move(context)};
}

Error incomplete_error(std::string_view framing, std::size_t have) {
    return {Errc::incomplete, with_number(framing, ", ", have, " bytes into a message")};
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
                     ": the framer asked for more than its max_frame(), or ended a frame "
                     "inside bytes that it had called too few");
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
