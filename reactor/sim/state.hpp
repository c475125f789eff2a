#pragma once

#include "random.hpp"
#include "socket.hpp"

#include <weft/reactor/sim/sim_kernel.hpp>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

namespace weft::sim {

/// Descriptors are numbered from here, where no real one ever gets to.
inline constexpr int first_fd = 1'000'000;

/// Datagrams that a Unix socket's queue may exceed by one: net.unix.max_dgram_qlen of Linux.
inline constexpr std::size_t max_unix_queue = 10;

/// The address of a Unix socket; an empty name is an unnamed one.
Address unix_address(const std::string& name);

/// Something the network will do.
struct NetworkEvent {
    enum class Kind : std::uint8_t { syn, arrive, reset, give_up, datagram };
    TimePoint at;
    std::uint64_t sequence; // equal times keep their order
    Kind kind;
    int side; // whose flow; of a reset: who gets it
    ConnectionRef connection;
    std::unique_ptr<Flight> flight;
};

struct SimKernel::State {
    explicit State(const SimOptions& options);

    // state.cpp: descriptors, readiness, time.
    Socket* find(int fd) noexcept;
    /// Gives `socket` the lowest free descriptor. EMFILE.
    Sys open(std::unique_ptr<Socket> socket);
    std::unique_ptr<Socket> make_socket(int family, int type, int protocol);
    void forget(Socket& socket) noexcept;
    std::uint32_t mask(Socket& socket) noexcept;
    /// Something happened to `socket`; `keys` says to which bits, 0 is any.
    void notify(Socket& socket, std::uint32_t keys = 0) noexcept;
    void enqueue(Socket& socket) noexcept;
    void dequeue(Socket& socket) noexcept;
    std::size_t collect(std::span<Event> events) noexcept;
    void schedule(TimePoint at, NetworkEvent::Kind kind, int side, ConnectionRef connection,
                  std::unique_ptr<Flight> flight = nullptr);
    bool stale(const NetworkEvent& event) noexcept;
    TimePoint next_event() noexcept;
    void run_due();
    NetworkEvent pop_event();
    Duration delay() noexcept;
    bool unreachable(const Endpoint& a, const Endpoint& b) const noexcept;

    // streams.cpp: bytes.
    bool writable(const Socket& socket) const noexcept;
    Sys stream_send(Socket& socket, const iovec* pieces, std::size_t count);
    Sys stream_recv(Socket& socket, void* data, std::size_t size);
    Sys stream_shutdown(Socket& socket);
    void stream_close(Socket& socket, bool reset);
    void launch(const ConnectionRef& connection, int side, std::size_t size, Segment::Kind kind);
    void arrive(const ConnectionRef& connection, int side);
    void land(const ConnectionRef& connection, int side, const Segment& segment);
    void pump(const ConnectionRef& connection, int side);
    void finish(Connection& connection) noexcept;
    void send_reset(const ConnectionRef& connection, int from);
    void land_reset(Connection& connection, int to) noexcept;
    void fail_stream(Socket& socket, int error) noexcept;
    void give_up(Connection& connection, int side) noexcept;
    void space_freed(Socket* writer) noexcept;

    // connect.cpp: names and connections.
    Sys bind(Socket& socket, const Address& address);
    Sys bind_ip(Socket& socket, Endpoint wanted);
    Sys bind_unix(Socket& socket, const std::string& name);
    Sys listen(Socket& socket, int backlog);
    Sys stream_connect(Socket& socket, const Address& address);
    Sys unix_connect(Socket& socket, const std::string& name);
    void syn(const ConnectionRef& connection);
    void add_child(Socket& listener, const ConnectionRef& connection);
    void join_local(Socket& a, Socket& b);
    Socket* find_listener(const Endpoint& to) noexcept;
    std::unordered_map<std::uint16_t, Bucket>& ports_of(const Socket& socket) noexcept;
    Endpoint source_for(const Endpoint& to) const noexcept;
    bool conflicts(const Socket& socket, const Endpoint& wanted, bool listening) noexcept;
    std::uint16_t free_port(std::unordered_map<std::uint16_t, Bucket>& ports, const Tuple* tuple);
    Sys choose_source(Socket& socket, const Endpoint& to);
    void release_names(Socket& socket) noexcept;
    void release_tuple(Socket& socket) noexcept;
    static bool covers(const Socket& socket, const Endpoint& endpoint) noexcept;
    static int score(const Socket& socket, const Endpoint& to) noexcept;
    Sys check_destination(const Socket& socket, const Address& address,
                          Endpoint& to) const noexcept;

    // datagrams.cpp
    std::uint32_t datagram_mask(Socket& socket) noexcept;
    Sys datagram_connect(Socket& socket, const Address& address);
    Sys datagram_send(Socket& socket, const OutDatagram& datagram);
    Sys unix_datagram_send(Socket& socket, const OutDatagram& datagram);
    Sys datagram_recv(Socket& socket, DatagramSlot& slot);
    void datagram_close(Socket& socket);
    static void pair_datagrams(Socket& a, Socket& b) noexcept;
    void post_flight(Socket& sender, std::unique_ptr<Flight> flight);
    void land_flight(std::unique_ptr<Flight> flight);
    void deliver(Socket& socket, const Flight& flight);
    void refuse(const Flight& flight);
    Socket* find_receiver(const Flight& flight) noexcept;
    Socket* alive(int fd, std::uint64_t id) noexcept; // null once it was closed
    void release_charge(int fd, std::uint64_t id, std::size_t charge) noexcept;
    void report_refusal(const Flight& flight);
    // options.cpp
    Sys set_option(Socket& socket, SocketOption option, int value);
    Sys get_option(Socket& socket, SocketOption option);
    Sys join_group(Socket& socket, const Address& address, const Address* source);
    Sys leave_group(Socket& socket, const Address& address, const Address* source);

    SimOptions options;
    TimePoint now;
    Random user_random; // what the program asks for must not change what the network does
    Random network_random;

    std::vector<std::unique_ptr<Socket>> sockets; // by fd - first_fd
    std::vector<int> free_fds;                    // a heap, lowest first
    std::size_t open_count = 0;
    std::uint64_t next_id = 1;
    Socket* first_ready = nullptr;
    Socket* last_ready = nullptr;
    std::size_t ready_count = 0;

    std::vector<NetworkEvent> events; // a heap, earliest first
    std::uint64_t next_sequence = 0;
    Duration least_latency{0}, most_latency{0};
    std::size_t least_segment = 0, most_segment = 0;
    double loss = 0, duplicate = 0, reorder = 0;
    std::vector<Endpoint> black_holes;
    std::vector<ConnectionRef> stalled; // connections that a black hole holds up

    std::unordered_map<std::uint16_t, Bucket> tcp_ports, udp_ports;
    std::unordered_set<Tuple, TupleHash> tuples;
    std::uint16_t next_port;
    std::unordered_map<std::string, Inode> files; // abstract names start with '@'
    std::uint64_t next_inode = 1;

    std::mutex hosts_mutex; // guards `hosts`
    std::map<std::string, std::vector<Address>, std::less<>> hosts;

    bool block_when_idle = false;
    std::atomic<bool> woken{false};
    std::atomic<int> outside{0};
    std::atomic<std::uint32_t> ticket{0}; // moves with each reason to leave a blocked `wait`
    std::atomic<std::uint64_t> watched_signals{0}, pending_signals{0};
};

} // namespace weft::sim
