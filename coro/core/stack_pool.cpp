// Some facts about stacks. Linux gives out pages when they are first touched, so a mapping of a
// gigabyte costs nothing but address space. A guard page made by mprotect(2) splits its mapping in
// two, and a process may have 65 530 of them (vm.max_map_count), which ends at some 32 700 stacks.
// MADV_GUARD_INSTALL (Linux 6.13, madvise(2); its number is absent from Debian 12's headers) marks
// pages in the page table instead, and the marks survive MADV_DONTNEED. A page table maps 2 MiB, so
// stacks of 64 KiB share one among 32. Transparent huge pages would back all 32 when the first is
// touched. Stacks that begin at the same place of their pages compete for the same sets of the
// caches, so their beginnings are spread over the page's first kilobyte; and with sizes that are
// powers of two they would be the same places of a second-level cache as well, so the guard's page
// comes on top of the size.

#include <weft/coro/core/context.hpp>
#include <weft/coro/core/stack_pool.hpp>
#include <weft/reactor/log.hpp>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sys/mman.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace weft::coro::detail {
namespace {

constexpr int madv_guard_install = 102;
constexpr std::size_t largest_slab = std::size_t{1} << 30;
constexpr std::size_t first_slab_stacks = 64;
// Colours of a stack's beginning: cache lines, within the first kilobyte.
constexpr std::size_t colours = 16;
constexpr std::size_t cache_line = 64;
constexpr unsigned char canary_byte = 0xC5;
// Each costs about 2 us, so the loop is kept from its work for half a millisecond.
constexpr std::size_t trimmed_at_once = 256;

std::byte* map(std::size_t size) noexcept {
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    (void)madvise(memory, size, MADV_NOHUGEPAGE);
    return static_cast<std::byte*>(memory);
}

/// Guards that mprotect may make: two mappings each, out of four fifths of what the system allows.
std::size_t mapping_budget() {
    std::size_t allowed = 65530; // the kernel's default
    std::ifstream("/proc/sys/vm/max_map_count") >> allowed;
    return allowed / 5 * 4 / 2;
}

Guard probe(std::size_t page_size) noexcept {
    std::byte* memory = map(page_size);
    if (memory == nullptr) return Guard::protect;
    const bool works = madvise(memory, page_size, madv_guard_install) == 0;
    munmap(memory, page_size);
    return works ? Guard::marker : Guard::protect;
}

} // namespace

StackPool::StackPool(Guard guard) : page_size_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))) {
    for (std::size_t i = 0; i < class_count; ++i)
        classes_[i].stack_size = std::size_t{1} << (smallest_shift + i);
    set_guard(guard);
}

void StackPool::set_guard(Guard guard) {
    guard_ = guard == Guard::automatic ? probe(page_size_) : guard;
    if (guard_ == Guard::protect) protect_budget_ = mapping_budget();
}

StackPool::~StackPool() {
    for (Class& size_class : classes_)
        for (const Slab& slab : size_class.slabs)
            if (slab.memory != nullptr) munmap(slab.memory, slab.stacks * stride(size_class));
}

std::size_t StackPool::rounded(std::size_t size) noexcept {
    return std::bit_ceil(std::max(size, std::size_t{1} << smallest_shift));
}

/// No idle one is there.
Stack StackPool::take_new(std::size_t size) {
    const std::size_t index = class_of(size);
    if (index >= class_count)
        throw std::system_error(std::make_error_code(std::errc::not_enough_memory),
                                "a stack of " + std::to_string(size) + " bytes");
    Class& size_class = classes_[index];
    const Stack stack = carve(size_class, static_cast<std::uint16_t>(index));
    ++size_class.in_use;
    return stack;
}

Stack StackPool::carve(Class& size_class, std::uint16_t index) {
    if (size_class.slabs.empty() ||
        size_class.slabs.back().carved == size_class.slabs.back().stacks)
        add_slab(size_class);
    Slab& slab = size_class.slabs.back();
    std::byte* base = slab.memory + slab.carved * stride(size_class);
    install_guard(base);
    const std::size_t colour = slab.carved % colours * cache_line;
    ++slab.carved;
    const Stack stack{base + page_size_, base + stride(size_class) - colour, index,
                      guard_ == Guard::canary};
    if (stack.has_canary) std::memset(stack.bottom, canary_byte, canary_size);
    register_stack(stack.bottom, stack.top);
    return stack;
}

