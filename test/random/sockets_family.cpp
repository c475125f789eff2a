// Datagram sockets of coroutines: several that receive and send at a time, with every form,
// cancelled by time-outs and by others, while sockets are closed. Numbered datagrams tell what
// came: nothing that was refused, nothing twice or out of order, and of what was taken for somebody
// who is there nothing is lost.

#include "family.hpp"

#include <weft/coro/coro.hpp>
#include <weft/reactor/loop_core.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t header = 8;

std::int64_t number(std::uint64_t value) {
    return static_cast<std::int64_t>(value);
}

enum class Fate : std::uint8_t { pending, taken, refused, failed };

struct Sent {
    std::size_t from, to, writer, size;
    Fate fate = Fate::pending;
    bool got = false;
};

struct End {
    coro::DatagramSocket socket;
    Address local;
    std::size_t index = 0;
    std::size_t peer = SIZE_MAX; ///< of a connected one
    bool unix_socket = false, closed = false;
    bool troubled = false;          ///< it sent what was too long, or to a socket that had gone
    std::vector<std::int64_t> last; ///< that came from each sender
};

struct World {
    explicit World(Round& r) : round(r), draw(r.random.split()) {}
    Round& round;
    Random draw;
    std::deque<End> ends;
    std::vector<Sent> sent;
    std::vector<coro::CancelScope*> scopes;
    std::uint32_t token = 0;
    bool roomy = true, ending = false, done = false;
    std::string text;

    Duration moment() { return std::chrono::microseconds(draw.size(400)); }
    Bytes body(std::uint32_t id, std::size_t size) const {
        return bytes_of(std::string_view(text).substr((id * 7u) % 1000, size));
    }
    bool complete() const;
};

/// Whether everything has come that has to.
bool World::complete() const {
    return std::all_of(sent.begin(), sent.end(), [&](const Sent& each) {
        const End& from = ends[each.from];
        const End& to = ends[each.to];
        const bool lossy = !from.unix_socket && (!round.simulated() || !roomy);
        return each.got || each.fate != Fate::taken || from.closed || to.closed || lossy;
    });
}

constexpr std::size_t longest = 3000;
constexpr std::size_t too_long = 70000;

class Worker {
public:
    Worker(World& world, End& end, std::size_t id) : w_(world), e_(end), id_(id + 10 * end.index) {}

    void receive() {
        while (!w_.done && !e_.closed) {
            limited([&] { guarded([&] { receive_once(); }); });
            look_back();
        }
        look_back();
    }
    void send(std::size_t operations) {
        for (std::size_t i = 0; i < operations && !e_.closed; ++i)
            limited([&] { guarded([&] { send_once(); }); });
    }

private:
    template<class F>
    void limited(F&& operation) {
        coro::CancelScope scope(w_.draw.one_in(4) && !w_.ending ? coro::Deadline(w_.moment())
                                                                : coro::Deadline());
        struct Listed {
            Listed(World& w, coro::CancelScope& s) : world(w), scope(s) {
                world.scopes.push_back(&scope);
            }
            ~Listed() { std::erase(world.scopes, &scope); }
            World& world;
            coro::CancelScope& scope;
        } listed(w_, scope);
        if (!scope.run(operation)) w_.round.note("%: cancelled", number(id_));
    }
    template<class F>
    void guarded(F&& operation) {
        try {
            operation();
        } catch (const coro::TimeoutError&) {
            w_.round.note("%: timed out", number(id_));
        } catch (const UsageError& error) {
            RANDOM_CHECK(e_.closed, error.what());
        } catch (const std::system_error& error) {
            w_.round.note("%: error %", number(id_), error.code().value());
            RANDOM_CHECK(e_.closed || e_.troubled || gone(), error.what());
        }
    }
    /// Whether anybody has gone, whom a connected socket may have sent to.
    bool gone() const {
        return std::any_of(w_.ends.begin(), w_.ends.end(),
                           [](const End& end) { return end.closed; });
    }
    coro::Deadline limit() {
        return w_.draw.one_in(3) && !w_.ending ? coro::Deadline(w_.moment()) : coro::Deadline();
    }

