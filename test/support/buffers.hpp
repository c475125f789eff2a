#pragma once

#include <weft/reactor/kernel/kernel.hpp>

#include <sys/socket.h>

namespace weft::test {

/// Gives a socket of the system buffers of a fixed size in both directions. What the system chooses
/// is between 4 KiB and 33 MB (tcp_rmem, tcp_wmem; tcp(7)), and a case that fills a connection, or
/// expects room in it, may not depend on that. 100 KiB have room, and more than 1 MiB have not.
/// Those of simulated sockets have 64 KiB from the start.
inline void fix_buffers(const Kernel& kernel, int fd) noexcept {
    if (fd < 0 || kernel.name() == "sim") return;
    // the system doubles it; net.core.wmem_max allows 208 KiB nearly everywhere
    constexpr int size = 128 * 1024;
    for (const int name : {SO_SNDBUF, SO_RCVBUF})
        ::setsockopt(fd, SOL_SOCKET, name, &size, sizeof size);
}

} // namespace weft::test
