// Coroutine streams: reads and writes of every form that time-outs and other coroutines cancel at
// any point, several readers and writers, ends in every way. What is written are numbered frames,
// so that the other side can tell whether each came as a whole, once, and in its writer's order,
// and whether one came that was refused.

#include "family.hpp"

#include <weft/coro/coro.hpp>
#include <weft/reactor/loop_core.hpp>
#include <weft/transports/connect/connect.hpp>
#include <weft/transports/server/server.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t head_size = 16;
constexpr std::size_t longest_frame = 300000;
constexpr std::uint32_t of_file = 0xf0000000; ///< frames that stand in the file
constexpr std::size_t file_frames = 40;

std::int64_t number(std::uint64_t value) {
    return static_cast<std::int64_t>(value);
}

/// What frames consist of, and a file of some. No carriage return is in it: a line is what
/// `read_line` returns and a newline.
class Material {
public:
    static const Material& get() {
        static const Material material;
        return material;
    }
    Bytes body(std::uint32_t id, std::size_t size) const {
        return bytes_of(std::string_view(text_).substr((id * 89u) % 50000, size));
    }
    std::string frame(std::uint32_t id, std::size_t size) const {
        char head[head_size + 1];
        std::snprintf(head, sizeof head, "%08x%07x\n", id, static_cast<unsigned>(size));
        std::string all(head, head_size);
        all += text_of(body(id, size - head_size));
        return all;
    }
    int file() const noexcept { return file_; }
    std::size_t file_offset(std::size_t k) const { return offsets_[k]; }
    std::size_t file_size(std::size_t k) const { return offsets_[k + 1] - offsets_[k]; }

private:
    Material() {
        Random random(815);
        text_.resize(longest_frame + 50000);
        for (char& c : text_) {
            c = static_cast<char>(random.next());
            if (c == '\r') c = 'r';
        }
        std::string all;
        for (std::size_t k = 0; k < file_frames; ++k) {
            offsets_[k] = all.size();
            all += frame(static_cast<std::uint32_t>(of_file + k),
                         head_size + random.size(k % 4 == 0 ? 200000 : 3000));
        }
        offsets_[file_frames] = all.size();
        char path[] = "/tmp/weft-random-XXXXXX";
        file_ = ::mkstemp(path);
        ::unlink(path);
        RANDOM_CHECK(::write(file_, all.data(), all.size()) == static_cast<ssize_t>(all.size()));
    }
    std::string text_;
    std::array<std::size_t, file_frames + 1> offsets_{};
    int file_ = -1;
};

enum class Fate : std::uint8_t { pending, taken, refused, unknown };

struct Frame {
    std::size_t size, writer;
    Fate fate = Fate::pending;
    bool got = false;
};

struct World;

struct End {
    World* world = nullptr;
    End* peer = nullptr;
    int index = 0;
    coro::Stream stream;
    bool present = false; ///< the stream is here, and not in the hands of a protocol
    bool eof_sent = false, closed = false, aborted = false, eof_seen = false, broken = false;
    int readers = 0, trips = 0;
    int files = 0;             ///< under way: a cancellation there ends the connection first
    std::vector<Frame> frames; ///< that this end writes
    std::array<std::int64_t, 8> last{-1, -1, -1, -1, -1, -1, -1, -1}; ///< of each writer, that came
    std::array<std::size_t, file_frames> file_sent{}, file_got{};

    // What this end reads.
    std::string head;
    std::uint32_t id = 0;
    std::size_t size = 0, done = 0;
    std::uint64_t received = 0;

    bool over() const { return closed || aborted || broken; }
    bool harmless() const { return !aborted && !broken && files == 0; }
    bool may_end() const { return over() || files != 0 || (eof_sent && peer->eof_sent); }
    bool inside_a_frame() const { return !head.empty(); }
    void feed(Bytes data);
    void begin_frame();
    void end_frame();
    void saw_end();
};

struct World {
    explicit World(Round& r) : round(r), draw(r.random.split()) {}
    Round& round;
    Random draw;
    std::array<End, 2> ends;
    std::vector<coro::CancelScope*> scopes;
    bool ending = false;

    Duration moment() { return std::chrono::microseconds(draw.size(400)); }
};

// --- What comes ---

