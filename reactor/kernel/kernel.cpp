#include <weft/reactor/error.hpp>
#include <weft/reactor/kernel/kernel.hpp>

#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

namespace weft {

std::error_code Sys::code() const noexcept {
    return errno_code(error());
}

bool Sys::would_block() const noexcept {
    // Two names, one value on most systems (recv(2)).
    return value_ == -EAGAIN || value_ == -EWOULDBLOCK;
}

Sys ByteChannel::send_file(int, int, std::uint64_t, std::size_t) noexcept {
    return Sys::fail(EINVAL);
}

// Files are real in every kernel, the simulated one included: a program opens them by itself.
Sys Kernel::read_file(int file, std::uint64_t offset, void* data, std::size_t size) noexcept {
    for (;;) {
        const auto got = ::pread(file, data, size, static_cast<off_t>(offset));
        if (got >= 0) return Sys(got);
        if (errno != EINTR) return Sys::fail(errno);
    }
}

// Likewise the descriptors that a program opened: a simulated one can be used both ways.
Sys Kernel::access_mode(int fd) noexcept {
    (void)fd;
    return Sys(O_RDWR);
}

} // namespace weft
