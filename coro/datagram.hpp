#pragma once

#include <weft/coro/cancel_scope.hpp>
#include <weft/coro/task.hpp>
#include <weft/protocols/transport.hpp>
#include <weft/reactor/address.hpp>
#include <weft/reactor/bytes.hpp>
#include <weft/reactor/function.hpp>
#include <weft/transports/udp.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace weft::coro {

/// A datagram in the caller's memory.
struct Received {
    std::size_t size = 0; ///< bytes of it; 0 for an empty one, which is a message as well
    Address from = {};
    Address to = {};             ///< the local address it was sent to; empty without packet info
    std::uint32_t interface = 0; ///< likewise: the interface it came in by
    std::int8_t ecn = -1;        ///< likewise: its ECN bits
    bool truncated = false;      ///< it was longer than the memory, and the rest is lost
};

/// A datagram to be sent.
struct Outgoing {
    Bytes data = {};
    Address to = {}; ///< empty: the connected peer
};

/// A datagram endpoint as straight-line code. It owns the socket: destroying it closes. For
/// coroutines of its loop, any number at a time, whether they receive or send.
///
/// Every function with a deadline may suspend, and throws when it is cancelled (`Cancelled`) or the
/// deadline comes (`TimeoutError`); then it has taken nothing, and no datagram is lost. Who need
/// not wait does not suspend, but lets others run now and then. All other functions never suspend.
///
/// Errors of sending, and ICMP errors where the system tells of them (connected endpoints,
/// `UdpOptions::report_errors`), are thrown once, by the next call that receives or sends, as
/// `std::system_error` with the address in its text; the endpoint stays. Of several that come
/// meanwhile the first is told. After `close` calls are a `UsageError`; for those that wait while
/// it is closed, or destroyed, a `std::system_error` with `Errc::closed`.
///
/// Datagrams that nobody waits for are kept, up to `set_queue_limits`; then the rest waits in the
/// kernel's buffer, which drops what does not fit.
class DatagramSocket {
public:
    DatagramSocket() noexcept;
    DatagramSocket(DatagramSocket&&) noexcept;
    DatagramSocket& operator=(DatagramSocket&&) noexcept;
    ~DatagramSocket();

    /// See `udp::bind`, `udp::connect` and `udp::adopt`. They throw `std::system_error` that names
    /// the address.
    static DatagramSocket bind(std::string_view address, const UdpOptions& options = {});
    static DatagramSocket connect(std::string_view peer, const UdpOptions& options = {});
    static DatagramSocket adopt(int fd, const UdpOptions& options = {});

    /// The next datagram, at most `into.size()` bytes of it.
    Received recv_from(MutableBytes into, Deadline deadline = {});
    /// The next ones, at least one and at most `most`: those that are there. Valid until the next
    /// call that receives.
    std::span<const Datagram> recv_batch(std::size_t most = 64, Deadline deadline = {});

    /// Sends one datagram. Those of one turn gather and leave together. Suspends while the write
    /// buffer is above its high-water mark. See `DatagramTransport::send_to`.
    void send_to(Bytes data, const Address& to, Deadline deadline = {});
    void send_to(Bytes data, const Address& to, const DatagramTransport::SendOptions& options,
                 Deadline deadline = {});
    /// To the connected peer.
    void send(Bytes data, Deadline deadline = {});
    /// Sends all of them; waits for room before the first, so that all or none are taken.
    void send_batch(std::span<const Outgoing> batch, Deadline deadline = {});
    /// Sends what has gathered, now.
    void flush();
    /// Sends what has gathered, and waits until the write buffer has sunk to the low-water mark.
    void drain(Deadline deadline = {});

    /// Keeps so many datagrams and bytes that nobody waits for, and what the system call that
    /// exceeds them has brought; 64 and 256 KiB unless set, at least 1.
    void set_queue_limits(std::size_t datagrams, std::size_t bytes);

    /// Closes: what was sent still leaves, what was received is dropped. Twice is once.
    void close() noexcept;
    /// Drops what was sent, too.
    void abort() noexcept;
    /// Waits until the socket is gone. Never throws a reason.
    void wait_closed(Deadline deadline = {});
    bool is_open() const noexcept;

    /// For options and groups; null once the socket is gone.
    DatagramTransport* transport() const noexcept;
    Address local_address() const;
    Address peer_address() const; ///< empty unless connected

    /// For the library.
    struct State;
    explicit DatagramSocket(std::shared_ptr<State> state) noexcept;

private:
    template<class Send>
    void send_when_room(const char* what, Deadline deadline, Send send);
    const std::shared_ptr<State>& state(const char* what) const;
    std::shared_ptr<State> state_;
};

using DatagramHandler = Function<void(DatagramSocket&)>;

/// A protocol for `udp::bind` and its like whose datagrams a coroutine of the loop handles. The
/// endpoint is closed when it returns. What it throws aborts the endpoint and is reported
/// (`Loop::on_unhandled`).
std::unique_ptr<DatagramProtocol> datagram_protocol(Loop& loop, DatagramHandler handler,
                                                    SpawnOptions options = {.name = "datagrams"});

} // namespace weft::coro
