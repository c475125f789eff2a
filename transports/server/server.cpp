#include "server_state.hpp"

#include <weft/reactor/log.hpp>

#include <algorithm>
#include <cerrno>

namespace weft {
namespace detail {
namespace {

// Descriptors run out in bursts, and each retry costs a wake-up: start soon, then be patient.
constexpr Duration first_back_off = std::chrono::milliseconds(100);
constexpr Duration last_back_off = std::chrono::seconds(1);
// One line tells that resources ran out; a line per connection would make it worse.
constexpr Duration report_interval = std::chrono::seconds(10);
// Peers turned away per wake while descriptors are short: as many as would have been accepted.
constexpr int shed_per_wake = 64;

} // namespace

ServerState::ServerState(LoopCore& c, ProtocolFactory factory, const ListenOptions& listen_options)
    : core(c), options(listen_options), remote_(c.mailbox()), factory_(std::move(factory)) {
    if (!factory_) throw UsageError("listen: the protocol factory is empty");
    check_option(options.backlog >= 0, "ListenOptions: backlog", options.backlog,
                 "can not be negative");
    check_not_negative("ListenOptions: idle_timeout", options.idle_timeout);
    if (options.linger)
        check_not_negative("ListenOptions: linger.timeout", options.linger->timeout);
    check_write_limits("ListenOptions: write_limits.low", options.write_limits);
    check_keep_alive(options.keep_alive);
    open_reserve();
}

void ServerState::open_reserve() noexcept {
    if (reserve_ >= 0) return;
    if (const Sys fd = core.kernel().open_reserve(); fd.ok()) reserve_ = fd.fd();
}

Result<void> ServerState::add_listener(int fd, StreamKind kind, const Address& address,
                                       SocketFile file) {
    auto listener = std::make_unique<Listener>(*this, fd, kind, address, std::move(file));
    if (const Sys started = listener->start(); !started.ok())
        return address_error(started.code(), "listen on", address);
    listeners_.push_back(std::move(listener));
    return {};
}

// --- Connections ---

void ServerState::add_connection(ServerLink& link) noexcept {
    connections_.push_back(link);
    if (connection_count++ == 0) self_ = shared_from_this();
    update_armed();
}

void ServerState::remove_connection(ServerLink& link) noexcept {
    const auto keep = shared_from_this();
    link.unlink();
    if (--connection_count == 0) self_.reset();
    if (backing_off_) {
        // One of our own descriptors was closed: there is room for one connection at least.
        backing_off_ = false;
        back_off_timer_.cancel();
    }
    update_armed();
    check_done();
}

template<class Visit>
void ServerState::each_connection(Visit&& visit) {
    // None of these calls takes a connection out of the list: that happens in the closing phase.
    for (ListNode* link = connections_.next; link != &connections_;) {
        ListNode* next = link->next;
        visit(static_cast<ServerLink*>(link)->transport); // it holds nothing else
        link = next;
    }
}

bool ServerState::may_accept() const noexcept {
    return !closed_ && !paused_ && !backing_off_ &&
           (options.max_connections == 0 || connection_count < options.max_connections);
}

void ServerState::accepted(int fd, StreamKind kind, const Address& peer) {
    Socket socket(core.kernel(), fd);
    ++counters.accepted;
    back_off_ = Duration::zero();
    auto protocol = make_protocol(peer);
    if (!protocol) return;
    auto transport = std::make_unique<StreamTransport>(core, fd, kind, peer);
    const Token token = core.sources().add(*transport);
    if (const Sys added = core.kernel().add(fd, token, Interest::stream); !added.ok()) {
        core.remove_source(token);
        return back_off(added.error());
    }
    (void)socket.release();
    StreamTransport& connection = *transport.release(); // it deletes itself in the end
    connection.attach(*this);
    configure(connection);
    connection.open(token, std::move(protocol));
}

std::unique_ptr<Protocol> ServerState::make_protocol(const Address& peer) {
    std::unique_ptr<Protocol> protocol;
    try {
        if (!options.admit || options.admit(peer)) protocol = factory_();
        if (protocol && options.layer) protocol = options.layer(std::move(protocol));
    } catch (...) {
        core.report_exception("making a protocol for " + peer.to_string());
    }
    if (!protocol) ++counters.refused;
    return protocol;
}

void ServerState::configure(StreamTransport& transport) {
    if (options.write_limits)
        transport.set_write_buffer_limits(options.write_limits->high, options.write_limits->low);
    if (options.linger) transport.set_linger(*options.linger);
    if (options.idle_timeout > Duration::zero()) transport.set_idle_timeout(options.idle_timeout);
}

// --- When resources run out ---

void ServerState::shed(int listener) {
    Kernel& kernel = core.kernel();
    report_exhaustion(EMFILE);
    if (reserve_ < 0) return back_off(EMFILE);
    kernel.close(std::exchange(reserve_, -1));
    bool still_full = false;
    for (int left = shed_per_wake; left > 0; --left) {
        Address peer;
        const Sys got = kernel.accept(listener, peer);
        if (!got.ok()) {
            still_full = got.error() == EMFILE || got.error() == ENFILE;
            break;
        }
        kernel.close(got.fd());
        ++counters.shed;
    }
    open_reserve();
    if (still_full || reserve_ < 0) back_off(EMFILE);
}

void ServerState::back_off(int error) {
    if (closed_) return;
    report_exhaustion(error);
    ++counters.pauses;
    backing_off_ = true;
    update_armed();
    back_off_ = back_off_ == Duration::zero() ? first_back_off
                                              : std::min<Duration>(back_off_ * 2, last_back_off);
    back_off_timer_ = core.loop().call_later(back_off_, [this] {
        backing_off_ = false;
        open_reserve();
        update_armed();
    });
}

void ServerState::report_exhaustion(int error) {
    const TimePoint now = core.now();
    if (reported_ && now - last_report_ < report_interval) return;
    reported_ = true;
    last_report_ = now;
    log(LogLevel::warning,
        "accepting on " +
            (listeners_.empty() ? std::string("?") : listeners_.front()->address().to_string()) +
            ": " + errno_code(error).message() + "; " + std::to_string(connection_count) +
            " connections are open");
}

void ServerState::listener_lost(std::error_code error, const Address& address) {
    auto exception =
        std::make_exception_ptr(std::system_error(error, "accept on " + address.to_string()));
    core.report({"a listening socket failed", std::move(exception), std::source_location()});
    close();
}

// --- Ending ---

void ServerState::set_paused(bool paused) noexcept {
    paused_ = paused;
    update_armed();
}

void ServerState::update_armed() noexcept {
    for (auto& listener : listeners_)
        listener->set_armed(may_accept());
}

void ServerState::close() {
    if (closed_) return;
    closed_ = true;
    const auto keep = shared_from_this();
    back_off_timer_.cancel();
    listeners_.clear();
    if (reserve_ >= 0) core.kernel().close(std::exchange(reserve_, -1));
    check_done();
}

void ServerState::close_clients() {
    each_connection([](StreamTransport& transport) { transport.close(); });
}

std::size_t ServerState::abort_clients(std::error_code reason) {
    std::size_t aborted = 0;
    each_connection([&](StreamTransport& transport) {
        if (!transport.is_over()) ++aborted;
        transport.abort(reason);
    });
    return aborted;
}

Future<std::size_t> ServerState::drain(Duration deadline) {
    Promise<std::size_t> promise(core.loop());
    auto future = promise.future();
    close();
    drain_waiters_.push_back(std::move(promise));
    if (connection_count == 0) {
        check_done();
        return future;
    }
    // Never before returning: the protocols hear of it in the next turn, one by one.
    each_connection([this](StreamTransport& transport) {
        core.loop().call_soon([ref = transport.ref()] {
            Transport* const open = ref.get();
            if (open == nullptr || open->is_closing()) return;
            TransportCore::of(*open)->run_callback("draining",
                                                   [open] { open->protocol().draining(*open); });
        });
    });
    const TimePoint end = core.deadline_in(deadline);
    if (!drain_timer_.active() || end < drain_timer_.when()) {
        drain_timer_ = core.loop().call_at(end, [this] {
            aborted_by_drain_ += abort_clients(std::make_error_code(std::errc::timed_out));
        });
    }
    return future;
}

Future<void> ServerState::wait_closed() {
    Promise<void> promise(core.loop());
    auto future = promise.future();
    closed_waiters_.push_back(std::move(promise));
    check_done();
    return future;
}

void ServerState::check_done() {
    if (!closed_ || connection_count != 0) return;
    drain_timer_.cancel();
    auto drained = std::move(drain_waiters_);
    drain_waiters_.clear();
    for (auto& waiter : drained)
        waiter.set_value_if_pending(aborted_by_drain_);
    auto waiters = std::move(closed_waiters_);
    closed_waiters_.clear();
    for (auto& waiter : waiters)
        waiter.set_value_if_pending();
}

Error address_error(std::error_code code, const char* what, const Address& address) {
    return {code, std::string(what) + " " + address.to_string()};
}

namespace {

ServerState& usable(const std::shared_ptr<ServerState>& state, const char* what) {
    if (!state)
        throw UsageError(std::string(what) +
                         ": the server is empty (default-constructed or moved from)");
    if (!state->loop_alive()) throw UsageError(std::string(what) + ": the loop is closed");
    return *state;
}

} // namespace
} // namespace detail

// --- The handle ---

Server::Server() noexcept = default;
Server::Server(std::shared_ptr<detail::ServerState> state) noexcept : state_(std::move(state)) {}
Server::Server(Server&&) noexcept = default;
Server& Server::operator=(Server&& other) noexcept {
    if (this != &other) {
        close();
        state_ = std::move(other.state_);
    }
    return *this;
}
Server::~Server() {
    close();
}

std::vector<Address> Server::addresses() const {
    std::vector<Address> all;
    if (state_)
        for (const auto& listener : state_->listeners_)
            all.push_back(listener->address());
    return all;
}

std::uint16_t Server::port() const {
    return listening() ? state_->listeners_.front()->address().port() : std::uint16_t{0};
}

bool Server::listening() const noexcept {
    return state_ && !state_->listeners_.empty();
}
std::size_t Server::connections() const noexcept {
    return state_ ? state_->connection_count : 0;
}

void Server::pause_accepting() {
    if (state_) state_->set_paused(true);
}
void Server::resume_accepting() {
    if (state_) state_->set_paused(false);
}
void Server::close() {
    if (state_) state_->close();
}
void Server::close_clients() {
    if (state_) state_->close_clients();
}
void Server::abort_clients() {
    if (state_) state_->abort_clients(Errc::aborted);
}

Future<std::size_t> Server::drain(Duration deadline) {
    return detail::usable(state_, "drain").drain(deadline);
}

Future<void> Server::wait_closed() {
    return detail::usable(state_, "wait_closed").wait_closed();
}

Server::Counters Server::counters() const noexcept {
    return state_ ? state_->counters : Counters{};
}

} // namespace weft