void End::feed(Bytes data) {
    received += data.size();
    while (!data.empty()) {
        if (head.size() < head_size) {
            const std::size_t some = std::min(head_size - head.size(), data.size());
            head += text_of(data.first(some));
            data = data.subspan(some);
            if (head.size() == head_size) begin_frame();
            continue;
        }
        const std::size_t some = std::min(size - done, data.size());
        const Bytes wanted = Material::get().body(id, size).subspan(done, some);
        RANDOM_CHECK(std::memcmp(data.data(), wanted.data(), some) == 0,
                     "frame " << id << " has other bytes than were sent, from " << done << " on");
        done += some;
        data = data.subspan(some);
        if (done == size) end_frame();
    }
}

void End::begin_frame() {
    unsigned number_in = 0, size_in = 0;
    RANDOM_CHECK(std::sscanf(head.c_str(), "%8x%7x\n", &number_in, &size_in) == 2 &&
                     head.back() == '\n',
                 "no frame begins with " << head << " at " << received);
    id = number_in;
    done = 0;
    RANDOM_CHECK(size_in >= head_size);
    size = size_in - head_size;
    if (id >= of_file) {
        const std::size_t k = id - of_file;
        RANDOM_CHECK(k < file_frames && size_in == Material::get().file_size(k),
                     "no such frame in the file");
        RANDOM_CHECK(++file_got[k] <= peer->file_sent[k], "a part of the file that was not sent");
    } else {
        RANDOM_CHECK(id < peer->frames.size(), "frame " << id << " was not written");
        Frame& frame = peer->frames[id];
        RANDOM_EQUAL(size_in, frame.size);
        RANDOM_CHECK(!frame.got, "frame " << id << " comes again");
        RANDOM_CHECK(frame.fate != Fate::refused, "frame " << id << " was refused, and comes");
        frame.got = true;
        std::int64_t& before = peer->last[frame.writer];
        RANDOM_CHECK(before < number(id), "frame " << id << " comes behind " << before);
        before = id;
    }
    if (size == 0) end_frame();
}

void End::end_frame() {
    head.clear();
}

/// The end of the stream, which only an end of the other one's writing brings, behind all that it
/// wrote.
void End::saw_end() {
    world->round.note("%: the end of the stream", index);
    eof_seen = true;
    RANDOM_CHECK(peer->eof_sent || peer->may_end() || !peer->present,
                 "the end of a stream that nobody has ended");
    if (!peer->harmless()) return;
    RANDOM_CHECK(!inside_a_frame(), "the stream ends inside frame " << id);
    for (std::size_t i = 0; i < peer->frames.size(); ++i)
        RANDOM_CHECK(peer->frames[i].got || peer->frames[i].fate != Fate::taken,
                     "frame " << i << " is lost");
    for (std::size_t k = 0; k < file_frames; ++k)
        RANDOM_EQUAL(file_got[k], peer->file_sent[k]);
}

// --- Readers and writers ---

class Worker {
public:
    /// `id` is below 100; in the trace the second end's have 100 more.
    Worker(World& world, End& end, std::size_t id)
        : w_(world), e_(end), writer_(id), id_(id + 100 * static_cast<std::size_t>(end.index)) {}

    void read() {
        while (!e_.eof_seen && !e_.over()) {
            if (!e_.present) {
                coro::sleep(20us);
                continue;
            }
            limited([&] { guarded([&] { read_once(); }); });
        }
    }
    void write(std::size_t operations) {
        for (std::size_t i = 0; i < operations && !w_.ending && !e_.over(); ++i) {
            if (!e_.present) {
                coro::sleep(20us);
                continue;
            }
            limited([&] { guarded([&] { write_once(); }); });
        }
    }

private:
    /// Inside a scope that somebody may cancel, and that may have an end.
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
    /// What an operation may end with, besides being cancelled.
    template<class F>
    void guarded(F&& operation) {
        const int trips = e_.trips;
        try {
            operation();
        } catch (const coro::TimeoutError&) {
            w_.round.note("%: timed out", number(id_));
        } catch (const coro::LimitOverrun&) {
            overrun_ = true;
        } catch (const coro::IncompleteRead& error) {
            e_.feed(bytes_of(error.partial));
            e_.saw_end();
        } catch (const UsageError& error) {
            const bool expected =
                e_.over() || !e_.present || trips != e_.trips || e_.eof_sent || second_reader_;
            RANDOM_CHECK(expected, error.what());
            if (!std::exchange(second_reader_, false)) return;
            coro::sleep(10us);
        } catch (const std::system_error& error) {
            w_.round.note("%: error %", number(id_), error.code().value());
            const bool away = !e_.present || trips != e_.trips;
            const bool cause = away || e_.may_end() || e_.peer->may_end();
            RANDOM_CHECK(cause, error.what());
            if (!away) e_.broken = true;
        }
    }
    coro::Deadline limit() {
        return w_.draw.one_in(3) && !w_.ending ? coro::Deadline(w_.moment()) : coro::Deadline();
    }

