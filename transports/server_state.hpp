#pragma once

#include <weft/reactor/loop.hpp>
#include <weft/reactor/source.hpp>
#include <weft/transports/server.hpp>

#include "stream_transport.hpp"

#include <memory>
#include <string>
#include <vector>

namespace weft::detail {

/// One listening socket, level-triggered.
class Listener final : public Source {
public:
    Listener(ServerState& server, int fd, StreamKind kind, const Address& address);
    ~Listener();
    Sys start() noexcept;
    /// Accepting or not, without closing.
    void set_armed(bool armed) noexcept;
    const Address& address() const noexcept { return address_; }
    /// The file that binding made, to be removed at the end if it is still the same.
    void own_file(FileInfo file) noexcept { file_ = file; }

    void on_ready(std::uint32_t ready) override;
    void on_loop_closing() override;
    Registration registration() const noexcept override {
        return {fd_, armed_ ? Interest::read : Interest::none};
    }

private:
    void accepted(int fd, const Address& peer);

    ServerState& server_;
    int fd_;
    StreamKind kind_;
    bool armed_ = true;
    Token token_;
    Address address_;
    FileInfo file_;
};

/// What a `Server` refers to. Lives as long as a handle or a connection does.
class ServerState final : public std::enable_shared_from_this<ServerState> {
public:
    ServerState(Loop& loop, ProtocolFactory factory, ListenOptions options);
    ~ServerState();

    Result<void> add_listener(int fd, StreamKind kind, const Address& address);
    void own_file(FileInfo file) noexcept { listeners_.back()->own_file(file); }

    void add_connection(ListNode& link) noexcept;
    void remove_connection(ListNode& link) noexcept;

    void close();
    void set_paused(bool paused) noexcept;
    void close_clients();
    void abort_clients(std::error_code reason);
    Future<std::size_t> drain(Duration deadline);
    Future<void> wait_closed();

    // For listeners.
    bool may_accept() const noexcept;
    std::unique_ptr<Protocol> make_protocol(const Address& peer);
    void configure(StreamTransport& transport);
    /// No descriptor is left: turns waiting peers away with the one kept in reserve.
    void shed(int listener);
    /// Resources have run out: no accepting until a timer, or until one of our own descriptors closes.
    void back_off(int error);
    void listener_lost(std::error_code error, const Address& address);

    Loop& loop;
    ListenOptions options;
    Server::Counters counters;
    std::size_t connection_count = 0;
    std::vector<std::unique_ptr<Listener>> listeners_;

private:
    void update_armed() noexcept;
    void check_done();
    template<class Visit>
    void each_connection(Visit&& visit);
    void report_exhaustion(int error);

    ProtocolFactory factory_;
    ListNode connections_;
    std::shared_ptr<ServerState> self_; // while there are connections
    int reserve_ = -1;
    bool paused_ = false;
    bool backing_off_ = false;
    bool closed_ = false;
    Duration back_off_{0};
    Timer back_off_timer_;
    Timer drain_timer_;
    TimePoint last_report_{};
    bool reported_ = false;
    std::size_t aborted_by_drain_ = 0;
    std::vector<Promise<void>> closed_waiters_;
    std::vector<Promise<std::size_t>> drain_waiters_;
};

/// "unix:/path" and IP addresses alike.
Error address_error(std::error_code code, const char* what, const Address& address);

} // namespace weft::detail
