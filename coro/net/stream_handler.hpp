#pragma once

#include <weft/coro/net/stream.hpp>
#include <weft/coro/tasks/task.hpp>
#include <weft/reactor/function.hpp>
#include <weft/transports/server/server.hpp>

#pragma GCC visibility push(default)

namespace weft::coro {

/// What a server does with a connection: called in a coroutine of its own, by any number of them at
/// a time. The stream is closed when it returns, unless it moved or released it; then what was
/// written still leaves. What it throws aborts its connection and no other, and is reported
/// (`Loop::on_unhandled`) if it is not the loss of that connection. If it is a `TimeoutError`, an
/// `IncompleteRead` or a `FramingError` the connection is closed in order, and a line in the log is
/// all, limited per second. A handler that is cancelled aborts its connection, too.
using StreamHandler = Function<void(Stream&)>;

/// A protocol factory for callback servers (`tcp::listen`): each connection is handled by a
/// coroutine of the loop.
ProtocolFactory stream_protocol(Loop& loop, StreamHandler handler,
                                SpawnOptions options = {.name = "handler"});

} // namespace weft::coro

#pragma GCC visibility pop
