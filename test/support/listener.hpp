#pragma once

#include <cstddef>

namespace weft::test {

/// Test cases so far that left a descriptor open; each was named on the error output.
std::size_t leaking_cases() noexcept;

/// The kernel that the case under way runs on, for a case that does not end in time; null if it did
/// not say.
inline const char* kernel_of_case = nullptr;

/// Tells what is waited for when a case does not end in time; may allocate. Set by the tests that
/// know more than the loop does.
inline void (*tell_waits)(int fd) = nullptr;

} // namespace weft::test