    void read_once() {
        Random& draw = w_.draw;
        coro::Stream& stream = e_.stream;
        const std::uint64_t kind = w_.ending && overrun_ ? 1 : draw.below(11);
        w_.round.operation("%: read of kind %, end %", number(id_), number(kind), e_.index);
        second_reader_ = e_.readers != 0;
        struct Reading {
            explicit Reading(int& c) : count(c) { ++count; }
            ~Reading() { --count; }
            int& count;
        } reading(e_.readers);
        switch (kind) {
        case 0:
        case 1: {
            const Buffer data = stream.read(limit());
            taken(data);
            if (data.empty()) e_.saw_end();
            break;
        }
        case 2:
        case 3: {
            std::vector<std::byte> into(1 + draw.size(5000));
            const std::size_t size = stream.read_some(into, limit());
            taken(Bytes(into).first(size));
            if (size == 0) e_.saw_end();
            break;
        }
        case 4: {
            std::vector<std::byte> into(draw.size(draw.one_in(4) ? 200000 : 3000));
            stream.read_exactly(into, limit());
            taken(into);
            break;
        }
        case 5:
            taken(
                bytes_of(stream.read_exactly(draw.size(draw.one_in(4) ? 200000 : 3000), limit())));
            break;
        case 6: {
            set_limit();
            taken(bytes_of(stream.read_until(draw.one_in(2) ? "\n" : "ab", limit())));
            break;
        }
        case 7: {
            set_limit();
            taken(bytes_of(stream.read_until({"\n", "0", "\n0"}, limit())));
            break;
        }
        case 8: {
            set_limit();
            const auto line = stream.read_line(limit());
            second_reader_ = false;
            if (!line) {
                RANDOM_CHECK(stream.at_end());
                e_.saw_end();
                break;
            }
            taken(bytes_of(*line));
            if (stream.line_complete()) {
                e_.feed(bytes_of("\n"));
            } else {
                e_.saw_end();
            }
            break;
        }
        case 9: {
            const std::size_t size = draw.size(draw.one_in(8) ? 100000 : 300);
            const Bytes shown = stream.peek(size, limit());
            second_reader_ = false;
            const bool ended = shown.size() < size;
            const Bytes some = shown.first(draw.below(shown.size() + 1));
            const std::string kept(text_of(some));
            stream.skip(some.size());
            e_.feed(bytes_of(kept));
            if (ended && kept.size() == shown.size()) e_.saw_end();
            break;
        }
        default: {
            // Only a read without a limit comes to the end: more than so much is an overrun that
            // takes nothing.
            taken(bytes_of(stream.read_to_end(
                draw.size(20000), w_.ending ? coro::Deadline() : coro::Deadline(w_.moment()))));
            e_.saw_end();
        }
        }
        overrun_ = false;
    }
    void taken(Bytes data) {
        RANDOM_CHECK(!second_reader_, "a second reader was let in");
        e_.feed(data);
    }
    void set_limit() {
        if (w_.draw.one_in(4)) e_.stream.set_limit(1 + w_.draw.size(70000));
    }

    void write_once() {
        const std::uint64_t what = w_.draw.below(100);
        if (what < 70) return write_frame();
        if (what < 78) return send_file();
        if (what < 84) {
            w_.round.operation("%: flush", number(id_));
            return e_.stream.flush();
        }
        if (what < 92) {
            w_.round.operation("%: drain", number(id_));
            return e_.stream.drain(limit());
        }
        if (what < 94) {
            w_.round.operation("%: a pause", number(id_));
            return coro::sleep(w_.moment());
        }
        if (what < 96) return travel();
        if (!w_.draw.one_in(10)) return;
        if (what < 97) {
            w_.round.operation("%: write_eof", number(id_));
            e_.stream.write_eof();
            e_.eof_sent = true;
        } else if (what < 98) {
            w_.round.operation("%: close", number(id_));
            e_.stream.close();
            e_.closed = true;
            RANDOM_CHECK(!e_.stream.is_open());
        } else if (what < 99) {
            w_.round.operation("%: abort", number(id_));
            e_.stream.abort();
            e_.aborted = true;
        } else {
            w_.round.operation("%: destroy", number(id_));
            e_.stream = coro::Stream();
            e_.closed = true;
        }
    }

