#pragma once

#include "datagram_queue.hpp"

#include <weft/protocols/protocol.hpp>
#include <weft/reactor/kernel/kernel.hpp>
#include <weft/reactor/loop_core.hpp>

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

namespace weft::detail {

/// What the datagram endpoints of one loop share, because only one of them runs at a time: receive
/// slots, the arrays that system calls and callbacks are given, and a queue for whoever sends next.
class DatagramRoom {
public:
    // What the kernels do in one call.
    static constexpr std::size_t max_batch = 64;

    /// The loop's room, made if there is none.
    static std::shared_ptr<DatagramRoom> of(LoopCore& core);
    explicit DatagramRoom(LoopCore& core) noexcept : core_(core) {}

    /// Allocates what a receive of `count` slots and a batch of `views` will need, if that can be
    /// done now.
    void reserve(std::size_t count, std::size_t size, std::size_t views);
    /// `count` slots of `size` bytes. Allocates only when more is asked for than ever before.
    std::span<DatagramSlot> slots(std::size_t count, std::size_t size);
    std::unique_ptr<DatagramQueue> take_queue();
    void give_back(std::unique_ptr<DatagramQueue> queue) noexcept;

    std::vector<Datagram> batch; ///< the views that a protocol is handed
    bool busy = false;           ///< it has them in its hands: neither views nor slots may move
    std::array<OutDatagram, max_batch> out;

private:
    LoopCore& core_;
    std::vector<DatagramSlot> slots_;
    const std::byte* borrowed_ = nullptr; // the loop's receive buffer, if the slots lie there
    std::unique_ptr<std::byte[]> bytes_;
    std::size_t capacity_ = 0;
    std::size_t slot_size_ = 0; ///< that `slots_` are set up for
    std::unique_ptr<DatagramQueue> spare_;
};

} // namespace weft::detail
