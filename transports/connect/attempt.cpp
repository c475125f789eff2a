// One attempt to connect: a socket, from its making to the first event that decides.

#include "attempt.hpp"

#include "connecting.hpp"
#include "socket_options.hpp"

#include <cerrno>
#include <sys/socket.h>

namespace weft::detail {

Attempt::Attempt(std::shared_ptr<Connecting> owner, LoopCore& core, const Address& to)
    : owner_(std::move(owner)), core_(core), address_(to), token_(core.sources().add(*this)) {}

Attempt::~Attempt() {
    if (fd_ < 0) return;
    Kernel& kernel = core_.kernel();
    if (registered_) (void)kernel.remove(fd_);
    if (!borrowed_) kernel.close(fd_);
    core_.remove_source(token_);
}

std::error_code Attempt::start(const ConnectOptions& options) {
    Kernel& kernel = core_.kernel();
    borrowed_ = options.socket >= 0;
    if (borrowed_) {
        fd_ = options.socket;
        if (const Sys done = kernel.set_nonblocking(fd_); !done.ok()) return done.code();
    } else {
        const Sys made = kernel.socket(address_.data()->sa_family, SOCK_STREAM, 0);
        if (!made.ok()) {
            core_.remove_source(token_);
            return made.code();
        }
        fd_ = made.fd();
    }
    if (address_.is_ip()) {
        OptionSetter setter(kernel, fd_);
        setter.set_tcp(options.nodelay, options.keep_alive);
        if (!setter.result().ok()) return setter.result().code();
    }
    if (options.local_address) {
        const auto local = local_for(*options.local_address, address_);
        if (!local) return errno_code(EAFNOSUPPORT);
        if (const Sys bound = kernel.bind(fd_, *local); !bound.ok()) return bound.code();
    }
    const Sys done = kernel.connect(fd_, address_);
    if (!done.ok() && done.error() != EINPROGRESS) return done.code();
    // Also after an immediate success the outcome is taken from the first event, so that nothing is
    // called before `connect` has returned to the user.
    const Sys added = kernel.add(fd_, token_, Interest::stream);
    registered_ = added.ok();
    return added.code();
}

std::error_code Attempt::outcome() noexcept {
    Kernel& kernel = core_.kernel();
    const Sys error = kernel.get_option(fd_, SocketOption::error);
    if (!error.ok()) return error.code();
    if (error.value() != 0) return errno_code(static_cast<int>(error.value()));
    if (!address_.is_ip()) return {};
    // A local port that nobody listens on can be chosen as our own port, and TCP then connects the
    // socket to itself (simultaneous open, RFC 9293, 3.5). Nobody is there.
    Address local, peer;
    if (!kernel.local_address(fd_, local).ok() || local.port() != address_.port()) return {};
    return kernel.peer_address(fd_, peer).ok() && peer == local ? errno_code(ECONNREFUSED)
                                                                : std::error_code();
}

void Attempt::on_ready(std::uint32_t ready) {
    constexpr auto decided = ready::writable | ready::error | ready::hangup;
    if ((ready & decided) == 0) return;
    const auto owner = owner_; // this attempt goes before the call returns
    if (const auto error = outcome()) {
        owner->failed(*this, error);
    } else {
        owner->connected(*this, ready);
    }
}

void Attempt::on_loop_closing() {
    const auto owner = owner_;
    owner->fail({Errc::aborted, "the loop was closed"});
}

} // namespace weft::detail