    void receive_once() {
        Random& draw = w_.draw;
        w_.round.operation("%: receives", number(id_));
        if (draw.one_in(2)) {
            // With room for the number, at least.
            std::vector<std::byte> into(header + (draw.one_in(4) ? draw.size(longest) : longest));
            const coro::Received got = e_.socket.recv_from(into, limit());
            RANDOM_CHECK(got.size <= into.size());
            take(Bytes(into).first(got.size), got.from, got.truncated);
            return;
        }
        coro::DatagramBatch batch = e_.socket.recv_batch(1 + draw.size(63), limit());
        RANDOM_CHECK(!batch.empty());
        std::vector<std::string> copies;
        for (const Datagram& each : batch) {
            take(each.data, each.from, each.truncated);
            copies.emplace_back(text_of(each.data));
        }
        if (draw.one_in(4)) kept_.push_back({std::move(batch), std::move(copies)});
    }
    /// Batches stay as they are, whatever has become of the socket.
    void look_back() {
        for (const Kept& kept : kept_) {
            std::size_t i = 0;
            for (const Datagram& each : kept.batch)
                RANDOM_CHECK(text_of(each.data) == kept.copies[i++],
                             "a batch that is kept has changed");
        }
        if (kept_.size() > w_.draw.below(4)) kept_.clear();
    }
    void take(Bytes data, const Address& from, bool truncated) {
        w_.round.note("%: % bytes arrive", number(id_), number(data.size()));
        if (data.size() < header) {
            RANDOM_CHECK(!w_.round.simulated() && !e_.unix_socket, "a datagram is torn");
            return;
        }
        std::uint32_t token = 0, id = 0;
        std::memcpy(&token, data.data(), sizeof token);
        std::memcpy(&id, data.data() + sizeof token, sizeof id);
        // of another program
        if (token != w_.token && !w_.round.simulated() && !e_.unix_socket) return;
        RANDOM_CHECK(token == w_.token && id < w_.sent.size(),
                     "a datagram that was not sent: " << id);
        Sent& record = w_.sent[id];
        RANDOM_EQUAL(record.to, e_.index);
        RANDOM_CHECK(record.fate != Fate::refused, "datagram " << id << " was refused, and comes");
        RANDOM_CHECK(!record.got, "datagram " << id << " comes again");
        record.got = true;
        RANDOM_CHECK(truncated ? data.size() < record.size : data.size() == record.size,
                     "datagram " << id << " of " << record.size << " bytes has " << data.size());
        const std::size_t size = data.size() - header;
        RANDOM_CHECK(std::memcmp(data.data() + header, w_.body(id, size).data(), size) == 0,
                     "datagram " << id << " has other bytes than were sent");
        const Address& sender = w_.ends[record.from].local;
        RANDOM_CHECK(from.is_ip() ? from.port() == sender.port() : from.path() == sender.path(),
                     from.to_string());
        std::int64_t& before = e_.last[record.writer];
        RANDOM_CHECK(before < number(id), "datagram " << id << " comes behind " << before);
        before = id;
    }

    std::size_t receiver() {
        if (e_.peer != SIZE_MAX) return e_.peer;
        for (;;) {
            const End& to = w_.draw.pick(w_.ends);
            if (to.unix_socket == e_.unix_socket && to.peer == SIZE_MAX) return to.index;
        }
    }
    std::uint32_t next(std::size_t to, std::string& data) {
        const auto id = static_cast<std::uint32_t>(w_.sent.size());
        const std::size_t size =
            header + (w_.draw.one_in(100) ? too_long : w_.draw.size(longest - header));
        w_.sent.push_back({e_.index, to, id_, size});
        if (size > longest || w_.ends[to].closed) e_.troubled = true;
        data.resize(size);
        std::memcpy(data.data(), &w_.token, sizeof w_.token);
        std::memcpy(data.data() + sizeof w_.token, &id, sizeof id);
        const Bytes body = w_.body(id, size - header);
        std::memcpy(data.data() + header, body.data(), body.size());
        return id;
    }
    /// One call that takes all of `ids` or none.
    template<class Call>
    void all_or_none(const std::vector<std::uint32_t>& ids, Call call) {
        const auto settle = [&](Fate fate) {
            for (const std::uint32_t id : ids)
                w_.sent[id].fate =
                    fate == Fate::taken && w_.sent[id].size > longest ? Fate::failed : fate;
        };
        try {
            call();
        } catch (...) {
            settle(Fate::refused);
            throw;
        }
        settle(Fate::taken);
    }

