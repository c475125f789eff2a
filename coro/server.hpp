#pragma once

#include <weft/coro/connect.hpp>
#include <weft/coro/stream.hpp>
#include <weft/coro/task.hpp>
#include <weft/reactor/function.hpp>
#include <weft/transports/server.hpp>

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

namespace weft::coro {

/// What a server does with a connection: called in a coroutine of its own, by any number of them at
/// a time. The stream is closed when it returns, unless it moved or released it; then what was
/// written still leaves. What it throws aborts its connection and no other, and is reported
/// (`Loop::on_unhandled`) if it is not the loss of that connection. If it is a `TimeoutError`, an
/// `IncompleteRead` or a `FramingError` the connection is closed in order, and a line in the log is
/// all, limited per second. A handler that is cancelled aborts its connection, too.
using StreamHandler = Function<void(Stream&)>;

/// How `serve` works.
struct ServeOptions {
    ListenOptions listen = {};
    /// How long the handlers that run have to end when `serve` is cancelled; 0: no time,
    /// `Duration::max()`: as long as it takes. Then they are cancelled, too. `UsageError` for less.
    Duration grace{0};
    /// Of the handlers' coroutines.
    SpawnOptions handler = {.name = "handler"};
    /// Called once it listens, with the addresses: port 0 has become a real one.
    Function<void(const std::vector<Address>&)> started = {};
};

/// Serves connections at `address` (as for `connect`; ":0" is any port). Suspends until it is
/// cancelled. Then it stops listening, gives its handlers the grace to end, cancels those that have
/// not, joins them all, and throws `Cancelled`. A second `Task::cancel` cuts the grace short.
/// `std::system_error` if it can not listen there.
void serve(std::string_view address, StreamHandler handler, ServeOptions options = {});

/// Listens and hands connections out one by one. Connections that nobody accepts wait, 16 of them
/// here and the rest in the kernel. Destroying it stops listening and closes those that wait. For
/// coroutines of one loop.
class Listener {
public:
    /// Throws `std::system_error` if it can not listen there. Does not suspend.
    explicit Listener(std::string_view address, ListenOptions options = {});
    Listener(Listener&&) noexcept;
    Listener& operator=(Listener&&) noexcept;
    ~Listener();

    /// The next connection. Suspends unless one waits; several may wait, first come, first served.
    /// A cancelled accept takes none. `std::system_error` with `Errc::closed` after `close`, once
    /// those that wait are taken.
    Stream accept(Deadline deadline = {});
    void close() noexcept;
    std::vector<Address> addresses() const;
    std::uint16_t port() const;

private:
    struct State;
    std::shared_ptr<State> state_;
};

/// A protocol factory for callback servers (`tcp::listen`): each connection is handled by a
/// coroutine of the loop.
ProtocolFactory stream_protocol(Loop& loop, StreamHandler handler,
                                SpawnOptions options = {.name = "handler"});

/// Two streams that are connected to each other in memory, as by a TCP connection. Suspends for a
/// turn; cancelling closes both.
std::pair<Stream, Stream> stream_pair();

} // namespace weft::coro
