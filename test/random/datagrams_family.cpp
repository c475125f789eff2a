// Datagram endpoints' whole API, from every callback and from outside, UDP and Unix sockets. The
// model numbers what is sent: nothing is torn, doubled, delivered to the wrong one or out of order,
// and what the contract promises arrives.

#include "connection_model.hpp"

#include <weft/reactor/loop_core.hpp>
#include <weft/transports/datagram/udp.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <sys/socket.h>
#include <unistd.h>

using namespace weft;
using namespace weft::test;

namespace {

struct World;
class Peer;

constexpr std::size_t header = 8; ///< shorter datagrams are only counted
constexpr std::size_t most_of_udp = 65507;

struct Endpoint {
    World* world = nullptr;
    std::size_t index = 0;
    DatagramTransport* transport = nullptr; ///< between made and lost
    DatagramRef ref;
    Address local, peer; ///< unmapped; `peer` is empty unless connected
    std::uint16_t family = 0;
    bool unix_socket = false, batches = false, packet_info = false, roomy = true;
    std::size_t datagram_size = 65536;

    bool made = false, lost = false, paused = false, closed = false, aborted = false, threw = false;
    bool writing_paused = false;
    int in_callback = 0;
    struct Kept {
        std::string data;
        Address from;
    };
    std::deque<Kept> given_back;
    std::vector<Kept> recent;
    std::vector<Future<void>> drains;

    bool ended() const { return closed || aborted || threw || lost; }
};

/// What goes from one to an address.
struct Pair {
    std::size_t from;
    Address to;
    std::size_t sent = 0, got = 0, failed = 0, too_long = 0;
    std::size_t short_sent[header] = {}, short_got[header] = {};
    std::int64_t last = -1;
    bool dead = false;      ///< nobody was there once
    bool segmented = false; ///< so that a failure may be one of many
};

struct Sent {
    std::size_t pair, size;
    int got = 0;
};

bool same_place(const Address& a, const Address& b) {
    if (a.is_ip() != b.is_ip()) return false;
    return a.is_ip() ? a.port() == b.port() : a.path() == b.path();
}

struct World {
    explicit World(Round& used) : round(used), random(used.random) {}
    Round& round;
    Random& random;
    Loop* loop = nullptr;
    std::uint32_t token = 0;
    bool acts = true, losses = false, doubles = false, shuffles = false, loop_ends = false;
    int in_call = 0; ///< calls inside of which nobody may be called, but to pause
    int errors_allowed = 0, resume_allowed = 0;
    int callbacks = 0;
    bool somebody_went = false;
    std::deque<Endpoint> endpoints;
    std::vector<Pair> pairs;
    std::vector<Sent> sent;

    void act(Endpoint& from);
    void send(Endpoint& from);
    void send_segmented(Endpoint& from);
    void send_batch(Endpoint& from);
    void give_back(Endpoint& to);
    void use_wrongly(Endpoint& from);
    void set_options(Endpoint& of);
    void end(Endpoint& who);
    void make();
    void make_pair();
    Endpoint& add(const UdpOptions& options);
    void started(Endpoint& endpoint, const Result<DatagramRef>& made);
    UdpOptions options();

    std::size_t pair_of(std::size_t from, const Address& to);
    Endpoint* living(const Address& at);
    Address target(const Endpoint& from);
    std::string next(std::size_t pair, std::size_t size);
    void unsend(std::size_t count);
    bool arrives(const Pair& pair);
    void check_end();
};

/// A call of the user's.
struct Call {
    explicit Call(World& w) : world(w) { ++world.in_call; }
    ~Call() { --world.in_call; }
    World& world;
};

std::int64_t number(std::uint64_t value) {
    return static_cast<std::int64_t>(value);
}

class Peer final : public DatagramProtocol {
public:
    explicit Peer(Endpoint& endpoint) : e_(endpoint) {}

