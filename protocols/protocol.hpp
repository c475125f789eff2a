#pragma once

#include <weft/reactor/address.hpp>
#include <weft/reactor/bytes.hpp>
#include <weft/reactor/error.hpp>

#include <cstdint>
#include <memory>
#include <span>

#pragma GCC visibility push(default)

namespace weft {

class Transport;
class DatagramTransport;

/// How a protocol wants its bytes; asked for when it is attached to a transport, and by
/// `Transport::reading_changed`.
enum class Reading : std::uint8_t {
    push,     ///< `data_received`, out of the loop's receive buffer
    buffered, ///< `get_buffer` and `buffer_updated`, into the protocol's own memory
    pull,     ///< `read_ready`, then `Transport::try_read` when the protocol likes
};

/// The user's half of a stream connection. A transport owns its protocol and calls it on the loop's
/// thread, in this order: `connection_made` once, any number of data callbacks, `eof_received` at
/// most once, `connection_lost` once and last. Everything may be called on the transport from any
/// callback, and `close` and `abort` never call back before they return. What a callback throws
/// aborts the connection and reaches `Loop::on_unhandled`; of `pause_writing` and `resume_writing`
/// it is reported only.
class Protocol {
public:
    virtual ~Protocol() = default;

    /// The connection stands. `transport` stays valid until `connection_lost` returns.
    virtual void connection_made(Transport& transport) { (void)transport; }

    /// Bytes arrived. `data` is valid during the call only; it is never empty. (`Reading::push`)
    virtual void data_received(Bytes data) { (void)data; }

    /// Where to receive to; `size_hint` is what the transport would like, any size above 0 will do.
    /// An empty buffer is an error that ends the connection. (`Reading::buffered`)
    virtual MutableBytes get_buffer(std::size_t size_hint) {
        (void)size_hint;
        return {};
    }

    /// `size` bytes were written into the buffer last given out. (`Reading::buffered`)
    virtual void buffer_updated(std::size_t size) { (void)size; }

    /// There may be something for `Transport::try_read`: bytes or the end of the stream. Comes
    /// again only after `try_read` reported that it would block. (`Reading::pull`)
    virtual void read_ready() {}

    /// The peer sends no more. False closes the transport; true keeps it open for writing.
    virtual bool eof_received() { return false; }

    /// The connection is over; `reason` is empty if it was closed cleanly. The transport is gone
    /// after this call, and so is the protocol.
    virtual void connection_lost(std::error_code reason) { (void)reason; }

    /// The write buffer rose above its high-water mark: stop writing. Called inside `write`. What
    /// it throws is reported and the connection goes on.
    virtual void pause_writing() {}
    /// It sank to the low-water mark or below: write on. What it throws is reported likewise.
    virtual void resume_writing() {}

    /// `Transport::set_idle_timeout` ran out. The default ends the connection, for which
    /// `connection_lost` hears ETIMEDOUT: it closes it (the peer sees FIN), or aborts it if there
    /// is still something to be sent.
    virtual void idle_timeout(Transport& transport);

    /// The server wants to end (`Server::drain`): finish what is under way, then close. The default
    /// closes.
    virtual void draining(Transport& transport);

    virtual Reading reading() const noexcept { return Reading::push; }
};

/// A protocol that receives straight into its own memory.
class BufferedProtocol : public Protocol {
public:
    MutableBytes get_buffer(std::size_t size_hint) override = 0;
    void buffer_updated(std::size_t size) override = 0;
    Reading reading() const noexcept final { return Reading::buffered; }
};

/// A protocol that reads when it likes, with `Transport::try_read`.
class PullProtocol : public Protocol {
public:
    void read_ready() override = 0;
    Reading reading() const noexcept final { return Reading::pull; }
};

/// One received datagram. Everything in it is valid during the callback only.
struct Datagram {
    Bytes data;          ///< may be empty: an empty datagram is a message
    const Address& from; ///< the sender
    /// The local address to answer from (`SendOptions::from`); empty unless packet info is on. It
    /// is the one that was asked; for a group or a broadcast address that of the interface it came
    /// in by, of which IPv6 leaves the choice to the system ("[::%2]", which is good for answering
    /// as well).
    const Address& to;
    /// where it was sent to, a group perhaps; empty unless packet info is on
    const Address& destination;
    std::uint32_t interface; ///< the interface it came in by; 0 unless packet info is on
    std::int8_t ecn;         ///< ECN bits (RFC 3168); -1 unless packet info is on
    bool truncated;          ///< it was longer than the receive slot, the rest is lost
    /// the endpoint that received it: `transport.send_to(reply, from)`
    DatagramTransport& transport;
};

/// The user's half of a datagram endpoint. Rules as for `Protocol`.
class DatagramProtocol {
public:
    virtual ~DatagramProtocol() = default;

    /// The endpoint stands. `transport` stays valid until `connection_lost` returns.
    virtual void connection_made(DatagramTransport& transport) { (void)transport; }

    /// A datagram arrived.
    virtual void datagram_received(const Datagram& datagram) { (void)datagram; }

    /// A batch arrived, in order; never empty. The default calls `datagram_received` for each until
    /// the endpoint is closed or paused or one is given back, and keeps the rest for later, behind
    /// what was given back (`DatagramTransport::unread_rest`).
    virtual void datagrams_received(std::span<const Datagram> batch);

    /// A datagram was answered by an ICMP error, or could not be sent. The endpoint stays open, and
    /// receiving goes on. `to` is where it was sent, empty if the system did not say.
    virtual void error_received(std::error_code error, const Address& to) {
        (void)error;
        (void)to;
    }
    /// A datagram could not be sent: the call that was to send it said so. The default calls
    /// `error_received`.
    virtual void send_failed(std::error_code error, const Address& to) {
        error_received(error, to);
    }

    /// The endpoint is gone, `reason` is empty if it was closed.
    virtual void connection_lost(std::error_code reason) { (void)reason; }

    virtual void pause_writing() {}
    virtual void resume_writing() {}
};

} // namespace weft

#pragma GCC visibility pop
