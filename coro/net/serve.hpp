#pragma once

#include <weft/coro/net/stream_handler.hpp>
#include <weft/coro/tasks/task.hpp>
#include <weft/reactor/address.hpp>
#include <weft/reactor/function.hpp>
#include <weft/transports/server/server.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#pragma GCC visibility push(default)

namespace weft::coro {

/// A `serve` in the hands of others: to ask, to pause it and to end it. Copies are the same handle.
///
///     coro::ServeHandle serving;
///     group.spawn([&] { coro::serve("*:80", handler, {.handle = serving}); });
///
/// Before `serve` listens and after it has returned, there are no addresses and no connections. For
/// the loop's thread; nothing here suspends or calls back before it returns.
class ServeHandle {
public:
    ServeHandle();
    /// What it listens on, one address per socket, with the real ports. Empty once it does not
    /// listen any more.
    std::vector<Address> addresses() const;
    /// The port of the first address, 0 if it has none.
    std::uint16_t port() const;
    bool listening() const noexcept;
    /// Connections that are open.
    std::size_t connections() const noexcept;
    Server::Counters counters() const noexcept;
    /// Not accepting and accepting again, without closing the sockets. Idempotent.
    void pause_accepting();
    void resume_accepting();
    /// Stops listening. The handlers have `ServeOptions::grace` to end, as when `serve` is
    /// cancelled, and then `serve` returns. Cancelling it meanwhile cuts the grace short. Also
    /// before it listens: then it never does, and returns.
    void close() noexcept;

private:
    friend class Serving;
    struct State;
    std::shared_ptr<State> state_;
};

/// How `serve` works.
struct ServeOptions {
    ListenOptions listen = {};
    /// How long the handlers that run have to end when `serve` is cancelled; 0: no time,
    /// `Duration::max()`: as long as it takes. Then they are cancelled, too. `UsageError` for less.
    Duration grace{0};
    /// Of the handlers' coroutines.
    SpawnOptions handler = {.name = "handler"};
    /// Called once it listens, with the addresses: port 0 has become a real one.
    std::function<void(const std::vector<Address>&)> started = {};
    /// Refers to this `serve` as long as it lasts. `UsageError` if it refers to another one.
    std::optional<ServeHandle> handle = {};
};

/// Serves connections at an address (as for `connect`; ":0" is any port), or at several: at all of
/// them or none. Suspends until it is
/// cancelled. Then it stops listening, gives its handlers the grace to end, cancels those that have
/// not, joins them all, and throws `Cancelled`. A second `Task::cancel` cuts the grace short.
/// `std::system_error` if it cannot listen there. Returns only after `ServeHandle::close`.
void serve(const ListenAddresses& addresses, StreamHandler handler,
           const ServeOptions& options = {});

} // namespace weft::coro

#pragma GCC visibility pop
