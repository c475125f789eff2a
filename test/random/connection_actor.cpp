// The protocol of the family "connection": each callback says whether it may come, then does
// something at random.

#include "connection_model.hpp"

namespace weft::test {

// A callback that is under way.
struct Actor::Inside {
    explicit Inside(Side& used) : side(used) { ++side.in_callback; }
    ~Inside() { --side.in_callback; }
    Side& side;
};

#define NOTE(text, ...)                                                                            \
    side_.world->round.note(text, &side_ != &side_.world->sides[0] __VA_OPT__(, ) __VA_ARGS__)

void Actor::act() {
    // Acting may exchange this protocol, which stays until the turn is over.
    World& world = *side_.world;
    Side& side = side_;
    if (world.act == nullptr) return;
    for (std::uint64_t count = world.round.random.below(3); count != 0 && side.transport != nullptr;
         --count)
        world.act(world.round.random.one_in(8) && side.peer->transport != nullptr &&
                          side.peer->in_call == 0
                      ? *side.peer
                      : side,
                  world.round);
}

// What the callbacks of flow control throw is only reported.
void Actor::act_reported() {
    Side& side = side_;
    const bool before = side.ended_badly;
    try {
        act();
    } catch (...) {
        side.ended_badly = before;
        throw;
    }
}

void Actor::connection_made(Transport& transport) {
    NOTE("%: made");
    RANDOM_CHECK(!side_.made && side_.in_call == 0);
    side_.made = true;
    side_.transport = &transport;
    const Inside inside(side_);
    act();
}

void Actor::check_reads(const char* what) {
    RANDOM_CHECK(side_.actor == this, what << " on a protocol that was exchanged");
    RANDOM_CHECK(side_.made && !side_.lost && (!side_.eof || reading_ == Reading::pull), what);
    RANDOM_CHECK(!side_.paused, what << " while reading is paused");
    RANDOM_CHECK(!side_.closed && !side_.aborted, what << " on a connection that was closed");
    RANDOM_CHECK(side_.in_call == 0 && side_.peer->in_call == 0, what << " inside a call");
    RANDOM_CHECK(side_.in_callback == 0, what << " inside a callback");
}

void Actor::data_received(Bytes data) {
    check_reads("data_received");
    RANDOM_CHECK(reading_ == Reading::push && !data.empty());
    side_.take(data);
    side_.keep(data);
    const Inside inside(side_);
    act();
}

MutableBytes Actor::get_buffer(std::size_t hint) {
    check_reads("get_buffer");
    RANDOM_CHECK(reading_ == Reading::buffered && hint > 0);
    room_ = 1 + side_.world->round.random.size(buffer_.size() - 1);
    return MutableBytes(buffer_).first(room_);
}

void Actor::buffer_updated(std::size_t size) {
    check_reads("buffer_updated");
    RANDOM_CHECK(size > 0 && size <= room_);
    side_.take(Bytes(buffer_).first(size));
    const Inside inside(side_);
    act();
}

void Actor::read_ready() {
    check_reads("read_ready");
    RANDOM_CHECK(reading_ == Reading::pull);
    World& world = *side_.world;
    Side& side = side_;
    const Inside inside(side_);
    act();
    // Without a report that there is nothing more it comes again: read all when everything is to
    // arrive.
    while (side.transport != nullptr && side.actor == this && !side.paused && !side.ended()) {
        std::array<std::byte, 5000> into;
        const ReadResult result = side.transport->try_read(into);
        if (result.state == ReadResult::State::data) side.take(Bytes(into).first(result.size));
        if (result.state == ReadResult::State::eof) side.note_eof();
        if (result.state != ReadResult::State::data) break;
        if (world.act != nullptr && world.round.random.one_in(4)) break;
    }
}

bool Actor::eof_received() {
    NOTE("%: eof");
    check_reads("eof_received");
    Side& side = side_;
    if (side.peer->harmless()) RANDOM_EQUAL(side.received, side.peer->sent);
    RANDOM_CHECK(side.peer->write_ended || side.peer->ended(),
                 "the end of a stream that nobody has ended");
    side.eof = true;
    side.keep_open = side.world->round.random.one_in(2);
    if (!side.keep_open) {
        const Inside inside(side);
        act();
        side.closed = true;
        return false;
    }
    const Inside inside(side);
    act();
    return true;
}

void Actor::connection_lost(std::error_code reason) {
    NOTE("%: lost, error %", reason.value());
    RANDOM_CHECK(side_.made && !side_.lost, "connection_lost");
    RANDOM_CHECK(side_.in_call == 0 && side_.in_callback == 0, "connection_lost inside a call");
    RANDOM_CHECK(side_.transport->is_closing());
    RANDOM_CHECK(!side_.closed_with || reason, "closed with a reason, and told of none");
    RANDOM_CHECK(reason != std::errc::timed_out || side_.limited || side_.world->draining ||
                     side_.ended_badly || side_.closed,
                 "timed out without a limit");
    side_.lost = true;
    side_.reason = reason;
    side_.transport = nullptr;
}

void Actor::pause_writing() {
    NOTE("%: pause_writing");
    Side& side = side_;
    RANDOM_CHECK(!side.lost && side.made);
    RANDOM_CHECK(!side.writing_paused, "pause_writing twice");
    const WriteLimits limits = side.transport->write_buffer_limits();
    // Where sending has failed it says so to code that writes in a loop, and a new protocol is told
    // of the old one's pause.
    RANDOM_CHECK(side.transport->write_error() || side.inherited_pause ||
                     side.transport->write_buffer_size() > limits.high,
                 side.transport->write_buffer_size()
                     << ", marks " << limits.high << " and " << limits.low);
    side.writing_paused = true;
    side.inherited_pause = false;
    const Inside inside(side);
    act_reported();
}

void Actor::resume_writing() {
    NOTE("%: resume_writing");
    Side& side = side_;
    RANDOM_CHECK(!side.lost && side.made);
    RANDOM_CHECK(side.writing_paused, "resume_writing without a pause");
    RANDOM_CHECK(!side.transport->write_error(), "resume_writing when sending has failed");
    RANDOM_CHECK(side.transport->write_buffer_size() <= side.transport->write_buffer_limits().low,
                 side.transport->write_buffer_size());
    side.writing_paused = false;
    const Inside inside(side);
    act_reported();
}

void Actor::idle_timeout(Transport& transport) {
    NOTE("%: idle_timeout");
    RANDOM_CHECK(side_.world->round.simulated());
    Side& side = side_;
    const Inside inside(side);
    if (side.world->round.random.one_in(2)) {
        side.ended_badly = true;
        transport.abort(std::make_error_code(std::errc::timed_out));
    }
}

void Actor::draining(Transport& transport) {
    NOTE("%: draining");
    Side& side = side_;
    RANDOM_CHECK(side.world->draining && side.made && !side.lost && !side.closed && !side.aborted);
    RANDOM_CHECK(side.in_call == 0 && side.in_callback == 0, "draining inside a call");
    const Inside inside(side);
    act();
    if (side.transport == nullptr || side.world->round.random.one_in(2)) return;
    Protocol::draining(transport);
    side.closed = true;
}

} // namespace weft::test
