#include "../kernel/posix_kernel.hpp"
#include "state.hpp"

#include <weft/reactor/sim/sim_kernel.hpp>

#include <cerrno>
#include <csignal>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

namespace weft::sim {
namespace {

using Phase = Socket::Phase;

constexpr int last_signal = 64; // as many as `take_signals` has bits

std::uint64_t bit_of(int number) noexcept {
    return std::uint64_t(1) << (number - 1);
}

void set_interest(Socket& socket, Token token, Interest interest) noexcept {
    socket.token = token;
    socket.interest = ready::error | ready::hangup;
    if (has(interest, Interest::read)) socket.interest |= ready::readable | ready::read_hangup;
    if (has(interest, Interest::write)) socket.interest |= ready::writable;
    // Without any bit an error would be reported over and over: once is enough.
    socket.edge = has(interest, Interest::edge) || interest == Interest::none;
}

} // namespace

Address unix_address(const std::string& name) {
    if (!name.empty())
        if (auto address = Address::unix_path(name); address.ok()) return *address;
    Address unnamed;
    unnamed.data()->sa_family = AF_UNIX;
    unnamed.set_size(sizeof(sa_family_t));
    return unnamed;
}

SimKernel::SimKernel(const SimOptions& options) : state_(std::make_unique<State>(options)) {}
SimKernel::~SimKernel() = default;

// Time and readiness.

TimePoint SimKernel::now() noexcept {
    return state_->now;
}

void SimKernel::random(MutableBytes out) noexcept {
    while (!out.empty()) {
        const std::uint64_t word = state_->user_random.next();
        const std::size_t part = std::min(out.size(), sizeof word);
        std::memcpy(out.data(), &word, part);
        out = out.subspan(part);
    }
}

void SimKernel::advance(Duration duration) {
    State& state = *state_;
    const TimePoint target = add_saturated(state.now, duration);
    for (TimePoint next = state.next_event(); next <= target && next != TimePoint::max();
         next = state.next_event()) {
        state.now = std::max(state.now, next);
        state.run_due();
    }
    state.now = std::max(state.now, target);
}

Sys SimKernel::wait(std::span<Event> events, TimePoint deadline) noexcept {
    State& state = *state_;
    for (;;) {
        // Read before everything that may be a reason to stay: who changes any of it moves the
        // ticket afterwards, so that blocking on the old one ends at once.
        const std::uint32_t ticket = state.ticket.load();
        const bool woken = state.woken.exchange(false);
        state.run_due();
        const std::size_t count = state.collect(events);
        if (count > 0 || woken) return Sys(static_cast<std::int64_t>(count));
        if (deadline <= state.now) return Sys(0);
        const TimePoint next = std::min(deadline, state.next_event());
        const bool idle = next == TimePoint::max();
        if (state.outside.load() > 0 || (idle && state.block_when_idle))
            state.ticket.wait(ticket);
        else if (idle)
            return Sys::fail(EDEADLK);
        else
            state.now = next;
    }
}

void SimKernel::wake() noexcept {
    state_->woken.store(true);
    state_->ticket.fetch_add(1);
    state_->ticket.notify_all();
}

void SimKernel::outside_work(int change) noexcept {
    state_->outside.fetch_add(change);
    state_->ticket.fetch_add(1);
    state_->ticket.notify_all();
}

void SimKernel::set_block_when_idle(bool block) noexcept {
    state_->block_when_idle = block;
}
Sys SimKernel::pollable_fd() noexcept {
    return Sys::fail(ENOTSUP);
}
Sys SimKernel::arm(TimePoint) noexcept {
    return Sys::fail(ENOTSUP);
}

Sys SimKernel::add(int fd, Token token, Interest interest) noexcept {
    Socket* socket = state_->find(fd);
    if (!socket) return Sys::fail(EBADF);
    if (socket->type == 0) return Sys::fail(EPERM);
    if (socket->registered) return Sys::fail(EEXIST);
    socket->registered = true;
    set_interest(*socket, token, interest);
    if ((state_->mask(*socket) & socket->interest) != 0) state_->enqueue(*socket);
    return Sys(0);
}

Sys SimKernel::modify(int fd, Token token, Interest interest) noexcept {
    Socket* socket = state_->find(fd);
    if (!socket) return Sys::fail(EBADF);
    if (!socket->registered) return Sys::fail(ENOENT);
    set_interest(*socket, token, interest);
    if ((state_->mask(*socket) & socket->interest) != 0) state_->enqueue(*socket);
    return Sys(0);
}

Sys SimKernel::remove(int fd) noexcept {
    Socket* socket = state_->find(fd);
    if (!socket) return Sys::fail(EBADF);
    if (!socket->registered) return Sys::fail(ENOENT);
    state_->forget(*socket);
    return Sys(0);
}

Sys SimKernel::reset() noexcept {
    for (const auto& socket : state_->sockets)
        if (socket) state_->forget(*socket);
    state_->woken.store(false);
    return Sys(0);
}

// Signals.

Sys SimKernel::watch_signal(int number) noexcept {
    if (number < 1 || number > last_signal || number == SIGKILL || number == SIGSTOP)
        return Sys::fail(EINVAL);
    state_->watched_signals.fetch_or(bit_of(number));
    return Sys(0);
}

Sys SimKernel::unwatch_signal(int number) noexcept {
    if (!signal_watched(number)) return Sys::fail(ENOENT);
    state_->watched_signals.fetch_and(~bit_of(number));
    state_->pending_signals.fetch_and(~bit_of(number));
    return Sys(0);
}

std::uint64_t SimKernel::take_signals() noexcept {
    return state_->pending_signals.exchange(0);
}

bool SimKernel::signal_watched(int number) const noexcept {
    return number >= 1 && number <= last_signal &&
           (state_->watched_signals.load() & bit_of(number)) != 0;
}

bool SimKernel::deliver_signal(int number) noexcept {
    if (!signal_watched(number)) return false;
    state_->pending_signals.fetch_or(bit_of(number));
    wake();
    return true;
}

// The network's conditions.

void SimKernel::set_descriptor_limit(std::size_t limit) noexcept {
    state_->options.descriptor_limit = limit;
}
std::size_t SimKernel::open_descriptors() const noexcept {
    return state_->open_count;
}

void SimKernel::set_buffer_sizes(std::size_t send, std::size_t receive) noexcept {
    state_->options.send_buffer = std::max<std::size_t>(send, 1);
    state_->options.receive_buffer = std::max<std::size_t>(receive, 1);
}

void SimKernel::set_latency(Duration least, Duration most) noexcept {
    state_->least_latency = std::max(least, Duration::zero());
    state_->most_latency = std::max(most, state_->least_latency);
}

void SimKernel::set_segment_size(std::size_t most, std::size_t least) noexcept {
    state_->most_segment = most;
    state_->least_segment = least == 0 ? most : std::min(least, most);
}

void SimKernel::set_loss(double chance) noexcept {
    state_->loss = chance;
}
void SimKernel::set_duplicate(double chance) noexcept {
    state_->duplicate = chance;
}
void SimKernel::set_reorder(double chance) noexcept {
    state_->reorder = chance;
}

void SimKernel::blackhole(const Address& address) {
    state_->black_holes.push_back(Endpoint::of(address));
}

void SimKernel::heal(const Address& address) {
    std::erase(state_->black_holes, Endpoint::of(address));
    const auto waiting = std::exchange(state_->stalled, {});
    for (const ConnectionRef& connection : waiting) {
        for (int side = 0; side < 2; ++side) {
            if (!std::exchange(connection->flows[side].stalled, false)) continue;
            state_->arrive(connection, side);
        }
    }
}

Sys SimKernel::reset_connection(int fd) noexcept {
    Socket* socket = state_->find(fd);
    if (!socket) return Sys::fail(EBADF);
    if (!socket->is_stream() || !socket->connection) return Sys::fail(ENOTCONN);
    const ConnectionRef connection = socket->connection;
    state_->land_reset(*connection, 0);
    state_->land_reset(*connection, 1);
    return Sys(0);
}

std::size_t SimKernel::in_flight() const noexcept {
    const auto& events = state_->events;
    return static_cast<std::size_t>(
        std::count_if(events.begin(), events.end(), [this](const NetworkEvent& event) {
            return event.kind != NetworkEvent::Kind::give_up && !state_->stale(event);
        }));
}

// Descriptors and files.

Sys SimKernel::socket(int family, int type, int protocol) noexcept {
    if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
        return Sys::fail(EAFNOSUPPORT);
    if (type != SOCK_STREAM && type != SOCK_DGRAM)
        return Sys::fail(family == AF_UNIX ? ESOCKTNOSUPPORT : EPROTONOSUPPORT);
    const int usual = family == AF_UNIX     ? 0
                      : type == SOCK_STREAM ? int(IPPROTO_TCP)
                                            : int(IPPROTO_UDP);
    if (protocol != 0 && protocol != usual) return Sys::fail(EPROTONOSUPPORT);
    return state_->open(state_->make_socket(family, type, usual));
}

Sys SimKernel::socketpair(int type, int (&fds)[2]) noexcept {
    if (type != SOCK_STREAM && type != SOCK_DGRAM) return Sys::fail(ESOCKTNOSUPPORT);
    const Sys first = state_->open(state_->make_socket(AF_UNIX, type, 0));
    if (!first.ok()) return first;
    const Sys second = state_->open(state_->make_socket(AF_UNIX, type, 0));
    if (!second.ok()) {
        close(first.fd());
        return second;
    }
    Socket& a = *state_->find(first.fd());
    Socket& b = *state_->find(second.fd());
    if (type == SOCK_STREAM)
        state_->join_local(a, b);
    else
        state_->pair_datagrams(a, b);
    fds[0] = first.fd();
    fds[1] = second.fd();
    return Sys(0);
}

void SimKernel::close(int fd, bool reset) noexcept {
    Socket* socket = state_->find(fd);
    if (!socket) return;
    const auto index = static_cast<std::size_t>(fd - first_fd);
    const std::unique_ptr<Socket> owned = std::move(state_->sockets[index]);
    state_->free_fds.push_back(fd);
    std::push_heap(state_->free_fds.begin(), state_->free_fds.end(), std::greater<>());
    --state_->open_count;
    state_->forget(*owned);
    state_->release_names(*owned);
    if (owned->is_stream()) state_->stream_close(*owned, reset);
    if (owned->is_datagram()) state_->datagram_close(*owned);
}

bool SimKernel::alone() noexcept {
    return !state_->block_when_idle && state_->outside.load() == 0;
}

FileKind SimKernel::kind_of(int fd) noexcept {
    const Socket* socket = state_->find(fd);
    if (!socket) return FileKind::none;
    if (socket->type == 0) return FileKind::character; // /dev/null
    return socket->is_stream() ? FileKind::stream_socket : FileKind::datagram_socket;
}

bool SimKernel::is_listening(int fd) noexcept {
    const Socket* socket = state_->find(fd);
    return socket && socket->phase == Phase::listening;
}

Sys SimKernel::set_nonblocking(int fd) noexcept {
    return state_->find(fd) ? Sys(0) : Sys::fail(EBADF);
}

Sys SimKernel::open_reserve() noexcept {
    return state_->open(state_->make_socket(0, 0, 0));
}

FileInfo SimKernel::look_at(const std::string& path) noexcept {
    const auto found = path.starts_with('@') ? state_->files.end() : state_->files.find(path);
    if (found == state_->files.end()) return {};
    const Inode& inode = found->second;
    return {inode.is_socket ? FileKind::other : FileKind::regular, inode.is_socket, 1,
            inode.number};
}

Sys SimKernel::unlink(const std::string& path) noexcept {
    const bool abstract = path.starts_with('@');
    return !abstract && state_->files.erase(path) > 0 ? Sys(0) : Sys::fail(ENOENT);
}

bool SimKernel::create_file(const std::string& path) {
    const auto [entry, made] = state_->files.try_emplace(path);
    if (made) entry->second.number = state_->next_inode++;
    return made;
}

void SimKernel::add_host(const std::string& name, std::vector<Address> addresses) {
    const std::lock_guard lock(state_->hosts_mutex);
    state_->hosts[name] = std::move(addresses);
}

std::error_code SimKernel::resolve(const std::string& host, std::uint16_t port,
                                   std::vector<Address>& addresses) {
    addresses.clear();
    const bool v6 = host.find(':') != host.npos;
    if (auto literal = Address::parse((v6 ? "[" + host + "]" : host) + ":0");
        !host.empty() && literal.ok() && literal->is_ip() && host != "*") {
        literal->set_port(port);
        addresses.push_back(*literal);
        return {};
    }
    const std::lock_guard lock(state_->hosts_mutex);
    const auto found = state_->hosts.find(host);
    if (found == state_->hosts.end() || found->second.empty())
        return {EAI_NONAME, detail::resolver_category()};
    addresses = found->second;
    for (Address& each : addresses)
        each.set_port(port);
    return {};
}

} // namespace weft::sim
