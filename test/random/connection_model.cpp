#include "connection_model.hpp"

#include <weft/reactor/loop_core.hpp>
#include <weft/transports/stream/transport_core.hpp>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

namespace weft::test {

Content::Content() {
    Random random(4711);
    std::string unit(period, '\0');
    for (char& c : unit)
        c = static_cast<char>(random.next());
    while (text_.size() < longest + 2 * period)
        text_ += unit;
    char path[] = "/tmp/weft-random-XXXXXX";
    file_ = ::mkstemp(path);
    ::unlink(path);
    RANDOM_CHECK(::write(file_, text_.data(), text_.size()) == static_cast<ssize_t>(text_.size()));
}

const Content& Content::get() {
    static const Content content;
    return content;
}

Bytes Content::at(std::uint64_t position, std::size_t size) const {
    return bytes_of(std::string_view(text_).substr(offset(position), size));
}

namespace {

// A call of the user's, inside of which only the water marks may call back.
struct Call {
    explicit Call(Side& used) : side(used) { ++side.in_call; }
    ~Call() { --side.in_call; }
    Side& side;
};

std::int64_t number(std::uint64_t value) {
    return static_cast<std::int64_t>(value);
}

} // namespace

// Which of the two: for the trace.
#define WHO number(this != &world->sides[0])

void Side::write(std::size_t size) {
    size = std::min(size, Content::longest);
    world->round.operation("%: write of % bytes at %", WHO, number(size), number(sent));
    const Bytes data = Content::get().at(sent, size);
    const bool dropped = transport->is_closing() || transport->write_error();
    // Counted first: what is written inside the call, by pause_writing, comes behind it.
    const bool refused = write_ended && !dropped;
    if (!dropped && !refused) sent += size;
    const Call call(*this);
    try {
        switch (world->round.random.below(8)) {
        case 0:
            transport->write(Buffer::copy(data));
            break;
        case 1:
            transport->write(std::string(text_of(data)));
            break;
        case 2:
            transport->write(std::vector<std::byte>(data.begin(), data.end()));
            break;
        case 3:
            transport->write(Buffer::unowned(data));
            break;
        case 4:
            transport->write(Buffer::shared(std::make_shared<const std::string>(text_of(data))));
            break;
        default:
            transport->write(data);
        }
        RANDOM_CHECK(!refused || size == 0 || closed, "a write after write_eof was taken");
    } catch (const UsageError&) {
        RANDOM_CHECK(write_ended, "write was refused");
    }
}

void Side::write_pieces() {
    Random& random = world->round.random;
    Bytes pieces[5];
    const std::size_t count = random.below(5);
    std::uint64_t end = sent;
    for (std::size_t i = 0; i < count; ++i) {
        pieces[i] =
            Content::get().at(end, random.one_in(5) ? random.size(100000) : random.size(300));
        end += pieces[i].size();
    }
    world->round.operation("%: write_all of % pieces, % bytes", WHO, number(count),
                           number(end - sent));
    const bool dropped = transport->is_closing() || transport->write_error();
    const bool refused = write_ended && !dropped;
    if (!dropped && !refused) sent = end;
    const Call call(*this);
    try {
        transport->write_all(std::span(pieces).first(count));
    } catch (const UsageError&) {
        RANDOM_CHECK(write_ended, "write_all was refused");
    }
}

void Side::send_file(std::size_t size) {
    size = std::min(size, Content::longest);
    world->round.operation("%: send_file of % bytes at %", WHO, number(size), number(sent));
    const bool dropped = transport->is_closing() || transport->write_error();
    const Call call(*this);
    try {
        auto future = transport->send_file(Content::get().file(), Content::offset(sent), size);
        if (!dropped && !write_ended) sent += size;
        files.emplace_back(std::move(future), size);
    } catch (const UsageError&) {
        RANDOM_CHECK(write_ended, "send_file was refused");
    }
}

void Side::keep(Bytes data) {
    if (!world->round.random.one_in(4)) return;
    world->round.note("%: keep", WHO);
    kept.emplace_back(received - data.size(), transport->keep(data));
}

void Side::check_kept() {
    for (const auto& [position, buffer] : kept)
        for (std::size_t at = 0; at < buffer.size(); at += Content::longest) {
            const std::size_t size = std::min(buffer.size() - at, Content::longest);
            RANDOM_CHECK(std::memcmp(buffer.data() + at,
                                     Content::get().at(position + at, size).data(), size) == 0,
                         "what was kept is something else now");
        }
    if (kept.size() > world->round.random.below(6)) kept.clear();
}

void Side::pause_reading() {
    world->round.operation("%: pause_reading", WHO);
    const Call call(*this);
    transport->pause_reading();
    paused = true;
    RANDOM_CHECK(!transport->is_reading());
}

void Side::resume_reading() {
    world->round.operation("%: resume_reading", WHO);
    const Call call(*this);
    transport->resume_reading();
    paused = false;
}

void Side::take(Bytes data) {
    world->round.note("%: % bytes arrive at %", WHO, number(data.size()), number(received));
    while (!data.empty()) {
        const Bytes wanted = Content::get().at(received, std::min(data.size(), Content::longest));
        if (std::memcmp(data.data(), wanted.data(), wanted.size()) != 0) {
            std::size_t at = 0;
            while (data[at] == wanted[at])
                ++at;
            RANDOM_CHECK(false, "other bytes than were sent, from " << received + at << " on");
        }
        received += wanted.size();
        data = data.subspan(wanted.size());
    }
    before = std::max(before, received);
    RANDOM_CHECK(received <= peer->sent,
                 "more bytes than were sent: " << received << " of " << peer->sent);
}

void Side::try_read() {
    Random& random = world->round.random;
    std::vector<std::byte> into(1 + random.size(20000));
    world->round.operation("%: try_read of % bytes", WHO, number(into.size()));
    ReadResult result(ReadResult::State::would_block);
    {
        const Call call(*this);
        result = transport->try_read(into);
    }
    if (result.state == ReadResult::State::data) {
        RANDOM_CHECK(result.size > 0 && result.size <= into.size());
        take(Bytes(into).first(result.size));
    } else if (result.state == ReadResult::State::eof) {
        note_eof();
    }
}

// A protocol that pulls is told of the end by try_read, the others by eof_received.
void Side::note_eof() {
    if (actor->reading() != Reading::pull || ended()) return;
    world->round.note("%: the end of the stream", WHO);
    if (peer->harmless()) RANDOM_EQUAL(received, peer->sent);
    eof = keep_open = true;
}

void Side::unread() {
    const std::size_t size =
        static_cast<std::size_t>(std::min<std::uint64_t>(world->round.random.size(5000), received));
    world->round.operation("%: unread of % bytes", WHO, number(size));
    // behind the end of the stream nothing is given back
    if (transport->is_closing() || eof || eof_known) return;
    received -= size;
    const Call call(*this);
    transport->unread(Content::get().at(received, size));
}

void Side::exchange() {
    const auto reading = static_cast<Reading>(world->round.random.below(3));
    world->round.operation("%: set_protocol, reading %", WHO,
                           number(static_cast<std::uint64_t>(reading)));
    auto next = std::make_unique<Actor>(*this, reading);
    actor = next.get();
    const Call call(*this);
    // The new one hears of the pause in its first write, and of its end only then.
    if (writing_paused) inherited_pause = true;
    writing_paused = false;
    world->graveyard.push_back(transport->set_protocol(std::move(next)));
    // The new protocol may be told of an end that the old one knew.
    eof_known = eof_known || eof;
    eof = false;
}

void Side::set_limits() {
    Random& random = world->round.random;
    const std::size_t high = random.size(200000);
    const std::size_t low = random.below(high + 1);
    world->round.operation("%: water marks % and %", WHO, number(high), number(low));
    const Call call(*this);
    transport->set_write_buffer_limits(high, low);
}

void Side::drain() {
    world->round.operation("%: drain, % bytes buffered", WHO,
                           number(transport->write_buffer_size()));
    const Call call(*this);
    drains.push_back(transport->drain());
}

void Side::set_idle_timeout() {
    // On a real kernel it never comes: nobody waits for it.
    const auto after = world->round.simulated()
                           ? std::chrono::milliseconds(world->round.random.size(100000))
                           : std::chrono::milliseconds(world->round.random.below(2) * 3600000);
    world->round.operation("%: idle time-out of % ms", WHO, after.count());
    const Call call(*this);
    transport->set_idle_timeout(after);
}

void Side::set_linger() {
    Random& random = world->round.random;
    Linger linger;
    linger.mode = static_cast<Linger::Mode>(random.below(3));
    if (random.one_in(3)) linger.bytes = 1 + random.size(100000);
    world->round.operation("%: linger, mode % for % bytes", WHO,
                           number(static_cast<std::uint64_t>(linger.mode)), number(linger.bytes));
    lingers = false;
    const Call call(*this);
    transport->set_linger(linger);
}

void Side::cancel_file() {
    if (files.empty()) return;
    auto& file = world->round.random.pick(files).first;
    const bool pending = !file.done();
    world->round.operation("%: cancel a file that is pending: %", WHO, pending);
    const Call call(*this);
    RANDOM_EQUAL(file.cancel(), pending);
    if (!pending) return;
    aborted = true;
    RANDOM_CHECK(transport->is_closing());
}

// As front-ends do: what is written gathers, some of it in memory that is another's again when it
// is over.
void Side::gather() {
    Random& random = world->round.random;
    if (in_callback != 0 || peer->in_callback != 0 || write_ended) return;
    world->round.operation("%: gather", WHO);
    const Call call(*this);
    Loop& loop = transport->loop();
    auto& core = *weft::detail::TransportCore::of(*transport);
    RANDOM_EQUAL(core.gather(), !transport->is_closing() && !transport->write_error());
    std::string lent;
    for (std::uint64_t count = random.below(4); count != 0; --count)
        write(random.size(3000));
    if (random.one_in(2) && !write_ended && !transport->is_closing() && !transport->write_error()) {
        lent = text_of(Content::get().at(sent, std::min(random.size(200000), Content::longest)));
        sent += lent.size();
        transport->write(Buffer::unowned(bytes_of(lent)));
    }
    weft::detail::core_of(loop).cork().flush();
    core.own_queued();
    std::fill(lent.begin(), lent.end(), '?');
}

void Side::change_reading() {
    const auto reading = static_cast<Reading>(world->round.random.below(3));
    world->round.operation("%: reads otherwise: %", WHO,
                           number(static_cast<std::uint64_t>(reading)));
    const Call call(*this);
    actor->set_reading(reading);
    transport->reading_changed();
}

void Side::look() {
    world->round.operation("%: look", WHO);
    const Call call(*this);
    RANDOM_CHECK(transport->ref().get() == transport);
    RANDOM_CHECK(&transport->protocol() == actor);
    RANDOM_EQUAL(transport->is_closing() || !closed, true);
    if (transport->is_closing()) RANDOM_CHECK(!transport->is_reading());
    (void)transport->read_error();
    (void)transport->local_address();
    (void)transport->peer_address();
    (void)transport->peer_credentials();
}

void Side::write_eof() {
    world->round.operation("%: write_eof after % bytes", WHO, number(sent));
    const Call call(*this);
    transport->write_eof();
    write_ended = true;
}

void Side::close() {
    const bool with_reason = world->round.random.one_in(4);
    world->round.operation("%: close after % bytes, with a reason: %", WHO, number(sent),
                           with_reason);
    const Call call(*this);
    if (with_reason && !transport->is_closing())
        closed_with = std::make_error_code(std::errc::protocol_error);
    if (with_reason) {
        transport->close(std::make_error_code(std::errc::protocol_error));
    } else {
        transport->close();
    }
    closed = true;
    RANDOM_CHECK(transport->is_closing());
    RANDOM_CHECK(!transport->is_reading());
}

void Side::close_within() {
    Random& random = world->round.random;
    Duration limit(0);
    if (random.one_in(8)) {
        limit = random.one_in(2) ? Duration::max() : Duration::min();
    } else if (world->round.simulated()) {
        limit = std::chrono::milliseconds(random.size(10000));
    } else if (random.one_in(2)) {
        limit = std::chrono::hours(1);
    }
    world->round.operation("%: close within % us after % bytes", WHO, limit.count() / 1000,
                           number(sent));
    const Call call(*this);
    transport->close_within(limit);
    closed = limited = true;
    RANDOM_CHECK(transport->is_closing());
    RANDOM_CHECK(!transport->is_reading());
}

void Side::abort() {
    world->round.operation("%: abort", WHO);
    const Call call(*this);
    transport->abort();
    aborted = true;
    RANDOM_CHECK(transport->is_closing());
}

void Side::read_on() {
    if (transport == nullptr) return;
    transport->set_idle_timeout(Duration(0));
    resume_reading();
    // A protocol that pulls is not told again of what it left.
    ReadResult result{ReadResult::State::data};
    std::vector<std::byte> into(10000);
    while (actor->reading() == Reading::pull && !eof && result.state == ReadResult::State::data) {
        result = transport->try_read(into);
        if (result.state == ReadResult::State::data) take(Bytes(into).first(result.size));
        if (result.state == ReadResult::State::eof) note_eof();
    }
}

bool Side::satisfied(const Side& other) const {
    if (lost) return true;
    // its end comes by itself, and is waited for later
    if (closed || aborted || ended_badly) return true;
    if (!other.harmless()) return eof || eof_known; // what it had not sent is gone with it
    return received == other.sent && (eof || eof_known || !(other.write_ended || other.closed));
}

std::ostream& operator<<(std::ostream& out, const Side& side) {
    out << "{sent " << side.sent << ", received " << side.received;
    const std::pair<bool, const char*> flags[] = {{side.made, "made"},
                                                  {side.paused, "paused"},
                                                  {side.write_ended, "write_ended"},
                                                  {side.closed, "closed"},
                                                  {side.aborted, "aborted"},
                                                  {side.ended_badly, "ended badly"},
                                                  {side.eof, "eof"},
                                                  {side.lost, "lost"},
                                                  {side.writing_paused, "writing paused"}};
    for (const auto& [set, name] : flags)
        if (set) out << ", " << name;
    if (side.transport != nullptr) {
        out << ", reading " << static_cast<int>(side.transport->protocol().reading())
            << ", buffered " << side.transport->write_buffer_size();
        if (const auto error = side.transport->write_error())
            out << ", write error " << error.message();
    }
    return out << "}";
}

void World::use_server() {
    if (!server) return;
    Random& random = round.random;
    const auto what = random.below(40);
    round.operation("the server: %", number(what));
    for (Side& side : sides)
        ++side.in_call;
    const auto ended = [&](bool& how) {
        if (sides[0].transport != nullptr) how = true;
    };
    switch (what) {
    case 0:
        server->close_clients();
        ended(sides[0].closed);
        break;
    case 1:
        server->abort_clients();
        ended(sides[0].aborted);
        break;
    case 2:
        server.reset();
        break;
    case 3:
    case 4: {
        Duration limit = random.one_in(2) ? Duration::max() : Duration(std::chrono::hours(1));
        if (random.one_in(4)) limit = Duration(0);
        if (round.simulated() && random.one_in(2))
            limit = std::chrono::milliseconds(random.size(100000));
        server_drains.push_back(server->drain(limit));
        draining = true;
        break;
    }
    case 5:
        server->close();
        break;
    case 6:
        server->pause_accepting();
        break;
    case 7:
        server->resume_accepting();
        break;
    case 8:
        server_ends.push_back(server->wait_closed());
        break;
    default:
        RANDOM_EQUAL(server->connections(), sides[0].lost ? 0u : 1u);
    }
    for (Side& side : sides)
        --side.in_call;
}

World::World(Round& used) : round(used) {
    for (Side& side : sides)
        side.world = this;
    sides[0].peer = &sides[1];
    sides[1].peer = &sides[0];
    (void)Content::get();
}

World::~World() = default;

std::unique_ptr<Protocol> World::protocol(std::size_t side) {
    auto made = std::make_unique<Actor>(sides[side], static_cast<Reading>(round.random.below(3)));
    sides[side].actor = made.get();
    return made;
}

void World::check_end() {
    server.reset();
    for (auto& drain : server_drains)
        RANDOM_CHECK(drain.done() && drain.result() <= 1, "a server's drain is pending");
    for (auto& end : server_ends)
        RANDOM_CHECK(end.done(), "a server's wait_closed is pending");
    for (Side& side : sides) {
        Side& other = *side.peer;
        for (auto& drain : side.drains)
            RANDOM_CHECK(drain.done(), "a drain of a lost connection is pending");
        for (auto& [file, size] : side.files) {
            RANDOM_CHECK(file.done(), "a send_file of a lost connection is pending");
            if (!file.error_code()) RANDOM_EQUAL(file.result(), size);
        }
        // A connection that was only read from and was left alone until its end has everything.
        if (!side.ended_badly && !side.aborted && other.harmless() && side.eof)
            RANDOM_EQUAL(side.received, other.sent);
    }
}

} // namespace weft::test
