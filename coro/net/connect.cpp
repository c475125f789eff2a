#include "stream_state.hpp"

#include <weft/coro/net/connect.hpp>
#include <weft/coro/tasks/await.hpp>
#include <weft/coro/tasks/task.hpp>
#include <weft/transports/pipe/pipe.hpp>
#include <weft/transports/server/server.hpp>

#include <string>
#include <utility>

namespace weft::coro {
namespace {

/// Waits for the connection that `begin` makes with the protocol and the loop that it is given.
template<class Begin>
Stream connect_with(const std::string& target, Deadline deadline, Begin begin) {
    detail::Coroutine& self = detail::running("connect");
    self.scheduler.check_cancelled(self);
    auto state = std::make_unique<detail::StreamState>();
    Future<TransportRef> connected = begin(self.scheduler.loop(), state->make_protocol());
    try {
        detail::wait_for_future(connected.state_ref().get(), true, deadline.at());
    } catch (const TimeoutError&) {
        throw TimeoutError("connect to " + target + ": the time is up");
    }
    (void)connected.take();
    return Stream(std::move(state));
}

} // namespace

Stream connect(std::string_view address, const ConnectOptions& options, Deadline deadline) {
    return connect_with(std::string(address), deadline, [&](Loop& loop, auto protocol) {
        return weft::connect(loop, address, std::move(protocol), options);
    });
}

Stream connect(const Address& address, const ConnectOptions& options, Deadline deadline) {
    return connect_with(address.to_string(), deadline, [&](Loop& loop, auto protocol) {
        return weft::connect(loop, address, std::move(protocol), options);
    });
}

Stream tcp::connect(std::string_view host, std::uint16_t port, const ConnectOptions& options,
                    Deadline deadline) {
    const std::string target = std::string(host) + " port " + std::to_string(port);
    return connect_with(target, deadline, [&](Loop& loop, auto protocol) {
        return weft::tcp::connect(loop, host, port, std::move(protocol), options);
    });
}

Stream adopt_connection(int fd) {
    return stream_over([&](auto protocol) {
        return weft::adopt_connection(this_loop(), fd, std::move(protocol));
    });
}

Stream adopt_read_pipe(int fd) {
    return stream_over(
        [&](auto protocol) { return weft::adopt_read_pipe(this_loop(), fd, std::move(protocol)); });
}

Stream adopt_write_pipe(int fd) {
    return stream_over([&](auto protocol) {
        return weft::adopt_write_pipe(this_loop(), fd, std::move(protocol));
    });
}

Stream stream_over(Function<Result<TransportRef>(std::unique_ptr<Protocol>)> make,
                   Deadline deadline) {
    detail::Coroutine& self = detail::running("stream_over");
    self.scheduler.check_cancelled(self);
    auto state = std::make_unique<detail::StreamState>();
    (void)make(state->make_protocol()).value();
    state->wait_connected(self, "stream_over", deadline.at());
    return Stream(std::move(state));
}

std::pair<Stream, Stream> stream_pair() {
    detail::Coroutine& self = detail::running("stream_pair");
    self.scheduler.check_cancelled(self);
    auto first = std::make_unique<detail::StreamState>();
    auto second = std::make_unique<detail::StreamState>();
    (void)connected_pair(self.scheduler.loop(), first->make_protocol(), second->make_protocol());
    first->wait_connected(self, "stream_pair", TimePoint::max());
    second->wait_connected(self, "stream_pair", TimePoint::max());
    return {Stream(std::move(first)), Stream(std::move(second))};
}

} // namespace weft::coro
