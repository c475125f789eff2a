#pragma once

#include <weft/reactor/address.hpp>
#include <weft/reactor/bytes.hpp>
#include <weft/reactor/clock.hpp>
#include <weft/reactor/kernel/socket_option.hpp>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#pragma GCC visibility push(default)

struct iovec;

namespace weft {

/// What a kernel call returned: a count or descriptor (>= 0), or an errno value. Fits a register.
class [[nodiscard]] Sys {
public:
    constexpr Sys(std::int64_t value) noexcept : value_(value) {}
    static constexpr Sys fail(int error_number) noexcept {
        return Sys(-std::int64_t(error_number));
    }

    constexpr bool ok() const noexcept { return value_ >= 0; }
    /// The count if above 0, else 0 for none or a negated errno value.
    constexpr std::int64_t value() const noexcept { return value_; }
    /// The count; only when `ok()`.
    constexpr std::size_t count() const noexcept { return static_cast<std::size_t>(value_); }
    /// The descriptor; only when `ok()`.
    constexpr int fd() const noexcept { return static_cast<int>(value_); }
    /// The errno value, 0 when `ok()`.
    constexpr int error() const noexcept { return ok() ? 0 : static_cast<int>(-value_); }
    /// The same as a code; EOWNERDEAD, which kernels give in a forked child, as `Errc::forked`.
    std::error_code code() const noexcept;
    /// EAGAIN: the call would have had to wait. A state, not an error.
    bool would_block() const noexcept;

private:
    std::int64_t value_;
};

/// Names a registration in events: a slot number and the generation of its use, so that an event
/// for something closed in the meantime is known by comparison. The kernel only carries it.
using Token = std::uint64_t;

/// What to be told of. `edge` reports changes once; without it, for as long as the state lasts.
enum class Interest : std::uint8_t {
    none = 0,
    read = 1,
    write = 2,
    both = 3,
    edge = 4,
    stream = 7
};

/// Either of them.
constexpr Interest operator|(Interest a, Interest b) noexcept {
    return static_cast<Interest>(static_cast<std::uint8_t>(a) | static_cast<std::uint8_t>(b));
}
/// Whether `set` has something of `bit`.
constexpr bool has(Interest set, Interest bit) noexcept {
    return (static_cast<std::uint8_t>(set) & static_cast<std::uint8_t>(bit)) != 0;
}

/// The bits of a readiness event, numbered as in epoll_ctl(2). `error` and `hangup` come whether
/// asked for or not. All are hints: a read after `readable` may still have to wait.
namespace ready {
inline constexpr std::uint32_t readable = 0x001; // EPOLLIN
// EPOLLPRI: urgent data is under way; for `Interest::stream` only
inline constexpr std::uint32_t priority = 0x002;
inline constexpr std::uint32_t writable = 0x004;     // EPOLLOUT
inline constexpr std::uint32_t error = 0x008;        // EPOLLERR
inline constexpr std::uint32_t hangup = 0x010;       // EPOLLHUP: both directions are shut
inline constexpr std::uint32_t read_hangup = 0x2000; // EPOLLRDHUP: the peer sends no more
} // namespace ready

/// What has become ready, and what.
struct Event {
    Token token;
    std::uint32_t ready; ///< bits of `weft::ready`
};

/// One received datagram of a batch. The caller sets `data` and `capacity`, the kernel the rest.
struct DatagramSlot {
    std::byte* data = nullptr;
    std::size_t capacity = 0;
    std::size_t size = 0; ///< bytes stored, at most `capacity`; 0 is an empty datagram
    Address from = {};    ///< the sender
    /// The local address to answer from (packet info on), else empty: where it was sent to, or for
    /// a group or broadcast address the one that the system would answer from (ip(7),
    /// `ipi_spec_dst`; unspecified for IPv6).
    Address to = {};
    Address destination = {};       ///< where it was sent to (packet info on), else empty
    std::uint32_t interface = 0;    ///< the interface it came in by (packet info on), else 0
    std::uint16_t segment_size = 0; ///< GRO: `data` is several datagrams of this size; else 0
    std::int8_t ecn = -1;           ///< the two ECN bits (RFC 3168), -1 when not asked for
    bool truncated = false;         ///< it was longer than `capacity`
};

/// One datagram to send.
struct OutDatagram {
    Bytes data = {};
    const Address* to = nullptr;    ///< null: the connected peer
    const Address* from = nullptr;  ///< null: the kernel chooses the source address
    std::uint16_t segment_size = 0; ///< GSO: split `data` into datagrams of this size; 0: it is one
    std::int8_t ecn = -1;           ///< ECN bits to send, -1: the socket's default
};

/// What a descriptor refers to (fstat(2), SO_TYPE).
enum class FileKind : std::uint8_t {
    none,
    regular,
    directory,
    character,
    pipe,
    stream_socket,
    datagram_socket,
    other
};

/// A path looked at without following links (lstat(2)). Two files are the same iff device and inode
/// are.
struct FileInfo {
    FileKind kind = FileKind::none;
    bool is_socket = false;
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    friend bool operator==(const FileInfo&, const FileInfo&) = default;
};

/// The calls that move bytes through a connected stream. `Kernel` has them for descriptors, an
/// in-memory pair for its two ends, and a stream transport needs no others. None ever blocks.
class ByteChannel {
public:
    /// Receives at most `size` bytes: their number, 0 at end of stream, EAGAIN if there are none
    /// (recv(2)).
    virtual Sys recv(int fd, void* data, std::size_t size) noexcept = 0;
    /// Sends what there is room for, at most `size` bytes (send(2) with MSG_NOSIGNAL).
    virtual Sys send(int fd, const void* data, std::size_t size) noexcept = 0;
    /// The same for `count` pieces, any of them empty (sendmsg(2)); `count` may exceed IOV_MAX.
    virtual Sys sendv(int fd, const iovec* pieces, std::size_t count) noexcept = 0;
    /// Sends up to `size` bytes of the open file `file` from `offset` on, without a copy in user
    /// space (sendfile(2)): their number, 0 at the file's end. EINVAL where that cannot be done for
    /// this file or channel: then read and send.
    virtual Sys send_file(int fd, int file, std::uint64_t offset, std::size_t size) noexcept;
    /// Ends the sending direction (shutdown(2) with SHUT_WR).
    virtual Sys shutdown_write(int fd) noexcept = 0;
    /// Closes; with `reset` a TCP peer gets RST and unsent bytes are dropped. Never retried
    /// (close(2)).
    virtual void close(int fd, bool reset = false) noexcept = 0;

protected:
    ~ByteChannel() = default;
};

/// The one seam to the outside: every system call, clock read, random number and wake-up of a loop
/// goes through its kernel. Those over epoll, kqueue and poll are the real ones, `sim::SimKernel`
/// is a network in memory with a virtual clock, `sim::FaultyKernel` decorates another and makes
/// calls fail.
///
/// A kernel serves one loop and is used on its thread; only `wake`, `outside_work` and `resolve`
/// may be called from other threads. No call blocks, but `wait` and `resolve`, and `lock_folder`
/// for a moment. Calls report errors as errno values; EINTR is handled inside and never seen. In a
/// forked child, until `reset`, calls that the parent, its peers or its files would notice do
/// nothing and say EOWNERDEAD; `close` closes the child's copy.
class Kernel : public ByteChannel {
public:
    virtual ~Kernel() = default;