    void connection_made(DatagramTransport& transport) override {
        note("%: made");
        RANDOM_CHECK(!e_.made && e_.world->in_call == 0);
        e_.made = true;
        e_.transport = &transport;
        const Inside inside(e_);
        act();
    }
    void datagram_received(const Datagram& datagram) override {
        check_data();
        take(datagram);
        const Inside inside(e_);
        act();
        if (e_.world->acts && random().one_in(12)) give_back({&datagram, 1}, false);
    }
    void datagrams_received(std::span<const Datagram> batch) override {
        check_data();
        RANDOM_CHECK(!batch.empty());
        if (!e_.batches) return DatagramProtocol::datagrams_received(batch);
        for (const Datagram& datagram : batch)
            take(datagram);
        const Inside inside(e_);
        if (!e_.world->acts) return;
        act();
        if (!random().one_in(4)) return;
        const std::size_t from = random().below(batch.size());
        give_back(batch.subspan(from), random().one_in(2));
        act();
    }
    void error_received(std::error_code error, const Address& to) override {
        note("%: error % about port %", error.value(), to.port());
        check_error();
        RANDOM_CHECK(error && e_.world->somebody_went, error.message());
        const Inside inside(e_);
        act();
    }
    void send_failed(std::error_code error, const Address& to) override {
        note("%: sending failed, error %, to port %", error.value(), to.port());
        check_error();
        World& world = *e_.world;
        Pair& pair = world.pairs[world.pair_of(e_.index, to)];
        ++pair.failed;
        Endpoint* const target = world.living(to);
        const bool explained = pair.failed <= pair.too_long || pair.dead || target == nullptr ||
                               target->family != e_.family ||
                               (!target->peer.empty() && !same_place(target->peer, e_.local));
        RANDOM_CHECK(explained, "sending to " << to.to_string() << " failed: " << error.message());
        const Inside inside(e_);
        act();
    }
    void connection_lost(std::error_code reason) override {
        note("%: lost, error %", reason.value());
        RANDOM_CHECK(e_.made && !e_.lost);
        RANDOM_CHECK(e_.world->in_call == 0 && e_.world->callbacks == 0, "lost inside a call");
        RANDOM_CHECK(e_.transport->is_closing() && !e_.transport->is_reading());
        RANDOM_CHECK(e_.ended() || e_.world->loop_ends);
        if (!reason) RANDOM_CHECK(e_.closed);
        if (reason == Errc::aborted) RANDOM_CHECK(e_.aborted || e_.world->loop_ends);
        if (reason == Errc::callback_threw) {
            RANDOM_CHECK(e_.ended());
            e_.threw = true;
        }
        const bool known = !reason || reason == Errc::aborted || reason == Errc::callback_threw;
        RANDOM_CHECK(known, reason.message());
        e_.lost = e_.world->somebody_went = true;
        e_.transport = nullptr;
        if (random().one_in(50)) throw std::runtime_error("thrown at the end");
    }
    void pause_writing() override {
        note("%: pause_writing");
        RANDOM_CHECK(e_.made && !e_.lost && !e_.writing_paused, "pause_writing");
        RANDOM_CHECK(e_.transport->write_buffer_size() > e_.transport->write_buffer_limits().high,
                     e_.transport->write_buffer_size());
        e_.writing_paused = true;
        const Inside inside(e_);
        act();
        if (e_.world->acts && random().one_in(20))
            throw std::runtime_error("thrown by pause_writing");
    }
    void resume_writing() override {
        note("%: resume_writing");
        RANDOM_CHECK(e_.made && !e_.lost && e_.writing_paused && !e_.aborted, "resume_writing");
        RANDOM_CHECK(e_.world->in_call == e_.world->resume_allowed, "resume_writing inside a call");
        RANDOM_CHECK(e_.transport->write_buffer_size() <= e_.transport->write_buffer_limits().low,
                     e_.transport->write_buffer_size());
        e_.writing_paused = false;
        const Inside inside(e_);
        act();
        if (e_.world->acts && random().one_in(20))
            throw std::runtime_error("thrown by resume_writing");
    }

    void give_back(std::span<const Datagram> batch, bool rest) {
        World& world = *e_.world;
        world.round.operation("%: gives % datagrams back, as a rest: %", number(e_.index),
                              number(batch.size()), rest && e_.batches);
        if (e_.transport == nullptr) return;
        std::vector<Endpoint::Kept> kept;
        for (const Datagram& each : batch)
            kept.push_back({std::string(text_of(each.data)), each.from});
        const bool taken = !e_.transport->is_closing();
        const Call call(world);
        if (rest && e_.batches) {
            e_.transport->unread_rest(batch);
            if (taken) e_.given_back.insert(e_.given_back.end(), kept.begin(), kept.end());
        } else {
            e_.transport->unread(batch);
            if (taken) e_.given_back.insert(e_.given_back.begin(), kept.begin(), kept.end());
        }
        RANDOM_CHECK(!taken || e_.transport->has_unread());
    }

private:
    struct Inside {
        explicit Inside(Endpoint& e) : endpoint(e) {
            ++endpoint.in_callback;
            ++endpoint.world->callbacks;
        }
        ~Inside() {
            --endpoint.in_callback;
            --endpoint.world->callbacks;
        }
        Endpoint& endpoint;
    };

