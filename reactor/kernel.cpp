#include <weft/reactor/error.hpp>
#include <weft/reactor/kernel.hpp>

#include <cerrno>
#include <unistd.h>

namespace weft {

std::error_code Sys::code() const noexcept {
    if (error() == EOWNERDEAD) return Errc::forked;
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

} // namespace weft
