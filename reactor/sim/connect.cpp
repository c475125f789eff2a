#include "state.hpp"

#include <cerrno>
#include <netinet/in.h>
#include <sys/socket.h>

// Some facts about ports on Linux that are kept here
//
// Two sockets may be bound to one port if their addresses do not overlap, if both have
// SO_REUSEPORT, or, for TCP, if both have SO_REUSEADDR and neither listens; for UDP SO_REUSEADDR on
// both is enough. The unspecified IPv6 address overlaps with IPv4 unless IPV6_V6ONLY is set.
// Connections keep their port taken for whoever has no SO_REUSEADDR.
//
// A listening socket takes one connection more than its backlog. When it is full, SYNs are dropped,
// and the client sends them again after 1, 2, 4... seconds, ETIMEDOUT after 127 s. TIME_WAIT is
// left out.

namespace weft::sim {
namespace {

using Phase = Socket::Phase;

constexpr int max_backlog = 4096; // net.core.somaxconn
constexpr int max_attempts = 7;   // one SYN and tcp_syn_retries = 6 more

} // namespace

std::unordered_map<std::uint16_t, Bucket>&
SimKernel::State::ports_of(const Socket& socket) noexcept {
    return socket.is_datagram() ? udp_ports : tcp_ports;
}

bool SimKernel::State::covers(const Socket& socket, const Endpoint& endpoint) noexcept {
    const Endpoint& local = socket.local;
    if (!local.is_any()) return local.same_ip(endpoint);
    if (local.is_v4()) return endpoint.is_v4();
    return !endpoint.is_v4() || !socket.has(SocketOption::ipv6_only);
}

int SimKernel::State::score(const Socket& socket, const Endpoint& to) noexcept {
    if (!covers(socket, to)) return 0;
    if (!socket.local.is_any()) return 3;
    return socket.local.is_v4() == to.is_v4() ? 2 : 1;
}

bool SimKernel::State::conflicts(const Socket& socket, const Endpoint& wanted,
                                 bool listening) noexcept {
    const auto found = ports_of(socket).find(wanted.port);
    if (found == ports_of(socket).end()) return false;
    const Bucket& bucket = found->second;
    const bool address = socket.has(SocketOption::reuse_address),
               port = socket.has(SocketOption::reuse_port);
    if (bucket.connections > 0 && !address && !port && !listening) return true;
    const bool dual = !wanted.is_v4() && wanted.is_any() && !socket.has(SocketOption::ipv6_only);
    for (const Socket* other : bucket.bound) {
        if (other == &socket) continue;
        const bool overlap = covers(*other, wanted) || dual || wanted.same_ip(other->local) ||
                             (wanted.is_any() && wanted.is_v4() == other->local.is_v4());
        if (!overlap) continue;
        if (port && other->has(SocketOption::reuse_port)) continue;
        const bool may_share =
            socket.is_datagram() || (!listening && other->phase != Phase::listening);
        if (address && other->has(SocketOption::reuse_address) && may_share) continue;
        if (listening && other->phase != Phase::listening) continue;
        return true;
    }
    return false;
}

std::uint16_t SimKernel::State::free_port(std::unordered_map<std::uint16_t, Bucket>& ports,
                                          const Tuple* tuple) {
    const int count = options.last_port - options.first_port + 1;
    for (int i = 0; i < count; ++i) {
        const std::uint16_t port = next_port;
        next_port = port >= options.last_port ? options.first_port : std::uint16_t(port + 1);
        const auto bucket = ports.find(port);
        if (bucket != ports.end() && !bucket->second.bound.empty()) continue;
        if (tuple) {
            Tuple wanted = *tuple;
            wanted.from.port = port;
            if (tuples.contains(wanted)) continue;
        } else if (bucket != ports.end() && bucket->second.connections > 0) {
            continue;
        }
        return port;
    }
    return 0;
}

Sys SimKernel::State::bind(Socket& socket, const Address& address) {
    if (socket.is_unix()) {
        if (address.family() != Address::Family::unix_socket) return Sys::fail(EINVAL);
        return bind_unix(socket, address.path());
    }
    if (socket.family == AF_INET && address.family() != Address::Family::ipv4)
        return Sys::fail(EAFNOSUPPORT);
    if (socket.family == AF_INET6 && address.family() != Address::Family::ipv6)
        return Sys::fail(address.family() == Address::Family::ipv4 ? EINVAL : EAFNOSUPPORT);
    const Endpoint wanted = Endpoint::of(address);
    if (socket.family == AF_INET6 && wanted.is_v4() && socket.has(SocketOption::ipv6_only))
        return Sys::fail(EINVAL);
    if (wanted.is_multicast() && socket.is_stream()) return Sys::fail(EADDRNOTAVAIL);
    return bind_ip(socket, wanted);
}

Sys SimKernel::State::bind_ip(Socket& socket, Endpoint wanted) {
    if (socket.bound || socket.phase != Phase::fresh || socket.has_tuple) return Sys::fail(EINVAL);
    auto& ports = ports_of(socket);
    if (wanted.port == 0) {
        wanted.port = free_port(ports, nullptr);
        if (wanted.port == 0) return Sys::fail(EADDRINUSE);
    } else if (conflicts(socket, wanted, false)) {
        return Sys::fail(EADDRINUSE);
    }
    socket.local = wanted;
    socket.bound = true;
    ports[wanted.port].bound.push_back(&socket);
    return Sys(0);
}

Sys SimKernel::State::bind_unix(Socket& socket, const std::string& name) {
    if (!socket.unix_name.empty() || name.empty()) return Sys::fail(EINVAL);
    const auto [entry, made] = files.try_emplace(name);
    if (!made) return Sys::fail(EADDRINUSE);
    entry->second = {next_inode++, true, &socket};
    socket.unix_name = name;
    return Sys(0);
}

Sys SimKernel::State::listen(Socket& socket, int backlog) {
    if (!socket.is_stream()) return Sys::fail(EOPNOTSUPP);
    if (socket.phase != Phase::fresh && socket.phase != Phase::listening) return Sys::fail(EINVAL);
    if (socket.is_unix()) {
        if (socket.unix_name.empty()) return Sys::fail(EINVAL);
    } else if (!socket.bound) {
        Endpoint any = socket.family == AF_INET ? Endpoint::of(Address::any_ipv4(0)) : Endpoint{};
        if (const Sys bound = bind_ip(socket, any); !bound.ok()) return bound;
    } else if (socket.phase == Phase::fresh && conflicts(socket, socket.local, true)) {
        return Sys::fail(EADDRINUSE);
    }
    if (!socket.listener) socket.listener = std::make_unique<Listener>();
    const bool huge = backlog < 0 || backlog > max_backlog;
    socket.listener->backlog = static_cast<std::size_t>(huge ? max_backlog : backlog);
    socket.phase = Phase::listening;
    notify(socket);
    return Sys(0);
}

Endpoint SimKernel::State::source_for(const Endpoint& to) const noexcept {
    const bool group = to.is_multicast() || to.is_broadcast();
    if (!group && !to.is_loopback()) return to; // every address is one of this host's own
    return Endpoint::of(to.is_v4() ? Address::loopback_ipv4(0) : Address::loopback_ipv6(0));
}

Sys SimKernel::State::check_destination(const Socket& socket, const Address& address,
                                        Endpoint& to) const noexcept {
    const auto family = address.family();
    if (family != Address::Family::ipv4 && family != Address::Family::ipv6)
        return Sys::fail(EAFNOSUPPORT);
    if (socket.family == AF_INET && family != Address::Family::ipv4) return Sys::fail(EAFNOSUPPORT);
    if (socket.family == AF_INET6 && family == Address::Family::ipv4 && socket.is_stream())
        return Sys::fail(EINVAL);
    to = Endpoint::of(address);
    const bool only6 = socket.family == AF_INET6 && socket.has(SocketOption::ipv6_only);
    if (to.is_v4() && only6) return Sys::fail(ENETUNREACH);
    if (socket.bound && !socket.local.is_any() && socket.local.is_v4() != to.is_v4())
        return Sys::fail(ENETUNREACH);
    if (to.is_any()) {
        const Endpoint loopback = source_for(
            Endpoint::of(to.is_v4() ? Address::loopback_ipv4(0) : Address::loopback_ipv6(0)));
        to.ip = loopback.ip;
    }
    return Sys(0);
}

Sys SimKernel::State::choose_source(Socket& socket, const Endpoint& to) {
    Endpoint from = socket.local;
    if (!socket.bound || from.is_any()) from.ip = source_for(to).ip;
    Tuple tuple{from, to};
    if (!socket.bound) {
        tuple.from.port = free_port(tcp_ports, &tuple);
        if (tuple.from.port == 0) return Sys::fail(EADDRNOTAVAIL);
    }
    if (!tuples.insert(tuple).second) return Sys::fail(EADDRNOTAVAIL);
    socket.local = tuple.from;
    socket.remote = to;
    socket.has_tuple = true;
    if (!socket.bound) {
        socket.counted = true;
        ++tcp_ports[socket.local.port].connections;
    }
    return Sys(0);
}

void SimKernel::State::release_names(Socket& socket) noexcept {
    if (!socket.unix_name.empty()) {
        const auto entry = files.find(socket.unix_name);
        if (entry != files.end() && entry->second.owner == &socket) {
            entry->second.owner = nullptr;
            if (socket.unix_name.front() == '@')
                files.erase(entry); // abstract names go by themselves
        }
    }
    release_tuple(socket);
    if (std::exchange(socket.bound, false))
        std::erase(ports_of(socket)[socket.local.port].bound, &socket);
}

void SimKernel::State::release_tuple(Socket& socket) noexcept {
    if (std::exchange(socket.has_tuple, false)) tuples.erase({socket.local, socket.remote});
    if (std::exchange(socket.counted, false)) --tcp_ports[socket.local.port].connections;
}

Socket* SimKernel::State::find_listener(const Endpoint& to) noexcept {
    const auto found = tcp_ports.find(to.port);
    if (found == tcp_ports.end()) return nullptr;
    Bucket& bucket = found->second;
    int best = 0;
    std::size_t equals = 0;
    for (const Socket* each : bucket.bound) {
        const int points = each->phase == Phase::listening ? score(*each, to) : 0;
        if (points == 0 || points < best) continue;
        equals = points > best ? 1 : equals + 1;
        best = points;
    }
    if (equals == 0) return nullptr;
    std::size_t skip = equals > 1 ? bucket.turn++ % equals : 0;
    for (Socket* each : bucket.bound)
        if (each->phase == Phase::listening && score(*each, to) == best && skip-- == 0) return each;
    return nullptr;
}

Sys SimKernel::State::stream_connect(Socket& socket, const Address& address) {
    if (socket.is_unix()) {
        if (address.family() != Address::Family::unix_socket) return Sys::fail(EINVAL);
        return unix_connect(socket, address.path());
    }
    if (socket.dead) return Sys::fail(EINVAL);
    switch (socket.phase) {
    case Phase::connecting:
        return Sys::fail(EALREADY);
    case Phase::listening:
        return Sys::fail(EISCONN);
    case Phase::established:
        return std::exchange(socket.connect_pending, false) ? Sys(0) : Sys::fail(EISCONN);
    case Phase::closed:
        if (!std::exchange(socket.connect_pending, false)) return Sys::fail(EISCONN);
        // The attempt failed and this call is told of it; the next one may try again.
        release_tuple(socket);
        socket.connection->ends[socket.side] = nullptr;
        socket.connection.reset();
        socket.phase = Phase::fresh;
        socket.send_shut = socket.receive_shut = socket.saw_fin = socket.fin_sent = false;
        notify(socket);
        return Sys::fail(socket.error != 0 ? socket.take_error() : ECONNABORTED);
    case Phase::fresh:
        break;
    }
    Endpoint to;
    if (const Sys valid = check_destination(socket, address, to); !valid.ok()) return valid;
    if (to.is_multicast() || to.is_broadcast()) return Sys::fail(ENETUNREACH);
    if (const Sys source = choose_source(socket, to); !source.ok()) return source;
    const auto connection = std::make_shared<Connection>();
    connection->ends[0] = &socket;
    connection->addresses[0] = socket.local;
    connection->addresses[1] = to;
    socket.connection = connection;
    socket.side = 0;
    socket.phase = Phase::connecting;
    socket.error = 0;
    socket.connect_pending = true;
    if (most_latency == Duration::zero())
        syn(connection);
    else
        schedule(add_saturated(now, delay()), NetworkEvent::Kind::syn, 0, connection);
    return Sys::fail(EINPROGRESS);
}

void SimKernel::State::syn(const ConnectionRef& connection) {
    Socket* client = connection->ends[0];
    if (!client || client->phase != Phase::connecting) return;
    const bool lost = unreachable(connection->addresses[0], connection->addresses[1]);
    Socket* listener = lost ? nullptr : find_listener(connection->addresses[1]);
    if (!lost && !listener) {
        send_reset(connection, 1);
        return;
    }
    if (listener && listener->listener->queue.size() <= listener->listener->backlog) {
        add_child(*listener, connection);
        return;
    }
    if (connection->attempts == max_attempts) {
        fail_stream(*client, ETIMEDOUT);
        return;
    }
    schedule(now + std::chrono::seconds(1 << connection->attempts), NetworkEvent::Kind::syn, 0,
             connection);
    ++connection->attempts;
}

void SimKernel::State::add_child(Socket& listener, const ConnectionRef& connection) {
    auto child = make_socket(listener.family, SOCK_STREAM, listener.protocol);
    child->options = listener.options;
    child->send_buffer = listener.send_buffer;
    child->receive_buffer = listener.receive_buffer;
    child->phase = Phase::established;
    child->connection = connection;
    child->side = 1;
    connection->ends[1] = child.get();
    if (connection->local) {
        child->unix_name = listener.unix_name;
        child->unix_peer = connection->ends[0]->unix_name;
    } else {
        child->local = connection->addresses[1];
        child->remote = connection->addresses[0];
        child->counted = true;
        ++tcp_ports[child->local.port].connections;
    }
    listener.listener->queue.push(std::move(child));
    notify(listener, ready::readable);
    if (!connection->local) launch(connection, 1, 0, Segment::Kind::syn_ack);
}

Sys SimKernel::State::unix_connect(Socket& socket, const std::string& name) {
    const auto found = files.find(name);
    if (found == files.end()) return Sys::fail(name.starts_with('@') ? ECONNREFUSED : ENOENT);
    Socket* listener = found->second.owner;
    if (!listener) return Sys::fail(ECONNREFUSED);
    if (!listener->is_stream()) return Sys::fail(EPROTOTYPE);
    if (listener->phase != Phase::listening) return Sys::fail(ECONNREFUSED);
    if (listener->listener->queue.size() > listener->listener->backlog) return Sys::fail(EAGAIN);
    if (socket.phase != Phase::fresh)
        return Sys::fail(socket.phase == Phase::listening ? EINVAL : EISCONN);
    const auto connection = std::make_shared<Connection>();
    connection->local = true;
    connection->ends[0] = &socket;
    socket.connection = connection;
    socket.side = 0;
    socket.phase = Phase::established;
    socket.unix_peer = name;
    add_child(*listener, connection); // wakes nobody who watches `socket`: it connected at once
    return Sys(0);
}

void SimKernel::State::join_local(Socket& a, Socket& b) {
    const auto connection = std::make_shared<Connection>();
    connection->local = true;
    connection->ends[0] = &a;
    connection->ends[1] = &b;
    b.side = 1;
    for (Socket* end : {&a, &b}) {
        end->connection = connection;
        end->phase = Phase::established;
    }
}

} // namespace weft::sim
