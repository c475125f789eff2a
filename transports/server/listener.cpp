#include "server_state.hpp"

#include <cerrno>

namespace weft::detail {
namespace {

// Connections in a row that could not be accepted. A few that died in the queue are nothing
// special.
constexpr int most_failures = 64;

} // namespace

void SocketFile::remove(Kernel& kernel) const noexcept {
    if (info.is_socket && kernel.look_at(path) == info) (void)kernel.unlink(path);
}

Listener::Listener(ServerState& server, int fd, StreamKind kind, const Address& address,
                   SocketFile file)
    : server_(server), fd_(fd), kind_(kind), token_(server.core.sources().add(*this)),
      address_(address), file_(std::move(file)) {}

Listener::~Listener() {
    Kernel& kernel = server_.core.kernel();
    // Before it is closed: a file that refuses connections may be replaced by others at any time.
    if (fd_ >= 0 && kernel.owns(fd_)) file_.remove(kernel);
    if (registered_) (void)kernel.remove(fd_); // it may have been passed on to other processes
    if (fd_ >= 0) kernel.close(fd_);
    server_.core.remove_source(token_);
}

Sys Listener::start() noexcept {
    const Sys added = server_.core.kernel().add(fd_, token_, Interest::read);
    registered_ = added.ok();
    if (added.error() == EEXIST) fd_ = -1; // another's here already, who goes on with it
    return added;
}

void Listener::set_armed(bool armed) noexcept {
    if (armed == armed_) return;
    const Interest wanted = armed ? Interest::read : Interest::none;
    if (server_.core.kernel().modify(fd_, token_, wanted).ok()) {
        armed_ = armed;
    } else if (armed) {
        server_.core.again(token_, 0); // looks by itself, and tries once more
    }
}

void Listener::on_ready(std::uint32_t) {
    // A callback may close the server, and this listener with it.
    const auto server = server_.shared_from_this();
    const Token token = token_;
    LoopCore& core = server->core;
    set_armed(server->may_accept()); // which may have failed
    Sys got = 0;
    for (int left = core.accepts_per_turn(); left > 0; --left) {
        if (core.sources().find(token) != this || !server->may_accept()) return;
        Address peer;
        got = core.kernel().accept(fd_, peer);
        if (got.ok()) {
            failures_ = 0;
            server->accepted(got.fd(), kind_, peer);
            continue;
        }
        switch (got.error()) {
        case EAGAIN:
            failures_ = 0;
            return;
        case EMFILE:
            return server->shed(fd_);
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
            return server->back_off(got.error());
        case EBADF:
        case ENOTSOCK:
        case EINVAL:
        case EFAULT:
        case EOPNOTSUPP:
            return server->listener_lost(got.code(), address_);
        default:
            // The connection died in the queue, or the network below it: accept(2) passes such
            // errors on. The next one is another connection.
            ++failures_;
            break;
        }
    }
    // Nothing but failures: whatever it is does not go away by being asked again at once.
    if (core.sources().find(token) == this && failures_ >= most_failures)
        server->back_off(got.error());
}

void Listener::on_loop_closing() {
    server_.close();
}

} // namespace weft::detail
