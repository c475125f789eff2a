#pragma once

#include "histogram.hpp"
#include "load.hpp"

#include <weft/protocols/protocol.hpp>
#include <weft/protocols/transport.hpp>
#include <weft/reactor/loop.hpp>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace weft::tools {

class LoadRun;

/// What a run has found.
struct LoadResult {
    std::uint64_t sent = 0;     ///< in the measured time; by plan in the open loop
    std::uint64_t answered = 0; ///< answers that came in the measured time
    double seconds = 0;         ///< that were measured
    std::size_t connected = 0;  ///< connections that stood at the start
    Histogram latency;          ///< nanoseconds of the messages sent in the measured time
    std::map<std::string, std::uint64_t> errors; ///< by kind
};

/// The contents of messages: those of one connection differ from each other and from those of the
/// others, so that an answer that belongs elsewhere is noticed, and composing and checking one
/// costs a comparison.
class Pattern {
public:
    /// Messages of `size` bytes; as lines they end in a newline and hold no other.
    Pattern(std::size_t size, bool lines);

    std::size_t size() const noexcept { return size_; }
    /// The message, without the newline if it is a line. Valid as long as the pattern.
    Bytes message(std::size_t connection, std::uint64_t number) const noexcept;
    /// The newline, or nothing.
    Bytes end() const noexcept { return end_; }
    /// Whether `data` is what stands at `offset` in the message and its end.
    bool matches(std::size_t connection, std::uint64_t number, std::size_t offset,
                 Bytes data) const noexcept;

private:
    // A prime, so that no size of messages falls into step with it.
    static constexpr std::size_t period = 65521;

    std::size_t size_;
    Bytes end_;
    std::vector<std::byte> bytes_;
};

/// One connection of a run, as the run sees it. The transport owns it; it tells the run when it
/// comes and goes.
class LoadClient {
public:
    virtual ~LoadClient() = default;
    /// Sends a message that was due at `due`, now or as soon as it can.
    virtual void send_message(TimePoint due) = 0;
    /// Messages without an answer.
    virtual std::size_t outstanding() const noexcept = 0;
    /// Gives up on messages sent before `time`.
    virtual void expire(TimePoint time) = 0;
    virtual void close() = 0;
};

/// A run: connecting, warming up, measuring, waiting for the last answers. All on one loop.
class LoadRun {
public:
    explicit LoadRun(const LoadOptions& options);
    LoadRun(const LoadRun&) = delete;
    LoadRun& operator=(const LoadRun&) = delete;

    /// Runs from the first connection to the last answer. Throws nothing of its own: what goes
    /// wrong is in the result.
    void run();

    const LoadOptions& options() const noexcept { return options_; }
    const LoadResult& result() const noexcept { return result_; }
    /// The number of the signal that ended the run, or 0.
    int signal() const noexcept { return signal_; }
    /// No connection could be made because the address is none.
    bool bad_address() const noexcept { return bad_address_; }

    // For the clients.
    const Pattern& pattern() const noexcept { return pattern_; }
    TimePoint now() { return loop_.now(); }
    void joined(LoadClient& client);
    void left(LoadClient& client);
    /// An answer to the message that was due at `due` has come at `now`.
    void answered(TimePoint due, TimePoint now);
    /// A client has room for another message: in the closed loop, one is sent.
    void next(LoadClient& client, TimePoint now);
    void failed(const std::string& kind, std::uint64_t count = 1) { result_.errors[kind] += count; }

private:
    enum class Stage : std::uint8_t { connecting, warmup, measuring, finishing, over };

    void connect_more();
    void connect_one();
    void connect_datagram();
    void attempted(const Error* error);
    void start();
    void open_loop_turn();
    TimePoint due_of(std::uint64_t number) const noexcept;
    void send_to(LoadClient& client, TimePoint due);
    void measure();
    void finish();
    void finish_if_done();
    void over();
    void stop_if_empty();
    void tick();
    bool measured(TimePoint due) const noexcept {
        return due >= measure_from_ && due < measure_to_;
    }

    const LoadOptions options_;
    const Pattern pattern_;
    LoadResult result_;
    Stage stage_ = Stage::connecting;
    int signal_ = 0;
    bool bad_address_ = false;
    std::size_t begun_ = 0;     ///< connection attempts made
    std::size_t settled_ = 0;   ///< and over, either way
    std::uint64_t planned_ = 0; ///< messages sent by the open loop
    std::vector<LoadClient*> clients_;
    TimePoint started_{};
    TimePoint measure_from_ = TimePoint::max();
    TimePoint measure_to_ = TimePoint::max();
    std::uint64_t shown_answers_ = 0;
    Loop loop_; // last: clients refer to all of the above until the loop is gone
    std::array<SignalWatch, 2> signals_;
    std::vector<Future<TransportRef>> attempts_;
    Timer schedule_;
    Timer stage_timer_;
    Timer ticker_;
};

/// A stream connection: answers come in the order of the messages.
std::unique_ptr<Protocol> make_stream_client(LoadRun& run, std::size_t number);
/// A UDP socket: answers may be lost or come in any order, so messages carry a number.
std::unique_ptr<DatagramProtocol> make_datagram_client(LoadRun& run, std::size_t number);

} // namespace weft::tools
