#include "byte_ring.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace weft::sim {
void ByteRing::copy(std::size_t at, void* data, std::size_t size) const noexcept {
    if (size == 0) return;
    const std::size_t start = (head_ + at) & (capacity_ - 1);
    const std::size_t first = std::min(size, capacity_ - start);
    std::memcpy(data, data_.get() + start, first);
    std::memcpy(static_cast<std::byte*>(data) + first, data_.get(), size - first);
}

void ByteRing::push(const void* data, std::size_t size) {
    if (size == 0) return;
    if (size_ + size > capacity_) {
        std::size_t capacity = std::max<std::size_t>(capacity_, 256);
        while (capacity < size_ + size)
            capacity *= 2;
        std::unique_ptr<std::byte[]> grown(new std::byte[capacity]);
        copy(0, grown.get(), size_);
        data_ = std::move(grown);
        capacity_ = capacity;
        head_ = 0;
    }
    const std::size_t start = (head_ + size_) & (capacity_ - 1);
    const std::size_t first = std::min(size, capacity_ - start);
    std::memcpy(data_.get() + start, data, first);
    std::memcpy(data_.get(), static_cast<const std::byte*>(data) + first, size - first);
    size_ += size;
}

void ByteRing::pop(void* data, std::size_t size) noexcept {
    copy(0, data, size);
    head_ = capacity_ ? (head_ + size) & (capacity_ - 1) : 0;
    size_ -= size;
    shed();
}

void ByteRing::truncate(std::size_t size) noexcept {
    size_ = std::min(size_, size);
    shed();
}

void ByteRing::shed() noexcept {
    // A connection that is idle after a burst keeps at most this much memory.
    constexpr std::size_t keep = 4096;
    if (size_ == 0 && capacity_ > keep) {
        data_.reset();
        capacity_ = head_ = 0;
    }
}

} // namespace weft::sim