    /// "epoll", "poll", "kqueue", "sim": for reports and tests.
    virtual std::string_view name() const noexcept = 0;

    // Time and chance.
    virtual TimePoint now() noexcept = 0;
    virtual void random(MutableBytes out) noexcept = 0;

    // Readiness.
    /// Registers `fd`. EEXIST: it is registered. EPERM: it is a file and cannot be waited for.
    virtual Sys add(int fd, Token token, Interest interest) noexcept = 0;
    virtual Sys modify(int fd, Token token, Interest interest) noexcept = 0;
    /// Forgets `fd`. Closing a descriptor that has no duplicate forgets it as well.
    virtual Sys remove(int fd) noexcept = 0;
    /// Waits until something is ready, `deadline` passes or `wake` is called; returns how many
    /// events were stored (0 for the latter two). `TimePoint::min()` only looks, `TimePoint::max()`
    /// has no deadline. Never returns 0 before the deadline without a wake-up, and never rounds the
    /// deadline down. EOWNERDEAD: this is a forked child. EDEADLK: nothing can ever happen
    /// (simulated kernels).
    virtual Sys wait(std::span<Event> events, TimePoint deadline) noexcept = 0;
    /// Ends the present or the next `wait`. Any thread, and signal handlers. Wake-ups coalesce.
    virtual void wake() noexcept = 0;
    /// A descriptor that poll(2) finds readable when `wait` would return at once and
    /// `announce(true)` was called last; the same one each time. ENOTSUP: this kernel has none.
    virtual Sys pollable_fd() noexcept = 0;
    /// Whether the pollable descriptor may be readable. Switching it on tells those who watch it
    /// edge-triggered of whatever is there.
    virtual void announce(bool on) noexcept { (void)on; }
    /// Whether there is a pollable descriptor.
    virtual bool announces() const noexcept { return false; }
    /// Makes `pollable_fd()` readable at `deadline` too; `TimePoint::max()` calls that off.
    virtual Sys arm(TimePoint deadline) noexcept = 0;
    /// Starts over with nothing registered: in a forked child, or to shake off a stale
    /// registration.
    virtual Sys reset() noexcept = 0;
    /// In a forked child after `reset`: `fd` came from the parent, which may still be using it:
    /// `owns(fd)` is false until it is closed, or its number registered anew.
    virtual void inherited(int fd) { (void)fd; }
    /// Whether the end of `fd` is this process's to make. False in a forked child, and after
    /// `reset` there for what `inherited` named: then closing is all that may be done, and neither
    /// a reset nor a file's removal goes with it.
    virtual bool owns(int fd) noexcept {
        (void)fd;
        return true;
    }
    /// Work that will wake the loop is under way on other threads (+1) or over (-1). A virtual
    /// clock stands still meanwhile; real kernels ignore it.
    virtual void outside_work(int change) noexcept { (void)change; }
    /// Whether no other thread is there that could wake the loop.
    virtual bool alone() noexcept { return false; }

