// Connecting: from a name or addresses to one connected socket, the first of several that answers
// (RFC 8305).

#include "../stream/stream_transport.hpp"
#include "socket_options.hpp"

#include <weft/transports/connect/connect.hpp>

#include <algorithm>
#include <cerrno>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <vector>

namespace weft {
namespace detail {
namespace {

class Connecting;

/// One socket on its way to one address.
class Attempt final : public Source {
public:
    Attempt(std::shared_ptr<Connecting> owner, LoopCore& core, const Address& to);
    ~Attempt();
    /// Starts it. An error means that it is over already.
    std::error_code start(const ConnectOptions& options);
    const Address& address() const noexcept { return address_; }
    /// The connected socket, registered under `token()`, is the caller's now.
    int release() noexcept { return std::exchange(fd_, -1); }
    Token token() const noexcept { return token_; }

    void on_ready(std::uint32_t ready) override;
    void on_loop_closing() override;
    Registration registration() const noexcept override { return {fd_, Interest::stream}; }

private:
    std::error_code outcome() noexcept;

    std::shared_ptr<Connecting> owner_;
    LoopCore& core_;
    Address address_;
    int fd_ = -1;
    bool borrowed_ = false; // the user's socket: never closed here
    bool registered_ = false;
    Token token_;
};

/// The whole of a connect call. Kept alive by its attempts, its timers and its look-up.
class Connecting final : public std::enable_shared_from_this<Connecting> {
public:
    Connecting(Loop& loop, std::string target, std::unique_ptr<Protocol> protocol,
               ConnectOptions options)
        : loop_(loop), target_(std::move(target)), protocol_(std::move(protocol)),
          options_(std::move(options)), promise_(loop) {}
    ~Connecting();

    Future<TransportRef> begin();
    void try_addresses(std::vector<Address> addresses);
    void look_up(const std::string& host, std::uint16_t port);
    void fail(const Error& error);

    // For attempts.
    void connected(Attempt& attempt, std::uint32_t ready);
    void failed(Attempt& attempt, std::error_code error);

private:
    void next_attempt();
    bool may_try_another() const noexcept;
    void keep_family(Address::Family family);
    void note_failure(const Address& address, std::error_code error);
    void note(const Address& address, const std::string& what);
    void timed_out();
    void end() noexcept;
    bool over() const noexcept { return protocol_ == nullptr; }

