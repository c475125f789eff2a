#include "state.hpp"

#include <cerrno>
#include <netinet/in.h>
#include <sys/socket.h>

// Some facts about datagrams on Linux that are kept here
//
// A datagram to a port that nobody is bound to comes back as ICMP "port unreachable". A connected
// socket gets ECONNREFUSED from it, once, in whatever is asked first: the option `error`, a receive
// (before any datagram that lies there) or a send, which then sends nothing. An unconnected one
// hears of it only with an error queue, and then from that as well, which reports ERR until it is
// empty.
//
// A receiver drops what comes while its queue is full, and takes what comes while it is not, even
// if that fills it over. A connected socket hears only its peer, and goes before all others bound
// to the port. Several with SO_REUSEPORT share the flows by source address; with SO_REUSEADDR the
// last one bound has them all. Datagrams on their way fill the sender's buffer.

namespace weft::sim {
namespace {

using Phase = Socket::Phase;

constexpr std::size_t max_payload_v4 = 65507; // 65535 - IPv4 header - UDP header
constexpr std::size_t max_payload_v6 = 65527; // the IPv6 header is not counted
constexpr std::size_t max_segments = 64;      // UDP_MAX_SEGMENTS of Linux before 6.9

void await_room(DatagramState& full, const Socket& sender) {
    auto& waiting = full.waiting_senders;
    if (std::find(waiting.begin(), waiting.end(), sender.fd) == waiting.end())
        waiting.push_back(sender.fd);
}

bool hears(const Socket& socket, const Flight& flight) noexcept {
    return socket.phase != Phase::established || socket.remote == flight.from;
}

bool is_member(const Socket& socket, const Flight& flight) noexcept {
    for (const Membership& each : socket.datagrams->memberships) {
        if (!each.group.same_ip(flight.to)) continue;
        return each.sources.empty() ||
               std::any_of(each.sources.begin(), each.sources.end(),
                           [&](const Endpoint& source) { return source.same_ip(flight.from); });
    }
    return false;
}

} // namespace

std::uint32_t SimKernel::State::datagram_mask(Socket& socket) noexcept {
    DatagramState& state = *socket.datagrams;
    std::uint32_t bits = 0;
    if (socket.error != 0 || !state.errors.empty()) bits |= ready::error;
    if (socket.receive_shut) bits |= ready::readable | ready::read_hangup;
    if (socket.receive_shut && socket.send_shut) bits |= ready::hangup;
    if (!state.queue.empty()) bits |= ready::readable;
    bool room = state.bytes_in_flight == 0 || state.bytes_in_flight * 2 < socket.send_buffer;
    if (Socket* peer = socket.is_unix() ? alive(state.peer_fd, state.peer_id) : nullptr;
        peer && peer->datagrams->queue.size() > max_unix_queue) {
        await_room(*peer->datagrams, socket);
        room = false;
    }
    return room ? bits | ready::writable : bits;
}

Sys SimKernel::State::datagram_connect(Socket& socket, const Address& address) {
    DatagramState& state = *socket.datagrams;
    if (socket.is_unix()) {
        if (address.family() != Address::Family::unix_socket) return Sys::fail(EINVAL);
        const std::string name = address.path();
        const auto found = files.find(name);
        if (found == files.end()) return Sys::fail(name.starts_with('@') ? ECONNREFUSED : ENOENT);
        const Socket* peer = found->second.owner;
        if (!peer) return Sys::fail(ECONNREFUSED);
        if (!peer->is_datagram()) return Sys::fail(EPROTOTYPE);
        state.peer_fd = peer->fd;
        state.peer_id = peer->id;
        socket.unix_peer = name;
        socket.phase = Phase::established;
        return Sys(0);
    }
    if (address.family() == Address::Family::none) { // AF_UNSPEC: no peer any more
        if (state.any_source) socket.local.ip = Endpoint::of(Address::any_ipv6(0)).ip;
        if (state.any_source && socket.family == AF_INET)
            socket.local.ip = Endpoint::of(Address::any_ipv4(0)).ip;
        state.any_source = false;
        socket.phase = Phase::fresh;
        socket.remote = {};
        return Sys(0);
    }
    Endpoint to;
    if (const Sys valid = check_destination(socket, address, to); !valid.ok()) return valid;
    if (to.is_broadcast() && !socket.has(SocketOption::broadcast)) return Sys::fail(EACCES);
    if (!socket.bound) {
        const auto any = socket.family == AF_INET ? Address::any_ipv4(0) : Address::any_ipv6(0);
        if (const Sys bound = bind_ip(socket, Endpoint::of(any)); !bound.ok())
            return Sys::fail(EAGAIN); // what connect(2) says when the ports are used up
    }
    if (socket.local.is_any()) {
        state.any_source = true;
        socket.local.ip = source_for(to).ip;
    }
    socket.remote = to;
    socket.phase = Phase::established;
    return Sys(0);
}

Sys SimKernel::State::datagram_send(Socket& socket, const OutDatagram& datagram) {
    if (socket.is_unix()) return unix_datagram_send(socket, datagram);
    const bool named = datagram.to && !datagram.to->empty();
    Endpoint to = socket.remote;
    if (named) {
        if (const Sys valid = check_destination(socket, *datagram.to, to); !valid.ok())
            return valid;
    } else if (socket.phase != Phase::established) {
        return Sys::fail(EDESTADDRREQ);
    }
    if (to.port == 0) return Sys::fail(EINVAL);
    if (socket.send_shut) return Sys::fail(EPIPE);
    const std::size_t size = datagram.data.size();
    const std::size_t segment = datagram.segment_size ? datagram.segment_size : size;
    if (size > (to.is_v4() ? max_payload_v4 : max_payload_v6)) return Sys::fail(EMSGSIZE);
    if (segment > 0 && size > segment * max_segments) return Sys::fail(EINVAL);
    if (to.is_broadcast() && !socket.has(SocketOption::broadcast)) return Sys::fail(EACCES);
    if (socket.error != 0) return Sys::fail(socket.take_error());
    if (socket.datagrams->bytes_in_flight >= socket.send_buffer) return Sys::fail(EAGAIN);
    if (!socket.bound) {
        const auto any = socket.family == AF_INET ? Address::any_ipv4(0) : Address::any_ipv6(0);
        if (const Sys bound = bind_ip(socket, Endpoint::of(any)); !bound.ok())
            return Sys::fail(EAGAIN);
    }
    Endpoint from = socket.local;
    if (from.is_any()) from.ip = source_for(to).ip;
    if (datagram.from && datagram.from->is_ip()) {
        const Endpoint source = Endpoint::of(*datagram.from);
        if (source.is_multicast() || source.is_broadcast()) return Sys::fail(EINVAL);
        if (!source.is_any()) from.ip = source.ip;
    }
    const int traffic_class = socket.option(SocketOption::traffic_class);
    const bool loops_back = socket.option(SocketOption::multicast_loop, 1) != 0;
    std::size_t done = 0;
    do {
        const Bytes part = datagram.data.subspan(done, std::min(segment, size - done));
        auto flight = std::make_unique<Flight>();
        flight->data.assign(part.begin(), part.end());
        flight->from = from;
        flight->to = to;
        flight->sender_fd = socket.fd;
        flight->sender_id = socket.id;
        flight->ecn =
            static_cast<std::int8_t>((datagram.ecn >= 0 ? datagram.ecn : traffic_class) & 3);
        flight->loops_back = loops_back;
        post_flight(socket, std::move(flight));
        done += part.size();
    } while (done < size);
    return Sys(static_cast<std::int64_t>(size));
}

void SimKernel::State::post_flight(Socket& sender, std::unique_ptr<Flight> flight) {
    if (network_random.chance(loss)) return;
    const int copies = network_random.chance(duplicate) ? 2 : 1;
    TimePoint& last = sender.datagrams->last_arrival;
    for (int copy = 1; copy <= copies; ++copy) {
        auto sent = copy == copies ? std::move(flight) : std::make_unique<Flight>(*flight);
        TimePoint at = add_saturated(now, delay());
        if (network_random.chance(reorder))
            at = add_saturated(at, std::max<Duration>(most_latency, std::chrono::milliseconds(1)));
        else
            at = last = std::max(at, last);
        if (at <= now) {
            land_flight(std::move(sent));
            continue;
        }
        sent->charge = std::max<std::size_t>(sent->data.size(), 1);
        sender.datagrams->bytes_in_flight += sent->charge;
        schedule(at, NetworkEvent::Kind::datagram, 0, nullptr, std::move(sent));
    }
}

Socket* SimKernel::State::alive(int fd, std::uint64_t id) noexcept {
    Socket* socket = find(fd);
    return socket && socket->id == id ? socket : nullptr;
}

void SimKernel::State::release_charge(int fd, std::uint64_t id, std::size_t charge) noexcept {
    Socket* sender = charge > 0 ? alive(fd, id) : nullptr;
    if (!sender) return;
    sender->datagrams->bytes_in_flight -= charge;
    notify(*sender, ready::writable);
}

void SimKernel::State::land_flight(std::unique_ptr<Flight> flight) {
    release_charge(flight->sender_fd, flight->sender_id, std::exchange(flight->charge, 0));
    if (unreachable(flight->from, flight->to)) return;
    if (flight->refused) {
        report_refusal(*flight);
        return;
    }
    const bool group = flight->to.is_multicast();
    if (!group && !flight->to.is_broadcast()) {
        if (Socket* receiver = find_receiver(*flight))
            deliver(*receiver, *flight);
        else
            refuse(*flight);
        return;
    }
    const auto found = udp_ports.find(flight->to.port);
    if (found == udp_ports.end() || (group && !flight->loops_back)) return;
    for (Socket* each : found->second.bound)
        if (covers(*each, flight->to) && hears(*each, *flight) &&
            (!group || is_member(*each, *flight)))
            deliver(*each, *flight);
}

Socket* SimKernel::State::find_receiver(const Flight& flight) noexcept {
    const auto found = udp_ports.find(flight.to.port);
    if (found == udp_ports.end()) return nullptr;
    const auto points_of = [&](const Socket& socket) {
        const int points = hears(socket, flight) ? score(socket, flight.to) : 0;
        constexpr int connected_bonus = 10; // above every score
        return points > 0 && socket.phase == Phase::established ? points + connected_bonus : points;
    };
    int best = 0;
    std::size_t equals = 0;
    Socket* last = nullptr;
    for (Socket* each : found->second.bound) {
        const int points = points_of(*each);
        if (points == 0 || points < best) continue;
        equals = points > best ? 1 : equals + 1;
        best = points;
        last = each;
    }
    if (equals < 2 || !last->has(SocketOption::reuse_port)) return last;
    std::size_t skip = TupleHash()({flight.from, flight.to}) % equals;
    for (Socket* each : found->second.bound)
        if (points_of(*each) == best && skip-- == 0) return each;
    return nullptr;
}

void SimKernel::State::deliver(Socket& socket, const Flight& flight) {
    DatagramState& state = *socket.datagrams;
    if (state.queued_bytes >= socket.receive_buffer) return;
    Received received;
    received.data = flight.data;
    received.from = flight.from.address(socket.family);
    received.destination = received.to = flight.to.address(socket.family);
    if (flight.to.is_multicast() || flight.to.is_broadcast())
        received.to = flight.to.is_v4() ? source_for(flight.to).address(socket.family)
                                        // as packet info of IPv6 leaves it
                                        : Address::ipv6({}, 0, 1);
    received.ecn = flight.ecn;
    state.queued_bytes += std::max<std::size_t>(flight.data.size(), 1);
    state.queue.push(std::move(received));
    notify(socket, ready::readable);
}

void SimKernel::State::refuse(const Flight& flight) {
    auto message = std::make_unique<Flight>(flight);
    message->data.clear();
    message->refused = true;
    const Duration back = delay();
    if (back == Duration::zero())
        report_refusal(*message);
    else
        schedule(add_saturated(now, back), NetworkEvent::Kind::datagram, 0, nullptr,
                 std::move(message));
}

void SimKernel::State::report_refusal(const Flight& flight) {
    Socket* sender = alive(flight.sender_fd, flight.sender_id);
    if (!sender) return;
    const bool queue = sender->has(SocketOption::error_queue);
    const bool connected = sender->phase == Phase::established;
    if (connected && sender->remote != flight.to) return; // no socket has these two addresses
    if (!queue && !connected) return;
    if (queue) sender->datagrams->errors.push({ECONNREFUSED, flight.to.address(sender->family)});
    sender->error = ECONNREFUSED;
    notify(*sender, ready::error);
}

Sys SimKernel::State::datagram_recv(Socket& socket, DatagramSlot& slot) {
    DatagramState& state = *socket.datagrams;
    if (state.queue.empty()) return Sys::fail(EAGAIN);
    const Received received = state.queue.pop();
    const std::size_t charge = std::max<std::size_t>(received.data.size(), 1);
    state.queued_bytes -= charge;
    slot.size = std::min(received.data.size(), slot.capacity);
    if (slot.size > 0) std::memcpy(slot.data, received.data.data(), slot.size);
    slot.truncated = slot.size < received.data.size();
    slot.from = received.from;
    slot.to = slot.destination = Address();
    slot.interface = 0;
    slot.segment_size = 0;
    slot.ecn = -1;
    if (socket.is_unix()) {
        release_charge(received.sender_fd, received.sender_id, charge);
        std::vector<int> waiting = std::exchange(state.waiting_senders, {});
        for (const int fd : waiting)
            if (Socket* sender = find(fd)) notify(*sender, ready::writable);
        return Sys(static_cast<std::int64_t>(slot.size));
    }
    if (socket.has(SocketOption::packet_info)) {
        slot.to = received.to;
        slot.to.set_port(socket.local.port);
        slot.destination = received.destination;
        slot.interface = 1; // the only one, as the loopback interface is on Linux
    }
    if (socket.has(SocketOption::receive_ecn)) slot.ecn = received.ecn;
    return Sys(static_cast<std::int64_t>(slot.size));
}

Sys SimKernel::State::unix_datagram_send(Socket& socket, const OutDatagram& datagram) {
    DatagramState& state = *socket.datagrams;
    Socket* peer = alive(state.peer_fd, state.peer_id);
    if (datagram.to && !datagram.to->empty()) {
        const std::string name = datagram.to->path();
        const auto found = files.find(name);
        if (found == files.end()) return Sys::fail(name.starts_with('@') ? ECONNREFUSED : ENOENT);
        peer = found->second.owner;
        if (!peer) return Sys::fail(ECONNREFUSED);
        if (!peer->is_datagram()) return Sys::fail(EPROTOTYPE);
    } else if (!peer) {
        if (socket.phase != Phase::established) return Sys::fail(ENOTCONN);
        socket.phase = Phase::fresh;
        return Sys::fail(ECONNREFUSED);
    }
    DatagramState& target = *peer->datagrams;
    if (alive(target.peer_fd, target.peer_id) && target.peer_id != socket.id)
        return Sys::fail(EPERM);
    if (datagram.data.size() > socket.send_buffer) return Sys::fail(EMSGSIZE);
    if (target.queue.size() > max_unix_queue) {
        await_room(target, socket);
        return Sys::fail(EAGAIN);
    }
    if (state.bytes_in_flight >= socket.send_buffer) return Sys::fail(EAGAIN);
    Received received;
    received.data.assign(datagram.data.begin(), datagram.data.end());
    received.from = unix_address(socket.unix_name);
    received.sender_fd = socket.fd;
    received.sender_id = socket.id;
    const std::size_t charge = std::max<std::size_t>(received.data.size(), 1);
    target.queued_bytes += charge;
    state.bytes_in_flight += charge;
    target.queue.push(std::move(received));
    notify(*peer, ready::readable);
    return Sys(static_cast<std::int64_t>(datagram.data.size()));
}

void SimKernel::State::pair_datagrams(Socket& a, Socket& b) noexcept {
    a.datagrams->peer_fd = b.fd;
    a.datagrams->peer_id = b.id;
    b.datagrams->peer_fd = a.fd;
    b.datagrams->peer_id = a.id;
    a.phase = b.phase = Phase::established;
}

void SimKernel::State::datagram_close(Socket& socket) {
    DatagramState& state = *socket.datagrams;
    while (!state.queue.empty()) {
        const Received received = state.queue.pop();
        release_charge(received.sender_fd, received.sender_id,
                       std::max<std::size_t>(received.data.size(), 1));
    }
    for (const int fd : state.waiting_senders)
        if (Socket* sender = find(fd)) notify(*sender);
}

} // namespace weft::sim
