#pragma once

#include "datagram_queue.hpp"
#include "datagram_room.hpp"

#include <weft/protocols/transport.hpp>
#include <weft/reactor/future.hpp>
#include <weft/reactor/loop_core.hpp>
#include <weft/reactor/source.hpp>
#include <weft/transports/datagram/udp.hpp>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

namespace weft::detail {

/// A datagram socket, level-triggered. The loop owns it; it deletes itself in the closing phase.
///
/// What is sent gathers in a queue that is borrowed for the purpose, and leaves with one system
/// call when the endpoint's callback returns, in the flush phase if it was sent from elsewhere, or
/// at once outside a turn. Errors of sending are kept until nothing of the endpoint is on the
/// stack, so that only `pause_writing` is ever called from inside `send_to`.
class DatagramEndpoint final : public DatagramTransport, public Source {
public:
    /// `peer` is empty unless the socket is connected.
    DatagramEndpoint(LoopCore& core, int fd, std::unique_ptr<DatagramProtocol> protocol,
                     const Address& peer, const UdpOptions& options);
    ~DatagramEndpoint();
    /// Registers the descriptor. On failure the caller destroys the endpoint and keeps the
    /// descriptor.
    Sys start();

    using DatagramTransport::send;
    using DatagramTransport::send_to;
    void send_to(Bytes data, const Address& to) override;
    void send(Bytes data) override;
    void send_to(Bytes data, const Address& to, const SendOptions& options) override;
    void send_batch(std::span<const Outgoing> batch) override;
    void flush() override;
    Future<void> drain() override;
    void deliver_errors() override;
    void close() override;
    void abort(std::error_code reason) override;
    bool is_closing() const noexcept override { return phase_ != Phase::open; }
    void pause_reading() override;
    void resume_reading() override;
    bool is_reading() const noexcept override { return can_read(); }
    void unread(std::span<const Datagram> batch) override;
    void unread_rest(std::span<const Datagram> batch) override;
    bool has_unread() const noexcept override { return backlog_ != nullptr; }
    void set_write_buffer_limits(std::size_t high, std::optional<std::size_t> low) override;
    WriteLimits write_buffer_limits() const noexcept override { return limits_; }
    std::size_t write_buffer_size() const noexcept override;

    Result<void> set_broadcast(bool on) override;
    Result<void> set_ttl(int hops) override;
    Result<void> set_multicast_ttl(int hops) override;
    Result<void> set_multicast_loop(bool on) override;
    Result<void> set_multicast_interface(std::uint32_t interface) override;
    Result<void> join(const Address& group, std::uint32_t interface,
                      const Address* source) override;
    Result<void> leave(const Address& group, std::uint32_t interface,
                       const Address* source) override;

    Address local_address() const override;
    Address peer_address() const override { return peer_; }
    int fd() const noexcept override { return fd_; }
    Loop& loop() const noexcept override { return core_.loop(); }
    DatagramProtocol& protocol() const noexcept override { return *protocol_; }
    DatagramRef ref() const override { return {core_.mailbox(), token_}; }

    void on_ready(std::uint32_t ready) override;
    void on_flush() override;
    void on_finish() override;
    void on_loop_closing() override { abort(Errc::aborted); }
    Registration registration() const noexcept override { return {fd_, armed_}; }
    DatagramTransport* as_datagram_transport() noexcept override { return this; }

private:
    /// |           | close           | abort, an error | everything sent |
    /// |-----------|-----------------|-----------------|-----------------|
    /// | open      | closing         | aborted         |                 |
    /// | closing   |                 | aborted         | finishing       |
    /// | finishing |                 | aborted         |                 |
    /// | aborted   |                 |                 |                 |
    enum class Phase : std::uint8_t {
        open,
        closing,   ///< what is sent now is dropped, what was sent before leaves
        finishing, ///< stands in the loop's list of what ends in the closing phase
        aborted,   ///< likewise, and has no callback but `connection_lost` any more
    };
    /// |        | pause  | resume | somebody shuts the direction down |
    /// |--------|--------|--------|-----------------------------------|
    /// | open   | paused |        | shut                              |
    /// | paused |        | open   | shut                              |
    /// | shut   |        |        |                                   |
    enum class Receiving : std::uint8_t { open, paused, shut };
    /// |         | the socket's buffer is full | it is writable, or has an error |
    /// |---------|-----------------------------|---------------------------------|
    /// | ready   | blocked                     |                                 |
    /// | blocked |                             | ready                           |
    enum class Sending : std::uint8_t { ready, blocked };
    // Facts about the endpoint, any number at once.
    enum Flag : std::uint16_t {
        made = 1 << 0,           ///< connection_made was called
        writing_paused = 1 << 1, ///< the protocol was told to pause
        in_callback = 1 << 2,    ///< a callback of this endpoint is on the stack
        flush_queued = 1 << 3,   ///< stands in the loop's list for the flush phase
        again_queued = 1 << 4,   ///< stands in the loop's list for another turn
        split_here = 1 << 5,     ///< the kernel does not split (GSO) for this socket
        errors_queued = 1 << 6,  ///< IP_RECVERR is on: errors of the past wait in a queue
        retried = 1 << 7,        ///< the first in the queue met an error that was another's
        internet = 1 << 8,       ///< IPv4 or IPv6
    };
    struct SendError {
        std::error_code code;
        Address to;
        bool at_send; ///< the sending call said so, not the network
    };
    /// Datagrams that were given back.
    struct Backlog;
    /// What waits for receivers whose queues are full, and who waits for everything to leave.
    struct Waiting {
        struct Held {
            Address to;
            std::unique_ptr<DatagramQueue> queue;
        };
        ~Waiting();
        DatagramQueue* queue_for(const Address& to) noexcept;
        std::size_t bytes() const noexcept;

