#pragma once

#include <weft/protocols/codecs/decoder.hpp>
#include <weft/protocols/codecs/length_framing.hpp>
#include <weft/protocols/codecs/line_framing.hpp>
#include <weft/protocols/protocol.hpp>
#include <weft/protocols/transport.hpp>

#include <limits>
#include <memory>

#pragma GCC visibility push(default)

namespace weft {

namespace detail {

/// The stream ended with `missing` bytes of a counted raw mode still to come.
Error raw_incomplete_error(std::string_view framing, std::uint64_t missing);
/// Throws the `UsageError` for a use that no connection stands for: `connection_made` was not
/// passed on.
[[noreturn]] void throw_unconnected(std::string_view framing);
/// Throws the `UsageError` for `data_received` inside one of the callbacks that it makes.
[[noreturn]] void throw_nested_delivery(std::string_view framing);
/// Throws the `UsageError` for bytes given back that are not the end of those received.
[[noreturn]] void throw_bad_rest(std::string_view framing);
/// Throws the `UsageError` for an upgrade outside a callback, or a second one.
[[noreturn]] void throw_bad_upgrade(std::string_view framing);

} // namespace detail

/// A protocol that receives whole messages. All callbacks come on the loop's thread, as
/// `Protocol`'s do, and everything may be called from them, on the transport too:
///
/// - after `close` or `abort` no further message comes, though its bytes were received;
/// - after `Transport::pause_reading` none comes before `resume_reading`, and then they come from
/// the loop, not
///   out of `resume_reading`: what was received meanwhile waits in the transport;
/// - after `upgrade` or `Transport::set_protocol` all bytes behind the present message go to the
/// new protocol;
/// - after `set_raw_mode` they go to `raw_received`.
template<Framer F>
class FramedProtocol : public Protocol {
public:
    explicit FramedProtocol(F framer = F()) : decoder_(std::move(framer)) {}

    /// What a message is: `Bytes`, unless the framer makes something else of them.
    using Message = MessageOf<F>;

    /// A message, without what frames it; it may be empty. Valid during the call.
    virtual void message_received(Message message) = 0;

    /// Bytes in raw mode. Valid during the call, never empty.
    virtual void raw_received(Bytes data) { (void)data; }

    /// The input is no message (`Errc::malformed`), a message above the limit (`Errc::too_long`) or
    /// ended inside a message (`Errc::incomplete`); the text names the framing. The default aborts
    /// with the error. An override may say good-bye and `close`. After `malformed` and `too_long`
    /// it may also go on without the framer, with `set_raw_mode` or `upgrade`, which begin with the
    /// first byte of the message refused. If it does nothing of the kind, the connection is aborted
    /// when it returns.
    virtual void framing_error(const Error& error) { transport().abort(error.code); }

    /// An override calls this one first.
    void connection_made(Transport& transport) override { transport_ = &transport; }

    /// Reports `Errc::incomplete` through `framing_error` if a message was under way. An override
    /// calls this one and passes its answer on if the transport is closing.
    bool eof_received() override {
        const bool in_raw = raw_left_ != 0 && raw_left_ != unlimited;
        const Result<void> end = decoder_.end();
        if (!in_raw && end.ok()) return false;
        const Error error = in_raw
                                ? detail::raw_incomplete_error(decoder_.framer().name(), raw_left_)
                                : end.error();
        framing_error(error);
        if (!transport().is_closing()) transport().abort(error.code);
        return false;
    }

    void data_received(Bytes data) final;

    /// While much is missing of a message whose size is known it is received straight into its
    /// place.
    Reading reading() const noexcept final {
        return decoder_.wants_room() ? Reading::buffered : Reading::push;
    }
    MutableBytes get_buffer(std::size_t) final { return decoder_.room(); }
    void buffer_updated(std::size_t size) final;

    /// Sends `message` in a frame. Rules as for `Transport::write`; throws `UsageError` if it can
    /// not be framed.
    void write_message(Bytes message)
        requires WritingFramer<F>
    {
        weft::write_message(transport(), decoder_.framer(), message);
    }

