#pragma once

#include <weft/protocols/transport.hpp>
#include <weft/reactor/loop.hpp>

#include <memory>

#pragma GCC visibility push(default)

namespace weft {

/// Makes a transport of the reading end of a pipe, of a terminal or of another character device
/// that can be waited for. The end of the stream is the last writer's close; writing to the
/// transport throws `UsageError`. `connection_made` comes in the next turn. The descriptor is
/// weft's on success and stays the caller's on failure; it is made non-blocking, which shows to
/// every process that shares it. `Errc::not_an_event_fd` for files and directories, and, where the
/// kernel can tell (epoll), for devices that are always ready, as /dev/null. EBADF for what is open
/// for writing alone; of sockets only connected stream sockets will do (EPROTOTYPE, ENOTCONN).
Result<TransportRef> adopt_read_pipe(Loop& loop, int fd, std::unique_ptr<Protocol> protocol);

/// The same for a writing end; EBADF for what is open for reading alone. Nothing is read from it.
/// `write_eof` closes it once everything has left; when the last reader goes away `connection_lost`
/// gets EPIPE, also if nothing is being written. SIGPIPE is never raised.
Result<TransportRef> adopt_write_pipe(Loop& loop, int fd, std::unique_ptr<Protocol> protocol);

} // namespace weft

#pragma GCC visibility pop