    Random& random() { return e_.world->random; }
    void note(const char* what, std::int64_t a = 0, std::int64_t b = 0) {
        e_.world->round.note(what, number(e_.index), a, b);
    }
    void act() {
        World& world = *e_.world;
        if (!world.acts) return;
        for (std::uint64_t count = random().below(3); count != 0; --count)
            world.act(random().one_in(4) ? random().pick(world.endpoints) : e_);
    }
    void check_data() {
        RANDOM_CHECK(e_.made && !e_.lost, "a datagram before or after the endpoint");
        RANDOM_CHECK(!e_.paused, "a datagram while reading is paused");
        RANDOM_CHECK(!e_.ended(), "a datagram after the end");
        RANDOM_CHECK(e_.world->in_call == 0 && e_.world->callbacks == 0,
                     "a datagram inside a call");
    }
    void check_error() {
        RANDOM_CHECK(e_.made && !e_.lost && !e_.aborted && !e_.threw,
                     "an error before or after the endpoint");
        RANDOM_CHECK(e_.world->in_call == e_.world->errors_allowed, "an error inside a call");
        RANDOM_CHECK(e_.in_callback == 0 || e_.world->errors_allowed != 0,
                     "an error inside a callback");
    }

    void take(const Datagram& datagram) {
        World& world = *e_.world;
        const Bytes data = datagram.data;
        note("%: % bytes arrive from port %", number(data.size()), datagram.from.port());
        RANDOM_CHECK(&datagram.transport == e_.transport);
        if (!e_.given_back.empty()) {
            const Endpoint::Kept& first = e_.given_back.front();
            RANDOM_CHECK(text_of(data) == first.data && datagram.from == first.from,
                         "another datagram than the one that was given back");
            e_.given_back.pop_front();
            return;
        }
        RANDOM_CHECK(e_.unix_socket || datagram.to.empty() != e_.packet_info);
        if (world.random.one_in(16))
            e_.recent.push_back({std::string(text_of(data)), datagram.from});
        if (e_.recent.size() > 3) e_.recent.erase(e_.recent.begin());
        if (data.size() < header) return take_short(data, datagram);
        std::uint32_t token = 0, id = 0;
        std::memcpy(&token, data.data(), sizeof token);
        std::memcpy(&id, data.data() + sizeof token, sizeof id);
        // of another program
        if (token != world.token && !world.round.simulated() && !e_.unix_socket) return;
        RANDOM_EQUAL(token, world.token);
        RANDOM_CHECK(id < world.sent.size(), "a datagram that was not sent: " << id);
        Sent& record = world.sent[id];
        Pair& pair = world.pairs[record.pair];
        const Endpoint& sender = world.endpoints[pair.from];
        RANDOM_CHECK(same_place(pair.to, e_.local),
                     "datagram " << id << " for " << pair.to.to_string());
        check_sender(sender, datagram);
        if (datagram.truncated) {
            RANDOM_CHECK(record.size > e_.datagram_size);
            RANDOM_EQUAL(data.size(), e_.datagram_size);
        } else {
            RANDOM_EQUAL(data.size(), record.size);
        }
        const std::size_t body = data.size() - header;
        RANDOM_CHECK(
            std::memcmp(data.data() + header, Content::get().at(id * 97, body).data(), body) == 0,
            "datagram " << id << " has other bytes than were sent");
        RANDOM_CHECK(++record.got <= (world.doubles ? 2 : 1), "datagram " << id << " comes again");
        if (record.got > 1) return;
        ++pair.got;
        if (world.doubles || world.shuffles) return;
        RANDOM_CHECK(pair.last < number(id), "datagram " << id << " behind " << pair.last);
        pair.last = number(id);
    }
    void check_sender(const Endpoint& sender, const Datagram& datagram) {
        RANDOM_CHECK(same_place(sender.local, datagram.from), "from " << datagram.from.to_string()
                                                                      << " instead of "
                                                                      << sender.local.to_string());
        RANDOM_CHECK(e_.peer.empty() || same_place(e_.peer, sender.local),
                     "a datagram of a stranger");
    }
    void take_short(Bytes data, const Datagram& datagram) {
        World& world = *e_.world;
        // Senders without a name can not be told apart: any of them.
        for (Pair& pair : world.pairs) {
            const Endpoint& sender = world.endpoints[pair.from];
            if (!same_place(pair.to, e_.local) || !same_place(sender.local, datagram.from))
                continue;
            const std::size_t most = pair.short_sent[data.size()] * (world.doubles ? 2 : 1);
            if (pair.short_got[data.size()] == most) continue;
            ++pair.short_got[data.size()];
            if (pair.short_got[data.size()] <= pair.short_sent[data.size()]) ++pair.got;
            check_sender(sender, datagram);
            return;
        }
        RANDOM_CHECK(!world.round.simulated() && !e_.unix_socket,
                     "a short datagram that was not sent, or came again");
    }