    Loop& loop_;
    std::string target_;
    std::unique_ptr<Protocol> protocol_; // null once it is over
    ConnectOptions options_;
    Promise<TransportRef> promise_;
    std::vector<Address> addresses_;
    std::size_t next_ = 0;
    std::vector<std::unique_ptr<Attempt>> attempts_;
    std::string failures_;
    std::error_code first_error_;
    Timer deadline_;
    Timer stagger_;
    Future<std::vector<Address>> look_up_;
};

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

/// Families in turn, so that one that does not work costs one delay and not several (RFC 8305, 4).
std::vector<Address> interleaved(std::vector<Address> addresses) {
    std::vector<Address> result;
    while (!addresses.empty()) {
        auto next = addresses.begin();
        if (!result.empty()) {
            const auto other =
                std::find_if(addresses.begin(), addresses.end(), [&](const Address& a) {
                    return a.family() != result.back().family();
                });
            if (other != addresses.end()) next = other;
        }
        result.push_back(*next);
        addresses.erase(next);
    }
    return result;
}

// Still under way, and nobody is left to go on with it: the loop was closed during the look-up.
Connecting::~Connecting() {
    if (!over())
        promise_.set_error_if_pending(
            {Errc::aborted, "connect to " + target_ + " (the loop was closed)"});
}

Future<TransportRef> Connecting::begin() {
    auto future = promise_.future();
    promise_.on_cancel([weak = weak_from_this()] {
        if (auto self = weak.lock()) self->end();
    });
    if (options_.timeout > Duration::zero()) {
        deadline_ =
            loop_.call_later(options_.timeout, [self = shared_from_this()] { self->timed_out(); });
    }
    return future;
}

void Connecting::look_up(const std::string& host, std::uint16_t port) {
    look_up_ = core_of(loop_).resolver().look_up(loop_, host, port);
    look_up_.add_done_callback([self = shared_from_this()](Future<std::vector<Address>> done) {
        if (self->over()) return;
        if (done.cancelled()) return self->end();
        if (const auto error = done.error_code()) return self->fail({error, "look-up"});
        self->try_addresses(interleaved(done.take()));
    });
}

void Connecting::try_addresses(std::vector<Address> addresses) {
    addresses_ = std::move(addresses);
    if (addresses_.empty()) return fail({Errc::bad_address, "no address"});
    if (options_.local_address)
        std::erase_if(addresses_, [&](const Address& address) {
            return !local_for(*options_.local_address, address);
        });
    if (options_.socket >= 0) {
        Kernel& kernel = core_of(loop_).kernel();
        const std::string which = "descriptor " + std::to_string(options_.socket);
        if (kernel.kind_of(options_.socket) != FileKind::stream_socket)
            return fail({errno_code(ENOTSOCK), which});
        Address own; // of a socket without a name: its family
        if (const Sys asked = kernel.local_address(options_.socket, own); !asked.ok())
            return fail({asked.code(), which});
        keep_family(own.family());
        if (!addresses_.empty()) addresses_.resize(1);
    }
    if (addresses_.empty())
        return fail({std::make_error_code(std::errc::address_family_not_supported),
                     options_.socket >= 0 ? "no address of the socket's family"
                                          : "no address that can be reached from " +
                                                options_.local_address->to_string()});
    next_attempt();
}

void Connecting::keep_family(Address::Family family) {
    std::erase_if(addresses_, [&](const Address& address) { return address.family() != family; });
}

// Whether an address may be tried beside those that have not answered yet.
bool Connecting::may_try_another() const noexcept {
    const bool port_is_taken = options_.local_address && options_.local_address->port() != 0;
    return next_ < addresses_.size() && options_.attempt_delay != Duration::max() && !port_is_taken;
}

void Connecting::next_attempt() {
    while (!over() && next_ < addresses_.size()) {
        attempts_.push_back(
            std::make_unique<Attempt>(shared_from_this(), core_of(loop_), addresses_[next_++]));
        Attempt& attempt = *attempts_.back();
        if (const auto error = attempt.start(options_)) {
            note_failure(attempt.address(), error);
            attempts_.pop_back();
            continue;
        }
        if (may_try_another())
            stagger_ = loop_.call_later(options_.attempt_delay,
                                        [self = shared_from_this()] { self->next_attempt(); });
        return;
    }
    if (attempts_.empty()) fail({first_error_, failures_});
}

void Connecting::note_failure(const Address& address, std::error_code error) {
    if (!first_error_) first_error_ = error;
    note(address, error.message());
}

void Connecting::note(const Address& address, const std::string& what) {
    // With a single numeric address the target and the code say it all.
    if (addresses_.size() == 1 && address.to_string() == target_) return;
    if (!failures_.empty()) failures_ += "; ";
    failures_ += address.to_string() + ": " + what;
}

void Connecting::timed_out() {
    for (const auto& attempt : attempts_)
        note(attempt->address(), "no answer");
    fail({std::make_error_code(std::errc::timed_out), addresses_.empty() ? "look-up" : failures_});
}

void Connecting::failed(Attempt& attempt, std::error_code error) {
    note_failure(attempt.address(), error);
    std::erase_if(attempts_, [&](const auto& mine) { return mine.get() == &attempt; });
    stagger_.cancel();
    next_attempt();
}

void Connecting::connected(Attempt& attempt, std::uint32_t ready) {
    const auto keep = shared_from_this();
    const Token token = attempt.token();
    const auto kind = attempt.address().is_ip() ? StreamKind::tcp : StreamKind::unix_socket;
    const Address peer = attempt.address();
    const int fd = attempt.release();
    auto* transport = new StreamTransport(core_of(loop_), fd, kind, peer);
    core_of(loop_).sources().replace(token, *transport);
    auto protocol = std::move(protocol_);
    auto ref = TransportRef(core_of(loop_).mailbox(), token);
    end();
    transport->open(token, std::move(protocol), ready);
    // What ended inside `connection_made` is there until the closing phase.
    if (transport->is_closing()) {
        const auto why = transport->drain().error_code();
        if (why == Errc::callback_threw)
            promise_.set_error_if_pending({why, "connect to " + target_ + " (connection_made)"});
    }
    // Either the future is cancelled or there is a connection.
    if (!promise_.set_value_if_pending(std::move(ref))) transport->abort(Errc::aborted);
}

void Connecting::fail(const Error& error) {
    if (over()) return;
    const auto keep = shared_from_this();
    end();
    const std::string detail = error.context.empty() ? std::string() : " (" + error.context + ")";
    promise_.set_error_if_pending({error.code, "connect to " + target_ + detail});
}

// Closes what was begun. The protocol of a failed connection is destroyed without ever having been
// called.
void Connecting::end() noexcept {
    const auto keep = weak_from_this().lock();
    auto protocol = std::move(protocol_);
    auto attempts = std::move(attempts_);
    attempts_.clear();
    deadline_.cancel();
    stagger_.cancel();
    if (look_up_.valid()) std::exchange(look_up_, {}).cancel();
}

/// Text that came from anywhere, fit for an error's: `what()` ends at a NUL, and a line break would
/// feign another message in a log.
std::string printable(std::string_view text) {
    constexpr char digits[] = "0123456789abcdef";
    std::string result;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte != 0x7f) {
            result += c;
        } else {
            (((result += "\\x") += digits[byte >> 4]) += digits[byte & 15]);
        }
    }
    return result;
}

std::shared_ptr<Connecting> make(Loop& loop, std::string_view target,
                                 std::unique_ptr<Protocol> protocol, ConnectOptions options) {
    core_of(loop).check_usable("connect");
    if (!protocol) throw UsageError("connect to " + printable(target) + ": the protocol is null");
    check_not_negative("ConnectOptions: timeout", options.timeout);
    check_not_negative("ConnectOptions: attempt_delay", options.attempt_delay);
    check_keep_alive(options.keep_alive);
    check_option(options.socket >= -1, "ConnectOptions: socket", options.socket,
                 "must be a descriptor, or -1 for none");
    return std::make_shared<Connecting>(loop, printable(target), std::move(protocol),
                                        std::move(options));
}

/// "name:80" taken apart; an error unless there are both.
Result<std::pair<std::string, std::uint16_t>> split_name(std::string_view text) {
    const auto bad = [](const char* why) { return Error{Errc::bad_address, why}; };
    const auto colon = text.rfind(':');
    if (colon == text.npos) return bad("no port; write IP:PORT, [IPv6]:PORT or NAME:PORT");
    const std::string_view host = text.substr(0, colon);
    // The numeric parser knows what a port is.
    const auto port = Address::parse("*:" + std::string(text.substr(colon + 1)));
    if (!port.ok() || !port->is_ip()) return bad("the port is not 0 to 65535");
    if (host.find_first_not_of("0123456789.") == host.npos) return bad("not an IPv4 address");
    if (host.find_first_of("[]:") != host.npos) return bad("not an IPv6 address in brackets");
    // RFC 1035, 2.3.4: a name is at most 253 characters long, with a dot at the end 254.
    if (host.size() > 253U + host.ends_with('.'))
        return bad("the name is longer than 253 characters");
    if (host.find_first_of(std::string_view("/ \t\r\n\0", 6)) != host.npos)
        return bad("not a name");
    return std::pair(std::string(host), port->port());
}

} // namespace