    // Signals.
    /// From now on collects signal `number` for this loop. EINVAL: it cannot be caught.
    virtual Sys watch_signal(int number) noexcept = 0;
    /// Undoes it; the last watcher of a process restores the previous disposition.
    virtual Sys unwatch_signal(int number) noexcept = 0;
    /// The signals seen since the last call: bit n-1 for signal n.
    virtual std::uint64_t take_signals() noexcept = 0;

    // Sockets. Every descriptor made here is non-blocking and close-on-exec.
    virtual Sys socket(int family, int type, int protocol) noexcept = 0;
    virtual Sys socketpair(int type, int (&fds)[2]) noexcept = 0;
    virtual Sys bind(int fd, const Address& address) noexcept = 0;
    virtual Sys listen(int fd, int backlog) noexcept = 0;
    /// The new connection; `peer` receives its address.
    virtual Sys accept(int fd, Address& peer) noexcept = 0;
    /// EINPROGRESS: writability will tell the outcome, in `SocketOption::error`.
    virtual Sys connect(int fd, const Address& address) noexcept = 0;
    virtual Sys local_address(int fd, Address& address) noexcept = 0;
    virtual Sys peer_address(int fd, Address& address) noexcept = 0;
    /// ENOPROTOOPT and the like: this system or kind of socket has no such option. One that IPv4
    /// and IPv6 have each is set for both where a socket speaks both.
    virtual Sys set_option(int fd, SocketOption option, int value) noexcept = 0;
    /// The option's value.
    virtual Sys get_option(int fd, SocketOption option) noexcept = 0;
    /// Makes a datagram socket receive what is sent to `group`, by the interface of that number (0:
    /// the system chooses), from `source` alone unless that is null. The addresses' family decides
    /// the protocol: an IPv6 socket may join groups of IPv4. EADDRINUSE: it is a member already.
    virtual Sys join_group(int fd, const Address& group, std::uint32_t interface,
                           const Address* source) noexcept = 0;
    /// Undoes it. EADDRNOTAVAIL: it is no member.
    virtual Sys leave_group(int fd, const Address& group, std::uint32_t interface,
                            const Address* source) noexcept = 0;
    virtual Sys peer_credentials(int fd, Credentials& credentials) noexcept = 0;
    /// Receives up to `slots.size()` datagrams; how many (recvmmsg(2)). EAGAIN: none.
    virtual Sys recv_batch(int fd, std::span<DatagramSlot> slots) noexcept = 0;
    /// Sends datagrams in order; how many went. An error belongs to the first of `datagrams`.
    virtual Sys send_batch(int fd, std::span<const OutDatagram> datagrams) noexcept = 0;
    /// Takes one entry of the socket's error queue (IP_RECVERR): the errno it holds, and `to`, the
    /// address the failed datagram was sent to. EAGAIN: the queue is empty.
    virtual Sys recv_error(int fd, Address& to) noexcept = 0;

