#pragma once

#include "family.hpp"

#include <weft/reactor/future.hpp>
#include <weft/transports/connect/connect.hpp>
#include <weft/transports/server/server.hpp>

#include <array>
#include <iosfwd>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

namespace weft::test {

/// The bytes of every stream: what stands at a place does not depend on the stream, so that a file
/// can be sent in any.
class Content {
public:
    static constexpr std::size_t period = 65521;
    static const Content& get();
    /// `size` bytes, at most `longest`, that belong at `position`.
    Bytes at(std::uint64_t position, std::size_t size) const;
    static constexpr std::size_t longest = 256 * 1024;
    /// An open file with the same bytes: position p is at p % period, and what follows.
    int file() const noexcept { return file_; }
    static std::uint64_t offset(std::uint64_t position) noexcept { return position % period; }

private:
    Content();
    std::string text_;
    int file_ = -1;
};

struct World;
class Actor;

/// One end of a connection: what the test did with it, and what has to follow.
struct Side {
    World* world = nullptr;
    Side* peer = nullptr;
    Transport* transport = nullptr; ///< between made and lost
    Actor* actor = nullptr;         ///< the protocol that is attached

    // What was done.
    std::uint64_t sent = 0;      ///< bytes that writing accepted
    std::uint64_t received = 0;  ///< bytes that reading gave and that were not given back
    std::uint64_t before = 0;    ///< how far reading ever came
    bool paused = false;         ///< reading
    bool write_ended = false;    ///< by write_eof
    bool closed = false;         ///< by close
    std::error_code closed_with; ///< the reason that close was given
    bool limited = false;        ///< by close_within, which may drop what was written
    bool aborted = false;        ///< by abort
    bool ended_badly = false;    ///< by a throw, a cancelled file or an idle time-out
    bool keep_open = false;      ///< what eof_received answered
    bool lingers = true;         ///< a close does not cut off what the peer still has to get

    // What came of it.
    bool made = false, eof = false, lost = false;
    bool eof_known = false; ///< an earlier protocol was told of the end
    bool writing_paused = false;
    /// the protocol was exchanged while writing was paused, and has not been told
    bool inherited_pause = false;
    std::error_code reason;
    int in_callback = 0, in_call = 0;
    std::vector<Future<void>> drains;
    /// with how much each was to send
    std::vector<std::pair<Future<std::uint64_t>, std::uint64_t>> files;

    // Actions: each is what a user calls, with what the model says of it.
    void write(std::size_t size);
    void write_pieces();
    void send_file(std::size_t size);
    void pause_reading();
    void resume_reading();
    void try_read();
    void unread();
    void exchange();
    void set_limits();
    void drain();
    void set_idle_timeout();
    void set_linger();
    void cancel_file();
    void gather();
    void change_reading();
    void look();
    void write_eof();
    void close();
    void close_within();
    void abort();
    /// Stops doing anything but to read.
    void read_on();

    /// Whether nothing that has to come is missing: the bytes of the other end, or the reason why
    /// they do not come.
    bool satisfied(const Side& other) const;
    bool ended() const noexcept { return closed || aborted || ended_badly || lost; }
    /// Nothing was done to it, or by it, that may cost bytes.
    bool harmless() const noexcept {
        return !aborted && !ended_badly && (!reason || reason == closed_with);
    }
    void take(Bytes data);
    void note_eof();
    /// Keeps what was received, now and then, to be looked at later.
    void keep(Bytes data);
    void check_kept();
    std::vector<std::pair<std::uint64_t, Buffer>> kept;
};

std::ostream& operator<<(std::ostream& out, const Side& side);

/// Two ends and what they share.
struct World {
    explicit World(Round& used);
    ~World();
    std::unique_ptr<Protocol> protocol(std::size_t side);
    /// Protocols that were exchanged may be running: they go between the turns.
    void bury() {
        graveyard.clear();
        for (Side& side : sides)
            side.check_kept();
    }
    void check_end();

    Round& round;
    std::array<Side, 2> sides;
    void (*act)(Side& side, Round& round) = nullptr; ///< what callbacks do; null: nothing
    std::vector<std::unique_ptr<Protocol>> graveyard;

    // Where the first side is a server's.
    std::optional<Server> server;
    Future<TransportRef> connecting;
    bool draining = false;
    std::vector<Future<std::size_t>> server_drains;
    std::vector<Future<void>> server_ends;
    void use_server();
    bool reads_on = false;
};

/// The protocol of a side: checks that each callback may come, and acts in it.
class Actor final : public Protocol {
public:
    Actor(Side& side, Reading reading) : side_(side), reading_(reading) {}
    ~Actor() override { *alive_ = false; }

    void connection_made(Transport& transport) override;
    void data_received(Bytes data) override;
    MutableBytes get_buffer(std::size_t hint) override;
    void buffer_updated(std::size_t size) override;
    void read_ready() override;
    bool eof_received() override;
    void connection_lost(std::error_code reason) override;
    void pause_writing() override;
    void resume_writing() override;
    void idle_timeout(Transport& transport) override;
    void draining(Transport& transport) override;
    Reading reading() const noexcept override { return reading_; }
    void set_reading(Reading reading) noexcept { reading_ = reading; }

private:
    struct Inside;
    void check_reads(const char* what);
    void act();
    void act_reported();

    Side& side_;
    Reading reading_;
    std::array<std::byte, 8192> buffer_{};
    std::size_t room_ = 0;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

} // namespace weft::test
