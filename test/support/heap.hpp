#pragma once

#include <cstddef>

namespace weft::test {

/// What operator new and delete did so far, in the whole process.
struct Heap {
    std::size_t allocations = 0; ///< calls of operator new
    std::size_t live_bytes = 0;  ///< allocated by it and not given back, as malloc rounds them
};

/// The counts now. The test programs replace operator new and delete to keep them (heap.cpp).
Heap heap() noexcept;

/// Allocations made by this thread while it exists: for code that must do without.
class AllocationCount {
public:
    AllocationCount() noexcept;
    std::size_t count() const noexcept;

private:
    std::size_t before_;
};

} // namespace weft::test
