#pragma once

#include "byte_ring.hpp"
#include "endpoint.hpp"
#include "fifo.hpp"

#include <weft/reactor/clock.hpp>

#include <memory>

namespace weft::sim {

struct Socket;

/// One thing that travels along a connection.
struct Segment {
    enum class Kind : std::uint8_t { data, fin, syn_ack };
    TimePoint at; // when it arrives
    std::size_t size;
    Kind kind;
};

/// One direction of a connection. Its bytes are, oldest first: those that arrived and can be read,
/// those that are due but do not fit in the receive buffer, and those on their way. The last two
/// fill the sender's buffer.
struct Flow {
    ByteRing bytes;
    std::size_t arrived = 0;
    std::size_t due = 0;
    Fifo<Segment> on_the_way;
    Fifo<std::size_t> pieces; // Unix: what each send left, freed when the last byte of it is read
    std::size_t charged = 0;  // Unix: their sum
    std::size_t read_of_piece = 0;
    TimePoint last_arrival = TimePoint::min();
    TimePoint give_up_at{}; // while `stalled`
    bool stalled = false;   // by a black hole
    bool fin_due = false;
    bool fin_arrived = false;

    /// Unix: counts `size` bytes as read; whether that freed anything.
    bool discharge(std::size_t size) {
        bool freed = false;
        for (read_of_piece += size; !pieces.empty() && read_of_piece >= pieces.front();
             freed = true) {
            read_of_piece -= pieces.front();
            charged -= pieces.pop();
        }
        return freed;
    }
    void drop_unarrived() noexcept {
        bytes.truncate(arrived);
        due = 0;
        on_the_way.clear();
        fin_due = stalled = false;
    }
};

/// Two flows between two sockets: `ends[i]` writes `flows[i]` and is null once closed. 0 is the end
/// that connected.
struct Connection {
    Flow flows[2];
    Socket* ends[2] = {nullptr, nullptr};
    Endpoint addresses[2];
    bool local = false; // a Unix connection: no network in between
    bool reset_sent[2] = {false, false};
    int attempts = 0; // SYNs sent
};
using ConnectionRef = std::shared_ptr<Connection>;

} // namespace weft::sim