    void write_frame() {
        Random& draw = w_.draw;
        const std::size_t kind = draw.below(6);
        const std::size_t size =
            head_size + draw.size(draw.one_in(6) ? longest_frame - head_size : 3000);
        const auto id = static_cast<std::uint32_t>(e_.frames.size());
        w_.round.operation("%: write of % bytes, kind %", number(id_), number(size), number(kind));
        std::string data = Material::get().frame(id, size);
        e_.frames.push_back({size, writer_});
        // Only a write out of the caller's memory may be cancelled after it was taken.
        const bool borrowed = (kind == 0 || kind == 1) && size > 64 * 1024;
        bool kept = false;
        const auto refused = [&] {
            e_.frames[id].fate = borrowed ? Fate::unknown : Fate::refused;
            RANDOM_CHECK(!kept, "a buffer that was refused is gone");
            if (borrowed) std::fill(data.begin(), data.end(), '?');
        };
        try {
            switch (kind) {
            case 0:
                e_.stream.write(bytes_of(data), limit());
                break;
            case 1:
                e_.stream.write(std::string_view(data), limit());
                break;
            case 2:
            case 3: {
                Buffer owned = kind == 2 ? Buffer::copy(bytes_of(data)) : Buffer(std::move(data));
                try {
                    e_.stream.write(std::move(owned), limit());
                } catch (const std::system_error&) {
                    throw; // whether it was taken when the connection had gone is not said
                } catch (...) {
                    kept = owned.size() != size;
                    throw;
                }
                RANDOM_CHECK(owned.empty(), "a buffer was taken and is there");
                break;
            }
            case 4:
                e_.stream.write(std::string(data), limit());
                break;
            default:
                write_pieces(data);
            }
            e_.frames[id].fate = Fate::taken;
        } catch (const coro::TimeoutError&) {
            refused();
            throw;
        } catch (const Cancelled&) {
            refused();
            throw;
        } catch (const UsageError&) {
            e_.frames[id].fate = Fate::refused;
            throw;
        } catch (...) {
            e_.frames[id].fate = Fate::unknown;
            throw;
        }
        std::fill(data.begin(), data.end(), '?'); // it is the caller's again
    }
    void write_pieces(const std::string& data) {
        std::vector<Bytes> pieces;
        Bytes rest = bytes_of(data);
        for (std::size_t count = w_.draw.below(30); count != 0; --count) {
            pieces.push_back(rest.first(w_.draw.size(rest.size())));
            rest = rest.subspan(pieces.back().size());
        }
        pieces.push_back(rest);
        e_.stream.write_all(pieces, limit());
    }

    void send_file() {
        const Material& material = Material::get();
        const std::size_t k = w_.draw.below(file_frames);
        w_.round.operation("%: send_file of % bytes", number(id_), number(material.file_size(k)));
        ++e_.file_sent[k];
        Transport* const transport = e_.stream.transport();
        const TransportRef connection = transport != nullptr ? transport->ref() : TransportRef();
        struct Counted {
            explicit Counted(int& c) : count(c) { ++count; }
            ~Counted() { --count; }
            int& count;
        } counted(e_.files);
        // A write that is cancelled before it has begun has sent nothing, and anybody else has
        // ended the connection.
        try {
            const std::uint64_t sent = e_.stream.send_file(material.file(), material.file_offset(k),
                                                           material.file_size(k), limit());
            RANDOM_EQUAL(sent, material.file_size(k));
        } catch (const UsageError&) {
            --e_.file_sent[k];
            throw;
        } catch (const Cancelled&) {
            file_cancelled(k, connection);
            throw;
        } catch (const coro::TimeoutError&) {
            file_cancelled(k, connection);
            throw;
        }
    }
    void file_cancelled(std::size_t k, const TransportRef& connection) {
        Transport* const transport = connection.get();
        if (transport == nullptr || transport->is_closing()) {
            e_.aborted = true;
        } else {
            --e_.file_sent[k];
        }
    }

    /// The connection to a protocol and back, which gives back a part of what it is handed.
    void travel();