        std::vector<Held> held;
        Timer retry;
        Duration pause{0}; ///< before the next try
        std::vector<Promise<void>> drained;
        std::error_code reason = make_error_code(Errc::closed); ///< for those who still wait
    };

    bool has(unsigned flags) const noexcept { return (flags_ & flags) != 0; }
    void set(Flag flag) noexcept { flags_ = static_cast<std::uint16_t>(flags_ | flag); }
    void clear(Flag flag) noexcept { flags_ = static_cast<std::uint16_t>(flags_ & ~flag); }
    bool can_read() const noexcept {
        return receiving_ == Receiving::open && phase_ == Phase::open;
    }
    /// Only `connection_lost` is left to come.
    bool is_over() const noexcept { return phase_ >= Phase::finishing; }
    bool blocked() const noexcept { return sending_ == Sending::blocked; }
    /// Closed, with something left to be sent that a Unix receiver may have no room for: it may be
    /// waiting for ours.
    bool discards() const noexcept {
        return phase_ != Phase::open && receiving_ != Receiving::shut && !has(internet) &&
               !all_sent();
    }

    template<class Call>
    void guarded(const char* name, Call&& call, bool throwing_ends_it = true);
    void make();
    void settle();
    void receive(std::uint32_t ready);
    void discard_input();
    void receive_failed(int error);
    void deliver(std::span<DatagramSlot> slots);
    void hand_over(std::span<const Datagram> batch);
    void deliver_backlog();
    std::size_t take_queued_errors(int except = 0);
    void take_errors();
    void note_error(int error, const Address& to, bool at_send = false);
    void gather(Bytes data, const Address* to, const SendOptions& options);
    bool append(Bytes data, const Address* to, const SendOptions& options);
    void after_append();
    void flush_queue();
    void send_queue();
    void send_failed(int error);
    void block();
    bool hold_first();
    void retry_held();
    Waiting& waiting();
    bool all_sent() const noexcept;
    void tell_drained() noexcept;
    void unblock();
    void drop_queue() noexcept;
    void drop_all(std::error_code reason) noexcept;
    void request_flush();
    void check_high_water();
    void check_low_water();
    void queue_again();
    void update_interest();
    void finish(std::error_code reason);
    const Address* checked_target(const Address& to, Address& room) const;
    const Address* fitted(const Address& address, Address& room) const noexcept;
    Result<void> set_number(const char* what, SocketOption option, int number);
    Result<void> change_membership(const char* what, bool joins, const Address& group,
                                   std::uint32_t interface, const Address* source);
    std::string describe(const char* what) const;

    LoopCore& core_;
    std::shared_ptr<DatagramRoom> room_;
    std::unique_ptr<DatagramProtocol> protocol_;
    std::unique_ptr<DatagramQueue> queue_; // null or not empty
    std::unique_ptr<Backlog> backlog_;     // null or not empty
    std::unique_ptr<Waiting> waiting_;     // made when first needed
    std::vector<SendError> errors_;
    Token token_ = 0;
    int fd_;
    std::uint16_t flags_ = 0;
    Phase phase_ = Phase::open;
    Receiving receiving_ = Receiving::open;
    Sending sending_ = Sending::ready;
    Interest armed_ = Interest::read;
    std::uint16_t family_ = 0; // sa_family of the socket
    std::size_t datagram_size_;
    std::size_t slot_size_; // as large as what GRO may put together
    std::size_t slot_count_;
    WriteLimits limits_;
    std::error_code reason_;
    Address peer_;
};

/// Calls the user with sends gathered, and turns what comes out into the endpoint's end;
/// what the callbacks of flow control throw is only reported.
template<class Call>
void DatagramEndpoint::guarded(const char* name, Call&& call, bool throwing_ends_it) {
    const bool outer = has(in_callback);
    set(in_callback);
    try {
        call();
    } catch (...) {
        if (!outer) clear(in_callback);
        if (throwing_ends_it) abort(Errc::callback_threw);
        if (!outer) settle();
        core_.report_exception(describe(name));
        return;
    }
    if (!outer) clear(in_callback);
    if (!outer) settle();
}

} // namespace weft::detail
