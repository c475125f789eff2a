// Connecting: from a name or addresses to one connected socket, the first of several that answers (RFC 8305).

#include "socket_options.hpp"
#include "stream_transport.hpp"

#include <weft/transports/connect.hpp>

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
    Attempt(std::shared_ptr<Connecting> owner, Loop& loop, const Address& to);
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
    Loop& loop_;
    Address address_;
    int fd_ = -1;
    bool borrowed_ = false; // the user's socket: never closed here
    Token token_;
};

/// The whole of a connect call. Kept alive by its attempts, its timers and its look-up.
class Connecting final : public std::enable_shared_from_this<Connecting> {
public:
    Connecting(Loop& loop, std::string target, std::unique_ptr<Protocol> protocol, ConnectOptions options)
        : loop_(loop), target_(std::move(target)), protocol_(std::move(protocol)),
          options_(std::move(options)), promise_(loop) {}

    Future<TransportRef> begin();
    void try_addresses(std::vector<Address> addresses);
    void look_up(const std::string& host, std::uint16_t port);
    void fail(const Error& error);

    // For attempts.
    void connected(Attempt& attempt, std::uint32_t ready);
    void failed(Attempt& attempt, std::error_code error);

private:
    void next_attempt();
    void note_failure(const Address& address, std::error_code error);
    void give_up();
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
    Future<void> look_up_;
};

// --- An attempt -----------------------------------------------------------------------------------------------

Attempt::Attempt(std::shared_ptr<Connecting> owner, Loop& loop, const Address& to)
    : owner_(std::move(owner)), loop_(loop), address_(to), token_(loop.add_source(*this)) {}

Attempt::~Attempt() {
    if (fd_ >= 0) {
        if (borrowed_) {
            (void)loop_.kernel().remove(fd_);
        } else {
            loop_.kernel().close(fd_);
        }
        loop_.remove_source(token_);
    }
}