    void send_once() {
        Random& draw = w_.draw;
        const std::uint64_t what = draw.below(100);
        if (what < 50) {
            const std::size_t to = receiver();
            std::string data;
            const std::vector<std::uint32_t> ids{next(to, data)};
            w_.round.operation("%: sends % bytes to %", number(id_), number(data.size()),
                               number(to));
            const Address at = w_.ends[to].local;
            all_or_none(ids, [&] {
                if (e_.peer != SIZE_MAX) return e_.socket.send(data, limit());
                if (draw.one_in(2)) return e_.socket.send_to(data, at, limit());
                e_.socket.send_to(bytes_of(data), at, DatagramTransport::SendOptions{}, limit());
            });
            std::fill(data.begin(), data.end(), '?');
        } else if (what < 75) {
            std::deque<std::string> datas;
            std::vector<Outgoing> batch;
            std::vector<std::uint32_t> ids;
            for (std::size_t left = draw.size(30); left != 0; --left) {
                const std::size_t to = receiver();
                ids.push_back(next(to, datas.emplace_back()));
                batch.push_back(
                    {bytes_of(datas.back()), e_.peer != SIZE_MAX ? Address() : w_.ends[to].local});
            }
            w_.round.operation("%: sends % at once", number(id_), number(batch.size()));
            all_or_none(ids, [&] { e_.socket.send_batch(batch, limit()); });
        } else if (what < 82) {
            w_.round.operation("%: flush", number(id_));
            e_.socket.flush();
        } else if (what < 90) {
            w_.round.operation("%: drain", number(id_));
            e_.socket.drain(limit());
            if (auto* transport = e_.socket.transport(); transport != nullptr && !e_.closed)
                RANDOM_EQUAL(transport->is_closing(), false);
        } else if (what < 95) {
            w_.round.operation("%: a pause", number(id_));
            coro::sleep(w_.moment());
        } else if (what < 97) {
            w_.round.operation("%: other limits", number(id_));
            e_.socket.set_queue_limits(1 + draw.size(100), 1 + draw.size(100000));
        } else if (what < 98) {
            w_.round.operation("%: other marks", number(id_));
            const std::size_t high = draw.size(20000);
            if (auto* transport = e_.socket.transport())
                transport->set_write_buffer_limits(high, draw.below(high + 1));
        } else if (draw.one_in(8)) {
            end();
        }
    }
    void end() {
        const std::uint64_t how = w_.draw.below(3);
        w_.round.operation("%: ends, way %", number(id_), number(how));
        e_.closed = true;
        if (how == 0) e_.socket.close();
        if (how == 1) e_.socket.abort();
        if (how == 2) e_.socket = coro::DatagramSocket();
        RANDOM_CHECK(!e_.socket.is_open());
    }

    struct Kept {
        coro::DatagramBatch batch;
        std::vector<std::string> copies;
    };
    World& w_;
    End& e_;
    const std::size_t id_;
    std::vector<Kept> kept_;
};

