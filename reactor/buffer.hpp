#pragma once

#include <weft/reactor/bytes.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#pragma GCC visibility push(default)

namespace weft {

namespace detail {

/// Bytes begin so far behind their block's beginning, on a cache line: the kernel copies to and
/// from such addresses at twice the speed of odd ones.
inline constexpr std::size_t block_header = 64;

/// What keeps bytes alive: counted by the buffers that show a part of them.
struct Block {
    using Free = void (*)(Block*) noexcept;
    explicit Block(Free f) noexcept : free(f) {}
    std::atomic<std::uint32_t> owners{1};
    Free free; ///< called once, by the last owner, on its thread
};

} // namespace detail

/// Bytes with an owner: moved instead of copied from where they are received to where they are
/// sent. A buffer shows a part of a block of memory, which lives as long as any buffer shows some
/// of it. The block may be one that a loop has received into, memory of its own, a string or vector
/// that was moved in, or a constant that others share.
///
/// Moving a buffer costs three stores; a moved-from one is empty. It may be moved to and destroyed
/// on any thread, also after the loop that it came from has gone; one buffer is for one thread at a
/// time. Two buffers that show the same bytes may be read on two threads.
///
/// A buffer keeps the whole of its block: code that stores small parts of large messages for
/// long copies them (`Buffer::copy`). Received blocks have 64 KiB; a loop that sees many of them
/// kept copies small input by itself.
class Buffer {
public:
    /// An empty one, which owns nothing.
    Buffer() noexcept = default;
    Buffer(Buffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)),
          block_(std::exchange(other.block_, nullptr)) {}
    Buffer& operator=(Buffer&& other) noexcept {
        if (this == &other) [[unlikely]]
            return *this;
        detail::Block* const before = std::exchange(block_, std::exchange(other.block_, nullptr));
        data_ = std::exchange(other.data_, nullptr);
        size_ = std::exchange(other.size_, 0);
        if (before != nullptr) release(before);
        return *this;
    }
    ~Buffer() {
        if (block_ != nullptr) release(block_);
    }
    /// Shows nothing from now on, and owns nothing.
    void clear() noexcept {
        data_ = nullptr;
        size_ = 0;
        if (block_ != nullptr) release(std::exchange(block_, nullptr));
    }

    /// `size` bytes of its own, to be written through `writable`; their values are not set. Throws
    /// `std::bad_alloc`.
    explicit Buffer(std::size_t size);
    /// A copy of `bytes` in memory of its own.
    static Buffer copy(Bytes bytes);
    /// The characters of `text` and the elements of `bytes`, which are moved and not copied.
    explicit Buffer(std::string&& text);
    explicit Buffer(std::vector<std::byte>&& bytes);
    explicit Buffer(std::vector<char>&& bytes);
    explicit Buffer(std::vector<unsigned char>&& bytes);
    /// The bytes of a constant that others share: `owner` is held as long as they are shown. Read
    /// only.
    static Buffer shared(std::shared_ptr<const std::string> owner);
    /// The same for any owner of `bytes`.
    static Buffer shared(std::shared_ptr<const void> owner, Bytes bytes);
    /// Bytes that nobody has to keep alive: of static storage, as a string literal's. Read only.
    static Buffer unowned(Bytes bytes) noexcept {
        return Buffer(const_cast<std::byte*>(bytes.data()), bytes.size(), nullptr);
    }

    const std::byte* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }
    /// Whether there are bytes: `while (Buffer data = stream.read())`.
    explicit operator bool() const noexcept { return size_ != 0; }
    Bytes bytes() const noexcept { return {data_, size_}; }
    operator Bytes() const noexcept { return bytes(); }
    std::string_view text() const noexcept { return text_of(bytes()); }

    /// The same bytes, to be changed in place. Throws `UsageError` if another buffer shows any of
    /// this block, or if it is a constant: `unique()` tells.
    MutableBytes writable();
    /// Whether no other buffer shows this block, and it may be written to.
    bool unique() const noexcept;

    /// Another owner of the same bytes; neither may be written to as long as there are two.
    Buffer share() const noexcept { return share(0, size_); }
    /// Of `count` of them from `offset` on, as far as there are so many.
    Buffer share(std::size_t offset, std::size_t count) const noexcept;
    /// Takes the first `count` bytes away, as far as there are so many, and hands them out.
    Buffer take(std::size_t count) noexcept;
    /// Drops bytes at the front, at the end: at most all.
    void remove_prefix(std::size_t count) noexcept {
        count = count < size_ ? count : size_;
        data_ += count;
        size_ -= count;
    }
    void truncate(std::size_t size) noexcept {
        if (size < size_) size_ = size;
    }

    /// For the library: takes over one count of `block`, which may be null.
    Buffer(std::byte* data, std::size_t size, detail::Block* block) noexcept
        : data_(data), size_(size), block_(block) {}
    /// Whether anything keeps the bytes alive.
    bool owned() const noexcept { return block_ != nullptr; }

private:
    static void release(detail::Block* block) noexcept;

    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
    detail::Block* block_ = nullptr;
};

} // namespace weft

#pragma GCC visibility pop
