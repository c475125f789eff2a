#pragma once

#include <weft/reactor/kernel/kernel.hpp>

#pragma GCC visibility push(default)

namespace weft::sim {

/// How a simulated kernel starts. Everything but `seed` and `start` can be changed later.
/// `UsageError` for buffers of 0, and for ephemeral ports that are none.
struct SimOptions {
    std::uint64_t seed = 1;                  ///< of `random()` and of the network's chances
    TimePoint start{std::chrono::hours(24)}; ///< where the virtual clock begins
    std::size_t send_buffer = 65536;         ///< bytes of the send buffer of new sockets
    std::size_t receive_buffer = 65536;      ///< bytes of the receive buffer of new sockets
    std::size_t descriptor_limit = 1 << 20;  ///< open descriptors before EMFILE
    std::uint16_t first_port = 32768; ///< the ephemeral ports, as in Linux' ip_local_port_range
    std::uint16_t last_port = 60999;
    Credentials credentials{1000, 1000, 1000}; ///< what the peer of a Unix socket sees
};

/// A whole network in memory with a virtual clock, as a kernel: TCP, UDP and Unix sockets that
/// behave as Linux' do, down to the bits of each readiness event, but take no real time, descriptor
/// or port. With the same seed and the same calls every run is the same.
///
/// All sockets of one SimKernel can reach each other, by any unicast address that one of them is
/// bound to; there is no route to elsewhere. Time stands still but in `wait`, which jumps to the
/// next thing that happens, and in `advance`. Without latency (the default) bytes arrive while
/// `send` runs.
///
/// Used on one thread like every kernel, and so are the functions for tests; but `wake`,
/// `outside_work`, `deliver_signal`, `resolve` and `add_host` may be called from any thread. `wake`
/// is safe in signal handlers.
class SimKernel final : public Kernel {
public:
    explicit SimKernel(const SimOptions& options = {});
    ~SimKernel() override;
    SimKernel(const SimKernel&) = delete;
    SimKernel& operator=(const SimKernel&) = delete;

    // The clock.
    /// Moves the clock forward; what the network does in that time happens, each thing at its
    /// moment.
    void advance(Duration duration);
    /// With `true`, a `wait` without anything to wait for really blocks until `wake`, instead of
    /// EDEADLK.
    void set_block_when_idle(bool block) noexcept;

    // Descriptors.
    /// Descriptors that may be open at once; beyond it calls fail with EMFILE.
    void set_descriptor_limit(std::size_t limit) noexcept;
    /// Descriptors open now, reserves included: for leak checks.
    std::size_t open_descriptors() const noexcept;

    // The network. Each holds for what is sent from now on.
    /// Bytes of the buffers of sockets made from now on, at least 1.
    void set_buffer_sizes(std::size_t send, std::size_t receive) noexcept;
    /// Every segment, handshake step and datagram travels for a time drawn evenly from [least,
    /// most]. Streams and the datagrams of one socket stay in order. Unix sockets take no time.
    void set_latency(Duration least, Duration most) noexcept;
    /// TCP bytes arrive in pieces of at most `most` bytes, 1 µs apart, so that each is a delivery
    /// of its own; with `least` their size is drawn from [least, most]. 0: whole.
    void set_segment_size(std::size_t most, std::size_t least = 0) noexcept;
    /// The chances, 0 to 1, that a datagram is lost, comes twice, or is overtaken by the next ones.
    void set_loss(double chance) noexcept;
    void set_duplicate(double chance) noexcept;
    void set_reorder(double chance) noexcept;
    /// From now on nothing reaches `address` and nothing comes from it, without any error:
    /// connecting to it times out after 127 s, a connection that has something to send after 924.6
    /// s (as with Linux' defaults). With port 0 all ports of the IP address.
    void blackhole(const Address& address);
    /// Undoes it; what connections had to send arrives now.
    void heal(const Address& address);
    /// Breaks the connection of `fd`: both of its ends receive RST now. ENOTCONN.
    Sys reset_connection(int fd) noexcept;
    /// Segments, handshake steps and datagrams on their way.
    std::size_t in_flight() const noexcept;

    // The rest of the system.
    /// Signal `number` happens. False, and nothing comes of it, if it is not watched.
    bool deliver_signal(int number) noexcept;
    bool signal_watched(int number) const noexcept;
    /// Makes `resolve(name)` find `addresses` (their ports are ignored). `localhost` is known.
    void add_host(const std::string& name, std::vector<Address> addresses);
    /// Makes a regular file, so that binding to its path fails. False if the path is taken.
    bool create_file(const std::string& path);

    std::string_view name() const noexcept override { return "sim"; }
    TimePoint now() noexcept override;
    void random(MutableBytes out) noexcept override;

    Sys add(int fd, Token token, Interest interest) noexcept override;
    Sys modify(int fd, Token token, Interest interest) noexcept override;
    Sys remove(int fd) noexcept override;
    Sys wait(std::span<Event> events, TimePoint deadline) noexcept override;
    void wake() noexcept override;
    Sys pollable_fd() noexcept override;
    Sys arm(TimePoint deadline) noexcept override;
    Sys reset() noexcept override;
    /// While the sum is above 0, `wait` blocks for `wake` instead of moving the clock. A thread
    /// that ends its work calls `wake` first and this second.
    void outside_work(int change) noexcept override;

    Sys watch_signal(int number) noexcept override;
    Sys unwatch_signal(int number) noexcept override;
    std::uint64_t take_signals() noexcept override;

    Sys socket(int family, int type, int protocol) noexcept override;
    Sys socketpair(int type, int (&fds)[2]) noexcept override;
    Sys bind(int fd, const Address& address) noexcept override;
    Sys listen(int fd, int backlog) noexcept override;
    Sys accept(int fd, Address& peer) noexcept override;
    Sys connect(int fd, const Address& address) noexcept override;
    Sys local_address(int fd, Address& address) noexcept override;
    Sys peer_address(int fd, Address& address) noexcept override;
    Sys set_option(int fd, SocketOption option, int value) noexcept override;
    Sys get_option(int fd, SocketOption option) noexcept override;
    Sys join_group(int fd, const Address& group, std::uint32_t interface,
                   const Address* source) noexcept override;
    Sys leave_group(int fd, const Address& group, std::uint32_t interface,
                    const Address* source) noexcept override;
    Sys peer_credentials(int fd, Credentials& credentials) noexcept override;
    Sys recv_batch(int fd, std::span<DatagramSlot> slots) noexcept override;
    Sys send_batch(int fd, std::span<const OutDatagram> datagrams) noexcept override;
    Sys recv_error(int fd, Address& to) noexcept override;

    Sys recv(int fd, void* data, std::size_t size) noexcept override;
    Sys send(int fd, const void* data, std::size_t size) noexcept override;
    Sys sendv(int fd, const iovec* pieces, std::size_t count) noexcept override;
    Sys shutdown_write(int fd) noexcept override;
    void close(int fd, bool reset = false) noexcept override;

    FileKind kind_of(int fd) noexcept override;
    bool alone() noexcept override;
    bool is_listening(int fd) noexcept override;
    Sys set_nonblocking(int fd) noexcept override;
    Sys open_reserve() noexcept override;
    FileInfo look_at(const std::string& path) noexcept override;
    Sys unlink(const std::string& path) noexcept override;
    std::error_code resolve(const std::string& host, std::uint16_t port,
                            std::vector<Address>& addresses) override;

    /// The network's insides, private to the implementation.
    struct State;

private:
    std::unique_ptr<State> state_;
};

} // namespace weft::sim

#pragma GCC visibility pop
