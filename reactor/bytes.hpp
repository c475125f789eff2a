#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#pragma GCC visibility push(default)

namespace weft {

/// A view of bytes that somebody else owns. Every callback that hands one out says how long it
/// lives.
using Bytes = std::span<const std::byte>;

/// A view of memory that may be written into.
using MutableBytes = std::span<std::byte>;

/// The bytes of `text`, without its terminator. Owns nothing.
inline Bytes bytes_of(std::string_view text) noexcept {
    return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

/// `bytes` read as characters. Owns nothing and does not look at the encoding.
inline std::string_view text_of(Bytes bytes) noexcept {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

} // namespace weft

#pragma GCC visibility pop
