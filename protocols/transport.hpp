#pragma once

#include <weft/protocols/protocol.hpp>
#include <weft/reactor/address.hpp>
#include <weft/reactor/buffer.hpp>
#include <weft/reactor/bytes.hpp>
#include <weft/reactor/clock.hpp>

#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#pragma GCC visibility push(default)

namespace weft {

class Loop;
class Transport;
class DatagramTransport;
template<class T>
class Future;
namespace detail {
class Mailbox;
class TransportCore;
} // namespace detail

/// A weak reference to a transport: a slot number and its generation. Copy it freely; `get()` on
/// the loop's thread gives the transport, or null once its `connection_lost` has returned or the
/// loop is gone.
class TransportRef {
public:
    TransportRef() = default;
    TransportRef(std::shared_ptr<detail::Mailbox> loop, std::uint64_t token)
        : loop_(std::move(loop)), token_(token) {}

    Transport* get() const noexcept;
    explicit operator bool() const noexcept { return get() != nullptr; }
    Transport* operator->() const noexcept { return get(); }

private:
    std::shared_ptr<detail::Mailbox> loop_;
    std::uint64_t token_ = 0;
};

/// The same for a datagram endpoint.
class DatagramRef {
public:
    DatagramRef() = default;
    DatagramRef(std::shared_ptr<detail::Mailbox> loop, std::uint64_t token)
        : loop_(std::move(loop)), token_(token) {}

