#pragma once

#include "stream_state.hpp"

#include <weft/coro/net/stream_handler.hpp>
#include <weft/reactor/function.hpp>

namespace weft::coro::detail {

/// Gets the stream of a connection that is made, in `connection_made`.
using StartHandler = Function<void(Stream)>;

/// A factory whose protocols make a stream of their connection, and hand it to `start`.
ProtocolFactory factory_for(StartHandler start);

/// The body of a connection's coroutine: what becomes of the connection, and of what `handler`
/// throws.
void handle(StreamHandler& handler, Stream& stream, Scheduler& scheduler);

} // namespace weft::coro::detail