    // Descriptors and files.
    virtual FileKind kind_of(int fd) noexcept = 0;
    /// Whether a stream or datagram socket is listening (SO_ACCEPTCONN).
    virtual bool is_listening(int fd) noexcept = 0;
    /// Makes an adopted descriptor non-blocking and close-on-exec.
    virtual Sys set_nonblocking(int fd) noexcept = 0;
    /// A descriptor of no use but to be closed when there are no others left.
    virtual Sys open_reserve() noexcept = 0;
    /// Reads an open file at an offset (pread(2)): bytes, 0 at its end. May wait for the disk.
    virtual Sys read_file(int file, std::uint64_t offset, void* data, std::size_t size) noexcept;
    virtual FileInfo look_at(const std::string& path) noexcept = 0;
    virtual Sys unlink(const std::string& path) noexcept = 0;
    /// How a descriptor was opened: O_RDONLY, O_WRONLY or O_RDWR (F_GETFL, fcntl(2)).
    virtual Sys access_mode(int fd) noexcept;
    /// The path as it is written from the root: it means the same file after chdir(2).
    virtual std::string absolute(const std::string& path) { return path; }
    /// Locks the folder that `path` is in (flock(2)) against others that do the same: a descriptor,
    /// and closing it unlocks. While another has the lock it waits, a fifth of a second at most;
    /// then it is EWOULDBLOCK.
    virtual Sys lock_folder(const std::string& path) noexcept {
        (void)path;
        return Sys::fail(ENOTSUP);
    }

    /// Looks a host name up, blocking; any thread. `addresses` receives it with `port`.
    virtual std::error_code resolve(const std::string& host, std::uint16_t port,
                                    std::vector<Address>& addresses) = 0;
};

/// A kernel by its name.
struct KernelMaker {
    std::string_view name;
    std::unique_ptr<Kernel> (*make)();
};

/// The kernels over the system that this library was built with, the best first.
std::span<const KernelMaker> available_kernels() noexcept;
/// The first of them; `WEFT_KERNEL=poll` in the environment chooses another by its name. Throws
/// `std::invalid_argument` for a name that none has.
std::unique_ptr<Kernel> make_default_kernel();

// Each links only where the library was built with it.
/// epoll(7), on Linux.
std::unique_ptr<Kernel> make_epoll_kernel();
/// kqueue(2), on macOS and the BSDs.
std::unique_ptr<Kernel> make_kqueue_kernel();
/// poll(2), everywhere: slower with many descriptors, and without `pollable_fd`.
std::unique_ptr<Kernel> make_poll_kernel();

} // namespace weft

#pragma GCC visibility pop
