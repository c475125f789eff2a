#pragma once

#include <weft/coro/tasks/cancel_scope.hpp>
#include <weft/coro/tasks/task.hpp>
#include <weft/protocols/transport.hpp>
#include <weft/reactor/address.hpp>
#include <weft/reactor/bytes.hpp>
#include <weft/reactor/function.hpp>
#include <weft/transports/datagram/udp.hpp>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <span>
#include <string_view>

#pragma GCC visibility push(default)

namespace weft::coro {

/// A datagram in the caller's memory.
struct Received {
    std::size_t size = 0; ///< bytes of it; 0 for an empty one, which is a message as well
    Address from = {};
    /// the local address to answer from; empty without packet info (`Datagram::to`)
    Address to = {};
    Address destination = {};    ///< likewise: where it was sent to, a group perhaps
    std::uint32_t interface = 0; ///< likewise: the interface it came in by
    std::int8_t ecn = -1;        ///< likewise: its ECN bits
    bool truncated = false;      ///< it was longer than the memory, and the rest is lost
};

using weft::Outgoing;

namespace detail {
class KeptDatagrams;
}

/// Received datagrams, in order. They and their bytes stay as they are for as long as this is
/// there, whoever receives meanwhile and whatever becomes of the socket; of each one `transport` is
/// valid until the socket is gone. Give it up soon: it holds memory.
class DatagramBatch {
public:
    class Iterator;
    DatagramBatch() noexcept;
    DatagramBatch(DatagramBatch&&) noexcept;
    DatagramBatch& operator=(DatagramBatch&&) noexcept;
    ~DatagramBatch();

    std::size_t size() const noexcept { return count_; }
    bool empty() const noexcept { return count_ == 0; }
    /// `index` is below `size()`.
    Datagram operator[](std::size_t index) const noexcept;
    Datagram front() const noexcept { return (*this)[0]; }
    Iterator begin() const noexcept;
    Iterator end() const noexcept;

    /// For the library.
    DatagramBatch(std::shared_ptr<const detail::KeptDatagrams> kept, std::size_t first,
                  std::size_t count, DatagramTransport& transport) noexcept;

private:
    std::shared_ptr<const detail::KeptDatagrams> kept_;
    std::size_t first_ = 0;
    std::size_t count_ = 0;
    DatagramTransport* transport_ = nullptr;
};

/// Goes through the datagrams of a batch, once.
class DatagramBatch::Iterator {
public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Datagram;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = Datagram;

    Iterator() noexcept = default;
    Iterator(const DatagramBatch& batch, std::size_t at) noexcept : batch_(&batch), at_(at) {}
    Datagram operator*() const noexcept { return (*batch_)[at_]; }
    Iterator& operator++() noexcept {
        ++at_;
        return *this;
    }
    Iterator operator++(int) noexcept { return {*batch_, at_++}; }
    friend bool operator==(const Iterator& a, const Iterator& b) noexcept { return a.at_ == b.at_; }

private:
    const DatagramBatch* batch_ = nullptr;
    std::size_t at_ = 0;
};

inline DatagramBatch::Iterator DatagramBatch::begin() const noexcept {
    return {*this, 0};
}
inline DatagramBatch::Iterator DatagramBatch::end() const noexcept {
    return {*this, count_};
}

/// A datagram endpoint as straight-line code. It owns the socket: destroying it closes. For
/// coroutines of its loop, any number at a time, whether they receive or send.
///
/// Every function with a deadline may suspend, and throws when it is cancelled (`Cancelled`) or the
/// deadline comes (`TimeoutError`); then it has taken nothing, and no datagram is lost. A call
/// that need not wait does not suspend, but lets others run now and then. All other functions never
/// suspend.
///
/// An error of one datagram is no affair of those who receive, nor of those who send to others: a
/// stranger who makes an answer fail ends nothing. It is thrown once, as `std::system_error` with
/// the address in its text, by the next send to that address, before it takes anything, or by the
/// next `flush` or `drain`, whichever comes first; the endpoint stays. So `send_to` and `flush`
/// tell what became of what was sent just now. Errors of sending come so, and ICMP errors of
/// `UdpOptions::report_errors`. Kept are the last 16, one per address. A connected endpoint has one
/// peer, and whoever receives hears of ICMP errors as well: that the peer's port is closed, say.
/// After `close` calls are a `UsageError`; for those that wait while it is closed, or destroyed, a
/// `std::system_error` with `Errc::closed`.
///
/// Datagrams that nobody waits for are kept, up to `set_queue_limits`; then the rest waits in the
/// kernel's buffer, which drops what does not fit.
class DatagramSocket {
public:
    DatagramSocket() noexcept;
    DatagramSocket(DatagramSocket&&) noexcept;
    DatagramSocket& operator=(DatagramSocket&&) noexcept;
    ~DatagramSocket();

    /// See `udp::bind`, `udp::connect` and `adopt_datagram_endpoint`. They throw
    /// `std::system_error` that names the address.
    static DatagramSocket bind(std::string_view address, const UdpOptions& options = {});
    static DatagramSocket bind(const Address& address, const UdpOptions& options = {});
    static DatagramSocket connect(std::string_view peer, const UdpOptions& options = {});
    static DatagramSocket connect(const Address& peer, const UdpOptions& options = {});
    static DatagramSocket adopt(int fd, const UdpOptions& options = {});

    /// The next datagram, at most `into.size()` bytes of it.
    Received recv_from(MutableBytes into, Deadline deadline = {});
    /// The next ones, at least one and at most `most`: those that are there.
    DatagramBatch recv_batch(std::size_t most = 64, Deadline deadline = {});

    /// Sends one datagram. Those of one turn gather and leave together. Suspends while the write
    /// buffer is above its high-water mark. See `DatagramTransport::send_to`.
    void send_to(Bytes data, const Address& to, Deadline deadline = {});
    void send_to(std::string_view text, const Address& to, Deadline deadline = {}) {
        send_to(bytes_of(text), to, deadline);
    }
    void send_to(Bytes data, const Address& to, const DatagramTransport::SendOptions& options,
                 Deadline deadline = {});
    void send_to(std::string_view text, const Address& to,
                 const DatagramTransport::SendOptions& options, Deadline deadline = {}) {
        send_to(bytes_of(text), to, options, deadline);
    }
    /// To the connected peer.
    void send(Bytes data, Deadline deadline = {});
    void send(std::string_view text, Deadline deadline = {}) { send(bytes_of(text), deadline); }
    /// Sends all of them; waits for room before the first, and takes all or none.
    void send_batch(std::span<const Outgoing> batch, Deadline deadline = {});
    /// Sends what has gathered, now, and throws the error of what was refused.
    void flush();
    /// Sends what has gathered, and waits until the system has taken all that was sent; throws the
    /// error of what was refused. Any number may wait.
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
    void send_when_room(const char* what, const Address* to, Deadline deadline, Send send);
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

#pragma GCC visibility pop
