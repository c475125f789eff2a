// Some facts about pipes. They are registered edge-triggered like sockets, so that one transport
// serves all: a read goes on to EAGAIN, and a write that finds the pipe full is followed by an edge
// when a reader takes a buffer out of the full ring. (Linux 5.5 to 5.9 lost such edges; those
// kernels are past their end of life.) A pipe's reader learns of the last writer's close by HUP
// without IN, its writer of the last reader's by ERR. The other side of a pseudo-terminal ends with
// EIO.

#include "../stream/stream_transport.hpp"

#include <weft/transports/pipe/pipe.hpp>

#include <cerrno>
#include <fcntl.h>
#include <string>

namespace weft {
namespace {

Result<TransportRef> connect_pipe(Loop& loop, int fd, std::unique_ptr<Protocol> protocol,
                                  detail::StreamKind kind, const char* what) {
    detail::core_of(loop).check_usable(what);
    if (!protocol) throw UsageError(std::string(what) + ": the protocol is null");
    Kernel& kernel = detail::core_of(loop).kernel();
    const auto failed = [&](std::error_code code) {
        return Error{code, std::string(what) + " (descriptor " + std::to_string(fd) + ")"};
    };
    switch (kernel.kind_of(fd)) {
    case FileKind::none:
        return failed(errno_code(EBADF));
    case FileKind::regular:
    case FileKind::directory:
        return failed(Errc::not_an_event_fd);
    case FileKind::datagram_socket: // no stream of bytes, and no end
        return failed(errno_code(EPROTOTYPE));
    case FileKind::stream_socket: {
        Address peer;
        if (const Sys known = kernel.peer_address(fd, peer); !known.ok())
            return failed(known.code());
        break;
    }
    default:
        break;
    }
    const Sys mode = kernel.access_mode(fd);
    const int wrong = detail::traits_of(kind).reads ? O_WRONLY : O_RDONLY;
    if (!mode.ok()) return failed(mode.code());
    if (mode.value() == wrong)
        return Error{errno_code(EBADF),
                     std::string(what) + " (descriptor " + std::to_string(fd) + " is open for " +
                         (wrong == O_WRONLY ? "writing" : "reading") + " alone)"};
    TransportRef ref;
    const auto error = detail::StreamTransport::adopt(detail::core_of(loop), fd, kind, Address(),
                                                      std::move(protocol), ref);
    // epoll's EPERM: a device without readiness, as /dev/null.
    if (error == std::errc::operation_not_permitted) return failed(Errc::not_an_event_fd);
    if (error) return failed(error);
    return ref;
}

} // namespace

Result<TransportRef> adopt_read_pipe(Loop& loop, int fd, std::unique_ptr<Protocol> protocol) {
    return connect_pipe(loop, fd, std::move(protocol), detail::StreamKind::pipe_reader,
                        "adopt_read_pipe");
}

Result<TransportRef> adopt_write_pipe(Loop& loop, int fd, std::unique_ptr<Protocol> protocol) {
    return connect_pipe(loop, fd, std::move(protocol), detail::StreamKind::pipe_writer,
                        "adopt_write_pipe");
}

} // namespace weft
