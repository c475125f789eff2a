#pragma once

#include <cstddef>

namespace weft::test {

/// Whether a sanitizer watches each access to memory, which takes ten times as long. What is tried
/// here with very many sizes or very long inputs is tried with a part of them there; the release
/// build tries them all.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool instrumented = true;
#else
inline constexpr bool instrumented = false;
#endif

/// `whole`, or a part of it where everything takes longer.
constexpr std::size_t shortened(std::size_t whole, std::size_t part) {
    return instrumented ? part : whole;
}

} // namespace weft::test