    Endpoint& e_;
};

// --- Sending ---

std::size_t World::pair_of(std::size_t from, const Address& to) {
    const Address place = to.unmapped();
    for (std::size_t i = 0; i < pairs.size(); ++i)
        if (pairs[i].from == from && pairs[i].to == place) return i;
    pairs.push_back({from, place});
    return pairs.size() - 1;
}

Endpoint* World::living(const Address& at) {
    for (Endpoint& each : endpoints)
        if (!each.ended() && same_place(each.local, at.unmapped()) &&
            !(at.family() == Address::Family::unix_socket && at.path().empty()))
            return &each;
    return nullptr;
}

Address World::target(const Endpoint& from) {
    if (!from.peer.empty()) return from.peer;
    if (random.one_in(40)) return Address::loopback_ipv4(1);
    // Of its own kind, mostly.
    for (int tries = 0; tries < 3; ++tries) {
        const Endpoint& to = random.pick(endpoints);
        if (to.family != from.family || (to.unix_socket && to.local.path().empty())) continue;
        Address at = to.local;
        if (at.is_any()) {
            const std::uint16_t port = at.port();
            at = to.family == AF_INET ? Address::loopback_ipv4(port) : Address::loopback_ipv6(port);
        }
        return at;
    }
    return from.unix_socket ? Address::unix_path("@weft-nobody").value()
                            : Address::loopback_ipv4(1);
}

/// A datagram for the pair, with its number, and counts it as sent.
std::string World::next(std::size_t index, std::size_t size) {
    Pair& pair = pairs[index];
    const Endpoint& from = endpoints[pair.from];
    const Endpoint* const target = living(pair.to);
    const bool heard =
        target != nullptr && (target->peer.empty() || same_place(target->peer, from.local));
    if (!heard) pair.dead = somebody_went = true;
    ++pair.sent;
    std::string data(size, '\0');
    if (size > (from.unix_socket ? 2048u : most_of_udp)) ++pair.too_long;
    const auto id = static_cast<std::uint32_t>(sent.size());
    sent.push_back({index, size});
    if (size < header) {
        ++pair.short_sent[size];
        return data;
    }
    std::memcpy(data.data(), &token, sizeof token);
    std::memcpy(data.data() + sizeof token, &id, sizeof id);
    const Bytes body = Content::get().at(id * 97, size - header);
    if (!body.empty()) std::memcpy(data.data() + header, body.data(), body.size());
    return data;
}

/// The last ones were refused as a mistake.
void World::unsend(std::size_t count) {
    for (; count != 0; --count) {
        const Sent& record = sent.back();
        Pair& pair = pairs[record.pair];
        --pair.sent;
        if (record.size < header) --pair.short_sent[record.size];
        if (record.size > (endpoints[pair.from].unix_socket ? 2048u : most_of_udp)) --pair.too_long;
        sent.pop_back();
    }
}

std::size_t size_of_one(Random& random, bool unix_socket) {
    if (random.one_in(40)) return 1000 + random.below(70000);
    return random.size(unix_socket && random.one_in(2) ? 300 : 2000);
}

void World::send(Endpoint& from) {
    const Address to = target(from);
    const std::size_t size = size_of_one(random, from.unix_socket);
    round.operation("%: send of % bytes to port %", number(from.index), number(size), to.port());
    const bool dropped = from.transport->is_closing();
    const std::size_t pair = pair_of(from.index, to);
    std::string data = dropped ? std::string(size, '?') : next(pair, size);
    const Call call(*this);
    DatagramTransport::SendOptions options;
    const Address source =
        from.family == AF_INET ? Address::loopback_ipv4(0) : Address::loopback_ipv6(0);
    if (random.one_in(8)) options.ecn = static_cast<std::int8_t>(random.below(4));
    if (!from.unix_socket && to.is_loopback() && !to.is_mapped() && random.one_in(8))
        options.from = &source;
    if (!from.peer.empty() && random.one_in(2)) {
        from.transport->send(data);
    } else if (!from.peer.empty() && random.one_in(4)) {
        from.transport->send_to(data, Address(), options);
    } else if (random.one_in(2)) {
        from.transport->send_to(
            data, from.family == AF_INET6 && to.is_ip() && random.one_in(4) ? to.mapped() : to);
    } else {
        from.transport->send_to(data, to, options);
    }
    std::fill(data.begin(), data.end(), '?');
}

void World::send_segmented(Endpoint& from) {
    const Address to = target(from);
    const std::size_t part = header + random.size(1400);
    const std::size_t count = random.one_in(4) ? 1 + random.below(80) : 1 + random.below(5);
    const std::size_t last = random.one_in(2) ? part : header + random.below(part - header + 1);
    if ((count - 1) * part + last > (from.unix_socket ? 2000u : most_of_udp)) return;
    round.operation("%: send of % parts of % bytes", number(from.index), number(count),
                    number(part));
    if (from.transport->is_closing()) return;
    const std::size_t pair = pair_of(from.index, to);
    pairs[pair].segmented = true;
    std::string data;
    for (std::size_t i = 0; i < count; ++i)
        data += next(pair, i + 1 == count ? last : part);
    const Call call(*this);
    from.transport->send_to(data, to, {.segment_size = static_cast<std::uint16_t>(part)});
    std::fill(data.begin(), data.end(), '?');
}

void World::send_batch(Endpoint& from) {
    const std::size_t count = random.size(40);
    const bool wrong = random.one_in(10);
    round.operation("%: batch of % datagrams, with a mistake: %", number(from.index), number(count),
                    wrong);
    const bool dropped = from.transport->is_closing();
    std::vector<std::string> datas;
    std::vector<Outgoing> batch;
    datas.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
        const Address to = target(from);
        const std::size_t size = size_of_one(random, from.unix_socket);
        datas.push_back(dropped ? std::string(size, '?') : next(pair_of(from.index, to), size));
        batch.push_back(
            {bytes_of(datas.back()), from.peer.empty() || random.one_in(2) ? to : Address()});
    }
    if (wrong) batch.push_back({{}, from.peer.empty() ? Address() : Address::loopback_ipv4(2)});
    const Call call(*this);
    try {
        from.transport->send_batch(batch);
        RANDOM_CHECK(!wrong || dropped, "a batch with a mistake was taken");
    } catch (const UsageError&) {
        RANDOM_CHECK(wrong && !dropped, "a batch was refused");
        unsend(count);
    }
    for (auto& data : datas)
        std::fill(data.begin(), data.end(), '?');
}

