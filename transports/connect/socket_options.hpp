#pragma once

#include <weft/reactor/kernel/kernel.hpp>
#include <weft/transports/server/server.hpp>

#include <optional>
#include <utility>

namespace weft::detail {

/// A descriptor until it is handed on.
class Socket {
public:
    Socket(Kernel& kernel, int fd) noexcept : kernel_(kernel), fd_(fd) {}
    ~Socket() {
        if (fd_ >= 0) kernel_.close(fd_);
    }
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;
    int get() const noexcept { return fd_; }
    int release() noexcept { return std::exchange(fd_, -1); }

private:
    Kernel& kernel_;
    int fd_;
};

/// `local` in the form that a socket for `peer` can be bound to: mapped or unmapped, and the
/// unspecified address of the right family. Nothing if `peer` cannot be reached from it.
std::optional<Address> local_for(const Address& local, const Address& peer) noexcept;

/// Applies options one after the other until one fails.
class OptionSetter {
public:
    OptionSetter(Kernel& kernel, int fd) noexcept : kernel_(kernel), fd_(fd) {}
    void set(SocketOption option, int value) noexcept {
        if (done_.ok()) done_ = kernel_.set_option(fd_, option, value);
    }
    /// What listening and connecting TCP sockets have in common.
    void set_tcp(bool nodelay, const std::optional<KeepAlive>& keep_alive) noexcept;
    Sys result() const noexcept { return done_; }

private:
    Kernel& kernel_;
    int fd_;
    Sys done_ = 0;
};

/// `UsageError` unless the system can take them.
void check_keep_alive(const std::optional<KeepAlive>& keep_alive);
/// `UsageError` unless the low-water mark is at or below the high one.
void check_write_limits(const char* option, const std::optional<WriteLimits>& limits);

} // namespace weft::detail
