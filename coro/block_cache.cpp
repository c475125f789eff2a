#include <weft/coro/block_cache.hpp>

#include <cstdint>
#include <new>

namespace weft::coro::detail {
namespace {

constexpr std::size_t step = 16; // what the general allocator rounds to as well
constexpr std::size_t sizes = 32;
constexpr std::uint32_t most_kept = 1024;

struct FreeBlock {
    FreeBlock* next;
};

struct Cache {
    FreeBlock* blocks[sizes] = {};
    std::uint32_t kept[sizes] = {};

    ~Cache() {
        for (FreeBlock* block : blocks) {
            while (block != nullptr) {
                FreeBlock* next = block->next;
                ::operator delete(block);
                block = next;
            }
        }
    }
};

thread_local Cache cache;

// Sanitizers find uses after the end only if memory is really given back.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool caching = false;
#else
constexpr bool caching = true;
#endif

} // namespace

void* allocate_block(std::size_t size) {
    const std::size_t index = (size - 1) / step;
    if (!caching || index >= sizes) return ::operator new(size);
    if (FreeBlock* block = cache.blocks[index]) {
        cache.blocks[index] = block->next;
        --cache.kept[index];
        return block;
    }
    return ::operator new((index + 1) * step);
}

void free_block(void* block, std::size_t size) noexcept {
    const std::size_t index = (size - 1) / step;
    if (!caching || index >= sizes || cache.kept[index] >= most_kept)
        return ::operator delete(block);
    auto* free = static_cast<FreeBlock*>(block);
    free->next = cache.blocks[index];
    cache.blocks[index] = free;
    ++cache.kept[index];
}

} // namespace weft::coro::detail
