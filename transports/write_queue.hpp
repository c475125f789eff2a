#pragma once

#include <weft/reactor/bytes.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <deque>
#include <memory>
#include <sys/uio.h>

namespace weft::detail {

/// Bytes that the kernel had no room for, in order. Allocated when a connection first blocks and
/// gone when it is empty again, so that an idle or a fast connection holds nothing.
class WriteQueue {
public:
    /// Copies `data` to the end.
    void append(Bytes data) {
        size_ += data.size();
        if (!chunks_.empty()) {
            Chunk& last = chunks_.back();
            const std::size_t fits = std::min(data.size(), last.capacity - last.end);
            if (fits != 0) std::memcpy(last.bytes.get() + last.end, data.data(), fits);
            last.end += fits;
            data = data.subspan(fits);
        }
        if (data.empty()) return;
        // Small writes share a chunk; a big one gets one of its own size.
        const std::size_t capacity = std::max(data.size(), chunk_size);
        chunks_.push_back(
            {std::unique_ptr<std::byte[]>(new std::byte[capacity]), 0, data.size(), capacity});
        std::memcpy(chunks_.back().bytes.get(), data.data(), data.size());
    }

    /// Fills `pieces` with the oldest bytes; how many pieces.
    std::size_t gather(iovec* pieces, std::size_t count) const noexcept {
        std::size_t used = 0;
        for (const Chunk& chunk : chunks_) {
            if (used == count) break;
            pieces[used++] = {chunk.bytes.get() + chunk.begin, chunk.end - chunk.begin};
        }
        return used;
    }

    /// Drops the oldest `count` bytes: they are sent.
    void consume(std::size_t count) noexcept {
        size_ -= count;
        while (count != 0) {
            Chunk& first = chunks_.front();
            const std::size_t here = std::min(count, first.end - first.begin);
            first.begin += here;
            count -= here;
            if (first.begin == first.end) chunks_.pop_front();
        }
    }

    std::size_t size() const noexcept { return size_; }

private:
    // As large as the default high-water mark: a peer that is slow once costs one allocation.
    static constexpr std::size_t chunk_size = 64 * 1024;
    struct Chunk {
        std::unique_ptr<std::byte[]> bytes;
        std::size_t begin;
        std::size_t end;
        std::size_t capacity;
    };
    std::deque<Chunk> chunks_;
    std::size_t size_ = 0;
};

} // namespace weft::detail