    /// From the end of the present message on, bytes go to `raw_received`, until
    /// `set_message_mode`. Called between callbacks it includes the beginning of a message that is
    /// under way.
    void set_raw_mode() { begin_raw(unlimited); }
    /// The same for the next `count` bytes, then messages again. With 0 nothing changes.
    void set_raw_mode(std::uint64_t count) { begin_raw(count); }
    /// Messages again. Inside `raw_received`, `rest` is the part of its data that belongs to them:
    /// the end of it, or nothing. Throws `UsageError` if it is anything else.
    void set_message_mode(Bytes rest = {});
    bool is_raw() const noexcept { return raw_left_ != 0; }
    /// Bytes still to come in a counted raw mode; inside `raw_received` without those it was given.
    std::uint64_t raw_left() const noexcept { return raw_left_; }

    /// Puts `next` in this protocol's place and calls its `connection_made`. It receives every byte
    /// behind the present message, once this callback has returned; this protocol gets no callback
    /// any more and is destroyed then. Only inside `message_received`, `raw_received` and, for
    /// malformed and too long input, `framing_error`; elsewhere it throws `UsageError`.
    void upgrade(std::unique_ptr<Protocol> next);

    /// An owner of `part` of the message that is being received, for code that keeps it beyond
    /// the call. Without a copy where that saves one: of a large message it is the memory that it
    /// was received into.
    Buffer keep(Bytes part) const {
        return decoder_.holds(part) ? decoder_.keep(part) : transport().keep(part);
    }

    /// The beginning of a message that is not complete yet. Valid until the next callback.
    Bytes partial() const noexcept { return decoder_.partial(); }

    const F& framer() const noexcept { return decoder_.framer(); }
    /// The connection; throws `UsageError` before `connection_made`.
    Transport& transport() const {
        if (transport_ == nullptr) detail::throw_unconnected(decoder_.framer().name());
        return *transport_;
    }
    /// Inside `framing_error`: the size that the message refused has announced, or a part of it; 0
    /// if it announced none.
    std::size_t announced() const noexcept { return decoder_.announced(); }
    /// Bytes of memory held for a message that was cut; 0 between messages.
    std::size_t buffer_capacity() const noexcept { return decoder_.capacity(); }

private:
    using State = typename Decoder<F>::State;
    static constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();

    /// Marks that `data_received` runs. On leaving, whichever way, destroys a protocol that was
    /// replaced.
    struct Delivery {
        explicit Delivery(FramedProtocol& protocol) : protocol_(protocol) {
            if (protocol.delivering_) {
                detail::throw_nested_delivery(protocol.decoder_.framer().name());
            }
            protocol_.delivering_ = true;
        }
        ~Delivery() {
            protocol_.delivering_ = false;
            const std::unique_ptr<Protocol> replaced = std::move(protocol_.replaced_);
        }
        Delivery(const Delivery&) = delete;
        Delivery& operator=(const Delivery&) = delete;
        FramedProtocol& protocol_;
    };

    void deliver_raw(Bytes& data);
    void refuse(Bytes data, const Protocol& attached);
    void begin_raw(std::uint64_t count);
    /// Gives everything that was not delivered back to the transport, in order.
    void hand_back(Bytes data);

