#pragma once

#include "posix_syscall.hpp"

#include <sys/socket.h>

namespace weft::detail {

inline Sys direct_recv(int fd, void* data, std::size_t size, int flags) noexcept {
    return uninterrupted([&] { return ::recv(fd, data, size, flags); });
}
inline Sys direct_send(int fd, const void* data, std::size_t size, int flags) noexcept {
    return uninterrupted([&] { return ::send(fd, data, size, flags); });
}

} // namespace weft::detail
