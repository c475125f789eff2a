#include "state.hpp"

#include <weft/reactor/error.hpp>

#include <cerrno>
#include <sys/socket.h>

// Some facts about epoll that the readiness here follows
//
// A registration is looked at when something wakes it, and by each `wait` for as long as it stays
// in the ready list. Being woken puts it at the end of that list, unless the wake-up names bits and
// none of them was asked for. `wait` takes it from the list and asks the socket what is true now:
// nothing, and it is dropped silently; something, and it is reported with all bits that were asked
// for. A level-triggered one goes back to the end of the list. So an edge-triggered registration
// reports once per wake-up, however many came, and everything that is true then.

namespace weft::sim {
namespace {

/// `std::push_heap` keeps the greatest first; here the earliest is.
bool later(const NetworkEvent& a, const NetworkEvent& b) noexcept {
    return a.at != b.at ? a.at > b.at : a.sequence > b.sequence;
}

} // namespace

SimKernel::State::State(const SimOptions& given)
    : options(given), now(given.start), user_random(given.seed),
      // Any other stream of the same seed: the complement starts splitmix64 elsewhere.
      network_random(~given.seed), next_port(given.first_port) {
    weft::detail::check_option(given.send_buffer != 0, "SimOptions: send_buffer", given.send_buffer,
                               "must be at least 1");
    weft::detail::check_option(given.receive_buffer != 0, "SimOptions: receive_buffer",
                               given.receive_buffer, "must be at least 1");
    weft::detail::check_option(given.first_port != 0 && given.first_port <= given.last_port,
                               "SimOptions: first_port", given.first_port,
                               "must be from 1 to last_port");
    hosts["localhost"] = {Address::loopback_ipv4(0), Address::loopback_ipv6(0)};
}

Socket* SimKernel::State::find(int fd) noexcept {
    const auto index = static_cast<std::size_t>(fd - first_fd);
    return fd >= first_fd && index < sockets.size() ? sockets[index].get() : nullptr;
}

std::unique_ptr<Socket> SimKernel::State::make_socket(int family, int type, int protocol) {
    auto socket = std::make_unique<Socket>();
    socket->id = next_id++;
    socket->family = family;
    socket->type = type;
    socket->protocol = protocol;
    socket->send_buffer = options.send_buffer;
    socket->receive_buffer = options.receive_buffer;
    if (type == SOCK_DGRAM) socket->datagrams = std::make_unique<DatagramState>();
    return socket;
}

Sys SimKernel::State::open(std::unique_ptr<Socket> socket) {
    if (open_count >= options.descriptor_limit) return Sys::fail(EMFILE);
    int fd;
    if (free_fds.empty()) {
        fd = first_fd + static_cast<int>(sockets.size());
        sockets.emplace_back();
    } else {
        std::pop_heap(free_fds.begin(), free_fds.end(), std::greater<>());
        fd = free_fds.back();
        free_fds.pop_back();
    }
    socket->fd = fd;
    sockets[static_cast<std::size_t>(fd - first_fd)] = std::move(socket);
    ++open_count;
    return Sys(fd);
}

void SimKernel::State::forget(Socket& socket) noexcept {
    dequeue(socket);
    socket.registered = false;
}

void SimKernel::State::enqueue(Socket& socket) noexcept {
    if (socket.queued) return;
    socket.queued = true;
    socket.previous_ready = last_ready;
    socket.next_ready = nullptr;
    (last_ready ? last_ready->next_ready : first_ready) = &socket;
    last_ready = &socket;
    ++ready_count;
}

void SimKernel::State::dequeue(Socket& socket) noexcept {
    if (!socket.queued) return;
    socket.queued = false;
    (socket.previous_ready ? socket.previous_ready->next_ready : first_ready) = socket.next_ready;
    (socket.next_ready ? socket.next_ready->previous_ready : last_ready) = socket.previous_ready;
    --ready_count;
}

void SimKernel::State::notify(Socket& socket, std::uint32_t keys) noexcept {
    if (socket.registered && (keys == 0 || (keys & socket.interest) != 0)) enqueue(socket);
}

std::size_t SimKernel::State::collect(std::span<Event> out) noexcept {
    std::size_t stored = 0;
    for (std::size_t left = ready_count; left > 0 && stored < out.size(); --left) {
        Socket& socket = *first_ready;
        dequeue(socket);
        const std::uint32_t bits = mask(socket) & socket.interest;
        if (bits == 0) continue;
        out[stored++] = {socket.token, bits};
        if (!socket.edge) enqueue(socket);
    }
    return stored;
}

std::uint32_t SimKernel::State::mask(Socket& socket) noexcept {
    if (socket.is_datagram()) return datagram_mask(socket);
    using Phase = Socket::Phase;
    if (socket.phase == Phase::listening)
        return socket.listener->queue.empty() ? 0 : ready::readable;
    std::uint32_t bits = socket.error != 0 ? ready::error : 0;
    if (socket.send_shut && socket.receive_shut) bits |= ready::hangup;
    if (socket.receive_shut) bits |= ready::readable | ready::read_hangup;
    if (socket.connection && socket.phase != Phase::connecting && socket.in().arrived > 0)
        bits |= ready::readable;
    if (socket.phase == Phase::fresh || socket.phase == Phase::closed) bits |= ready::hangup;
    if (socket.phase == Phase::connecting) return bits;
    // TCP is also writable once nothing can be written any more, so that nobody waits for it.
    if (writable(socket) || (socket.send_shut && !socket.is_unix()))
        bits |= ready::writable;
    else
        socket.no_space = true;
    return bits;
}

void SimKernel::State::schedule(TimePoint at, NetworkEvent::Kind kind, int side,
                                ConnectionRef connection, std::unique_ptr<Flight> flight) {
    events.push_back({at, next_sequence++, kind, side, std::move(connection), std::move(flight)});
    std::push_heap(events.begin(), events.end(), later);
}

NetworkEvent SimKernel::State::pop_event() {
    std::pop_heap(events.begin(), events.end(), later);
    NetworkEvent event = std::move(events.back());
    events.pop_back();
    return event;
}

bool SimKernel::State::stale(const NetworkEvent& event) noexcept {
    using Kind = NetworkEvent::Kind;
    if (event.kind == Kind::datagram) return false;
    Connection& connection = *event.connection;
    const Flow& flow = connection.flows[event.side];
    switch (event.kind) {
    case Kind::syn:
        return !connection.ends[0] || connection.ends[0]->phase != Socket::Phase::connecting;
    case Kind::arrive:
        return flow.on_the_way.empty() || flow.stalled;
    case Kind::reset:
        return !connection.ends[event.side] ||
               connection.ends[event.side]->phase == Socket::Phase::closed;
    case Kind::give_up:
        return !flow.stalled;
    case Kind::datagram:
        break;
    }
    return false;
}

TimePoint SimKernel::State::next_event() noexcept {
    while (!events.empty() && stale(events.front()))
        pop_event();
    return events.empty() ? TimePoint::max() : events.front().at;
}

void SimKernel::State::run_due() {
    while (next_event() <= now && !events.empty()) {
        NetworkEvent event = pop_event();
        switch (event.kind) {
        case NetworkEvent::Kind::syn:
            syn(event.connection);
            break;
        case NetworkEvent::Kind::arrive:
            arrive(event.connection, event.side);
            break;
        case NetworkEvent::Kind::reset:
            land_reset(*event.connection, event.side);
            break;
        case NetworkEvent::Kind::give_up:
            give_up(*event.connection, event.side);
            break;
        case NetworkEvent::Kind::datagram:
            land_flight(std::move(event.flight));
            break;
        }
    }
}

Duration SimKernel::State::delay() noexcept {
    const auto spread = static_cast<std::uint64_t>((most_latency - least_latency).count());
    if (spread == 0) return least_latency;
    return least_latency + Duration(static_cast<Duration::rep>(network_random.below(spread + 1)));
}

bool SimKernel::State::unreachable(const Endpoint& a, const Endpoint& b) const noexcept {
    const auto hits = [](const Endpoint& hole, const Endpoint& endpoint) {
        return hole.same_ip(endpoint) && (hole.port == 0 || hole.port == endpoint.port);
    };
    return std::any_of(black_holes.begin(), black_holes.end(),
                       [&](const Endpoint& hole) { return hits(hole, a) || hits(hole, b); });
}

} // namespace weft::sim
