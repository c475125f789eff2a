// Counts the heap calls of the program it is preloaded into, and the bytes that it copies. The
// counters are the first words of the file named by WEFT_COUNT_FILE, mapped and shared, so that
// they can be read at any moment and the program is not disturbed by a signal. Rests on glibc's
// exported __libc_malloc and its siblings.

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);
}

namespace {

struct Counters {
    std::atomic<std::uint64_t> allocations; ///< malloc, calloc, realloc and the aligned ones
    std::atomic<std::uint64_t> frees;
    std::atomic<std::uint64_t> bytes; ///< asked for
    /// by memcpy and memmove, where the compiler leaves the call
    std::atomic<std::uint64_t> copied;
};

Counters unmapped;
Counters* counters = &unmapped;

[[gnu::constructor]] void map_counters() {
    const char* path = std::getenv("WEFT_COUNT_FILE");
    int fd = path ? ::open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd < 0 || ::ftruncate(fd, sizeof(Counters)) != 0) return;
    void* page = ::mmap(nullptr, sizeof(Counters), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ::close(fd);
    if (page != MAP_FAILED) counters = static_cast<Counters*>(page);
}

void count(std::size_t bytes) {
    counters->allocations.fetch_add(1, std::memory_order_relaxed);
    counters->bytes.fetch_add(bytes, std::memory_order_relaxed);
}

void count_copied(std::size_t bytes) {
    counters->copied.fetch_add(bytes, std::memory_order_relaxed);
}

} // namespace

extern "C" {

// Byte by byte, and so that the compiler does not make a call of memcpy of the loop.
[[gnu::visibility("default"), gnu::optimize("no-tree-loop-distribute-patterns")]] void*
memcpy(void* __restrict to, const void* __restrict from, std::size_t size) {
    count_copied(size);
    for (std::size_t i = 0; i < size; ++i)
        static_cast<char*>(to)[i] = static_cast<const char*>(from)[i];
    return to;
}

[[gnu::visibility("default"), gnu::optimize("no-tree-loop-distribute-patterns")]] void*
memmove(void* to, const void* from, std::size_t size) {
    if (to <= from) return memcpy(to, from, size);
    count_copied(size);
    for (std::size_t i = size; i > 0; --i)
        static_cast<char*>(to)[i - 1] = static_cast<const char*>(from)[i - 1];
    return to;
}

[[gnu::visibility("default")]] void* malloc(std::size_t size) {
    count(size);
    return __libc_malloc(size);
}

[[gnu::visibility("default")]] void* calloc(std::size_t items, std::size_t size) {
    count(items * size);
    return __libc_calloc(items, size);
}

[[gnu::visibility("default")]] void* realloc(void* old, std::size_t size) {
    count(size);
    return __libc_realloc(old, size);
}

[[gnu::visibility("default")]] void* memalign(std::size_t alignment, std::size_t size) {
    count(size);
    return __libc_memalign(alignment, size);
}

[[gnu::visibility("default")]] void* aligned_alloc(std::size_t alignment, std::size_t size) {
    return memalign(alignment, size);
}

[[gnu::visibility("default")]] int posix_memalign(void** result, std::size_t alignment,
                                                  std::size_t size) {
    *result = memalign(alignment, size);
    return *result ? 0 : ENOMEM;
}

[[gnu::visibility("default")]] void free(void* memory) {
    if (memory) counters->frees.fetch_add(1, std::memory_order_relaxed);
    __libc_free(memory);
}
}