std::optional<Address> local_for(const Address& local, const Address& peer) noexcept {
    if (!local.is_ip() || !peer.is_ip()) {
        if (local.family() == peer.family()) return local;
        return {};
    }
    const bool ipv4_peer = peer.family() == Address::Family::ipv4;
    if (ipv4_peer || peer.is_mapped()) {
        Address four = local.unmapped();
        if (four.family() != Address::Family::ipv4) {
            if (!local.is_any()) return {};
            four = Address::any_ipv4(local.port());
        }
        return ipv4_peer ? four : four.mapped();
    }
    if (local.unmapped().family() != Address::Family::ipv4) return local;
    if (!local.is_any()) return {};
    return Address::any_ipv6(local.port());
}

} // namespace detail

namespace tcp {

Future<TransportRef> connect(Loop& loop, std::string_view address,
                             std::unique_ptr<Protocol> protocol, ConnectOptions options) {
    auto connecting = detail::make(loop, address, std::move(protocol), std::move(options));
    auto future = connecting->begin();
    if (auto numeric = Address::parse(address); numeric.ok() && numeric->is_ip()) {
        connecting->try_addresses({*numeric});
        return future;
    }
    const auto name = detail::split_name(address);
    if (!name.ok()) {
        connecting->fail(name.error());
    } else if (name->first == "localhost") {
        // RFC 6761, 6.3: a name that means the loopback addresses, without a look-up.
        connecting->try_addresses(
            {Address::loopback_ipv6(name->second), Address::loopback_ipv4(name->second)});
    } else {
        connecting->look_up(name->first, name->second);
    }
    return future;
}

Future<TransportRef> connect(Loop& loop, std::string_view host, std::uint16_t port,
                             std::unique_ptr<Protocol> protocol, ConnectOptions options) {
    // Nothing of the text may be taken for another port, or for "any address".
    const bool ipv6 = host.find(':') != host.npos && !host.starts_with('[');
    const std::string text = ipv6 ? "[" + std::string(host) + "]" : std::string(host);
    if (host.empty() || host == "*") {
        auto connecting = detail::make(loop, text, std::move(protocol), std::move(options));
        auto future = connecting->begin();
        connecting->fail({Errc::bad_address, "no host"});
        return future;
    }
    return tcp::connect(loop, text + ":" + std::to_string(port), std::move(protocol),
                        std::move(options));
}

Future<TransportRef> connect(Loop& loop, std::span<const Address> addresses,
                             std::unique_ptr<Protocol> protocol, ConnectOptions options) {
    std::string target;
    for (const Address& address : addresses)
        target += (target.empty() ? "" : ", ") + address.to_string();
    if (addresses.empty()) target = "nowhere";
    auto connecting = detail::make(loop, target, std::move(protocol), std::move(options));
    auto future = connecting->begin();
    connecting->try_addresses({addresses.begin(), addresses.end()});
    return future;
}

} // namespace tcp