// --- Everything else ---

/// Calls that are mistakes: they say so, and nothing is sent.
void World::use_wrongly(Endpoint& from) {
    round.operation("%: mistakes", number(from.index));
    if (from.transport->is_closing()) return;
    const Call call(*this);
    const auto refused = [&](auto&& mistake) {
        try {
            mistake();
        } catch (const UsageError&) {
            return true;
        }
        return false;
    };
    DatagramTransport& transport = *from.transport;
    const Address of_no_use = Address::loopback_ipv6(1);
    if (from.peer.empty()) {
        RANDOM_CHECK(refused([&] { transport.send("x"); }));
        RANDOM_CHECK(refused([&] { transport.send_to("x", Address()); }));
    } else {
        RANDOM_CHECK(refused([&] { transport.send_to("x", Address::loopback_ipv4(2)); }));
    }
    if (from.family != AF_INET6)
        RANDOM_CHECK(refused([&] { transport.send_to("x", target(from), {.from = &of_no_use}); }));
    RANDOM_CHECK(refused([&] { transport.set_write_buffer_limits(5, 6); }));
}

void World::set_options(Endpoint& of) {
    round.operation("%: options", number(of.index));
    const Call call(*this);
    DatagramTransport& transport = *of.transport;
    const bool open = !of.unix_socket && !transport.is_closing();
    const int hops = static_cast<int>(random.between(1, 255));
    RANDOM_CHECK(transport.set_ttl(hops).ok() || !open);
    RANDOM_CHECK(transport.set_multicast_ttl(hops).ok() || !open);
    RANDOM_CHECK(transport.set_multicast_loop(random.one_in(2)).ok() || !open);
    RANDOM_CHECK(transport.set_broadcast(random.one_in(2)).ok() || !open);
    RANDOM_CHECK(same_place(transport.local_address().unmapped(), of.local) ||
                 transport.is_closing());
    RANDOM_CHECK(transport.ref().get() == &transport);
    RANDOM_CHECK(of.ref.get() == nullptr || of.ref.get() == &transport);
}

/// From outside of any callback: what came earlier comes again.
void World::give_back(Endpoint& to) {
    if (to.recent.empty()) return;
    std::vector<Datagram> batch;
    const std::vector<Endpoint::Kept> kept = to.recent;
    const Address nobody;
    for (const auto& each : kept)
        batch.push_back(
            {bytes_of(each.data), each.from, nobody, nobody, 0, -1, false, *to.transport});
    static_cast<Peer&>(to.transport->protocol()).give_back(batch, random.one_in(2));
}

