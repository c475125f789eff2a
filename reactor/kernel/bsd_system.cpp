#include "posix_syscall.hpp"
#include "system.hpp"
#include "without_sigpipe.hpp"

#include <algorithm>
#include <climits>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>

// Some facts about macOS and the BSDs
//
// macOS has no flags for what a descriptor is to be from the start, so that a child of fork(2) and
// exec(2) on another thread may get one that was just made. It has no MSG_NOSIGNAL either: a socket
// is told once not to raise SIGPIPE (SO_NOSIGPIPE), also those that were accepted or adopted.
//
// An accepted socket inherits O_NONBLOCK from its listener there; on Linux it does not.
//
// sendfile(2) is another call on each: FreeBSD's counts the bytes that went in its sixth argument,
// macOS' in the length that it was given, and both may have sent some when they report EAGAIN.
// OpenBSD and NetBSD have none.
//
// Who is at the other end of a Unix socket is told by getpeereid(3) everywhere, but for the
// process.

namespace weft::detail {
namespace {

#ifndef SOCK_NONBLOCK

/// Makes a descriptor non-blocking and close-on-exec, or closes it and reports why not.
int prepared(int fd) noexcept {
    if (fd < 0) return fd;
    const int status = ::fcntl(fd, F_GETFL);
    if (status >= 0 && ::fcntl(fd, F_SETFL, status | O_NONBLOCK) >= 0 &&
        ::fcntl(fd, F_SETFD, FD_CLOEXEC) >= 0)
        return fd;
    const int error = errno;
    ::close(fd);
    errno = error;
    return -1;
}

Sys prepared_pair(int (&fds)[2]) noexcept {
    if (prepared(fds[0]) < 0) {
        const int error = errno;
        ::close(fds[1]);
        return Sys::fail(error);
    }
    if (prepared(fds[1]) < 0) {
        const int error = errno;
        ::close(fds[0]);
        return Sys::fail(error);
    }
    return Sys(0);
}

#endif

/// The process at the other end, -1 where that is not told.
std::int64_t peer_process([[maybe_unused]] int fd) noexcept {
#if defined(LOCAL_PEERPID) // macOS
    pid_t process = 0;
    socklen_t size = sizeof process;
    return ::getsockopt(fd, SOL_LOCAL, LOCAL_PEERPID, &process, &size) == 0 ? process : -1;
#elif defined(LOCAL_PEEREID) // NetBSD
    unpcbid peer{};
    socklen_t size = sizeof peer;
    return ::getsockopt(fd, SOL_LOCAL, LOCAL_PEEREID, &peer, &size) == 0 ? peer.unp_pid : -1;
#elif defined(SO_PEERCRED)   // OpenBSD
    sockpeercred peer{};
    socklen_t size = sizeof peer;
    return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.pid : -1;
#else
    return -1;
#endif
}

} // namespace

#ifdef SOCK_NONBLOCK

int make_socket(int family, int type, int protocol) noexcept {
    return ::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
}

int accept_connection(int listener, sockaddr* address, socklen_t* size) noexcept {
    return ::accept4(listener, address, size, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

Sys make_socket_pair(int type, int (&fds)[2]) noexcept {
    return from_libc(::socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds));
}

Sys make_pipe(int (&fds)[2]) noexcept {
    return from_libc(::pipe2(fds, O_NONBLOCK | O_CLOEXEC));
}

void suppress_sigpipe(int) noexcept {} // MSG_NOSIGNAL does

#else

int make_socket(int family, int type, int protocol) noexcept {
    const int fd = prepared(::socket(family, type, protocol));
    if (fd >= 0) suppress_sigpipe(fd);
    return fd;
}

int accept_connection(int listener, sockaddr* address, socklen_t* size) noexcept {
    const int fd = prepared(::accept(listener, address, size));
    if (fd >= 0) suppress_sigpipe(fd);
    return fd;
}

Sys make_socket_pair(int type, int (&fds)[2]) noexcept {
    if (::socketpair(AF_UNIX, type, 0, fds) != 0) return Sys::fail(errno);
    for (const int fd : fds)
        suppress_sigpipe(fd);
    return prepared_pair(fds);
}

Sys make_pipe(int (&fds)[2]) noexcept {
    return ::pipe(fds) != 0 ? Sys::fail(errno) : prepared_pair(fds);
}

void suppress_sigpipe(int fd) noexcept {
    const int yes = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &yes, sizeof yes); // ENOTSOCK: a pipe
}

#endif

// sigtimedwait(2) is not everywhere. What write(2) raised is pending for this thread, so that
// waiting for it ends at once.
void take_pending(const sigset_t& sigpipe) noexcept {
    sigset_t pending;
    sigpending(&pending);
    int number = 0;
    if (sigismember(&pending, SIGPIPE) == 1) sigwait(&sigpipe, &number);
}

#if defined(__FreeBSD__)

Sys system_send_file(int fd, int file, std::uint64_t offset, std::size_t size) noexcept {
    off_t sent = 0;
    const Sys done = without_sigpipe([&] {
        const auto at = static_cast<off_t>(offset) + sent;
        off_t part = 0;
        const int result =
            ::sendfile(file, fd, at, size - static_cast<std::size_t>(sent), nullptr, &part, 0);
        sent += part;
        return result;
    });
    return done.ok() || sent > 0 ? Sys(sent) : done;
}

#elif defined(__APPLE__)

Sys system_send_file(int fd, int file, std::uint64_t offset, std::size_t size) noexcept {
    off_t sent = 0;
    const Sys done = without_sigpipe([&] {
        const auto at = static_cast<off_t>(offset) + sent;
        off_t part = static_cast<off_t>(size) - sent; // in: how many; out: how many went
        const int result = ::sendfile(file, fd, at, &part, nullptr, 0);
        sent += part;
        return result;
    });
    return done.ok() || sent > 0 ? Sys(sent) : done;
}

#else

Sys system_send_file(int, int, std::uint64_t, std::size_t) noexcept {
    return Sys::fail(EINVAL);
}

#endif

Sys system_peer_credentials(int fd, Credentials& credentials) noexcept {
    uid_t user = 0;
    gid_t group = 0;
    const Sys result = from_libc(::getpeereid(fd, &user, &group));
    if (!result.ok()) return result;
    credentials = {peer_process(fd), user, group};
    return Sys(0);
}

bool only_thread() noexcept {
    return false;
}

bool wipe_on_fork([[maybe_unused]] void* page, [[maybe_unused]] std::size_t size) noexcept {
#if defined(INHERIT_ZERO) // FreeBSD, OpenBSD
    return ::minherit(page, size, INHERIT_ZERO) == 0;
#elif defined(MAP_INHERIT_ZERO) // NetBSD
    return ::minherit(page, size, MAP_INHERIT_ZERO) == 0;
#else
    return false;
#endif
}

Sys poll_once(pollfd* entries, std::size_t count, const timespec* timeout) noexcept {
#ifdef __APPLE__
    int milliseconds = -1;
    if (timeout) {
        // 24 days; whoever waits asks again
        const auto seconds = std::min<std::int64_t>(timeout->tv_sec, INT_MAX / 1000 - 1);
        milliseconds = static_cast<int>(seconds * 1000 + (timeout->tv_nsec + 999'999) / 1'000'000);
    }
    return from_libc(::poll(entries, static_cast<nfds_t>(count), milliseconds));
#else
    return from_libc(::ppoll(entries, static_cast<nfds_t>(count), timeout, nullptr));
#endif
}

} // namespace weft::detail
