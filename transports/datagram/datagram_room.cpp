// What the datagram endpoints of a loop share.

#include "datagram_room.hpp"

#include <algorithm>

namespace weft::detail {
namespace {

// Slots of 64 KiB would all begin in the same cache sets. One page and one line more spreads them.
constexpr std::size_t slot_colour = 4096 + 64;

constexpr std::size_t slot_stride(std::size_t size) noexcept {
    return size % 4096 == 0 && size > 4096 ? size + slot_colour : size;
}

} // namespace

std::shared_ptr<DatagramRoom> DatagramRoom::of(LoopCore& core) {
    auto room = std::static_pointer_cast<DatagramRoom>(core.datagram_memory().lock());
    if (!room) {
        room = std::make_shared<DatagramRoom>(core);
        core.datagram_memory() = room;
    }
    return room;
}

void DatagramRoom::reserve(std::size_t count, std::size_t size, std::size_t views) {
    if (busy) return; // an endpoint made in a callback: its first receive will see to it
    (void)slots(count, size);
    batch.reserve(views);
}

std::span<DatagramSlot> DatagramRoom::slots(std::size_t count, std::size_t size) {
    // The loop's buffer is another one when somebody has kept what a stream received.
    const bool moved = borrowed_ != nullptr && core_.receive_buffer().room().data() != borrowed_;
    if (size != slot_size_ || count > slots_.size() || moved) {
        const std::size_t slots = std::max(count, slots_.size());
        const std::size_t stride = slot_stride(size);
        MutableBytes memory = core_.receive_buffer().room();
        slot_size_ = 0;
        slots_.resize(slots);
        borrowed_ = memory.data();
        if (memory.size() < slots * stride) {
            if (capacity_ < slots * stride) {
                bytes_.reset();
                capacity_ = 0;
                bytes_.reset(new std::byte[slots * stride]);
                capacity_ = slots * stride;
            }
            memory = {bytes_.get(), capacity_};
            borrowed_ = nullptr;
        }
        for (std::size_t i = 0; i < slots; ++i) {
            slots_[i].data = memory.data() + i * stride;
            slots_[i].capacity = size;
        }
        slot_size_ = size;
    }
    return std::span(slots_).first(count);
}

std::unique_ptr<DatagramQueue> DatagramRoom::take_queue() {
    if (spare_) return std::move(spare_);
    return std::make_unique<DatagramQueue>();
}

void DatagramRoom::give_back(std::unique_ptr<DatagramQueue> queue) noexcept {
    queue->clear();
    if (!spare_) spare_ = std::move(queue);
}

} // namespace weft::detail