    World& w_;
    End& e_;
    const std::size_t writer_, id_;
    bool overrun_ = false, second_reader_ = false;
};

/// Has the connection for a moment.
class Station final : public Protocol {
public:
    explicit Station(End& end) : end_(end), pulls_(end.world->draw.one_in(2)) {}
    void connection_made(Transport& transport) override {
        if (end_.world->draw.one_in(4)) back(transport);
        transport_ = &transport;
    }
    void data_received(Bytes data) override {
        Random& draw = end_.world->draw;
        RANDOM_CHECK(!gone_, "data for a protocol that was exchanged");
        const std::size_t mine = draw.below(data.size() + 1);
        end_.feed(data.first(mine));
        if (mine < data.size()) transport_->unread(data.subspan(mine));
        if (draw.one_in(2)) back(*transport_);
    }
    bool eof_received() override {
        end_.saw_end();
        back(*transport_);
        return true;
    }
    void connection_lost(std::error_code) override {
        if (gone_) return;
        gone_ = end_.broken = true;
        end_.present = true;
    }
    Reading reading() const noexcept override { return pulls_ ? Reading::pull : Reading::push; }
    void back(Transport& transport) {
        if (std::exchange(gone_, true)) return;
        end_.stream = coro::Stream(transport);
        end_.present = true;
        ++end_.trips;
    }

private:
    End& end_;
    Transport* transport_ = nullptr;
    bool pulls_, gone_ = false;
};

void Worker::travel() {
    w_.round.operation("%: a protocol has the connection", number(id_));
    auto made = std::make_unique<Station>(e_);
    TransportRef ref;
    e_.present = false;
    try {
        ref = e_.stream.release(std::move(made));
    } catch (const UsageError&) {
        e_.present = true;
        RANDOM_CHECK(e_.readers != 0 || e_.over() || e_.eof_sent, "release was refused");
        return;
    } catch (...) {
        e_.present = true;
        throw;
    }
    // It comes back at the latest when this says so, from outside of any callback.
    for (std::uint64_t count = w_.draw.below(4); count != 0 && !e_.present; --count)
        coro::shield([] { coro::yield(); });
    if (e_.present) return;
    Transport* transport = ref.get();
    if (transport == nullptr || transport->is_closing()) {
        coro::shield([&] {
            while (!e_.present)
                coro::sleep(10us);
        });
        return;
    }
    static_cast<Station&>(transport->protocol()).back(*transport);
}

// --- The world ---

/// Hands its transport to an end.
class Arrival final : public Protocol {
public:
    explicit Arrival(End& end) : end_(end) {}
    void connection_made(Transport& transport) override {
        end_.stream = coro::Stream(transport);
        end_.present = true;
    }

private:
    End& end_;
};

void connect(World& world) {
    Loop& loop = coro::this_loop();
    const auto kind = world.draw.below(3);
    const bool small = world.draw.one_in(2);
    world.round.note("a connection over % (0 memory, 1 Unix, 2 TCP), small buffers: %",
                     number(kind), small);
    auto first = std::make_unique<Arrival>(world.ends[0]),
         second = std::make_unique<Arrival>(world.ends[1]);
    Server server;
    Future<TransportRef> connecting;
    if (kind == 0) {
        (void)connected_pair(loop, std::move(first), std::move(second));
    } else if (kind == 1) {
        int fds[2];
        RANDOM_CHECK(weft::detail::core_of(loop).kernel().socketpair(SOCK_STREAM, fds).ok());
        RANDOM_CHECK(adopt_connection(loop, fds[0], std::move(first)).ok());
        RANDOM_CHECK(adopt_connection(loop, fds[1], std::move(second)).ok());
    } else {
        server =
            std::move(*tcp::listen(loop, "127.0.0.1:0", [&first] { return std::move(first); }));
        connecting = tcp::connect(loop, server.addresses().at(0).to_string(), std::move(second));
    }
    while (!world.ends[0].present || !world.ends[1].present)
        coro::sleep(10us);
    for (End& end : world.ends) {
        // real TCP waits for its timers then
        if (kind == 0 || !small || (kind == 2 && !world.round.simulated())) continue;
        const int fd = end.stream.transport()->fd(), size = 4096;
        (void)weft::detail::core_of(loop).kernel().set_option(fd, SocketOption::send_buffer, size);
        (void)weft::detail::core_of(loop).kernel().set_option(fd, SocketOption::receive_buffer,
                                                              size);
    }
    for (End& end : world.ends) {
        if (!world.draw.one_in(3)) continue;
        const std::size_t high = world.draw.size(100000);
        end.stream.transport()->set_write_buffer_limits(high, world.draw.below(high + 1));
    }
}

