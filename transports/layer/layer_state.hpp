#pragma once

#include "../stream/held_input.hpp"
#include "../stream/write_queue.hpp"

#include <weft/reactor/loop_core.hpp>
#include <weft/transports/layer/layered_transport.hpp>

#include <vector>

namespace weft::detail {

/// Input of a layer on its way to the protocol above.
struct LayerInput {
    /// The end of the stream.
    enum class End : std::uint8_t {
        not_met,
        met,    ///< the protocol is to be told of it, behind what is kept
        pulled, ///< it has read it; what is given back, and another protocol, meet it again
        told,   ///< by `eof_received`
    };
    bool over() const noexcept { return end == End::pulled || end == End::told; }
    /// Whether there is something for the protocol.
    bool waits() const noexcept { return !kept.empty() || !passing.empty() || end == End::met; }

    HeldInput kept;
    Bytes passing; ///< behind what is kept: being delivered, to one that reads by itself
    End end = End::not_met;
    bool exchanged = false;  ///< another protocol reads, since `get_buffer` was called last
    bool told = false;       ///< one that pulls was told, and has not met an empty stream since
    bool collecting = false; ///< what is delivered is kept, for a read that is under way
};

/// Output of a layer that has to wait there: behind a file, or because the layer holds it.
struct LayerOutput {
    WriteQueue queue;
    std::vector<Promise<void>> drain_waiters;
    Timer limit;            ///< of `close_within`
    std::error_code reason; ///< of `close`
    bool held = false;
    bool over = false; ///< it rose above the high-water mark, and is not at the low one yet
};

} // namespace weft::detail