void World::end(Endpoint& who) {
    const auto what = random.below(5);
    if (what < 3) {
        round.operation("%: close", number(who.index));
        const Call call(*this);
        who.transport->close();
        who.closed = true;
    } else if (what == 3 || who.in_callback == 0) {
        round.operation("%: abort", number(who.index));
        const Call call(*this);
        who.transport->abort();
        who.aborted = true;
    } else {
        round.operation("%: throw", number(who.index));
        throw std::runtime_error("thrown by the family");
    }
    RANDOM_CHECK(who.transport->is_closing() && !who.transport->is_reading());
}

void World::act(Endpoint& who) {
    if (who.transport == nullptr) {
        RANDOM_CHECK(!who.lost || who.ref.get() == nullptr);
        return;
    }
    DatagramTransport& transport = *who.transport;
    const std::uint64_t what = random.below(100);
    const std::int64_t index = number(who.index);
    if (what < 30) return send(who);
    if (what < 36) return send_segmented(who);
    if (what < 44) return send_batch(who);
    if (what < 50) {
        round.operation("%: flush", index);
        const Call call(*this);
        return transport.flush();
    }
    if (what < 56) {
        round.operation("%: drain", index);
        const Call call(*this);
        who.drains.push_back(transport.drain());
        return;
    }
    if (what < 60) {
        round.operation("%: deliver_errors", index);
        const Call call(*this);
        const int before = std::exchange(errors_allowed, in_call);
        const int resumes = std::exchange(resume_allowed, in_call);
        transport.deliver_errors();
        errors_allowed = before;
        resume_allowed = resumes;
        return;
    }
    if (what < 68) {
        round.operation("%: pause_reading", index);
        const Call call(*this);
        transport.pause_reading();
        who.paused = true;
        RANDOM_CHECK(!transport.is_reading());
        return;
    }
    if (what < 80) {
        round.operation("%: resume_reading", index);
        const Call call(*this);
        transport.resume_reading();
        who.paused = false;
        RANDOM_EQUAL(transport.is_reading(), !transport.is_closing());
        return;
    }
    if (what < 86) {
        const std::size_t high = random.size(100000), low = random.below(high + 1);
        round.operation("%: water marks % and %", index, number(high), number(low));
        const Call call(*this);
        const int before = std::exchange(resume_allowed, in_call);
        transport.set_write_buffer_limits(high, low);
        resume_allowed = before;
        return;
    }
    if (what < 89) return set_options(who);
    if (what < 91) return use_wrongly(who);
    if (what < 93) return give_back(who);
    if (what < 96) return random.one_in(3) ? make_pair() : make();
    if (random.one_in(6)) end(who);
}

// --- Making ---

UdpOptions World::options() {
    UdpOptions chosen;
    if (random.one_in(4)) chosen.datagram_size = 16 + random.size(3000);
    if (random.one_in(3)) chosen.batch = 1 + random.below(64);
    chosen.packet_info = random.one_in(3);
    chosen.report_errors = random.one_in(3);
    chosen.gro = random.one_in(4);
    if (random.one_in(6)) chosen.receive_buffer = 2048 + random.size(100000);
    if (random.one_in(6)) chosen.send_buffer = 2048 + random.size(100000);
    if (random.one_in(4)) {
        chosen.write_limits.emplace();
        chosen.write_limits->high = random.size(10000);
        chosen.write_limits->low = random.below(chosen.write_limits->high + 1);
    }
    return chosen;
}

Endpoint& World::add(const UdpOptions& chosen) {
    Endpoint& made = endpoints.emplace_back();
    made.world = this;
    made.index = endpoints.size() - 1;
    made.datagram_size = chosen.datagram_size;
    made.packet_info = chosen.packet_info;
    made.roomy = chosen.receive_buffer == 0 && chosen.send_buffer == 0;
    made.batches = random.one_in(2);
    return made;
}

void World::started(Endpoint& endpoint, const Result<DatagramRef>& made) {
    RANDOM_CHECK(made.ok(), made.error().message());
    endpoint.ref = *made;
    DatagramTransport& transport = **made;
    const Address name = transport.local_address();
    endpoint.local = name.unmapped();
    endpoint.peer = transport.peer_address().unmapped();
    endpoint.family = std::as_const(name).data()->sa_family;
    endpoint.unix_socket = endpoint.family == AF_UNIX;
    round.note("% has port %, family %", number(endpoint.index), endpoint.local.port(),
               endpoint.family);
}

