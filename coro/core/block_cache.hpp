#pragma once

#include <cstddef>

#pragma GCC visibility push(default)

namespace weft::coro::detail {

/// Memory for tasks, which come and go too fast for a general allocator. Blocks of up to 512 bytes
/// are kept per thread when they are freed and given out again, last in, first out; at most 1024
/// per size. Throws `std::bad_alloc`.
void* allocate_block(std::size_t size);
/// `size` as it was asked for. From any thread.
void free_block(void* block, std::size_t size) noexcept;

} // namespace weft::coro::detail

#pragma GCC visibility pop