    Transport* transport_ = nullptr;
    Decoder<F> decoder_;
    std::uint64_t raw_left_ = 0;         ///< above 0 in raw mode
    const std::byte* raw_end_ = nullptr; ///< inside `raw_received`: the end of its data
    std::size_t raw_rest_ = 0;           ///< inside `raw_received`: how much of it was given back
    std::unique_ptr<Protocol> replaced_; ///< this protocol itself, once `upgrade` has replaced it
    bool delivering_ = false;
};

template<Framer F>
void FramedProtocol<F>::data_received(Bytes data) {
    Transport& connection = transport();
    const Delivery delivery(*this);
    const Protocol& attached = connection.protocol();
    while (!data.empty()) {
        if (raw_left_ != 0) {
            deliver_raw(data);
        } else {
            const auto next = decoder_.next(data);
            if (next.state == State::more) break;
            if (next.state == State::error) return refuse(data, attached);
            message_received(next.message);
        }
        // Asked of the transport, so that it does not matter by whose hand it was closed, paused or
        // upgraded.
        if (connection.is_reading() && &connection.protocol() == &attached) [[likely]]
            continue;
        if (connection.is_closing()) return;
        decoder_.release();
        return hand_back(data);
    }
    decoder_.release();
    if (decoder_.wants_room()) [[unlikely]]
        connection.reading_changed();
}

template<Framer F>
void FramedProtocol<F>::buffer_updated(std::size_t size) {
    Transport& connection = transport();
    const Delivery delivery(*this);
    const Protocol& attached = connection.protocol();
    const auto next = decoder_.filled(size);
    if (next.state == State::error) return refuse({}, attached);
    if (next.state == State::message) {
        message_received(next.message);
        decoder_.release();
    }
    if (!decoder_.wants_room() && &connection.protocol() == &attached) connection.reading_changed();
}

template<Framer F>
void FramedProtocol<F>::deliver_raw(Bytes& data) {
    const Bytes piece = raw_left_ < data.size() ? data.first(raw_left_) : data;
    data = data.subspan(piece.size());
    if (raw_left_ != unlimited) raw_left_ -= piece.size();
    raw_end_ = piece.data() + piece.size();
    raw_rest_ = 0;
    raw_received(piece);
    raw_end_ = nullptr;
    data = Bytes(data.data() - raw_rest_, data.size() + raw_rest_);
}

template<Framer F>
void FramedProtocol<F>::refuse(Bytes data, const Protocol& attached) {
    const Error error = decoder_.error();
    framing_error(error);
    if (transport_->is_closing()) return;
    if (raw_left_ != 0 || &transport_->protocol() != &attached) return hand_back(data);
    transport_->abort(error.code);
}

template<Framer F>
void FramedProtocol<F>::hand_back(Bytes data) {
    if (!data.empty()) transport_->unread(data);
    // What is given back last comes first.
    const bool buffered = decoder_.wants_room();
    if (const Bytes partial = decoder_.partial(); !partial.empty()) transport_->unread(partial);
    decoder_.reset();
    if (buffered) transport_->reading_changed();
}

template<Framer F>
void FramedProtocol<F>::begin_raw(std::uint64_t count) {
    raw_left_ = count;
    if (count != 0 && !delivering_ && !decoder_.partial().empty()) hand_back({});
}

template<Framer F>
void FramedProtocol<F>::set_message_mode(Bytes rest) {
    if (!rest.empty() && (raw_end_ == nullptr || rest.data() + rest.size() != raw_end_)) {
        detail::throw_bad_rest(decoder_.framer().name());
    }
    raw_rest_ = rest.size();
    raw_left_ = 0;
}

template<Framer F>
void FramedProtocol<F>::upgrade(std::unique_ptr<Protocol> next) {
    if (!delivering_ || replaced_) detail::throw_bad_upgrade(decoder_.framer().name());
    Protocol& successor = *next;
    replaced_ = transport_->set_protocol(std::move(next));
    successor.connection_made(*transport_);
}

/// A protocol of text lines: what commands, chats and the older protocols of the internet speak.
class LineProtocol : public FramedProtocol<LineFramer> {
public:
    using FramedProtocol::FramedProtocol;

    /// A line without its end. Valid during the call.
    virtual void line_received(std::string_view line) = 0;
    /// Sends `line` and its end. Throws `UsageError` if it holds one or is too long.
    void write_line(std::string_view line) { write_message(bytes_of(line)); }

    void message_received(Bytes message) final { line_received(text_of(message)); }
};

/// Protocols of messages that end in a delimiter, have their length before them, or all have one
/// length.
using DelimiterProtocol = FramedProtocol<DelimiterFramer>;
using LengthPrefixedProtocol = FramedProtocol<LengthFramer>;
using VarintProtocol = FramedProtocol<VarintFramer>;
using NetstringProtocol = FramedProtocol<NetstringFramer>;
using FixedProtocol = FramedProtocol<FixedFramer>;

} // namespace weft

#pragma GCC visibility pop