    DatagramTransport* get() const noexcept;
    explicit operator bool() const noexcept { return get() != nullptr; }
    DatagramTransport* operator->() const noexcept { return get(); }
    DatagramTransport& operator*() const noexcept { return *get(); }

private:
    std::shared_ptr<detail::Mailbox> loop_;
    std::uint64_t token_ = 0;
};

/// A string or a vector of bytes, as an rvalue: what `Buffer` takes over without a copy.
template<class T>
concept OwnedBytes =
    !std::is_reference_v<T> && !std::is_const_v<T> &&
    (std::same_as<T, std::string> || std::same_as<T, std::vector<std::byte>> ||
     std::same_as<T, std::vector<char>> || std::same_as<T, std::vector<unsigned char>>);

/// What `Transport::try_read` found.
struct ReadResult {
    enum class State : std::uint8_t { data, would_block, eof, failed };
    constexpr ReadResult(State found, std::size_t bytes = 0, bool nothing_more = false) noexcept
        : state(found), emptied(nothing_more), size(bytes) {}
    State state;
    /// With `data`: there is nothing behind it, as far as the kernel has told, and this counts as a
    /// report that the next one would block: `read_ready` is called when more comes. Where that is
    /// not known it is false.
    bool emptied;
    std::size_t size; ///< bytes read; above 0 iff `state` is `data`
};

/// Water marks of a write buffer, in bytes: `pause_writing` comes above `high`, `resume_writing` at
/// `low`.
struct WriteLimits {
    std::size_t high = 64 * 1024;
    std::size_t low = 16 * 1024;
};

/// What to do with input that nobody read when a connection is closed. Closing a TCP socket with
/// unread input sends RST, and the peer may lose the last bytes that we sent (RFC 1122, 4.2.2.13).
/// A lingering close sends FIN, then discards input until the peer's FIN, `timeout` or `bytes`.
struct Linger {
    enum class Mode : std::uint8_t {
        never,  ///< close at once
        unread, ///< linger if input is known to wait unread (the default)
        always, ///< linger unless the peer has sent its FIN
    };
    Mode mode = Mode::unread;
    std::size_t bytes = 1 << 20;
    Duration timeout = std::chrono::seconds(2);
};

/// The system's half of a stream connection. The loop owns it; hold a `Transport&` between
/// `connection_made` and the return of `connection_lost`, or a `TransportRef` for longer. All calls
/// are for the loop's thread. None suspends, and none calls back before it returns but those that
/// move the write buffer against its marks: `write`, `write_all` (`pause_writing`) and
/// `set_write_buffer_limits` (either).
class Transport {
public:
    /// Sends `data`, now if possible; what does not fit is copied and sent later, in order. Inside
    /// a callback of this same connection small writes gather and leave together when it returns.
    /// Empty data does nothing; after `close`, once sending has failed (`write_error`) or the
    /// connection is lost it is dropped; after `write_eof` it throws `UsageError`.
    virtual void write(Bytes data) = 0;
    /// The same, without a copy of what does not fit: the transport keeps the buffer until the last
    /// of it has left.
    virtual void write(Buffer&& data) = 0;
    void write(std::string_view text) { write(bytes_of(text)); }
    /// A string or a vector of bytes that is given away: `write(std::move(text))`, `write(a + b)`.
    template<OwnedBytes T>
    void write(T&& data) {
        if (data.size() <= copied_write) {
            write(Bytes(reinterpret_cast<const std::byte*>(data.data()), data.size()));
        } else {
            write(Buffer(std::move(data)));
        }
    }
    /// Writes the pieces as one (writelines), with one system call where possible.
    virtual void write_all(std::span<const Bytes> pieces) = 0;
    void write_all(std::initializer_list<std::string_view> pieces);
    /// An owner of `data`, which a data callback of this connection was handed, or of any part of
    /// it: for a protocol that keeps it beyond the call. Without a copy where that saves one: the
    /// loop receives into another block then.
    virtual Buffer keep(Bytes data) const { return Buffer::copy(data); }
    /// Sends up to `count` bytes of the open file `file`, from `offset`, to its end if there is no
    /// `count`: in its place among the writes, without a copy where the kernel can (sendfile(2)),
    /// and from the next turn on. The file stays the caller's, who keeps it open until the future
    /// is done: with the bytes sent, or with the error of reading the file (the connection stays)
    /// or of the connection's end; cancelling it aborts the connection. Reading may wait for the
    /// disk. After `write_eof` it throws `UsageError`.
    virtual Future<std::uint64_t> send_file(int file, std::uint64_t offset = 0,
                                            std::optional<std::uint64_t> count = {}) = 0;
    /// Ends the sending direction once everything written has left. The peer may still send. Twice
    /// is once.
    virtual void write_eof() = 0;
    /// Stops reading, sends what is buffered, then calls `connection_lost(reason)`. Never before it
    /// returns. A peer that does not read can make this take for ever, unless there is an idle
    /// time-out.
    virtual void close(std::error_code reason = {}) = 0;
    /// The same with an end: what the peer has not taken when `limit` has passed is dropped, and
    /// the reason is `std::errc::timed_out`. The wait that `Linger` asks for is part of it. After
    /// `close`, too; of several limits the earliest holds. An idle time-out goes on to hold as
    /// well, and ends a transport that is closing at once.
    virtual void close_within(Duration limit) = 0;
    /// Drops what is buffered and calls `connection_lost` in the closing phase, never before it
    /// returns. A TCP peer sees RST. `reason` is what `connection_lost` gets.
    virtual void abort(std::error_code reason = make_error_code(Errc::aborted)) = 0;
    /// Why sending failed, empty as long as it has not. From then on what is written is dropped,
    /// every `drain` fails with this reason, and no `resume_writing` comes; what the peer sent
    /// before is still delivered, then the loss of the connection. A writer that produces in a loop
    /// looks here, or at `drain`.
    virtual std::error_code write_error() const noexcept = 0;
    /// True from `close`, `abort` or the loss of the connection on.
    virtual bool is_closing() const noexcept = 0;

