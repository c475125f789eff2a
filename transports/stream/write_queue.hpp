#pragma once

#include <weft/reactor/buffer.hpp>
#include <weft/reactor/buffer_pool.hpp>
#include <weft/reactor/future.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <sys/uio.h>

namespace weft::detail {

/// A part of a file that is to be sent. Its future completes with the bytes sent.
struct FilePart {
    int file; ///< the user's
    std::uint64_t offset;
    std::uint64_t left; ///< at most; the file may end before
    Promise<std::uint64_t> promise;
    std::uint64_t sent = 0;
    bool copying = false; ///< the kernel cannot send this file: it is read and written

    void fail(std::error_code error) {
        promise.set_error_if_pending({error, "send_file (descriptor " + std::to_string(file) +
                                                 " at offset " + std::to_string(offset) + ", " +
                                                 std::to_string(sent) + " bytes sent)"});
    }
};

/// Bytes that the kernel had no room for, and files among them, in order. Allocated when a
/// connection first blocks and gone when it is empty again, so that an idle or a fast connection
/// holds nothing.
class WriteQueue {
public:
    /// Copies `data` to the end, into blocks of `pool`.
    void append(Bytes data, BlockPool& pool) {
        size_ += data.size();
        while (!data.empty()) {
            if (chunks_.empty() || chunks_.back().room() == 0) add_chunk(data.size(), pool);
            Chunk& last = chunks_.back();
            const std::size_t fits = std::min(data.size(), last.room());
            std::memcpy(last.bytes() + last.end, data.data(), fits);
            last.end += fits;
            data = data.subspan(fits);
        }
    }
    /// Puts `data` to the end, without a copy. One without an owner has to stay where it is until
    /// it is sent, or until `own`.
    void append(Buffer&& data) {
        const std::size_t size = data.size();
        if (size == 0) return;
        chunks_.push_back({std::move(data), 0, size, nullptr});
        size_ += size;
    }
    /// Copies what has no owner.
    void own() {
        for (Chunk& chunk : chunks_)
            if (!chunk.file && !chunk.buffer.owned()) {
                Buffer copied = Buffer::copy(
                    chunk.buffer.bytes().subspan(chunk.begin, chunk.end - chunk.begin));
                chunk.end -= chunk.begin;
                chunk.begin = 0;
                chunk.buffer = std::move(copied);
            }
    }

    /// Adds a file after everything that waits already.
    void append(std::unique_ptr<FilePart> file) { chunks_.push_back({{}, 0, 0, std::move(file)}); }
    /// The file that is to be sent next, null if bytes are.
    FilePart* file() const noexcept { return chunks_.front().file.get(); }
    /// Takes the file out: it is sent, or cannot be.
    std::unique_ptr<FilePart> take_file() noexcept {
        auto file = std::move(chunks_.front().file);
        chunks_.pop_front();
        return file;
    }

    /// Takes out bytes that are to be sent next, as they lie there.
    Buffer take_bytes() noexcept {
        Chunk& first = chunks_.front();
        Buffer bytes = std::move(first.buffer);
        bytes.truncate(first.end);
        bytes.remove_prefix(first.begin);
        size_ -= bytes.size();
        chunks_.pop_front();
        return bytes;
    }
    /// Tells those who wait for files that these are not sent.
    void fail_files(std::error_code why) {
        for (Chunk& chunk : chunks_)
            if (chunk.file) chunk.file->fail(why);
    }

    /// Fills `pieces` with the oldest bytes up to the first file, once `most` of them are there no
    /// further; how many pieces.
    std::size_t gather(iovec* pieces, std::size_t count, std::size_t most) const noexcept {
        std::size_t used = 0;
        std::size_t bytes = 0;
        for (const Chunk& chunk : chunks_) {
            if (used == count || chunk.file || bytes >= most) break;
            pieces[used++] = {chunk.bytes() + chunk.begin, chunk.end - chunk.begin};
            bytes += chunk.end - chunk.begin;
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
    // What a peer that is slow once leaves behind is often a few bytes, and not worth a block.
    static constexpr std::size_t small_chunk = 4 * 1024;
    struct Chunk {
        Buffer buffer;     // all of the memory if it is this queue's own, else what is to be sent
        std::size_t begin; // of what is to be sent
        std::size_t end;
        std::unique_ptr<FilePart> file; // then there are no bytes
        bool small = false;             // of the heap, and this queue's own

        std::byte* bytes() const noexcept { return const_cast<std::byte*>(buffer.data()); }
        std::size_t room() const noexcept { return buffer.size() - end; }
    };

    void add_chunk(std::size_t wanted, BlockPool& pool) {
        if (wanted <= small_chunk && chunks_.empty()) {
            chunks_.push_back({Buffer(small_chunk), 0, 0, nullptr, true});
            return;
        }
        Chunk next{pool.take(), 0, 0, nullptr};
        if (chunks_.size() != 1 || !chunks_.front().small) {
            chunks_.push_back(std::move(next));
            return;
        }
        // Slow for longer. The heap would not give its memory back to the system, as the pool does.
        Chunk& first = chunks_.front();
        next.end = first.end - first.begin;
        std::memcpy(next.bytes(), first.bytes() + first.begin, next.end);
        first = std::move(next);
    }

    std::deque<Chunk> chunks_;
    std::size_t size_ = 0;
};

} // namespace weft::detail
