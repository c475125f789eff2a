#pragma once

#include <weft/reactor/bytes.hpp>
#include <weft/reactor/future.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <sys/uio.h>

namespace weft::detail {

/// A part of a file that is to be sent. Its future completes with the bytes sent.
struct FilePart {
    int file; ///< the user's
    std::uint64_t offset;
    std::uint64_t left; ///< at most; the file may end before
    Promise<std::uint64_t> promise;
    std::uint64_t sent = 0;
    bool copying = false; ///< the kernel can not send this file: it is read and written
};

/// Bytes that the kernel had no room for, and files among them, in order. Allocated when a connection first blocks and
/// gone when it is empty again, so that an idle or a fast connection holds nothing.
class WriteQueue {
public:
    /// Copies `data` to the end.
    void append(Bytes data) {
        size_ += data.size();
        if (!chunks_.empty() && !chunks_.back().file) {
            Chunk& last = chunks_.back();
            const std::size_t fits = std::min(data.size(), last.capacity - last.end);
            if (fits != 0) std::memcpy(last.bytes.get() + last.end, data.data(), fits);
            last.end += fits;
            data = data.subspan(fits);
        }
        if (data.empty()) return;
        // Small writes share a chunk; a big one gets one of its own size.
        const std::size_t capacity = std::max(data.size(), chunk_size);
        chunks_.push_back({std::unique_ptr<std::byte[]>(new std::byte[capacity]), 0, data.size(),
                           capacity, nullptr});
        std::memcpy(chunks_.back().bytes.get(), data.data(), data.size());
    }

    /// Adds a file after everything that waits already.
    void append(std::unique_ptr<FilePart> file) {
        chunks_.push_back({nullptr, 0, 0, 0, std::move(file)});
    }
    /// The file that is to be sent next, null if bytes are.
    FilePart* file() const noexcept { return chunks_.front().file.get(); }
    /// Takes the file out: it is sent, or can not be.
    std::unique_ptr<FilePart> take_file() noexcept {
        auto file = std::move(chunks_.front().file);
        chunks_.pop_front();
        return file;
    }

    /// Drops the oldest bytes, or the file, unsent.
    void drop_first() noexcept { chunks_.pop_front(); }

    /// Fills `pieces` with the oldest bytes up to the first file; how many pieces.
    std::size_t gather(iovec* pieces, std::size_t count) const noexcept {
        std::size_t used = 0;
        for (const Chunk& chunk : chunks_) {
            if (used == count || chunk.file) break;
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

    bool empty() const noexcept { return chunks_.empty(); }
    /// Bytes of memory to be sent; files do not count.
    std::size_t size() const noexcept { return size_; }

private:
    // As large as the default high-water mark: a peer that is slow once costs one allocation.
    static constexpr std::size_t chunk_size = 64 * 1024;
    struct Chunk {
        std::unique_ptr<std::byte[]> bytes;
        std::size_t begin;
        std::size_t end;
        std::size_t capacity;
        std::unique_ptr<FilePart> file; // then there are no bytes
    };
    std::deque<Chunk> chunks_;
    std::size_t size_ = 0;
};

} // namespace weft::detail