void StackPool::add_slab(Class& size_class) {
    std::size_t stacks =
        size_class.slabs.empty() ? first_slab_stacks : size_class.slabs.back().stacks * 2;
    stacks = std::max<std::size_t>(1, std::min(stacks, largest_slab / stride(size_class)));
    size_class.slabs.reserve(size_class.slabs.size() + 1);
    std::size_t all = stacks;
    for (const Slab& slab : size_class.slabs)
        all += slab.stacks;
    if (all > size_class.idle.capacity())
        size_class.idle.reserve(std::max(all, 2 * size_class.idle.capacity()));
    for (;; stacks /= 2) {
        if (stacks == 0)
            throw std::system_error(errno, std::generic_category(),
                                    "memory for stacks of " +
                                        std::to_string(size_class.stack_size) + " bytes");
        if (std::byte* memory = map(stacks * stride(size_class))) {
            size_class.slabs.push_back({memory, stacks, 0});
            return;
        }
    }
}

void StackPool::install_guard(std::byte* at) {
    if (guard_ == Guard::marker && madvise(at, page_size_, madv_guard_install) != 0) {
        // Refused for locked memory (mlockall(2)), which the probe may not have seen.
        guard_ = Guard::protect;
        protect_budget_ = mapping_budget();
    }
    if (guard_ != Guard::protect) return;
    if (protected_ < protect_budget_ && mprotect(at, page_size_, PROT_NONE) == 0) {
        ++protected_;
        return;
    }
    guard_ = Guard::canary;
    if (!std::exchange(warned_, true))
        log(LogLevel::warning, "after " + std::to_string(protected_) +
                                   " stacks this system has no more guard pages "
                                   "(vm.max_map_count); the overflow of further ones is "
                                   "noticed when a coroutine ends");
}

bool StackPool::canary_whole(const Stack& stack) noexcept {
    return std::all_of(stack.bottom, stack.bottom + canary_size,
                       [](std::byte b) { return b == std::byte{canary_byte}; });
}

StackPool::Left StackPool::trim_some() noexcept {
    Left left = Left::nothing;
    for (Class& size_class : classes_) {
        const std::size_t untouched = size_class.least_idle;
        const std::size_t touched = size_class.idle.size() - untouched;
        const std::size_t keep = std::max(touched, kept(size_class));
        trim(size_class, keep, trimmed_at_once);
        if (size_class.with_pages() > keep) {
            left = Left::more;
            continue;
        }
        look_at(size_class);
        if (left == Left::nothing && size_class.with_pages() > kept(size_class)) left = Left::later;
    }
    return left;
}

void StackPool::trim(std::size_t keep) noexcept {
    for (Class& size_class : classes_) {
        look_at(size_class);
        trim(size_class, keep, SIZE_MAX);
    }
}

// Those among the trimmed ones that were taken since, and given back, have their pages again.
void StackPool::look_at(Class& size_class) noexcept {
    size_class.trimmed = std::min(size_class.trimmed, size_class.least_idle);
    size_class.least_idle = size_class.idle.size();
}

// The ones that were used longest ago go first. Never the newest: its last user may still run on
// it.
void StackPool::trim(Class& size_class, std::size_t keep, std::size_t most) noexcept {
    size_class.trimmed = std::min(size_class.trimmed, size_class.least_idle);
    while (size_class.with_pages() > std::max<std::size_t>(keep, 1) && most-- != 0) {
        const Stack& stack = size_class.idle[size_class.trimmed++];
        // Up to the stack's real end, which its colour hides, and not the canary's page.
        const auto end =
            (reinterpret_cast<std::uintptr_t>(stack.top) + page_size_ - 1) & ~(page_size_ - 1);
        std::byte* from = stack.bottom + (stack.has_canary ? page_size_ : 0);
        (void)madvise(from, end - reinterpret_cast<std::uintptr_t>(from), MADV_DONTNEED);
    }
}

StackPool::Stats StackPool::stats() const noexcept {
    Stats stats;
    for (const Class& size_class : classes_) {
        stats.in_use += size_class.in_use;
        stats.idle += size_class.with_pages();
        stats.trimmed += size_class.idle.size() - size_class.with_pages();
        stats.mappings += size_class.slabs.size();
        for (const Slab& slab : size_class.slabs)
            stats.reserved += slab.stacks * stride(size_class);
    }
    stats.guards_by_protection = protected_;
    return stats;
}

std::byte* StackPool::guarded_top(const void* address) const noexcept {
    const auto* at = static_cast<const std::byte*>(address);
    for (const Class& size_class : classes_) {
        for (const Slab& slab : size_class.slabs) {
            if (at < slab.memory || at >= slab.memory + slab.carved * stride(size_class)) continue;
            const auto index = static_cast<std::size_t>(at - slab.memory) / stride(size_class);
            std::byte* base = slab.memory + index * stride(size_class);
            if (at >= base + page_size_) return nullptr;
            return base + stride(size_class) - index % colours * cache_line;
        }
    }
    return nullptr;
}

} // namespace weft::coro::detail
