#include "socket.hpp"

#include <sys/socket.h>

namespace weft::sim {
bool Socket::is_stream() const noexcept {
    return type == SOCK_STREAM;
}
bool Socket::is_datagram() const noexcept {
    return type == SOCK_DGRAM;
}
bool Socket::is_unix() const noexcept {
    return family == AF_UNIX;
}

int Socket::option(SocketOption name, int fallback) const noexcept {
    for (const Option& each : options)
        if (each.name == name) return each.value;
    return fallback;
}

} // namespace weft::sim
