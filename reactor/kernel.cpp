#include <weft/reactor/kernel.hpp>

#include <cerrno>

namespace weft {

bool Sys::would_block() const noexcept {
    // Two names, one value on most systems (recv(2)).
    return value_ == -EAGAIN || value_ == -EWOULDBLOCK;
}

} // namespace weft