namespace unix_socket {

Future<TransportRef> connect(Loop& loop, std::string_view path, std::unique_ptr<Protocol> protocol,
                             ConnectOptions options) {
    auto address = Address::unix_path(path);
    auto connecting =
        detail::make(loop, address.ok() ? address->to_string() : "unix:" + std::string(path),
                     std::move(protocol), std::move(options));
    auto future = connecting->begin();
    if (address.ok()) {
        connecting->try_addresses({*address});
    } else {
        connecting->fail({address.error().code, {}});
    }
    return future;
}

} // namespace unix_socket

Future<TransportRef> connect(Loop& loop, std::string_view address,
                             std::unique_ptr<Protocol> protocol, ConnectOptions options) {
    return Address::names_unix(address)
               ? unix_socket::connect(loop, address, std::move(protocol), std::move(options))
               : tcp::connect(loop, address, std::move(protocol), std::move(options));
}

Future<TransportRef> connect(Loop& loop, const Address& address, std::unique_ptr<Protocol> protocol,
                             ConnectOptions options) {
    auto connecting =
        detail::make(loop, address.to_string(), std::move(protocol), std::move(options));
    auto future = connecting->begin();
    if (address.family() == Address::Family::none) {
        connecting->fail({Errc::bad_address, {}});
    } else {
        connecting->try_addresses({address});
    }
    return future;
}

} // namespace weft
