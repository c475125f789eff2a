#pragma once

#include <weft/reactor/kernel/kernel.hpp>

#include <atomic>
#include <ctime>
#include <memory>
#include <sys/types.h>
#include <utility>
#include <vector>

namespace weft::detail {

class SignalSink;
struct DatagramScratch;
struct FreeDatagramScratch {
    void operator()(DatagramScratch* scratch) const noexcept;
};

/// A descriptor that is closed with its owner.
class OwnedFd {
public:
    OwnedFd() noexcept = default;
    explicit OwnedFd(int fd) noexcept : fd_(fd) {}
    OwnedFd(OwnedFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    OwnedFd& operator=(OwnedFd&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~OwnedFd();

    explicit operator bool() const noexcept { return fd_ >= 0; }
    int get() const noexcept { return fd_; }
    int release() noexcept { return std::exchange(fd_, -1); }

private:
    int fd_ = -1;
};

/// Knows whether this process is a fork of the one that the kernel was made in, at the price of one
/// load: it keeps a byte that the system clears in a child, where it can (`wipe_on_fork`).
class ForkWitness {
public:
    /// Throws `std::system_error` when there is no memory.
    ForkWitness();
    ForkWitness(const ForkWitness&) = delete;
    ForkWitness& operator=(const ForkWitness&) = delete;
    ~ForkWitness();

    /// Certainly not; else `forked` tells. One load.
    bool certain() const noexcept { return mark_->load(std::memory_order_relaxed) == this_process; }
    /// Any thread, and signal handlers.
    bool forked() const noexcept {
        const unsigned char mark = mark_->load(std::memory_order_relaxed);
        return mark != this_process && (mark == wiped || is_other_process());
    }
    /// From now on this process is the one.
    void renew() noexcept;

private:
    // What the byte says; `ask` where pages cannot be cleared.
    static constexpr unsigned char wiped = 0, this_process = 1, ask = 2;
    bool is_other_process() const noexcept;

    std::atomic<unsigned char>* mark_; ///< alone in its page
    pid_t owner_ = 0;                  ///< compared if the byte says `ask`
};

/// What is left until `deadline` as a relative timeout, never rounded down; zero when it has
/// passed.
timespec time_left(TimePoint deadline, TimePoint now) noexcept;

/// What getaddrinfo(3) reports (EAI_NONAME and the like); named "resolver".
const std::error_category& resolver_category() noexcept;

/// Everything of a kernel but the waiting: clock, random numbers, sockets, files, names and
/// signals, by the system calls of POSIX. In what systems differ is in `system.hpp`, and with the
/// datagrams in one file for each.
class PosixKernel : public Kernel {
public:
    PosixKernel(const PosixKernel&) = delete;
    PosixKernel& operator=(const PosixKernel&) = delete;
    ~PosixKernel() override;

    TimePoint now() noexcept override;
    void random(MutableBytes out) noexcept override;
    void inherited(int fd) override;
    bool owns(int fd) noexcept override;

    Sys watch_signal(int number) noexcept override;
    Sys unwatch_signal(int number) noexcept override;
    std::uint64_t take_signals() noexcept override;

    // Pipes and terminals are served too, by read(2) and write(2).
    Sys recv(int fd, void* data, std::size_t size) noexcept override;
    Sys send(int fd, const void* data, std::size_t size) noexcept override;
    Sys sendv(int fd, const iovec* pieces, std::size_t count) noexcept override;
    Sys send_file(int fd, int file, std::uint64_t offset, std::size_t size) noexcept override;
    Sys shutdown_write(int fd) noexcept override;
    void close(int fd, bool reset = false) noexcept override;

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

    FileKind kind_of(int fd) noexcept override;
    bool alone() noexcept override;
    bool is_listening(int fd) noexcept override;
    Sys set_nonblocking(int fd) noexcept override;
    Sys open_reserve() noexcept override;
    FileInfo look_at(const std::string& path) noexcept override;
    Sys unlink(const std::string& path) noexcept override;
    Sys access_mode(int fd) noexcept override;
    std::string absolute(const std::string& path) override;
    Sys lock_folder(const std::string& path) noexcept override;
    std::error_code resolve(const std::string& host, std::uint16_t port,
                            std::vector<Address>& addresses) override;

protected:
    PosixKernel();

    /// Ends the watching of signals. To be called first in the destructor of whoever implements
    /// `wake`, since a handler on another thread may be about to call it.
    void stop_signals() noexcept;

    /// `fd` is registered or closed: whatever had its number before is gone.
    void not_inherited(int fd) noexcept {
        if (static_cast<std::size_t>(fd) < inherited_.size()) [[unlikely]]
            inherited_[static_cast<std::size_t>(fd)] = false;
    }

    ForkWitness witness_;

private:
    SignalSink* signals_ = nullptr;
    std::unique_ptr<DatagramScratch, FreeDatagramScratch> scratch_; ///< made by the first batch
    std::vector<bool> inherited_; ///< by descriptor; empty but in forked children
};

} // namespace weft::detail