/// Returns when the connection is gone, and not before.
void wait_for_the_end(World& world, End& end) {
    while (!world.ending || !end.closed) {
        if (!end.present || end.over()) {
            coro::sleep(100us);
            if (end.over() && world.ending) return;
            continue;
        }
        const int trips = end.trips;
        try {
            end.stream.wait_closed(world.draw.one_in(2) ? coro::Deadline(world.moment())
                                                        : coro::Deadline());
        } catch (const coro::TimeoutError&) {
            continue;
        } catch (const UsageError&) {
            RANDOM_CHECK(!end.present || end.over() || trips != end.trips,
                         "wait_closed was refused");
            continue;
        }
        const bool gone =
            end.may_end() || end.peer->may_end() || trips != end.trips || !end.present;
        RANDOM_CHECK(gone, "wait_closed returned, and the connection is there");
        coro::sleep(100us);
    }
}

void play_in(Round& round) {
    World world(round);
    for (int i = 0; i < 2; ++i) {
        world.ends[i].world = &world;
        world.ends[i].peer = &world.ends[1 - i];
        world.ends[i].index = i;
    }
    connect(world);
    std::vector<coro::Task<void>> readers, writers, others;
    std::size_t id = 0;
    for (End& end : world.ends) {
        for (std::uint64_t count = 1 + world.draw.below(2); count != 0; --count)
            readers.push_back(
                coro::spawn([&world, &end, id] { Worker(world, end, 10 + id).read(); })),
                ++id;
        const std::size_t operations = 10 + world.draw.size(60);
        for (std::size_t writer = 0; writer <= world.draw.below(4); ++writer)
            writers.push_back(coro::spawn([&world, &end, writer, operations] {
                Worker(world, end, writer).write(operations);
            }));
        others.push_back(coro::spawn([&world, &end] { wait_for_the_end(world, end); }));
    }
    others.push_back(coro::spawn([&world] {
        while (!world.ending) {
            coro::sleep(world.moment());
            if (!world.scopes.empty() && world.draw.one_in(2))
                world.draw.pick(world.scopes)->cancel();
        }
    }));
    for (auto& writer : writers)
        writer.wait();
    round.operation("the end");
    world.ending = true;
    for (End& end : world.ends) {
        if (end.over() || !end.present) continue;
        try {
            end.stream.write_eof();
            end.eof_sent = true;
        } catch (const std::system_error&) {
            RANDOM_CHECK(end.may_end() || end.peer->may_end(), "write_eof failed");
            end.broken = true;
        }
    }
    for (auto& reader : readers)
        reader.wait();
    for (End& end : world.ends) {
        end.stream.close();
        end.closed = true;
    }
    for (auto& other : others)
        other.wait();
    for (End& end : world.ends)
        end.stream = coro::Stream();
}

void play(Round& round) {
    (void)Material::get();
    coro::RunOptions options;
    sim::SimOptions sim;
    if (round.random.one_in(2)) sim.send_buffer = sim.receive_buffer = 1 + round.random.size(10000);
    options.loop.kernel = round.make_kernel(sim);
    if (round.simulated()) {
        auto& kernel = dynamic_cast<sim::SimKernel&>(*options.loop.kernel);
        if (round.random.one_in(2))
            kernel.set_latency(Duration(0), std::chrono::microseconds(round.random.size(300)));
        if (round.random.one_in(3)) kernel.set_segment_size(1 + round.random.size(5000), 1);
    }
    if (round.random.one_in(4)) options.loop.receive_buffer = 1 + round.random.size(70000);
    if (round.random.one_in(4))
        options.loop.reads_per_turn = static_cast<int>(1 + round.random.below(3));
    options.loop.debug = round.random.one_in(8);
    options.loop.slow_callback = std::chrono::hours(1);
    options.handle_interrupt = false;
    options.report_overflow = false;
    options.shuffle = round.random.one_in(2) ? 0 : round.random.next();
    coro::run([&] { play_in(round); }, std::move(options));
}

const RegisterFamily
    family({"streams", "coroutine streams with cancelled reads and writes, bytes compared", &play});

} // namespace
