#include <weft/coro/core/block_cache.hpp>

#include <cstdint>
#include <new>
#include <utility>

namespace weft::coro::detail {
namespace {

constexpr std::size_t step = 16;
constexpr std::size_t sizes = 32;
constexpr std::uint32_t most_kept = 1024;

// glibc's allocator keeps eight bytes of its own in each block: 24, 40, 56 … take no more than a
// byte less would.
constexpr std::size_t size_of(std::size_t index) noexcept {
    return (index + 1) * step + step / 2;
}
constexpr std::size_t size_class(std::size_t size) noexcept {
    return size <= size_of(0) ? 0 : (size - size_of(0) + step - 1) / step;
}

struct FreeBlock {
    FreeBlock* next;
};

/// Without a constructor and a destructor, so that reaching it is no call.
struct Cache {
    FreeBlock* blocks[sizes];
    std::uint32_t kept[sizes];
    bool has_cleaner;
};

constinit thread_local Cache cache{};

/// Gives the blocks back when the thread ends. Made by the first that puts one in.
struct Cleaner {
    void make() noexcept { cache.has_cleaner = true; }
    ~Cleaner() {
        for (FreeBlock*& block : cache.blocks)
            while (block != nullptr)
                ::operator delete(std::exchange(block, block->next));
        // What is freed later in the thread's end does not come here any more.
        for (std::uint32_t& count : cache.kept)
            count = most_kept;
    }
};

thread_local Cleaner cleaner;

// Sanitizers find uses after the end only if memory is really given back.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool caching = false;
#else
constexpr bool caching = true;
#endif

} // namespace

void* allocate_block(std::size_t size) {
    const std::size_t index = size_class(size);
    if (!caching || index >= sizes) return ::operator new(size);
    if (FreeBlock* block = cache.blocks[index]) {
        cache.blocks[index] = block->next;
        --cache.kept[index];
        return block;
    }
    return ::operator new(size_of(index));
}

void free_block(void* block, std::size_t size) noexcept {
    const std::size_t index = size_class(size);
    if (!caching || index >= sizes || cache.kept[index] >= most_kept)
        return ::operator delete(block);
    auto* free = static_cast<FreeBlock*>(block);
    free->next = cache.blocks[index];
    cache.blocks[index] = free;
    ++cache.kept[index];
    if (!cache.has_cleaner) [[unlikely]]
        cleaner.make();
}

} // namespace weft::coro::detail
