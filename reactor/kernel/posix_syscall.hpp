#pragma once

#include <weft/reactor/kernel/kernel.hpp>

#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

namespace weft::detail {

/// libc's convention (-1 and errno) as a `Sys`.
inline Sys from_libc(long result) noexcept {
    return result >= 0 ? Sys(result) : Sys::fail(errno);
}

/// Makes a libc call until it is not interrupted by a signal handler.
template<class Call>
Sys uninterrupted(Call call) noexcept {
    for (;;) {
        const auto result = call();
        if (result >= 0) return Sys(result);
        if (errno != EINTR) return Sys::fail(errno);
    }
}

/// A descriptor that was made, or -1 with errno, as one that is not 0, 1 or 2: what a program
/// prints, or a child reads, must not end up in it when it was started without those.
inline int above_standard(int fd) noexcept {
    if (fd < 0 || fd > 2) [[likely]]
        return fd;
    const int moved = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    const int error = errno;
    ::close(fd);
    errno = error;
    return moved;
}

} // namespace weft::detail