std::size_t alive(const World& world) {
    return static_cast<std::size_t>(std::count_if(world.endpoints.begin(), world.endpoints.end(),
                                                  [](const Endpoint& e) { return !e.lost; }));
}

void World::make() {
    if (alive(*this) >= 6 || endpoints.size() >= 16) return;
    const auto kind = random.below(6);
    round.operation("a new endpoint of kind %", number(kind));
    const Call call(*this);
    const UdpOptions chosen = options();
    Kernel& kernel = weft::detail::core_of(*loop).kernel();
    if (kind == 5) { // connected to one that is bound
        const Address* to = nullptr;
        for (const Endpoint& each : endpoints)
            if (!each.unix_socket && !each.ended() && each.peer.empty() && !each.local.is_any())
                to = &each.local;
        if (to == nullptr) return;
        const Address peer = *to; // adding moves nothing, but who knows
        Endpoint& made = add(chosen);
        return started(made, udp::connect(*loop, peer, std::make_unique<Peer>(made), chosen));
    }
    Endpoint& made = add(chosen);
    auto protocol = std::make_unique<Peer>(made);
    if (kind >= 3) {
        const Address name = Address::unix_path("@weft-random-" + std::to_string(::getpid()) + "-" +
                                                std::to_string(made.index))
                                 .value();
        const Sys fd = kernel.socket(AF_UNIX, SOCK_DGRAM, 0);
        RANDOM_CHECK(fd.ok() && kernel.bind(fd.fd(), name).ok());
        return started(made, adopt_datagram_endpoint(*loop, fd.fd(), std::move(protocol), chosen));
    }
    const char* const addresses[] = {"127.0.0.1:0", "[::1]:0", "*:0"};
    started(made, udp::bind(*loop, addresses[kind], std::move(protocol), chosen));
}

/// Two that are connected to each other, Unix or UDP.
void World::make_pair() {
    if (alive(*this) >= 5 || endpoints.size() >= 15) return;
    const bool unix_sockets = random.one_in(2);
    round.operation("a connected pair, Unix: %", unix_sockets);
    const Call call(*this);
    Kernel& kernel = weft::detail::core_of(*loop).kernel();
    int fds[2];
    if (unix_sockets) {
        RANDOM_CHECK(kernel.socketpair(SOCK_DGRAM, fds).ok());
    } else {
        Address names[2];
        for (int i = 0; i < 2; ++i) {
            const Sys fd = kernel.socket(AF_INET, SOCK_DGRAM, 0);
            RANDOM_CHECK(fd.ok() && kernel.bind(fd.fd(), Address::loopback_ipv4(0)).ok());
            fds[i] = fd.fd();
            RANDOM_CHECK(kernel.local_address(fd.fd(), names[i]).ok());
        }
        for (int i = 0; i < 2; ++i)
            RANDOM_CHECK(kernel.connect(fds[i], names[1 - i]).ok());
    }
    for (const int fd : fds) {
        UdpOptions chosen = options();
        if (unix_sockets) chosen.packet_info = false;
        Endpoint& made = add(chosen);
        started(made, adopt_datagram_endpoint(*loop, fd, std::make_unique<Peer>(made), chosen));
    }
}

// --- The end ---

/// Whether everything that was sent has to come.
bool World::arrives(const Pair& pair) {
    const Endpoint& from = endpoints[pair.from];
    if (pair.dead || from.aborted || from.threw) return false;
    if (pair.failed != 0 && pair.segmented) return false;
    // A short one that came twice can not be told from two.
    if (doubles && std::any_of(std::begin(pair.short_sent), std::end(pair.short_sent),
                               [](auto n) { return n != 0; }))
        return false;
    Endpoint* const to = living(pair.to);
    if (to == nullptr || !(to->peer.empty() || same_place(to->peer, from.local))) return false;
    if (from.unix_socket != to->unix_socket) return false;
    return from.unix_socket ||
           (round.simulated() && !losses && to->roomy && from.family == to->family);
}

void World::check_end() {
    for (Endpoint& each : endpoints) {
        for (auto& drain : each.drains)
            RANDOM_CHECK(drain.done(), "a drain of an endpoint that is gone is pending");
        RANDOM_CHECK(each.ref.get() == nullptr);
    }
}

void turn(Round& round, Loop& loop) {
    if (round.simulated() && round.random.one_in(10))
        dynamic_cast<sim::SimKernel&>(weft::detail::core_of(loop).kernel())
            .advance(std::chrono::microseconds(round.random.size(100000)));
    if (round.random.one_in(6)) {
        (void)loop.step({.time = std::chrono::hours(1), .count = 1 + round.random.below(20)});
    } else {
        loop.run_once();
    }
}

