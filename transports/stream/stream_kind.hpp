#pragma once

#include <cstddef>
#include <cstdint>

namespace weft::detail {

/// What a stream transport is made over.
enum class StreamKind : std::uint8_t { tcp, unix_socket, memory, pipe_reader, pipe_writer };

/// In what the kinds differ.
struct StreamTraits {
    StreamKind kind;
    bool is_socket;          ///< it has names, and tells its error when asked
    bool has_descriptor;     ///< of the kernel's
    bool reads;              ///< there is a direction towards us
    bool writes;             ///< and one away from us
    bool short_read_empties; ///< a read that does not fill its buffer has taken everything
    bool resets;             ///< closing it with unread input resets it: what was sent may be lost
    bool has_credentials;    ///< the kernel knows the peer's process
};

inline constexpr StreamTraits stream_traits[] = {
    {.kind = StreamKind::tcp,
     .is_socket = true,
     .has_descriptor = true,
     .reads = true,
     .writes = true,
     .short_read_empties = true,
     .resets = true,
     .has_credentials = false},
    // A read may end at a border between messages, with more behind it.
    {.kind = StreamKind::unix_socket,
     .is_socket = true,
     .has_descriptor = true,
     .reads = true,
     .writes = true,
     .short_read_empties = false,
     .resets = true,
     .has_credentials = true},
    {.kind = StreamKind::memory,
     .is_socket = false,
     .has_descriptor = false,
     .reads = true,
     .writes = true,
     .short_read_empties = false,
     .resets = true,
     .has_credentials = false},
    // The other side of a pseudo-terminal is one of these, too.
    {.kind = StreamKind::pipe_reader,
     .is_socket = false,
     .has_descriptor = true,
     .reads = true,
     .writes = false,
     .short_read_empties = false,
     .resets = false,
     .has_credentials = false},
    {.kind = StreamKind::pipe_writer,
     .is_socket = false,
     .has_descriptor = true,
     .reads = false,
     .writes = true,
     .short_read_empties = false,
     .resets = false,
     .has_credentials = false},
};

constexpr const StreamTraits& traits_of(StreamKind kind) noexcept {
    return stream_traits[static_cast<std::size_t>(kind)];
}

static_assert([] {
    for (const StreamTraits& traits : stream_traits)
        if (&traits_of(traits.kind) != &traits) return false;
    return true;
}());

} // namespace weft::detail