void make(World& world) {
    Kernel& kernel = weft::detail::core_of(coro::this_loop()).kernel();
    const auto options = [&] {
        UdpOptions chosen;
        chosen.report_errors = world.draw.one_in(3);
        chosen.packet_info = world.draw.one_in(3);
        if (world.draw.one_in(3)) chosen.batch = 1 + world.draw.below(64);
        return chosen;
    };
    const auto add = [&](coro::DatagramSocket socket) -> End& {
        End& end = world.ends.emplace_back();
        end.index = world.ends.size() - 1;
        end.socket = std::move(socket);
        end.local = end.socket.local_address();
        return end;
    };
    for (std::uint64_t count = 1 + world.draw.below(2); count != 0; --count)
        add(coro::DatagramSocket::bind("127.0.0.1:0", options()));
    for (std::uint64_t i = 0; i < 1 + world.draw.below(2); ++i) {
        const std::string name =
            "@weft-sockets-" + std::to_string(::getpid()) + "-" + std::to_string(i);
        const Sys fd = kernel.socket(AF_UNIX, SOCK_DGRAM, 0);
        RANDOM_CHECK(fd.ok() && kernel.bind(fd.fd(), Address::unix_path(name).value()).ok());
        add(coro::DatagramSocket::adopt(fd.fd(), options())).unix_socket = true;
    }
    int fds[2];
    RANDOM_CHECK(kernel.socketpair(SOCK_DGRAM, fds).ok());
    for (const int fd : fds) {
        End& end = add(coro::DatagramSocket::adopt(fd, options()));
        end.unix_socket = true;
    }
    const std::size_t last = world.ends.size() - 1;
    world.ends[last].peer = last - 1;
    world.ends[last - 1].peer = last;
    for (End& end : world.ends)
        end.last.assign(10 * world.ends.size(), -1);
}

void play_in(Round& round) {
    World world(round);
    world.token =
        static_cast<std::uint32_t>(round.random.next()) ^ static_cast<std::uint32_t>(::getpid());
    world.text.resize(too_long + 1000);
    for (char& c : world.text)
        c = static_cast<char>(round.random.next());
    make(world);
    std::vector<coro::Task<void>> receivers, senders, others;
    for (End& end : world.ends) {
        for (std::size_t i = 0; i <= world.draw.below(3); ++i)
            receivers.push_back(
                coro::spawn([&world, &end, i] { Worker(world, end, i).receive(); }));
        const std::size_t operations = 5 + world.draw.size(40);
        for (std::size_t i = 0; i <= world.draw.below(3); ++i)
            senders.push_back(coro::spawn(
                [&world, &end, i, operations] { Worker(world, end, 5 + i).send(operations); }));
    }
    others.push_back(coro::spawn([&world] {
        while (!world.ending) {
            coro::sleep(world.moment());
            if (!world.scopes.empty() && world.draw.one_in(2))
                world.draw.pick(world.scopes)->cancel();
        }
    }));
    for (auto& sender : senders)
        sender.wait();
    world.ending = true;
    round.operation("what was sent arrives");
    while (!world.complete())
        coro::sleep(50us);
    world.done = true;
    for (End& end : world.ends) {
        end.closed = true;
        end.socket.close();
    }
    for (auto& receiver : receivers)
        receiver.wait();
    for (auto& other : others)
        other.wait();
    round.operation("the end");
    for (End& end : world.ends) {
        if (end.socket.transport() == nullptr) continue;
        end.socket.abort();
        end.socket.wait_closed();
    }
}

void play(Round& round) {
    coro::RunOptions options;
    sim::SimOptions sim;
    sim.send_buffer = sim.receive_buffer = 1 << 26;
    if (round.random.one_in(3)) sim.send_buffer = 5000 + round.random.size(100000);
    options.loop.kernel = round.make_kernel(sim);
    if (round.simulated() && round.random.one_in(2))
        dynamic_cast<sim::SimKernel&>(*options.loop.kernel)
            .set_latency(Duration(0), std::chrono::microseconds(round.random.size(300)));
    options.loop.debug = round.random.one_in(4);
    options.loop.slow_callback = std::chrono::hours(1);
    options.handle_interrupt = false;
    options.report_overflow = false;
    options.shuffle = round.random.one_in(2) ? 0 : round.random.next();
    coro::run([&] { play_in(round); }, std::move(options));
}

const RegisterFamily
    family({"sockets", "coroutines' datagram sockets with cancelled receives and sends", &play});

} // namespace
