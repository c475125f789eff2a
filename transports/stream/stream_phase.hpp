#pragma once

#include <cstdint>

namespace weft::detail {

// How far a stream transport has come: in its life, in either direction, and against the water
// marks of its writer. The first value of each is the ordinary one, and 0, so that one look at the
// word that holds them all, with the facts of `StreamTransport::Flag`, tells whether anything is
// out of the ordinary.

/// A transport's life.
///
/// |           | close     | abort, loss | everything sent              | the peer's end, limits |
/// |-----------|-----------|-------------|------------------------------|------------------------|
/// | open      | closing   | finishing   | closing if both ended        |                        |
/// | closing   |           | finishing   | lingering if input is unread, else finishing | finishing
/// |
/// | lingering |           | finishing   |                              | finishing              |
/// | finishing |           |             |                              |                        |
enum class Life : std::uint8_t {
    open,
    closing,   ///< nothing is read or taken any more, and what was written leaves
    lingering, ///< discards input until the peer is done (see `Linger`)
    finishing, ///< stands in the loop's list of what ends in the closing phase
};

/// The sending direction.
///
/// |         | write_eof | everything sent | a send fails, a reset | lingering begins |
/// |---------|-----------|-----------------|-----------------------|------------------|
/// | open    | ending    |                 | broken                | ended            |
/// | ending  |           | ended           | broken                | ended            |
/// | ended   |           |                 | broken                |                  |
/// | broken  |           |                 |                       |                  |
enum class Sending : std::uint8_t {
    open,
    ending, ///< what was written leaves first
    ended,  ///< it is shut down
    broken, ///< sending failed; what can still be read is delivered first
};

/// The receiving direction. What `try_read` met is open again when input is given back, or another
/// protocol is attached, so that it is met by that, too.
enum class Receiving : std::uint8_t {
    open,
    ended, ///< a read has returned the end of the stream
};

/// The write buffer against its water marks.
///
/// |      | above the high one | the protocol is told | another protocol | at the low one |
/// |------|--------------------|----------------------|------------------|----------------|
/// | none | high               |                      |                  |                |
/// | high |                    | told                 |                  | none           |
/// | told |                    |                      | high             | none, and it is told |
enum class Pressure : std::uint8_t {
    none,
    high, ///< those who ask for room wait
    told, ///< and the protocol there is now was told to pause
};

} // namespace weft::detail
