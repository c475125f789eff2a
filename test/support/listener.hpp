#pragma once

#include <cstddef>

namespace weft::test {

/// Test cases so far that left a descriptor open; each was named on the error output.
std::size_t leaking_cases() noexcept;

} // namespace weft::test