template<class Done>
void until(World& world, const char* what, Done done) {
    world.round.operation(what);
    int idle = 0;
    while (!done()) {
        const bool wait = idle > 3;
        if (idle == 4)
            for (const Pair& pair : world.pairs)
                if (world.arrives(pair) && pair.got + pair.failed < pair.sent)
                    world.round.note("waits for what % has sent: % of % have come",
                                     number(pair.from), number(pair.got), number(pair.sent));
        try {
            idle = world.loop->run_once(wait) == 0 ? idle + 1 : 0;
        } catch (const std::system_error&) {
            RANDOM_CHECK(false, what << ": nothing more happens");
        }
    }
}

void play(Round& round) {
    World world(round);
    LoopOptions options;
    sim::SimOptions sim;
    sim.send_buffer = sim.receive_buffer = 1 << 26;
    if (round.random.one_in(3)) {
        sim.send_buffer = 5000 + round.random.size(100000);
        if (round.random.one_in(2)) {
            sim.receive_buffer = 5000 + round.random.size(100000);
            world.losses = true;
        }
    }
    options.kernel = round.make_kernel(sim);
    if (round.random.one_in(4))
        options.reads_per_turn = static_cast<int>(1 + round.random.below(3));
    options.debug = round.random.one_in(4);
    options.slow_callback = std::chrono::hours(1);
    Loop loop(std::move(options));
    world.loop = &loop;
    world.token =
        static_cast<std::uint32_t>(round.random.next()) ^ static_cast<std::uint32_t>(::getpid());
    if (round.simulated()) {
        auto& kernel = dynamic_cast<sim::SimKernel&>(weft::detail::core_of(loop).kernel());
        if (round.random.one_in(2))
            kernel.set_latency(Duration(0), std::chrono::microseconds(round.random.size(5000)));
        if (round.random.one_in(6)) kernel.set_loss(0.1), world.losses = true;
        if (round.random.one_in(6)) kernel.set_duplicate(0.1), world.doubles = true;
        if (round.random.one_in(6)) kernel.set_reorder(0.1), world.shuffles = true;
    }
    loop.on_unhandled([&](const Unhandled& what) {
        // What was thrown in a callback ends its endpoint.
        for (Endpoint& each : world.endpoints)
            if (each.transport != nullptr && each.transport->is_closing() && !each.ended())
                each.threw = true;
        RANDOM_CHECK(what.exception != nullptr, what.message);
    });
    while (world.endpoints.size() < 2)
        world.make();
    const std::size_t count = 20 + round.random.size(150);
    for (std::size_t i = 0; i < count; ++i) {
        if (round.random.one_in(2)) world.act(round.random.pick(world.endpoints));
        turn(round, loop);
    }
    world.acts = false;
    if (round.random.one_in(10)) {
        round.operation("close the loop");
        world.loop_ends = true;
        loop.close();
        for (Endpoint& each : world.endpoints)
            RANDOM_CHECK(each.lost);
        return world.check_end();
    }
    until(world, "all are made", [&] {
        return std::all_of(world.endpoints.begin(), world.endpoints.end(),
                           [](const Endpoint& e) { return e.made; });
    });
    for (Endpoint& each : world.endpoints)
        if (each.transport != nullptr) {
            each.transport->resume_reading();
            each.paused = false;
        }
    until(world, "what was sent arrives", [&] {
        for (const Endpoint& each : world.endpoints)
            if (!each.given_back.empty() && !each.ended()) return false;
        for (const Pair& pair : world.pairs)
            if (world.arrives(pair) && pair.got + pair.failed < pair.sent) return false;
        return true;
    });
    for (Endpoint& each : world.endpoints)
        if (each.transport != nullptr) {
            each.transport->close();
            each.closed = true;
        }
    until(world, "all are lost", [&] {
        return std::all_of(world.endpoints.begin(), world.endpoints.end(),
                           [](const Endpoint& e) { return e.lost; });
    });
    world.check_end();
    until(world, "nothing is left in the loop",
          [&] { return loop.stats().sources == 0 && loop.stats().timers == 0; });
    RANDOM_CHECK(weft::detail::core_of(loop).datagram_memory().expired(),
                 "what endpoints share is still there");
    if (round.simulated())
        RANDOM_EQUAL(
            dynamic_cast<sim::SimKernel&>(weft::detail::core_of(loop).kernel()).open_descriptors(),
            0u);
}

const RegisterFamily
    family({"datagrams", "datagram endpoints' whole API from every callback, UDP and Unix", &play});

} // namespace
