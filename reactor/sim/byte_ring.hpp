#pragma once

#include <cstddef>
#include <memory>

namespace weft::sim {

/// A queue of bytes that grows to any size.
class ByteRing {
public:
    std::size_t size() const noexcept { return size_; }
    void push(const void* data, std::size_t size);
    void pop(void* data, std::size_t size) noexcept;
    /// Drops the newest bytes so that `size` are left.
    void truncate(std::size_t size) noexcept;

private:
    void copy(std::size_t at, void* data, std::size_t size) const noexcept;
    void shed() noexcept;
    std::unique_ptr<std::byte[]> data_;
    std::size_t capacity_ = 0; // a power of two, or 0
    std::size_t head_ = 0;
    std::size_t size_ = 0;
};

} // namespace weft::sim
