// Counting versions of operator new and delete. They are malloc and free otherwise, so that the
// sanitizers go on seeing every block.

#include "heap.hpp"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <malloc.h>
#include <new>

namespace weft::test {
namespace {

std::atomic<std::size_t> allocations{0};
std::atomic<std::size_t> live_bytes{0};
thread_local std::size_t own_allocations = 0;
constexpr std::size_t never = SIZE_MAX;
thread_local std::size_t until_failure = never;
thread_local bool failed = false;

// Whether this allocation is the one that fails.
bool fails() noexcept {
    if (until_failure == never || until_failure-- != 0) return false;
    until_failure = never;
    return failed = true;
}

void* counted(void* block) noexcept {
    if (block == nullptr) return nullptr;
    allocations.fetch_add(1, std::memory_order_relaxed);
    live_bytes.fetch_add(malloc_usable_size(block), std::memory_order_relaxed);
    ++own_allocations;
    return block;
}

void* allocate(std::size_t size) noexcept {
    return fails() ? nullptr : counted(std::malloc(size != 0 ? size : 1));
}

void* allocate(std::size_t size, std::align_val_t alignment) noexcept {
    if (fails()) return nullptr;
    const auto unit = static_cast<std::size_t>(alignment);
    return counted(std::aligned_alloc(unit, (size + unit - 1) / unit * unit));
}

void* or_throw(void* block) {
    if (block == nullptr) throw std::bad_alloc();
    return block;
}

void give_back(void* block) noexcept {
    if (block == nullptr) return;
    live_bytes.fetch_sub(malloc_usable_size(block), std::memory_order_relaxed);
    std::free(block);
}

} // namespace

Heap heap() noexcept {
    return {allocations.load(std::memory_order_relaxed),
            live_bytes.load(std::memory_order_relaxed)};
}

AllocationCount::AllocationCount() noexcept : before_(own_allocations) {}
std::size_t AllocationCount::count() const noexcept {
    return own_allocations - before_;
}

FailingAllocation::FailingAllocation(std::size_t spared) noexcept {
    failed = false;
    until_failure = spared;
}
FailingAllocation::~FailingAllocation() {
    until_failure = never;
}
bool FailingAllocation::happened() const noexcept {
    return failed;
}

} // namespace weft::test

using weft::test::allocate;
using weft::test::give_back;
using weft::test::or_throw;

void* operator new(std::size_t size) {
    return or_throw(allocate(size));
}
void* operator new[](std::size_t size) {
    return or_throw(allocate(size));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    return allocate(size);
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
    return allocate(size);
}
void* operator new(std::size_t size, std::align_val_t a) {
    return or_throw(allocate(size, a));
}
void* operator new[](std::size_t size, std::align_val_t a) {
    return or_throw(allocate(size, a));
}
void* operator new(std::size_t size, std::align_val_t a, const std::nothrow_t&) noexcept {
    return allocate(size, a);
}
void* operator new[](std::size_t size, std::align_val_t a, const std::nothrow_t&) noexcept {
    return allocate(size, a);
}
void operator delete(void* block) noexcept {
    give_back(block);
}
void operator delete[](void* block) noexcept {
    give_back(block);
}
void operator delete(void* block, std::size_t) noexcept {
    give_back(block);
}
void operator delete[](void* block, std::size_t) noexcept {
    give_back(block);
}
void operator delete(void* block, const std::nothrow_t&) noexcept {
    give_back(block);
}
void operator delete[](void* block, const std::nothrow_t&) noexcept {
    give_back(block);
}
void operator delete(void* block, std::align_val_t) noexcept {
    give_back(block);
}
void operator delete[](void* block, std::align_val_t) noexcept {
    give_back(block);
}
void operator delete(void* block, std::size_t, std::align_val_t) noexcept {
    give_back(block);
}
void operator delete[](void* block, std::size_t, std::align_val_t) noexcept {
    give_back(block);
}
void operator delete(void* block, std::align_val_t, const std::nothrow_t&) noexcept {
    give_back(block);
}
void operator delete[](void* block, std::align_val_t, const std::nothrow_t&) noexcept {
    give_back(block);
}
