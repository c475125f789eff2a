#include "posix_syscall.hpp"
#include "system.hpp"
#include "without_sigpipe.hpp"

#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

namespace weft::detail {

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

void take_pending(const sigset_t& sigpipe) noexcept {
    const timespec at_once{};
    while (sigtimedwait(&sigpipe, nullptr, &at_once) < 0 && errno == EINTR) {
    }
}

// There is no flag against SIGPIPE here (sendfile(2)).
Sys system_send_file(int fd, int file, std::uint64_t offset, std::size_t size) noexcept {
    auto position = static_cast<off_t>(offset);
    return without_sigpipe([&] { return ::sendfile(fd, file, &position, size); });
}

Sys system_peer_credentials(int fd, Credentials& credentials) noexcept {
    ucred peer{};
    socklen_t size = sizeof peer;
    const Sys result = from_libc(::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size));
    if (!result.ok()) return result;
    // The kernel answers with pid 0 and uid -1 for sockets that are not Unix or not connected.
    if (peer.pid == 0 && peer.uid == static_cast<uid_t>(-1)) return Sys::fail(ENOTCONN);
    credentials = {peer.pid, peer.uid, peer.gid};
    return Sys(0);
}

// The links of a task folder are itself, its parent, and one per thread (proc_pid_task(5)).
bool only_thread() noexcept {
    struct stat info;
    return ::stat("/proc/self/task", &info) == 0 && info.st_nlink == 3;
}

// Linux before 4.14 has no such advice.
bool wipe_on_fork(void* page, std::size_t size) noexcept {
    return ::madvise(page, size, MADV_WIPEONFORK) == 0;
}

Sys poll_once(pollfd* entries, std::size_t count, const timespec* timeout) noexcept {
    return from_libc(::ppoll(entries, count, timeout, nullptr));
}

} // namespace weft::detail
