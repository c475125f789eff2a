#include "server_state.hpp"

#include <cerrno>

namespace weft::detail {

Listener::Listener(ServerState& server, int fd, StreamKind kind, const Address& address)
    : server_(server), fd_(fd), kind_(kind), token_(server.loop.add_source(*this)), address_(address) {}

Listener::~Listener() {
    Kernel& kernel = server_.loop.kernel();
    (void)kernel.remove(fd_); // it may have been passed on to other processes
    kernel.close(fd_);
    server_.loop.remove_source(token_);
    if (file_.is_socket && kernel.look_at(address_.path()) == file_) (void)kernel.unlink(address_.path());
}

Sys Listener::start() noexcept { return server_.loop.kernel().add(fd_, token_, Interest::read); }

void Listener::set_armed(bool armed) noexcept {
    if (armed == armed_) return;
    armed_ = armed;
    (void)server_.loop.kernel().modify(fd_, token_, armed ? Interest::read : Interest::none);
}

void Listener::on_ready(std::uint32_t) {
    const auto keep = server_.shared_from_this(); // a callback may close the server, and this listener with it
    ServerState& server = server_;
    const Token token = token_;
    Loop& loop = server.loop;
    for (int left = loop.options().accepts_per_turn; left > 0; --left) {
        if (loop.find_source(token) != this || !server.may_accept()) return;
        Address peer;
        const Sys got = loop.kernel().accept(fd_, peer);
        if (got.ok()) {
            ++server.counters.accepted;
            accepted(got.fd(), peer);
            continue;
        }
        switch (got.error()) {
        case EAGAIN: return;
        case EMFILE: return server.shed(fd_);
        case ENFILE:
        case ENOBUFS:
        case ENOMEM: return server.back_off(got.error());
        case EBADF:
        case ENOTSOCK:
        case EINVAL:
        case EFAULT: return server.listener_lost(got.code(), address_);
        default:
            // The connection died in the queue, or the network below it: accept(2) passes such errors on. The next
            // one is another connection.
            break;
        }
    }
}

void Listener::accepted(int fd, const Address& peer) {
    Loop& loop = server_.loop;
    auto protocol = server_.make_protocol(peer);
    if (!protocol) {
        loop.kernel().close(fd);
        return;
    }
    auto* transport = new StreamTransport(loop, loop.kernel(), fd, kind_, peer);
    const Token token = loop.add_source(*transport);
    if (const Sys added = loop.kernel().add(fd, token, Interest::stream); !added.ok()) {
        loop.remove_source(token);
        delete transport;
        loop.kernel().close(fd);
        return server_.back_off(added.error());
    }
    transport->attach(server_);
    server_.configure(*transport);
    transport->open(token, std::move(protocol));
}

void Listener::on_loop_closing() { server_.close(); }

} // namespace weft::detail
