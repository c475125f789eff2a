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

/// While it exists, one allocation of this thread throws `std::bad_alloc`: the one after `spared`
/// others. One at a time.
class FailingAllocation {
public:
    explicit FailingAllocation(std::size_t spared) noexcept;
    ~FailingAllocation();
    FailingAllocation(const FailingAllocation&) = delete;
    FailingAllocation& operator=(const FailingAllocation&) = delete;
    /// Whether it was made.
    bool happened() const noexcept;
};

} // namespace weft::test
