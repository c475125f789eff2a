#pragma once

#include <weft/reactor/kernel/kernel.hpp>

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

// In what systems differ that the kernels over POSIX need: `linux_system.cpp` and
// `linux_options.cpp` implement it, or `bsd_system.cpp` and `bsd_options.cpp` for macOS and the
// BSDs.

namespace weft::detail {

// Descriptors that are non-blocking and close-on-exec from the start, or -1 with errno.
int make_socket(int family, int type, int protocol) noexcept;
int accept_connection(int listener, sockaddr* address, socklen_t* size) noexcept;
Sys make_socket_pair(int type, int (&fds)[2]) noexcept;
Sys make_pipe(int (&fds)[2]) noexcept;
/// Prepares a socket that somebody else made, where no flag of send(2) holds SIGPIPE back.
void suppress_sigpipe(int fd) noexcept;
/// Takes away SIGPIPE that is pending for this thread, if it is.
void take_pending(const sigset_t& sigpipe) noexcept;

/// sendfile(2) of each system, as `ByteChannel::send_file` is specified.
Sys system_send_file(int fd, int file, std::uint64_t offset, std::size_t size) noexcept;
Sys system_peer_credentials(int fd, Credentials& credentials) noexcept;
/// Whether this process has one thread. False where that cannot be known.
bool only_thread() noexcept;
/// Has the page cleared in a forked child. False where that cannot be done.
bool wipe_on_fork(void* page, std::size_t size) noexcept;
/// ppoll(2) without signals; not retried.
Sys poll_once(pollfd* entries, std::size_t count, const timespec* timeout) noexcept;

/// An option as setsockopt(2) of this system knows it.
struct SystemOption {
    static constexpr int none = -1;
    enum class Form : std::uint8_t { number, byte, interface };

    int level = 0;
    int name = none; ///< `none`: this system has no such option
    Form form = Form::number;
};

/// What a `SocketOption` is here: one option, or one of each protocol.
struct SystemOptions {
    SystemOption plain = {};
    SystemOption ipv4 = {};
    SystemOption ipv6 = {};
};
SystemOptions system_options(SocketOption option) noexcept;

/// Lets multicasts of IPv4 leave by the interface of that number.
Sys set_ipv4_interface(int fd, int interface) noexcept;
/// Undoes that a socket hears groups which others of this host have joined.
void hear_own_groups_only(int fd, bool ipv6) noexcept;
Sys change_membership(int fd, bool joins, const Address& group, std::uint32_t interface,
                      const Address* source) noexcept;

} // namespace weft::detail
