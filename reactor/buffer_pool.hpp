#pragma once

#include <weft/reactor/buffer.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>

#pragma GCC visibility push(default)

namespace weft::detail {

/// A loop's blocks for what is received and for what waits to be sent. There are two sizes: of 64
/// KiB, and of 256 KiB for streams that fill those. The one freed last is given out first, so that
/// a loop whose buffers come and go uses the same warm memory over and over. Blocks may be freed on
/// any thread and after the loop; the pool lives as long as the last of them. Blocks are mapped,
/// not taken from the heap, so that those nobody needs go back to the system: see `trim`.
class BlockPool {
public:
    static constexpr std::size_t block_size = 64 * 1024;  ///< bytes that a block holds
    static constexpr std::size_t large_size = 256 * 1024; ///< bytes that a large one holds

    static BlockPool* make();
    /// The loop is closed: what is kept goes, what is out goes when it is freed, and the pool with
    /// the last.
    void close() noexcept;

    /// A buffer of one block, all of it. Loop's thread. Throws `std::bad_alloc`.
    Buffer take() { return take(small_); }
    Buffer take_large() { return take(large_); }
    /// Blocks that somebody holds.
    std::size_t out() const noexcept { return out_; }
    /// Blocks kept for reuse.
    std::size_t kept() const noexcept { return small_.kept + large_.kept; }
    /// Whether the loop should call `trim` in a while.
    bool wants_trim() const noexcept {
        return small_.kept > spared || large_.kept > spared_large ||
               returned_.load(std::memory_order_relaxed) != nullptr;
    }
    /// Gives back what nobody has needed since the last call, but for a few.
    void trim() noexcept;

    /// From `enter` to `leave` the calling thread is the one that frees without further ado.
    void enter() noexcept { home_.store(&here, std::memory_order_relaxed); }
    void leave() noexcept { home_.store(nullptr, std::memory_order_relaxed); }

private:
    struct Shelf;
    struct Pooled final : Block {
        Pooled(BlockPool& p, Shelf& s) noexcept;
        std::byte* bytes() noexcept { return reinterpret_cast<std::byte*>(this) + block_header; }
        BlockPool& pool;
        Shelf& shelf; // the pool's
        Pooled* next = nullptr;
        const std::size_t size;
    };
    /// Blocks of one size that wait to be used again.
    struct Shelf {
        std::size_t size;
        Pooled* free = nullptr;
        std::size_t kept = 0;
        std::size_t least_kept = 0; // since the last trim
    };
    static constexpr std::size_t spared = 4;
    static constexpr std::size_t spared_large = 1;

    BlockPool() = default;
    ~BlockPool() = default;
    static void free_block(Block* block) noexcept;
    Buffer take(Shelf& shelf) {
        Pooled* block = shelf.free;
        if (block == nullptr) [[unlikely]]
            block = refill(shelf);
        shelf.free = block->next;
        --shelf.kept;
        if (shelf.kept < shelf.least_kept) shelf.least_kept = shelf.kept;
        block->owners.store(1, std::memory_order_relaxed);
        ++out_;
        show(block);
        return {block->bytes(), shelf.size, block};
    }
    Pooled* refill(Shelf& shelf);
    Pooled* map(Shelf& shelf);
#if defined(__SANITIZE_ADDRESS__)
    static void show(Pooled* block) noexcept;
#else
    static void show(Pooled*) noexcept {}
#endif
    static void unmap(Pooled* block) noexcept;
    static void put(Pooled* block) noexcept;
    static void drop_some(Shelf& shelf, std::size_t count) noexcept;
    void take_returned() noexcept;
    static Pooled* closed_mark() noexcept;

    // Its address names the thread.
    static thread_local char here;

    Shelf small_{block_size};
    Shelf large_{large_size};
    std::size_t out_ = 0;
    std::atomic<const char*> home_{nullptr};             // the thread inside the loop
    alignas(64) std::atomic<Pooled*> returned_{nullptr}; // freed on other threads
    std::atomic<std::int64_t> holders_{holding};
    static constexpr std::int64_t holding = std::int64_t{1} << 40; // the loop's own
};

} // namespace weft::detail

#pragma GCC visibility pop
