#include <weft/reactor/buffer.hpp>
#include <weft/reactor/buffer_pool.hpp>
#include <weft/reactor/error.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <sys/mman.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace weft {
namespace detail {
namespace {

constexpr std::size_t header = block_header;

/// On a cache line of memory that is a little longer. aligned_alloc would leave a hole behind each
/// time: glibc does not find what it has freed big enough for the next of the same size (2.36), and
/// the heap would grow.
struct Heap final : Block {
    static constexpr std::size_t slack = header - __STDCPP_DEFAULT_NEW_ALIGNMENT__;

    explicit Heap(void* m) noexcept : Block(&destroy), memory(m) {}
    static Heap* make(std::size_t size) {
        if (size > SIZE_MAX - header - slack) throw std::bad_alloc();
        void* const memory = ::operator new(header + size + slack);
        const auto from = reinterpret_cast<std::uintptr_t>(memory);
        return new (static_cast<std::byte*>(memory) + (-from & (header - 1))) Heap(memory);
    }
    static void destroy(Block* block) noexcept {
        ::operator delete(static_cast<Heap*>(block)->memory);
    }
    std::byte* bytes() noexcept { return reinterpret_cast<std::byte*>(this) + header; }

    void* memory;
};
static_assert(sizeof(Heap) <= header);

/// A string or a vector.
template<class T>
struct Owned final : Block {
    explicit Owned(T&& v) noexcept : Block(&destroy), value(std::move(v)) {}
    static void destroy(Block* block) noexcept { delete static_cast<Owned*>(block); }
    T value;
};

struct Constant final : Block {
    explicit Constant(std::shared_ptr<const void>&& o) noexcept
        : Block(&destroy), owner(std::move(o)) {}
    static void destroy(Block* block) noexcept { delete static_cast<Constant*>(block); }
    std::shared_ptr<const void> owner;
};

} // namespace

// --- The pool ---

BlockPool::Pooled::Pooled(BlockPool& p, Shelf& s) noexcept
    : Block(&BlockPool::free_block), pool(p), shelf(s), size(s.size) {}

constinit thread_local char BlockPool::here = 0;

namespace {

// A use of what was given back is found by AddressSanitizer, as it would be in the heap.
void hide([[maybe_unused]] std::byte* bytes, [[maybe_unused]] std::size_t size,
          [[maybe_unused]] bool hidden) noexcept {
#if defined(__SANITIZE_ADDRESS__)
    if (hidden) {
        ASAN_POISON_MEMORY_REGION(bytes, size);
    } else {
        ASAN_UNPOISON_MEMORY_REGION(bytes, size);
    }
#endif
}

} // namespace

BlockPool* BlockPool::make() {
    return new BlockPool;
}

/// Stands in `returned_` once the pool is closed.
BlockPool::Pooled* BlockPool::closed_mark() noexcept {
    static char mark;
    return reinterpret_cast<Pooled*>(&mark);
}

BlockPool::Pooled* BlockPool::map(Shelf& shelf) {
    static_assert(sizeof(Pooled) <= header);
    void* memory = ::mmap(nullptr, header + shelf.size, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    return new (memory) Pooled(*this, shelf);
}

void BlockPool::unmap(Pooled* block) noexcept {
    const std::size_t size = block->size;
    hide(block->bytes(), size, false);
    block->~Pooled();
    ::munmap(static_cast<void*>(block), header + size);
}

#if defined(__SANITIZE_ADDRESS__)
void BlockPool::show(Pooled* block) noexcept {
    hide(block->bytes(), block->size, false);
}
#endif

/// The first of `shelf`'s free blocks, of which there was none.
BlockPool::Pooled* BlockPool::refill(Shelf& shelf) {
    if (returned_.load(std::memory_order_relaxed) != nullptr) take_returned();
    if (shelf.free == nullptr) {
        shelf.free = map(shelf);
        ++shelf.kept;
    }
    return shelf.free;
}

void BlockPool::put(Pooled* block) noexcept {
    Shelf& shelf = block->shelf;
    block->next = shelf.free;
    shelf.free = block;
    ++shelf.kept;
    --block->pool.out_;
}

void BlockPool::free_block(Block* freed) noexcept {
    auto* block = static_cast<Pooled*>(freed);
    BlockPool& pool = block->pool;
    hide(block->bytes(), block->size, true);
    if (pool.home_.load(std::memory_order_relaxed) == &here) [[likely]]
        return put(block);
    // Somebody else's thread, or nobody runs the loop.
    Pooled* top = pool.returned_.load(std::memory_order_relaxed);
    while (top != closed_mark()) {
        block->next = top;
        if (pool.returned_.compare_exchange_weak(top, block, std::memory_order_release,
                                                 std::memory_order_relaxed))
            return;
    }
    unmap(block);
    if (pool.holders_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete &pool;
}

void BlockPool::take_returned() noexcept {
    Pooled* block = returned_.exchange(nullptr, std::memory_order_acquire);
    while (block != nullptr)
        put(std::exchange(block, block->next));
}

void BlockPool::drop_some(Shelf& shelf, std::size_t count) noexcept {
    for (; count != 0; --count, --shelf.kept)
        unmap(std::exchange(shelf.free, shelf.free->next));
    shelf.least_kept = shelf.kept;
}

void BlockPool::trim() noexcept {
    take_returned();
    const auto unneeded = [](const Shelf& shelf, std::size_t few) {
        return std::min(shelf.least_kept, shelf.kept > few ? shelf.kept - few : 0);
    };
    drop_some(small_, unneeded(small_, spared));
    drop_some(large_, unneeded(large_, spared_large));
}

void BlockPool::close() noexcept {
    leave();
    take_returned();
    for (Pooled* late = returned_.exchange(closed_mark(), std::memory_order_acq_rel);
         late != nullptr; --out_)
        unmap(std::exchange(late, late->next));
    drop_some(small_, small_.kept);
    drop_some(large_, large_.kept);
    const auto owed = static_cast<std::int64_t>(out_);
    if (holders_.fetch_add(owed - holding, std::memory_order_acq_rel) == holding - owed)
        delete this;
}

} // namespace detail

// --- Buffers ---

Buffer::Buffer(std::size_t size) : size_(size) {
    if (size == 0) return;
    auto* heap = detail::Heap::make(size);
    data_ = heap->bytes();
    block_ = heap;
}

Buffer Buffer::copy(Bytes bytes) {
    Buffer made(bytes.size());
    if (!bytes.empty()) std::memcpy(made.data_, bytes.data(), bytes.size());
    return made;
}

namespace {

template<class T>
Buffer owner_of(T&& value) {
    if (value.empty()) return {};
    auto* block = new detail::Owned<T>(std::move(value));
    return {reinterpret_cast<std::byte*>(block->value.data()), block->value.size(), block};
}

} // namespace

Buffer::Buffer(std::string&& text) : Buffer(owner_of(std::move(text))) {}
Buffer::Buffer(std::vector<std::byte>&& bytes) : Buffer(owner_of(std::move(bytes))) {}
Buffer::Buffer(std::vector<char>&& bytes) : Buffer(owner_of(std::move(bytes))) {}
Buffer::Buffer(std::vector<unsigned char>&& bytes) : Buffer(owner_of(std::move(bytes))) {}

Buffer Buffer::shared(std::shared_ptr<const std::string> owner) {
    if (!owner) return {};
    const Bytes bytes = bytes_of(*owner);
    return shared(std::move(owner), bytes);
}

Buffer Buffer::shared(std::shared_ptr<const void> owner, Bytes bytes) {
    if (bytes.empty()) return {};
    return {const_cast<std::byte*>(bytes.data()), bytes.size(),
            new detail::Constant(std::move(owner))};
}

void Buffer::release(detail::Block* block) noexcept {
    // The only owner needs no atomic change: nobody else is there to see it.
    if (block->owners.load(std::memory_order_acquire) == 1 ||
        block->owners.fetch_sub(1, std::memory_order_acq_rel) == 1)
        block->free(block);
}

bool Buffer::unique() const noexcept {
    return block_ != nullptr && block_->free != &detail::Constant::destroy &&
           block_->owners.load(std::memory_order_acquire) == 1;
}

MutableBytes Buffer::writable() {
    if (size_ == 0) return {};
    if (!unique())
        throw UsageError(block_ == nullptr || block_->free == &detail::Constant::destroy
                             ? "writable: the bytes of this buffer are a constant"
                             : "writable: another buffer shows the same block");
    return {data_, size_};
}

Buffer Buffer::share(std::size_t offset, std::size_t count) const noexcept {
    offset = std::min(offset, size_);
    count = std::min(count, size_ - offset);
    if (count == 0) return {};
    if (block_ != nullptr) block_->owners.fetch_add(1, std::memory_order_relaxed);
    return {data_ + offset, count, block_};
}

Buffer Buffer::take(std::size_t count) noexcept {
    if (count >= size_) return std::move(*this);
    Buffer front = share(0, count);
    remove_prefix(count);
    return front;
}

} // namespace weft