std::error_code Attempt::start(const ConnectOptions& options) {
    Kernel& kernel = loop_.kernel();
    borrowed_ = options.socket >= 0;
    if (borrowed_) {
        fd_ = options.socket;
        if (const Sys done = kernel.set_nonblocking(fd_); !done.ok()) return done.code();
    } else {
        const Sys made = kernel.socket(address_.data()->sa_family, SOCK_STREAM, 0);
        if (!made.ok()) {
            loop_.remove_source(token_);
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
        if (const Sys bound = kernel.bind(fd_, *options.local_address); !bound.ok()) return bound.code();
    }
    const Sys done = kernel.connect(fd_, address_);
    if (!done.ok() && done.error() != EINPROGRESS) return done.code();
    // Also after an immediate success the outcome is taken from the first event, so that nothing is called before
    // `connect` has returned to the user.
    const Sys added = kernel.add(fd_, token_, Interest::stream);
    return added.ok() ? std::error_code() : added.code();
}

std::error_code Attempt::outcome() noexcept {
    Kernel& kernel = loop_.kernel();
    int error = 0;
    if (const Sys asked = kernel.get_option(fd_, SOL_SOCKET, SO_ERROR, &error, sizeof error); !asked.ok())
        return asked.code();
    if (error != 0) return errno_code(error);
    if (!address_.is_ip()) return {};
    // A local port that nobody listens on can be chosen as our own port, and TCP then connects the socket to itself
    // (simultaneous open, RFC 9293, 3.5). Nobody is there.
    Address local;
    if (kernel.local_address(fd_, local).ok() && local == address_) return errno_code(ECONNREFUSED);
    return {};
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

// --- The whole ------------------------------------------------------------------------------------------------

/// Families in turn, so that one that does not work costs one delay and not several (RFC 8305, 4).
std::vector<Address> interleaved(std::vector<Address> addresses) {
    std::vector<Address> result;
    while (!addresses.empty()) {
        auto next = addresses.begin();
        if (!result.empty()) {
            const auto other = std::find_if(addresses.begin(), addresses.end(), [&](const Address& a) {
                return a.family() != result.back().family();
            });
            if (other != addresses.end()) next = other;
        }
        result.push_back(*next);
        addresses.erase(next);
    }
    return result;
}

Future<TransportRef> Connecting::begin() {
    auto future = promise_.future();
    promise_.on_cancel([weak = weak_from_this()] {
        if (auto self = weak.lock()) self->end();
    });
    if (options_.timeout > Duration::zero()) {
        deadline_ = loop_.call_later(options_.timeout, [self = shared_from_this()] {
            self->fail({std::make_error_code(std::errc::timed_out), self->failures_});
        });
    }
    return future;
}

void Connecting::look_up(const std::string& host, std::uint16_t port) {
    struct Answer {
        std::error_code error;
        std::vector<Address> addresses;
    };
    auto answer = std::make_shared<Answer>();
    look_up_ = loop_.run_in_executor([kernel = &loop_.kernel(), host, port, answer] {
        answer->error = kernel->resolve(host, port, answer->addresses);
    });
    look_up_.add_done_callback([self = shared_from_this(), answer](Future<void> done) {
        if (self->over()) return;
        if (done.cancelled()) return self->end();
        if (const auto error = done.error_code()) return self->fail({error, "look-up"});
        if (answer->error) return self->fail({answer->error, "look-up"});
        self->try_addresses(interleaved(std::move(answer->addresses)));
    });
}

void Connecting::try_addresses(std::vector<Address> addresses) {
    if (options_.local_address) {
        std::erase_if(addresses, [this](const Address& a) {
            return a.family() != options_.local_address->family();
        });
        if (addresses.empty())
            return fail({std::make_error_code(std::errc::address_family_not_supported),
                         "no address of the family of " + options_.local_address->to_string()});
    }
    if (addresses.empty()) return fail({Errc::bad_address, "no address"});
    if (options_.socket >= 0) addresses.resize(1);
    addresses_ = std::move(addresses);
    next_attempt();
}

void Connecting::next_attempt() {
    while (!over() && next_ < addresses_.size()) {
        attempts_.push_back(std::make_unique<Attempt>(shared_from_this(), loop_, addresses_[next_++]));
        Attempt& attempt = *attempts_.back();
        if (const auto error = attempt.start(options_)) {
            note_failure(attempt.address(), error);
            attempts_.pop_back();
            continue;
        }
        if (next_ < addresses_.size() && options_.attempt_delay != Duration::max())
            stagger_ = loop_.call_later(options_.attempt_delay, [self = shared_from_this()] { self->next_attempt(); });
        return;
    }
    if (attempts_.empty()) give_up();
}

void Connecting::note_failure(const Address& address, std::error_code error) {
    if (!first_error_) first_error_ = error;
    if (!failures_.empty()) failures_ += "; ";
    // With a single numeric address the target says it all.
    if (addresses_.size() > 1 || address.to_string() != target_)
        failures_ += address.to_string() + ": " + error.message();
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
    auto* transport = new StreamTransport(loop_, loop_.kernel(), fd, kind, peer);
    loop_.replace_source(token, *transport);
    auto protocol = std::move(protocol_);
    auto ref = TransportRef(loop_.remote(), token);
    end();
    transport->open(token, std::move(protocol), ready);
    promise_.set_value_if_pending(std::move(ref));
}

void Connecting::give_up() {
    fail({first_error_, failures_});
}

void Connecting::fail(const Error& error) {
    if (over()) return;
    const auto keep = shared_from_this();
    end();
    const std::string detail = error.context.empty() ? std::string() : " (" + error.context + ")";
    promise_.set_error_if_pending({error.code, "connect to " + target_ + detail});
}

// Closes what was begun. The protocol of a failed connection is destroyed without ever having been called.
void Connecting::end() noexcept {
    const auto keep = weak_from_this().lock();
    auto protocol = std::move(protocol_);
    auto attempts = std::move(attempts_);
    attempts_.clear();
    deadline_.cancel();
    stagger_.cancel();
    if (look_up_.valid()) std::exchange(look_up_, {}).cancel();
}

std::shared_ptr<Connecting> make(Loop& loop, std::string target, std::unique_ptr<Protocol> protocol,
                                 ConnectOptions options) {
    loop.check_usable("connect");
    if (!protocol) throw UsageError("connect to " + target + ": the protocol is null");
    return std::make_shared<Connecting>(loop, std::move(target), std::move(protocol), std::move(options));
}

/// "name:80" taken apart; an error unless there are both.
Result<std::pair<std::string, std::uint16_t>> split_name(std::string_view text) {
    const auto colon = text.rfind(':');
    const std::string_view host = text.substr(0, colon == text.npos ? 0 : colon);
    // The numeric parser knows what a port is.
    auto port = Address::parse(":" + std::string(colon == text.npos ? "" : text.substr(colon + 1)));
    // RFC 1035, 2.3.4: a name is at most 253 characters long; more would only be refused later.
    const bool name = !host.empty() && host.size() <= 253 && host.find_first_of("[]:/ \t\r\n") == host.npos &&
                      host.find('\0') == host.npos && host.find_first_not_of("0123456789.") != host.npos;
    if (!name || !port.ok()) return Error{Errc::bad_address, "\"" + std::string(text) + "\""};
    return std::pair(std::string(host), port->port());
}

} // namespace
} // namespace detail

namespace tcp {

Future<TransportRef> connect(Loop& loop, std::string_view address, std::unique_ptr<Protocol> protocol,
                             ConnectOptions options) {
    auto connecting = detail::make(loop, std::string(address), std::move(protocol), std::move(options));
    auto future = connecting->begin();
    if (auto numeric = Address::parse(address); numeric.ok() && numeric->is_ip()) {
        connecting->try_addresses({*numeric});
        return future;
    }
    const auto name = detail::split_name(address);
    if (!name.ok()) {
        connecting->fail({name.error().code, "write IP:PORT, [IPv6]:PORT or NAME:PORT"});
    } else if (name->first == "localhost") {
        // RFC 6761, 6.3: a name that means the loopback addresses, without a look-up.
        connecting->try_addresses({Address::loopback_ipv6(name->second), Address::loopback_ipv4(name->second)});
    } else {
        connecting->look_up(name->first, name->second);
    }
    return future;
}

Future<TransportRef> connect(Loop& loop, std::span<const Address> addresses, std::unique_ptr<Protocol> protocol,
                             ConnectOptions options) {
    std::string target;
    for (const Address& address : addresses) target += (target.empty() ? "" : ", ") + address.to_string();
    auto connecting = detail::make(loop, std::move(target), std::move(protocol), std::move(options));
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
        detail::make(loop, "unix:" + std::string(path), std::move(protocol), std::move(options));
    auto future = connecting->begin();
    if (address.ok()) {
        connecting->try_addresses({*address});
    } else {
        connecting->fail({address.error().code, {}});
    }
    return future;
}

} // namespace unix_socket
} // namespace weft
