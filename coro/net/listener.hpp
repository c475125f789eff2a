#pragma once

#include <weft/coro/net/stream.hpp>
#include <weft/reactor/address.hpp>
#include <weft/transports/server/server.hpp>

#include <cstdint>
#include <memory>
#include <vector>

#pragma GCC visibility push(default)

namespace weft::coro {

/// Listens and hands connections out one by one. Connections that nobody accepts wait, 16 of them
/// here and the rest in the kernel. Destroying it stops listening and closes those that wait. For
/// coroutines of one loop.
class Listener {
public:
    /// Throws `std::system_error` if it cannot listen there. Does not suspend.
    explicit Listener(const ListenAddresses& addresses, const ListenOptions& options = {});
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

} // namespace weft::coro

#pragma GCC visibility pop
