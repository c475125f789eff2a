#pragma once

#include <weft/reactor/kernel/kernel.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace weft::sim {

/// An IP address and port. IPv4 is held as the mapped IPv6 address, so that one comparison serves
/// both.
struct Endpoint {
    std::array<std::uint8_t, 16> ip{};
    std::uint16_t port = 0;
    std::uint32_t scope = 0; // carried along, not compared

    static Endpoint of(const Address& address) noexcept;
    Address address(int family) const noexcept;
    bool is_v4() const noexcept;
    bool is_any() const noexcept;
    bool is_loopback() const noexcept;
    bool is_multicast() const noexcept;
    bool is_broadcast() const noexcept;
    bool same_ip(const Endpoint& other) const noexcept { return ip == other.ip; }
    friend bool operator==(const Endpoint& a, const Endpoint& b) noexcept {
        return a.ip == b.ip && a.port == b.port;
    }
};

/// The two ends of a connection that was made by `connect`: what no two of them may share.
struct Tuple {
    Endpoint from, to;
    friend bool operator==(const Tuple&, const Tuple&) = default;
};
struct TupleHash {
    std::size_t operator()(const Tuple& tuple) const noexcept;
};

/// First in, first out, in one piece of memory and without any when it was never used: std::deque
/// takes half a kilobyte for being empty, and there may be 10^5 connections with four queues each.
template<class T>
class Fifo {
public:
    bool empty() const noexcept { return head_ == items_.size(); }
    std::size_t size() const noexcept { return items_.size() - head_; }
    T& front() noexcept { return items_[head_]; }
    void push(T item) { items_.push_back(std::move(item)); }
    T pop() {
        T item = std::move(items_[head_++]);
        // Moving what is left only when it is the smaller half keeps the cost per item constant.
        if (head_ * 2 >= items_.size()) {
            items_.erase(items_.begin(), items_.begin() + static_cast<std::ptrdiff_t>(head_));
            head_ = 0;
        }
        return item;
    }
    void clear() noexcept {
        items_.clear();
        head_ = 0;
    }

private:
    std::vector<T> items_;
    std::size_t head_ = 0;
};

/// A queue of bytes that grows to any size.
class ByteRing {
public:
    std::size_t size() const noexcept { return size_; }
    void push(const void* data, std::size_t size);
    void pop(void* data, std::size_t size) noexcept;
    /// Drops the newest bytes so that `size` are left.
    void truncate(std::size_t size) noexcept;

private:
    void copy(std::size_t at, void* data, std::size_t size) const noexcept;
    void shed() noexcept;
    std::unique_ptr<std::byte[]> data_;
    std::size_t capacity_ = 0; // a power of two, or 0
    std::size_t head_ = 0;
    std::size_t size_ = 0;
};

struct Socket;

/// One thing that travels along a connection.
struct Segment {
    enum class Kind : std::uint8_t { data, fin, syn_ack };
    TimePoint at; // when it arrives
    std::size_t size;
    Kind kind;
};

/// One direction of a connection. Its bytes are, oldest first: those that arrived and can be read,
/// those that are due but do not fit in the receive buffer, and those on their way. The last two
/// fill the sender's buffer.
struct Flow {
    ByteRing bytes;
    std::size_t arrived = 0;
    std::size_t due = 0;
    Fifo<Segment> on_the_way;
    Fifo<std::size_t> pieces; // Unix: what each send left, freed when the last byte of it is read
    std::size_t charged = 0;  // Unix: their sum
    std::size_t read_of_piece = 0;
    TimePoint last_arrival = TimePoint::min();
    TimePoint give_up_at{}; // while `stalled`
    bool stalled = false;   // by a black hole
    bool fin_due = false;
    bool fin_arrived = false;

    /// Unix: counts `size` bytes as read; whether that freed anything.
    bool discharge(std::size_t size) {
        bool freed = false;
        for (read_of_piece += size; !pieces.empty() && read_of_piece >= pieces.front();
             freed = true) {
            read_of_piece -= pieces.front();
            charged -= pieces.pop();
        }
        return freed;
    }
    void drop_unarrived() noexcept {
        bytes.truncate(arrived);
        due = 0;
        on_the_way.clear();
        fin_due = stalled = false;
    }
};

/// Two flows between two sockets: `ends[i]` writes `flows[i]` and is null once closed. 0 is the end
/// that connected.
struct Connection {
    Flow flows[2];
    Socket* ends[2] = {nullptr, nullptr};
    Endpoint addresses[2];
    bool local = false; // a Unix connection: no network in between
    bool reset_sent[2] = {false, false};
    int attempts = 0; // SYNs sent
};
using ConnectionRef = std::shared_ptr<Connection>;

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
    Fifo<std::pair<int, Address>> errors; // IP_RECVERR
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
    bool loops_back = true; // IP_MULTICAST_LOOP
};

struct Option {
    int level;
    int name;
    std::vector<std::byte> value;
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
    int error = 0; // SO_ERROR
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
    /// An int option, `fallback` if it was never set.
    int option(int level, int name, int fallback = 0) const noexcept;
    Flow& out() noexcept { return connection->flows[side]; }
    Flow& in() noexcept { return connection->flows[1 - side]; }
    int take_error() noexcept { return std::exchange(error, 0); }
};

/// Who is bound to a port.
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

/// xoshiro256** (Blackman and Vigna), seeded by splitmix64: small, and the same everywhere, which
/// the standard's distributions are not.
class Random {
public:
    explicit Random(std::uint64_t seed) noexcept;
    std::uint64_t next() noexcept;
    std::uint64_t below(std::uint64_t limit) noexcept; // [0, limit), 0 for 0
    bool chance(double probability) noexcept;

private:
    std::array<std::uint64_t, 4> state_;
};

} // namespace weft::sim