    /// No data callback and no `eof_received` from now on, until `resume_reading`. Idempotent.
    virtual void pause_reading() = 0;
    virtual void resume_reading() = 0;
    /// The protocol's `reading()` is something else now: it is asked again, and what comes next
    /// goes by its answer. A transport that stands in for the loop's may leave this out, and keep
    /// to the first answer.
    virtual void reading_changed() {}
    /// Whether data callbacks may come: false while paused, and once closing or at the end of the
    /// stream.
    virtual bool is_reading() const noexcept = 0;
    /// Reads into the caller's memory without waiting. For protocols of `Reading::pull`; on others
    /// it takes bytes that would have been pushed.
    virtual ReadResult try_read(MutableBytes into) = 0;
    /// Why `try_read` failed.
    virtual std::error_code read_error() const noexcept = 0;
    /// Gives input back: `data` was received and is not wanted now. It is copied and comes again
    /// before anything else, `eof_received` included, while reading is on, by the contract of
    /// whatever protocol is attached then, and to `try_read`; never before the callback under way
    /// has returned. What is given back last comes first. This is how a protocol stops inside what
    /// it was handed: for a pause, or an upgrade that loses no byte. Dropped once the transport is
    /// closing.
    virtual void unread(Bytes data) = 0;

    /// `high` = 0 pauses on any buffering. Without `low` it is a quarter of `high`. Throws
    /// `UsageError` if low > high. Takes effect at once.
    virtual void set_write_buffer_limits(std::size_t high, std::optional<std::size_t> low = {}) = 0;
    virtual WriteLimits write_buffer_limits() const noexcept = 0;
    /// Bytes accepted by `write` that the kernel has not taken yet.
    virtual std::size_t write_buffer_size() const noexcept = 0;
    /// Completes when the buffer is at the low-water mark or below; at once if writing is not
    /// paused. Fails with the connection's error when it is lost. Any number may wait.
    virtual Future<void> drain() = 0;

    /// Calls `Protocol::idle_timeout` when for `timeout` no byte was received or taken by the
    /// kernel; zero or less calls it off. Costs one store per event, no timer is re-armed.
    virtual void set_idle_timeout(Duration timeout) = 0;
    virtual void set_linger(Linger linger) = 0;

    /// Attaches another protocol and returns the old one, whose callbacks have ended
    /// (`connection_lost` is not called on it). The new one's `connection_made` is called by
    /// whoever wants it called. Bytes not yet delivered go to the new one. If writing is paused the
    /// new one hears `pause_writing` in its first `write`; it is never resumed without having been
    /// paused, and `drain` waits for room in any case. Inside a data callback, keep the returned
    /// protocol until the callback has returned: it is the one that is running.
    virtual std::unique_ptr<Protocol> set_protocol(std::unique_ptr<Protocol> protocol) = 0;
    virtual Protocol& protocol() const noexcept = 0;

    /// The names of both ends, empty where there are none. Remembered, so they stay right until
    /// `connection_lost` has returned.
    virtual Address local_address() const = 0;
    virtual Address peer_address() const = 0;
    /// The descriptor, for options that have no name here; -1 without one. Do not close it.
    virtual int fd() const noexcept = 0;
    /// The peer's process, for Unix sockets; else empty.
    virtual std::optional<Credentials> peer_credentials() const = 0;

    virtual Loop& loop() const noexcept = 0;
    virtual TransportRef ref() const = 0;

protected:
    ~Transport() = default;

private:
    friend detail::TransportCore;
    /// Null for one that stands in for the loop's.
    virtual detail::TransportCore* core() noexcept { return nullptr; }

