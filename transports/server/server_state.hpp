#pragma once

#include "../connect/socket_options.hpp"
#include "../stream/stream_transport.hpp"

#include <weft/reactor/loop_core.hpp>
#include <weft/reactor/source.hpp>
#include <weft/transports/server/server.hpp>

#include <memory>
#include <string>
#include <vector>

namespace weft::detail {

/// The file that binding a socket made, or found. Empty unless it was a path.
struct SocketFile {
    std::string path; ///< absolute: the program may change its folder
    FileInfo info;
    /// Removes the file if it is still the same.
    void remove(Kernel& kernel) const noexcept;
};

/// One listening socket, level-triggered.
class Listener final : public Source {
public:
    /// `file` is what binding made, to be removed at the end if it is still the same.
    Listener(ServerState& server, int fd, StreamKind kind, const Address& address, SocketFile file);
    ~Listener();
    Sys start() noexcept;
    /// Accepting or not, without closing.
    void set_armed(bool armed) noexcept;
    const Address& address() const noexcept { return address_; }

    void on_ready(std::uint32_t ready) override;
    void on_loop_closing() override;
    Registration registration() const noexcept override {
        return {registered_ ? fd_ : -1, armed_ ? Interest::read : Interest::none};
    }

private:
    ServerState& server_;
    int fd_;
    StreamKind kind_;
    bool armed_ = true;
    bool registered_ = false;
    int failures_ = 0; // in a row
    Token token_;
    Address address_;
    SocketFile file_;
};

/// What a `Server` refers to. Lives as long as a handle or a connection does.
class ServerState final : public std::enable_shared_from_this<ServerState> {
public:
    /// `UsageError` for options that cannot be meant.
    ServerState(LoopCore& core, ProtocolFactory factory, const ListenOptions& options);
    /// A handle may outlive the loop, which has then closed this.
    bool loop_alive() const noexcept { return remote_->loop() != nullptr; }

    /// Takes `fd` over, also if this fails.
    Result<void> add_listener(int fd, StreamKind kind, const Address& address, SocketFile file);

    void add_connection(ServerLink& link) noexcept;
    void remove_connection(ServerLink& link) noexcept;

    void close();
    void set_paused(bool paused) noexcept;
    void close_clients();
    /// How many were not over yet.
    std::size_t abort_clients(std::error_code reason);
    Future<std::size_t> drain(Duration deadline);
    Future<void> wait_closed();

    // For listeners.
    bool may_accept() const noexcept;
    /// Makes a connection of `fd`, unless it is refused. The user is called: afterwards the server
    /// may be closed and its listeners gone.
    void accepted(int fd, StreamKind kind, const Address& peer);
    /// No descriptor is left: turns waiting peers away with the one kept in reserve.
    void shed(int listener);
    /// Resources have run out: no accepting until a timer, or until one of our own descriptors
    /// closes.
    void back_off(int error);
    void listener_lost(std::error_code error, const Address& address);

    LoopCore& core;
    ListenOptions options;
    Server::Counters counters;
    std::size_t connection_count = 0;
    std::vector<std::unique_ptr<Listener>> listeners_;

private:
    std::unique_ptr<Protocol> make_protocol(const Address& peer);
    void configure(StreamTransport& transport);
    void open_reserve() noexcept;
    void update_armed() noexcept;
    void check_done();
    template<class Visit>
    void each_connection(Visit&& visit);
    void report_exhaustion(int error);

    std::shared_ptr<Mailbox> remote_;
    ProtocolFactory factory_;
    ListNode connections_;              // of `ServerLink`s
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
