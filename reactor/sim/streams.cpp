#include "state.hpp"

#include <cerrno>
#include <sys/socket.h>
#include <sys/uio.h>

// Some facts about streams on Linux that are kept here
//
// TCP. Bytes that arrived before a reset can still be read; then the error is reported once, by
// recv, send or as an option, and recv goes on with 0 and send with EPIPE. A reset that comes after
// the peer's FIN is EPIPE instead of ECONNRESET, and recv keeps returning 0. Closing with unread
// bytes sends a reset instead of FIN, and so does any byte that arrives at a closed socket: the
// first send after the peer closed succeeds. A FIN waits for the bytes before it, a reset overtakes
// those that do not fit in the receiver's buffer. Once both FINs have arrived the socket has no
// peer any more (ENOTCONN).
//
// Room. A TCP socket is writable while at least a third of its buffer is free, a Unix socket while
// three quarters are; a send takes what there is room for all the same. Room is reported only to
// who was refused before. What a Unix socket sent fills the sender's buffer until it is read: there
// is no receive buffer.

namespace weft::sim {
namespace {

using Phase = Socket::Phase;

// Linux gives up retransmitting after tcp_retries2 = 15 attempts, 924.6 s with the shortest RTO.
constexpr Duration stall_limit = std::chrono::milliseconds(924'600);
// And connecting after tcp_syn_retries = 6: 1 + 2 + 4 + ... + 64 s.
constexpr Duration connect_limit = std::chrono::seconds(127);

std::size_t unsent(const Socket& socket) noexcept {
    const Flow& flow = socket.connection->flows[socket.side];
    return socket.is_unix() ? flow.charged : flow.bytes.size() - flow.arrived;
}

std::size_t room(const Socket& socket) noexcept {
    const std::size_t used = unsent(socket);
    return socket.send_buffer > used ? socket.send_buffer - used : 0;
}

} // namespace

bool SimKernel::State::writable(const Socket& socket) const noexcept {
    if (!socket.connection) return true;
    const std::size_t used = unsent(socket);
    if (socket.is_unix()) return used * 4 <= socket.send_buffer;
    return used < socket.send_buffer && (socket.send_buffer - used) * 2 >= used;
}

void SimKernel::State::space_freed(Socket* writer) noexcept {
    if (!writer || writer->phase == Phase::connecting) return;
    if (!writer->no_space || !writable(*writer)) return;
    writer->no_space = false;
    notify(*writer, ready::writable);
}

Sys SimKernel::State::stream_send(Socket& socket, const iovec* pieces, std::size_t count) {
    if (socket.is_unix()) {
        if (!socket.connection) return Sys::fail(ENOTCONN);
        if (socket.send_shut) return Sys::fail(EPIPE);
    } else {
        if (socket.phase == Phase::connecting) return Sys::fail(EAGAIN);
        if (socket.error != 0) return Sys::fail(socket.take_error());
        if (socket.send_shut || socket.phase != Phase::established) return Sys::fail(EPIPE);
    }
    // Held here: a reset that comes back at once must not end the connection under this function.
    const ConnectionRef connection = socket.connection;
    std::size_t total = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const auto* data = static_cast<const std::byte*>(pieces[i].iov_base);
        std::size_t left = pieces[i].iov_len;
        while (left > 0) {
            std::size_t part = std::min(left, room(socket));
            if (part == 0) {
                socket.no_space = true;
                return total > 0 ? Sys(static_cast<std::int64_t>(total)) : Sys::fail(EAGAIN);
            }
            if (socket.is_unix()) {
                // Linux cuts what it copies at half of the buffer, so that reading frees some
                // early.
                part = std::min(part, std::max<std::size_t>(socket.send_buffer / 2, 1));
                socket.out().pieces.push(part);
                socket.out().charged += part;
            }
            socket.out().bytes.push(data, part);
            launch(connection, socket.side, part, Segment::Kind::data);
            data += part;
            left -= part;
            total += part;
            if (socket.send_shut) return Sys(static_cast<std::int64_t>(total));
        }
    }
    return Sys(static_cast<std::int64_t>(total));
}

Sys SimKernel::State::stream_recv(Socket& socket, void* data, std::size_t size) {
    if (!socket.connection || socket.phase == Phase::connecting) {
        if (socket.phase == Phase::connecting) return Sys::fail(EAGAIN);
        if (socket.is_unix()) return Sys::fail(EINVAL);
        if (socket.error != 0) return Sys::fail(socket.take_error());
        return socket.receive_shut ? Sys(0) : Sys::fail(ENOTCONN);
    }
    if (size == 0) return Sys(0);
    Flow& flow = socket.in();
    if (flow.arrived > 0) {
        const std::size_t part = std::min(size, flow.arrived);
        flow.bytes.pop(data, part);
        flow.arrived -= part;
        if (flow.due > 0 || flow.fin_due) {
            const ConnectionRef connection = socket.connection;
            pump(connection, 1 - socket.side);
        } else if (socket.is_unix() && flow.discharge(part)) {
            Socket* writer = socket.connection->ends[1 - socket.side];
            if (writer && writable(*writer)) notify(*writer, ready::writable);
        }
        return Sys(static_cast<std::int64_t>(part));
    }
    if (socket.saw_fin) return Sys(0);
    if (socket.error != 0) return Sys::fail(socket.take_error());
    return socket.receive_shut ? Sys(0) : Sys::fail(EAGAIN);
}

Sys SimKernel::State::stream_shutdown(Socket& socket) {
    if (socket.is_unix()) {
        socket.send_shut = true;
        notify(socket);
        if (!socket.connection) return Sys(0);
        if (Socket* peer = socket.connection->ends[1 - socket.side]) {
            peer->receive_shut = true;
            notify(*peer);
        }
        return Sys(0);
    }
    Sys result(0);
    // An attempt whose outcome `connect` has not told leaves a failed socket of no further use.
    const bool pending = std::exchange(socket.connect_pending, false);
    switch (socket.phase) {
    case Phase::listening:
        break;
    case Phase::fresh:
    case Phase::closed:
        socket.send_shut = true;
        socket.dead = socket.dead || pending;
        result = Sys::fail(ENOTCONN);
        break;
    case Phase::connecting: // gives the attempt up, as disconnecting would
        socket.connection->ends[0] = nullptr;
        socket.connection.reset();
        socket.phase = Phase::fresh;
        socket.error = ECONNRESET;
        release_tuple(socket);
        break;
    case Phase::established:
        socket.send_shut = true;
        if (!std::exchange(socket.fin_sent, true))
            launch(ConnectionRef(socket.connection), socket.side, 0, Segment::Kind::fin);
        break;
    }
    notify(socket);
    return result;
}

void SimKernel::State::stream_close(Socket& socket, bool reset) {
    if (socket.listener) {
        while (!socket.listener->queue.empty()) {
            const std::unique_ptr<Socket> child = socket.listener->queue.pop();
            stream_close(*child, true);
            release_names(*child);
        }
    }
    const ConnectionRef connection = socket.connection;
    if (!connection) return;
    connection->ends[socket.side] = nullptr;
    Flow& in = socket.in();
    const bool unread = in.bytes.size() > 0 && in.arrived + in.due > 0;
    if (connection->local) {
        if (Socket* peer = connection->ends[1 - socket.side]) {
            // Resetting means nothing to Unix sockets, but the queue of a listener was never seen.
            const bool unseen = reset && socket.fd < 0;
            if (unread || unseen) peer->error = ECONNRESET;
            peer->send_shut = peer->receive_shut = true;
            notify(*peer);
        }
        return;
    }
    if (socket.phase != Phase::established) return;
    if (unread || reset)
        send_reset(connection, socket.side);
    else if (!socket.fin_sent)
        launch(connection, socket.side, 0, Segment::Kind::fin);
}

void SimKernel::State::launch(const ConnectionRef& connection, int side, std::size_t size,
                              Segment::Kind kind) {
    Flow& flow = connection->flows[side];
    const bool instant = connection->local || (most_latency == Duration::zero() &&
                                               most_segment == 0 && black_holes.empty());
    if (instant && flow.on_the_way.empty()) {
        land(connection, side, {now, size, kind});
        return;
    }
    std::size_t left = size;
    do {
        std::size_t part = left;
        TimePoint at = add_saturated(now, delay());
        if (kind == Segment::Kind::data && most_segment > 0) {
            const std::size_t spread = most_segment - least_segment + 1;
            part = std::min(left, least_segment + network_random.below(spread));
            if (!flow.on_the_way.empty() || flow.last_arrival >= now)
                at = std::max(at, flow.last_arrival + std::chrono::microseconds(1));
        }
        at = std::max(at, flow.last_arrival);
        flow.last_arrival = at;
        flow.on_the_way.push({at, part, kind});
        schedule(at, NetworkEvent::Kind::arrive, side, connection);
        left -= part;
    } while (left > 0);
}

void SimKernel::State::arrive(const ConnectionRef& connection, int side) {
    Flow& flow = connection->flows[side];
    if (unreachable(connection->addresses[0], connection->addresses[1])) {
        const bool handshake = flow.on_the_way.front().kind == Segment::Kind::syn_ack;
        flow.stalled = true;
        flow.give_up_at = now + (handshake ? connect_limit : stall_limit);
        stalled.push_back(connection);
        schedule(flow.give_up_at, NetworkEvent::Kind::give_up, side, connection);
        return;
    }
    while (!flow.on_the_way.empty() && flow.on_the_way.front().at <= now)
        land(connection, side, flow.on_the_way.pop());
}

void SimKernel::State::land(const ConnectionRef& connection, int side, const Segment& segment) {
    Flow& flow = connection->flows[side];
    if (segment.kind == Segment::Kind::syn_ack) {
        Socket* client = connection->ends[0];
        if (!client) {
            send_reset(connection, 0);
        } else if (client->phase == Phase::connecting) {
            client->phase = Phase::established;
            notify(*client);
        }
        return;
    }
    flow.due += segment.size;
    if (segment.kind == Segment::Kind::fin) flow.fin_due = true;
    pump(connection, side);
}

void SimKernel::State::pump(const ConnectionRef& connection, int side) {
    Flow& flow = connection->flows[side];
    Socket* reader = connection->ends[1 - side];
    if (!reader) {
        if (flow.due > 0) {
            flow.arrived = 0;
            flow.drop_unarrived();
            if (!connection->local) send_reset(connection, 1 - side);
            return;
        }
    } else if (flow.due > 0) {
        const std::size_t limit = connection->local ? flow.bytes.size() : reader->receive_buffer;
        const std::size_t free = limit > flow.arrived ? limit - flow.arrived : 0;
        const std::size_t part = std::min(flow.due, free);
        flow.arrived += part;
        flow.due -= part;
        if (part > 0) {
            notify(*reader, ready::readable);
            space_freed(connection->ends[side]);
        }
    }
    if (!flow.fin_due || flow.due > 0 || flow.fin_arrived) return;
    flow.fin_arrived = true;
    if (reader) reader->receive_shut = reader->saw_fin = true;
    if (connection->flows[1 - side].fin_arrived) finish(*connection);
    if (reader) notify(*reader);
}

void SimKernel::State::finish(Connection& connection) noexcept {
    for (Socket* end : connection.ends) {
        if (!end) continue;
        end->phase = Phase::closed;
        end->send_shut = end->receive_shut = true;
        notify(*end);
    }
}

void SimKernel::State::send_reset(const ConnectionRef& connection, int from) {
    if (std::exchange(connection->reset_sent[from], true)) return;
    Flow& flow = connection->flows[from];
    if (most_latency == Duration::zero() && flow.on_the_way.empty() && black_holes.empty()) {
        land_reset(*connection, 1 - from);
        return;
    }
    const TimePoint at = std::max(add_saturated(now, delay()), flow.last_arrival);
    schedule(at, NetworkEvent::Kind::reset, 1 - from, connection);
}

void SimKernel::State::land_reset(Connection& connection, int to) noexcept {
    if (unreachable(connection.addresses[0], connection.addresses[1])) return;
    Socket* socket = connection.ends[to];
    if (!socket || socket->phase == Phase::closed) return;
    const int error = socket->phase == Phase::connecting ? ECONNREFUSED
                      : socket->saw_fin                  ? EPIPE
                                                         : ECONNRESET;
    fail_stream(*socket, error);
}

void SimKernel::State::fail_stream(Socket& socket, int error) noexcept {
    socket.in().drop_unarrived();
    socket.out().drop_unarrived();
    socket.error = error;
    socket.phase = Phase::closed;
    socket.send_shut = socket.receive_shut = true;
    notify(socket);
}

void SimKernel::State::give_up(Connection& connection, int side) noexcept {
    Flow& flow = connection.flows[side];
    if (now < flow.give_up_at) return; // healed in between, and stalled again
    flow.drop_unarrived();
    for (Socket* end : connection.ends) {
        const bool waits = end && (end->side == side || end->phase == Phase::connecting);
        if (waits && end->phase != Phase::closed) fail_stream(*end, ETIMEDOUT);
    }
}

} // namespace weft::sim