    static constexpr std::size_t copied_write = 512; // less is not worth a block that owns it
};

/// A datagram to be sent.
struct Outgoing {
    Bytes data = {};
    Address to = {}; ///< empty: the connected peer
};

/// The system's half of a datagram endpoint. Rules as for `Transport`.
class DatagramTransport {
public:
    /// Sends one datagram: gathered with others and sent by the end of the callback or turn. `to`
    /// is left out on connected endpoints and must be the peer if given (`UsageError` otherwise),
    /// in any form: IPv4 or mapped, or the unspecified address that was connected to. Empty data is
    /// sent as an empty datagram. Errors reach `DatagramProtocol::send_failed`. After `close` it is
    /// dropped.
    ///
    /// A Unix socket that is not connected sends to others meanwhile when a receiver's queue is
    /// full; what is for that one waits, in order, and is tried again after 1 ms, later every 64
    /// ms: the system does not tell when there is room.
    virtual void send_to(Bytes data, const Address& to) = 0;
    void send_to(std::string_view text, const Address& to) { send_to(bytes_of(text), to); }
    virtual void send(Bytes data) = 0;
    void send(std::string_view text) { send(bytes_of(text)); }
    /// The same with a source address (`Datagram::to`; its port does not count) or ECN bits, or to
    /// be split by the kernel (GSO, UDP_SEGMENT; udp(7)). `UsageError` for a source that the
    /// endpoint's family cannot have.
    struct SendOptions {
        const Address* from = nullptr;
        std::uint16_t segment_size = 0;
        std::int8_t ecn = -1;
    };
    virtual void send_to(Bytes data, const Address& to, const SendOptions& options) = 0;
    void send_to(std::string_view text, const Address& to, const SendOptions& options) {
        send_to(bytes_of(text), to, options);
    }
    /// Sends all of them, in order, or none if it throws.
    virtual void send_batch(std::span<const Outgoing> batch) = 0;
    /// Sends what has been gathered, now.
    virtual void flush() = 0;
    /// The same, and completes when the system has taken all of it, or refused it (`send_failed`);
    /// fails with the reason if the endpoint ends before. Any number may wait.
    virtual Future<void> drain() = 0;
    /// Calls `send_failed` and `error_received` for what is known by now, before it returns; else
    /// they come when nothing of the endpoint is on the stack. For front-ends.
    virtual void deliver_errors() = 0;

    /// Sends what is buffered, then calls `connection_lost({})`; never before it returns.
    virtual void close() = 0;
    virtual void abort(std::error_code reason = make_error_code(Errc::aborted)) = 0;
    virtual bool is_closing() const noexcept = 0;
    /// No datagram from now on, until `resume_reading`; what the protocol has not seen of a batch
    /// waits. Errors still come. Idempotent.
    virtual void pause_reading() = 0;
    virtual void resume_reading() = 0;
    virtual bool is_reading() const noexcept = 0;
    /// Gives datagrams back, as `Transport::unread` does: they are copied and come again, before
    /// any others, while reading is on, never before the callback under way has returned. Dropped
    /// when closing.
    virtual void unread(std::span<const Datagram> batch) = 0;
    /// The same, but behind those that were given back before: for what is left of a batch.
    virtual void unread_rest(std::span<const Datagram> batch) = 0;
    /// Whether datagrams that were given back wait to come again.
    virtual bool has_unread() const noexcept = 0;

    virtual void set_write_buffer_limits(std::size_t high, std::optional<std::size_t> low = {}) = 0;
    virtual WriteLimits write_buffer_limits() const noexcept = 0;
    virtual std::size_t write_buffer_size() const noexcept = 0;

    virtual Result<void> set_broadcast(bool on) = 0;
    virtual Result<void> set_ttl(int hops) = 0;
    virtual Result<void> set_multicast_ttl(int hops) = 0;
    virtual Result<void> set_multicast_loop(bool on) = 0;
    /// The interface that multicast is sent through, by number (if_nametoindex(3)).
    virtual Result<void> set_multicast_interface(std::uint32_t interface) = 0;
    /// Joins `group`, from anybody or from `source` only (RFC 3376), on `interface` or the system's
    /// choice.
    virtual Result<void> join(const Address& group, std::uint32_t interface = 0,
                              const Address* source = nullptr) = 0;
    virtual Result<void> leave(const Address& group, std::uint32_t interface = 0,
                               const Address* source = nullptr) = 0;

    virtual Address local_address() const = 0;
    virtual Address peer_address() const = 0; ///< empty unless connected
    virtual int fd() const noexcept = 0;
    virtual Loop& loop() const noexcept = 0;
    virtual DatagramProtocol& protocol() const noexcept = 0;
    virtual DatagramRef ref() const = 0;

protected:
    ~DatagramTransport() = default;
};

} // namespace weft

#pragma GCC visibility pop
