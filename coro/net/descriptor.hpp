#pragma once

#include <weft/coro/tasks/cancel_scope.hpp>

#include <memory>

#pragma GCC visibility push(default)

namespace weft::coro {

/// A descriptor of somebody else's, that coroutines wait for: of a library's socket, a pipe, an
/// eventfd. The descriptor stays the caller's, who closes it only when this has gone. One object
/// per descriptor; any number of coroutines may wait in either direction, and all of one direction
/// go on together. For coroutines of the loop that it was made in.
class Descriptor {
public:
    /// Throws `std::system_error`: `Errc::not_an_event_fd` for files, EEXIST if the loop already
    /// watches it, EBADF. Does not suspend.
    explicit Descriptor(int fd);
    /// Those who still wait get a `std::system_error` with `Errc::closed`.
    ~Descriptor();
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;

    /// Waits until there is something to read, or the end of the stream, or an error, which reading
    /// will tell. Suspends each time. Throws `TimeoutError` and `Cancelled`. By the time it returns
    /// somebody else may have read: read without waiting (O_NONBLOCK), and wait again after EAGAIN.
    void wait_readable(Deadline deadline = {});
    /// The same for room to write, or an error.
    void wait_writable(Deadline deadline = {});

    int fd() const noexcept;

private:
    struct State;
    std::shared_ptr<State> state_;
};

} // namespace weft::coro

#pragma GCC visibility pop
