// A stream transport's beginning, its protocols, and what it says of itself. Reading, writing,
// files and the end have files of their own.

#include "stream_transport.hpp"

#include "../server/server_state.hpp"
#include "stream_callbacks.hpp"

#include <cstring>

namespace weft::detail {

StreamTransport::StreamTransport(LoopCore& core, int fd, StreamKind kind, const Address& peer,
                                 ByteChannel* pair)
    : core_(core), fd_(fd),
      flags_(writable |
             (traits_of(kind).short_read_empties ? std::uint32_t{short_read_empties} : 0U)),
      kind_(kind) {
    // A pipe has one direction; the other one counts as having ended already.
    if (!traits().writes) enter(Sending::ended);
    if (!traits().reads) enter(Receiving::ended);
    if (peer.size() <= peer_.size()) {
        peer_size_ = static_cast<std::uint8_t>(peer.size());
        std::memcpy(peer_.data(), peer.data(), peer.size());
    } else {
        extras().peer = peer;
    }
    if (kind == StreamKind::memory) extras().channel = pair;
}

/// Returns the one before it.
std::unique_ptr<Protocol> StreamTransport::use(std::unique_ptr<Protocol> protocol) noexcept {
    reading_ = protocol->reading();
    return std::exchange(protocol_, std::move(protocol));
}

void StreamTransport::reading_changed() {
    const Reading before = std::exchange(reading_, protocol_->reading());
    if (reading_ != before && can_read()) queue_again();
}

void StreamTransport::open(Token token, std::unique_ptr<Protocol> protocol, std::uint32_t ready) {
    token_ = token;
    use(std::move(protocol));
    if (ready & (ready::readable | ready::read_hangup | ready::hangup | ready::error))
        flags_ |= readable;
    if (ready & (ready::read_hangup | ready::hangup | ready::error)) flags_ |= hangup;
    announce();
    if (can_read()) queue_again();
}

void StreamTransport::open_later(Token token, std::unique_ptr<Protocol> protocol) {
    token_ = token;
    use(std::move(protocol));
    flags_ |= unannounced;
    queue_again();
}

std::error_code StreamTransport::adopt(LoopCore& core, int fd, StreamKind kind, const Address& peer,
                                       std::unique_ptr<Protocol> protocol, TransportRef& ref) {
    Kernel& kernel = core.kernel();
    auto transport = std::make_unique<StreamTransport>(core, fd, kind, peer);
    const Token token = core.sources().add(*transport);
    Sys done = kernel.add(fd, token, Interest::stream);
    // Only now: what is refused shall stay as it is.
    if (done.ok()) {
        done = kernel.set_nonblocking(fd);
        if (!done.ok()) (void)kernel.remove(fd);
    }
    if (!done.ok()) {
        core.remove_source(token);
        return done.code();
    }
    transport->open_later(token, std::move(protocol));
    ref = transport.release()->ref(); // the loop owns it from here on
    return {};
}

void StreamTransport::announce() {
    flags_ &= ~unannounced;
    guarded("connection_made", [&] { protocol_->connection_made(*this); });
    check_high_water(); // it may have been written to before
}

void StreamTransport::attach(ServerState& server) noexcept {
    server_ = &server;
    server.add_connection(server_link_);
}

StreamTransport::Extras& StreamTransport::extras() {
    if (!extras_) extras_ = std::make_unique<Extras>(*this);
    return *extras_;
}

std::string StreamTransport::describe(const char* what) const {
    return std::string(what) + " of the connection " + local_address().to_string() + " with " +
           peer_address().to_string();
}

/// In a catch block: the connection ends.
void StreamTransport::callback_threw(const char* name) {
    abort(Errc::callback_threw);
    core_.report_exception(describe(name));
}

/// In a catch block: hands the exception on. One that is to leave `run` is returned, to be thrown
/// when the connection's state is whole.
std::exception_ptr StreamTransport::reported(const char* name) {
    try {
        core_.report_exception(describe(name));
    } catch (...) {
        return std::current_exception();
    }
    return nullptr;
}

std::unique_ptr<Protocol> StreamTransport::set_protocol(std::unique_ptr<Protocol> protocol) {
    if (!protocol) throw UsageError("set_protocol: the protocol is null");
    std::swap(protocol, protocol_);
    protocol_changed();
    return protocol;
}

void StreamTransport::protocol_changed() {
    if (has(eof_seen) && !has(closing)) (void)see_eof_again();
    reading_ = protocol_->reading();
    flags_ = (flags_ & ~(ready_told | ended_above)) | exchanged;
    if (pressure() == Pressure::told) enter(Pressure::high);
    if (can_read()) queue_again();
}

void StreamTransport::hold_input(bool holds) {
    if (holds) {
        flags_ |= held;
    } else {
        flags_ &= ~held;
        if (can_read()) queue_again();
    }
}

bool StreamTransport::run_callback(const char* name, void (*call)(void*), void* callable) {
    return guarded(name, [&] { call(callable); });
}

Address StreamTransport::local_address() const {
    Address address;
    if (traits().is_socket) (void)core_.kernel().local_address(fd_, address);
    return address;
}

Address StreamTransport::peer_address() const {
    if (peer_size_ == 0) return extras_ ? extras_->peer : Address();
    Address address;
    std::memcpy(address.data(), peer_.data(), peer_size_);
    address.set_size(peer_size_);
    return address;
}

std::optional<Credentials> StreamTransport::peer_credentials() const {
    Credentials credentials;
    if (!traits().has_credentials || !core_.kernel().peer_credentials(fd_, credentials).ok())
        return {};
    return credentials;
}

Source::Registration StreamTransport::registration() const noexcept {
    return {fd(), Interest::stream};
}

} // namespace weft::detail
