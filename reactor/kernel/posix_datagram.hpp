#pragma once

#include <array>
#include <cstddef>
#include <sys/socket.h>
#include <sys/uio.h>

namespace weft::detail {

/// What recvmmsg(2) and sendmmsg(2) are told, for one batch each. One per kernel, made when first
/// needed.
struct DatagramScratch {
    // More than 64 per call gain nothing measurable, and the arrays are to stay within a few pages.
    static constexpr std::size_t batch = 64;
    // Room for packet info, both kinds of TOS, GRO, and what a user may have switched on beside
    // these.
    static constexpr std::size_t control_size = 256;
    struct alignas(cmsghdr) Control {
        std::byte bytes[control_size];
    };

    struct Messages {
        std::array<mmsghdr, batch> headers{};
        std::array<iovec, batch> pieces{};
        std::array<Control, batch> control;
    };
    Messages incoming; ///< stays as it is told for the slots it was told last
    Messages outgoing;
};

} // namespace weft::detail
