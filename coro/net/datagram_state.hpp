#pragma once

#include <weft/coro/core/scheduler.hpp>
#include <weft/coro/net/datagram.hpp>

#include <system_error>
#include <vector>

namespace weft::coro {
namespace detail {

/// Copies of datagrams, in order, in two arrays.
class KeptDatagrams {
public:
    bool empty() const noexcept { return next_ == entries_.size(); }
    std::size_t count() const noexcept { return entries_.size() - next_; }
    /// Where the first one lies, for `at`.
    std::size_t first() const noexcept { return next_; }
    std::size_t bytes() const noexcept { return bytes_.size(); }

    void append(std::span<const Datagram> batch);
    Datagram at(std::size_t place, DatagramTransport& transport) const noexcept {
        const Entry& entry = entries_[place];
        return {{bytes_.data() + entry.offset, entry.size},
                entry.from,
                entry.to,
                entry.destination,
                entry.interface,
                entry.ecn,
                entry.truncated,
                transport};
    }
    void pop(std::size_t count) noexcept { next_ += count; }
    /// Keeps little memory: a socket is idle most of the time.
    void clear() noexcept;
    /// Whether its memory is worth keeping.
    bool small() const noexcept {
        return bytes_.capacity() <= kept_bytes && entries_.capacity() <= kept_entries;
    }

private:
    static constexpr std::size_t kept_bytes = 16 * 1024, kept_entries = 32;
    struct Entry {
        Address from;
        Address to;
        Address destination;
        std::size_t offset;
        std::size_t size;
        std::uint32_t interface;
        std::int8_t ecn;
        bool truncated;
    };
    std::vector<Entry> entries_;
    std::vector<std::byte> bytes_;
    std::size_t next_ = 0;
};

} // namespace detail

/// Shared by the socket, its protocol and the operations under way.
///
/// Datagrams are taken out of the batch that the transport hands over as long as its callback is on
/// the stack, which it is while a receiver that was waiting runs. What is left of the batch then is
/// copied to `arrived`. `shown` is what `arrived` was before: nothing is added to it, and batches
/// that were handed out share it.
struct DatagramSocket::State {
    bool any() const noexcept { return shows() || !arrived->empty() || !live.empty(); }
    bool shows() const noexcept { return !shown->empty(); }
    void received(std::span<const Datagram> batch);
    void keep_live();
    void fail(std::error_code code, const Address& to);
    void refused(std::error_code code, const Address& to);
    void lost(std::error_code reason) noexcept;
    void resume_writing() noexcept;
    void end() noexcept;
    void show();
    void taken(std::size_t count);
    void throw_peer_error(const char* what);
    /// Throws the error that waits for who sends to `to`; null: any.
    void throw_send_error(const char* what, const Address* to);
    DatagramTransport& connection(const char* what);
    /// Who leaves something behind, for whatever reason, leaves it to the next in line.
    void hand_on() noexcept;
    void wait_for_datagram(detail::Coroutine& self, const char* what, Deadline deadline);
    void wait_for_room(detail::Coroutine& self, const char* what, Deadline deadline);
    void wait_closed(detail::Coroutine& self, Deadline deadline);
    void drain(Deadline deadline);
    void take_errors();
    template<class Done>
    void wait(detail::Coroutine& self, detail::ListNode& waits, const char* call, const char* what,
              Deadline deadline, Done done);

    DatagramTransport* transport = nullptr; ///< null once the socket is gone
    detail::ListNode receivers;
    detail::ListNode others; ///< who waits for room or for the end
    std::span<const Datagram> live;
    std::shared_ptr<detail::KeptDatagrams> shown = std::make_shared<detail::KeptDatagrams>();
    std::shared_ptr<detail::KeptDatagrams> arrived = std::make_shared<detail::KeptDatagrams>();
    std::size_t most_datagrams = 64;
    std::size_t most_bytes = 256 * 1024;
    std::error_code error; ///< of the connected peer, to be thrown once; or the reason of the end
    struct SendError {
        std::error_code code;
        Address to;
    };
    std::vector<SendError> send_errors; ///< a few, the oldest first
    bool closed = false;
    bool taking_errors = false; ///< a coroutine asked for them: no other may be resumed meanwhile
    bool reading_paused = false;
    bool writing_paused = false;
};

namespace detail {

using SocketState = DatagramSocket::State;

/// The transport's end of a datagram socket.
class SocketProtocol : public DatagramProtocol {
public:
    explicit SocketProtocol(std::shared_ptr<SocketState> state) noexcept
        : state_(std::move(state)) {}
    void datagrams_received(std::span<const Datagram> batch) override { state_->received(batch); }
    void error_received(std::error_code code, const Address& to) override {
        state_->fail(code, to);
    }
    void send_failed(std::error_code code, const Address& to) override {
        state_->refused(code, to);
    }
    void connection_lost(std::error_code reason) override { state_->lost(reason); }
    void pause_writing() override { state_->writing_paused = true; }
    void resume_writing() override { state_->resume_writing(); }

protected:
    std::shared_ptr<SocketState> state_;
};

} // namespace detail
} // namespace weft::coro
