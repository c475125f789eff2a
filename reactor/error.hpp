#pragma once

#include <weft/reactor/clock.hpp>

#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>

#pragma GCC visibility push(default)

namespace weft {

/// What can go wrong that no errno names. Everything that the kernel reports keeps its errno in
/// `std::generic_category()`, so that `code == std::errc::connection_refused` works everywhere.
enum class Errc {
    aborted = 1,     ///< the connection or operation was given up on this side
    broken_promise,  ///< the promise was destroyed without an outcome
    invalid_state,   ///< the operation does not fit the object's present state
    closed,          ///< the loop, server or transport is closed
    too_long,        ///< a message is longer than the limit that was set
    malformed,       ///< the bytes do not follow the protocol
    incomplete,      ///< the stream ended inside a message
    forked,          ///< the loop belongs to the parent process
    deadlock,        ///< nothing can ever wake this loop
    queue_full,      ///< a bounded queue has no room
    empty_buffer,    ///< a protocol offered no room to receive into
    bad_address,     ///< text that is not an address
    callback_threw,  ///< a callback of the protocol threw
    not_an_event_fd, ///< a file descriptor that cannot be waited for: a file, a directory
};

/// The category of `Errc`, "weft".
const std::error_category& weft_category() noexcept;
/// The code in `weft_category`, also where an `Errc` is used as a `std::error_code`.
std::error_code make_error_code(Errc code) noexcept;

/// An error and what it happened to: "listen on 127.0.0.1:80: Permission denied".
/// `context` says what was asked and of what; the code says what happened.
struct Error {
    std::error_code code = {};
    std::string context = {};

    /// "context: reason", for people.
    std::string message() const;
    operator const std::error_code&() const noexcept { return code; }
};

/// A call that cannot be right wherever it stands: `run` inside a callback, `write` after
/// `write_eof`, a loop used from a foreign thread in debug mode. The text names the culprit.
struct UsageError : std::logic_error {
    using std::logic_error::logic_error;
};

/// Thrown where the outcome of a cancelled future is asked for. Not a `std::exception`, so that
/// `catch (const std::exception&)` does not swallow a cancellation.
struct Cancelled {};

/// Base for exceptions that must end `Loop::run`: thrown out of a callback they are not given to
/// the unhandled-exception sink but leave `run` unchanged. The loop can be run again afterwards.
struct FatalError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

namespace detail {

/// Throws the `UsageError` for an option that cannot be meant.
[[noreturn]] void refuse_option(const char* option, const std::string& value, const char* rule);

/// Looks at a number given as an option: "LoopOptions: reads_per_turn is 0, and must be at least
/// 1".
template<class Number>
void check_option(bool fine, const char* option, Number value, const char* rule) {
    if (!fine) [[unlikely]]
        refuse_option(option, std::to_string(value), rule);
}
/// The same for a duration, of which 0 means something and less does not.
inline void check_not_negative(const char* option, Duration value) {
    if (value < Duration::zero()) [[unlikely]]
        refuse_option(option, std::to_string(value.count()) + " ns", "can not be negative");
}

} // namespace detail

/// The code for an errno value; EOWNERDEAD, which kernels give in a forked child, as
/// `Errc::forked`.
inline std::error_code errno_code(int number) noexcept {
    if (number == EOWNERDEAD) [[unlikely]]
        return make_error_code(Errc::forked);
    return {number, std::generic_category()};
}

} // namespace weft

template<>
struct std::is_error_code_enum<weft::Errc> : std::true_type {};

#pragma GCC visibility pop
