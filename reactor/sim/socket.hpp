#pragma once

#include "connection.hpp"

#include <weft/reactor/kernel/kernel.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace weft::sim {

struct Listener {
    std::size_t backlog = 0;
    Fifo<std::unique_ptr<Socket>> queue;
};

/// A datagram as it lies in a socket's queue.
struct Received {
    std::vector<std::byte> data;
    Address from;
    Address to;
    Address destination;
    std::int8_t ecn = 0;
    int sender_fd = -1; // Unix: whose send buffer it fills
    std::uint64_t sender_id = 0;
};

/// A group that a socket joined; with sources, only those are heard.
struct Membership {
    Endpoint group;
    std::vector<Endpoint> sources;
};

struct DatagramState {
    Fifo<Received> queue;
    std::size_t queued_bytes = 0;
    std::size_t bytes_in_flight = 0;
    TimePoint last_arrival = TimePoint::min();
    Fifo<std::pair<int, Address>> errors; // of `SocketOption::error_queue`
    std::vector<Membership> memberships;
    std::vector<int> waiting_senders; // Unix: descriptors that found this queue full
    int peer_fd = -1;                 // Unix: the connected peer
    std::uint64_t peer_id = 0;
    bool any_source = false; // `connect` chose the local address
};

/// A datagram on its way, or (with `refused`) the ICMP message about it on its way back.
struct Flight {
    std::vector<std::byte> data;
    Endpoint from, to;
    int sender_fd = -1;
    std::uint64_t sender_id = 0;
    std::size_t charge = 0; // what it takes of the sender's buffer
    std::int8_t ecn = 0;
    bool refused = false;
    bool loops_back = true; // of `SocketOption::multicast_loop`
};

/// An option that was set.
struct Option {
    SocketOption name;
    int value;
};

/// A socket, with or without a descriptor (those in an accept queue have none).
struct Socket {
    enum class Phase : std::uint8_t { fresh, listening, connecting, established, closed };

    int fd = -1;
    int family = 0;
    int type = 0; // 0: a reserve descriptor
    int protocol = 0;
    std::uint64_t id = 0; // never used twice

    // Readiness.
    bool registered = false;
    bool edge = false;
    bool queued = false; // in the ready list
    std::uint32_t interest = 0;
    Token token = 0;
    Socket* previous_ready = nullptr;
    Socket* next_ready = nullptr;

    Phase phase = Phase::fresh;
    bool send_shut = false;
    bool receive_shut = false;
    bool saw_fin = false;
    bool fin_sent = false;        // `send_shut` alone may be left from before the connection
    bool no_space = false;        // wants to know when there is room to send
    bool connect_pending = false; // no later `connect` has been told the outcome
    bool dead = false;            // connecting is EINVAL for ever
    bool bound = false;           // is in its port's bucket
    bool counted = false;         // is counted in its port's bucket
    bool has_tuple = false;
    int error = 0; // of `SocketOption::error`
    int side = 0;  // which end of `connection`
    std::size_t send_buffer = 0;
    std::size_t receive_buffer = 0;
    Endpoint local, remote;
    std::string unix_name, unix_peer;
    std::vector<Option> options;
    ConnectionRef connection;
    std::unique_ptr<Listener> listener;
    std::unique_ptr<DatagramState> datagrams;

    bool is_stream() const noexcept;
    bool is_datagram() const noexcept;
    bool is_unix() const noexcept;
    /// The value of an option, `fallback` if it was never set.
    int option(SocketOption name, int fallback = 0) const noexcept;
    bool has(SocketOption name) const noexcept { return option(name) != 0; }
    Flow& out() noexcept { return connection->flows[side]; }
    Flow& in() noexcept { return connection->flows[1 - side]; }
    int take_error() noexcept { return std::exchange(error, 0); }
};

/// The sockets that are bound to a port.
struct Bucket {
    std::vector<Socket*> bound;  // in the order of binding
    std::size_t connections = 0; // accepted and connecting sockets that have the port
    std::size_t turn = 0;        // whose turn it is of several listeners
};

/// A name in the file system, or an abstract one.
struct Inode {
    std::uint64_t number = 0;
    bool is_socket = false;
    Socket* owner = nullptr; // null: whoever was bound to it is gone
};

} // namespace weft::sim
