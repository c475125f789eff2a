#pragma once

#include "held_input.hpp"
#include "stream_kind.hpp"
#include "stream_phase.hpp"
#include "write_queue.hpp"

#include <weft/protocols/protocol.hpp>
#include <weft/protocols/transport.hpp>
#include <weft/reactor/loop_core.hpp>
#include <weft/reactor/source.hpp>
#include <weft/transports/stream/transport_core.hpp>

#include <array>
#include <memory>
#include <string>
#include <vector>

namespace weft::detail {

class ServerState;

class StreamTransport;

/// A connection's place in its server's list.
struct ServerLink : ListNode {
    explicit ServerLink(StreamTransport& of) noexcept : transport(of) {}
    StreamTransport& transport;
};

/// The one stream transport: TCP, Unix sockets and in-memory pairs differ in the channel that moves
/// their bytes and in what a short read means. Registered once, edge-triggered, with the readiness
/// kept in `flags_`: a call is made only when the kernel said that it can succeed. The loop owns
/// it; it deletes itself in the closing phase.
class StreamTransport final : public TransportCore, public Transport {
public:
    /// Takes over `fd`, which is registered with `token` for this transport or about to be. `pair`
    /// moves the bytes of one in memory, which `fd` is then an end of; it outlives this.
    StreamTransport(LoopCore& core, int fd, StreamKind kind, const Address& peer,
                    ByteChannel* pair = nullptr);

    /// Gives it the slot that it was registered under, its protocol, and calls `connection_made`.
    /// Events named in `ready` have been seen already.
    void open(Token token, std::unique_ptr<Protocol> protocol, std::uint32_t ready = 0);
    /// The same, but `connection_made` comes in the next turn: for those who made it and have not
    /// returned yet.
    void open_later(Token token, std::unique_ptr<Protocol> protocol);
    /// Makes a descriptor from elsewhere a transport, opened later. On an error it stays the
    /// caller's.
    static std::error_code adopt(LoopCore& core, int fd, StreamKind kind, const Address& peer,
                                 std::unique_ptr<Protocol> protocol, TransportRef& ref);
    /// Joins the connections of `server`.
    void attach(ServerState& server) noexcept;
    /// Only `connection_lost` is left to come.
    bool is_over() const noexcept { return finishing(); }

    void write(Bytes data) override;
    void write(Buffer&& data) override;
    using Transport::write;
    void write_all(std::span<const Bytes> pieces) override;
    Buffer keep(Bytes data) const override { return core_.receive_buffer().keep(data); }
    Future<std::uint64_t> send_file(int file, std::uint64_t offset,
                                    std::optional<std::uint64_t> count) override;
    void write_eof() override;
    void close(std::error_code reason = {}) override;
    void close_within(Duration limit) override;
    void abort(std::error_code reason) override;
    std::error_code write_error() const noexcept override {
        return broken() ? extras_->write_error : std::error_code();
    }
    bool is_closing() const noexcept override { return has(closing); }
    void pause_reading() override;
    void resume_reading() override;
    void reading_changed() override;
    bool is_reading() const noexcept override {
        return !has(paused | closing | eof_seen | unannounced);
    }
    ReadResult try_read(MutableBytes into) override;
    std::error_code read_error() const noexcept override { return end_reason(); }
    void unread(Bytes data) override;
    void set_write_buffer_limits(std::size_t high, std::optional<std::size_t> low) override;
    WriteLimits write_buffer_limits() const noexcept override {
        return extras_ ? extras_->limits : WriteLimits();
    }
    std::size_t write_buffer_size() const noexcept override;
    Future<void> drain() override;
    void set_idle_timeout(Duration timeout) override;
    void set_linger(Linger linger) override;
    std::unique_ptr<Protocol> set_protocol(std::unique_ptr<Protocol> protocol) override;
    Protocol& protocol() const noexcept override { return *protocol_; }
    Address local_address() const override;
    Address peer_address() const override;
    int fd() const noexcept override { return traits().has_descriptor ? fd_ : -1; }
    std::optional<Credentials> peer_credentials() const override;
    Loop& loop() const noexcept override { return core_.loop(); }
    TransportRef ref() const override { return {core_.mailbox(), token_}; }

    void on_ready(std::uint32_t ready) override;
    void on_finish() override;
    void on_uncork() override { uncork(); }
    void on_recork() override;
    void on_loop_closing() override;
    Registration registration() const noexcept override;
    Transport* as_transport() noexcept override { return this; }

    bool gather() override {
        if (in_callback()) [[likely]]
            return !has(closing) && !broken();
        return gather_newly();
    }
    void own_queued() override;
    Source* cork_owner() noexcept override { return this; }
    Source& event_source() noexcept override { return *this; }
    void protocol_changed() override;
    void hold_input(bool holds) override;
    void leave_end_above() override { flags_ |= ended_above; }

    // Facts about the connection, any number at once.
    enum Flag : std::uint32_t {
        readable = 1 << 0, ///< the kernel said so, and no read has found it empty since
        hangup = 1 << 1,   ///< FIN, RST or an error was announced: a short read does not mean empty
        writable = 1 << 2, ///< the kernel said so, and no send has found it full since
        paused = 1 << 3,   ///< the user does not want to be called with data
        again_queued = 1 << 4, ///< stands in the loop's list for another turn
        ready_told = 1 << 5, ///< a pulling protocol was told and has not met an empty socket since
        reset = 1 << 6,      ///< close with RST
        /// TCP: a read that did not fill its buffer has emptied the socket
        short_read_empties = 1 << 7,
        given_back = 1 << 8,   ///< `Extras::unread` holds input to be delivered before any other
        unannounced = 1 << 9,  ///< `connection_made` is still to come
        queued = 1 << 10,      ///< something waits in `Extras::queue` to be sent
        held = 1 << 11,        ///< what is above has input that its protocol has not taken
        ended_above = 1 << 13, ///< see `leave_end_above`
        exchanged = 1 << 12,   ///< another protocol reads, since `get_buffer` was called last
    };

private:
    TransportCore* core() noexcept override { return this; }
    bool run_callback(const char* name, void (*call)(void*), void* callable) override;

    /// What few connections need, allocated for those.
    struct Extras final : TimerNode {
        explicit Extras(StreamTransport& t) noexcept : transport(t) {}
        void on_timer() override { transport.on_timer(*this); }
        StreamTransport& transport;
        Duration idle_timeout{0};
        Activity activity;
        unsigned put_off = 0; ///< times that its end was, since the kernel had more to tell
        TimePoint close_limit = TimePoint::max(); ///< see `close_within`
        std::unique_ptr<WriteQueue> queue;        ///< while `queued`, and then not empty
        ByteChannel* channel = nullptr;           ///< of a pair in memory
        Linger linger;
        WriteLimits limits;
        std::size_t discarded = 0;
        HeldInput unread; ///< given back by the protocol
        std::error_code write_error;
        std::error_code reason;
        std::vector<Promise<void>> drain_waiters;
        Address peer; ///< one too long for `peer_`
    };

    /// What this connection may move in a turn before the others have theirs.
    class Share {
    public:
        explicit Share(LoopCore& core) noexcept : core_(core) {}
        /// After a call that moved `bytes`: whether there may be another.
        bool spend(std::size_t bytes) noexcept {
            bytes_ += bytes;
            if (++calls_ >= core_.reads_per_turn() || bytes_ >= core_.options().bytes_per_turn)
                return false;
            return bytes < bulk || !core_.turn_is_long();
        }

    private:
        // takes so long that a look at the clock is nothing
        static constexpr std::size_t bulk = 16 * 1024;
        LoopCore& core_;
        int calls_ = 0;
        std::size_t bytes_ = 0;
    };

    bool has(std::uint32_t flags) const noexcept { return (flags_ & flags) != 0; }
    // Above the flags in the same word: each is more than 0 once it is out of the ordinary.
    template<class State, unsigned begin, unsigned bits>
    struct Field {
        static constexpr std::uint32_t mask = ((1U << bits) - 1U) << begin;
        static State get(std::uint32_t word) noexcept {
            return static_cast<State>((word & mask) >> begin);
        }
        static void set(std::uint32_t& word, State state) noexcept {
            word = (word & ~mask) | (static_cast<std::uint32_t>(state) << begin);
        }
    };
    using LifeField = Field<Life, 16, 2>;
    using SendingField = Field<Sending, 18, 2>;
    using ReceivingField = Field<Receiving, 20, 1>;
    using PressureField = Field<Pressure, 21, 2>;
    static constexpr std::uint32_t closing = LifeField::mask; ///< whatever comes after open
    static constexpr std::uint32_t sends_no_more = SendingField::mask;   ///< likewise
    static constexpr std::uint32_t eof_seen = ReceivingField::mask;      ///< likewise
    static constexpr std::uint32_t under_pressure = PressureField::mask; ///< likewise
    Life life() const noexcept { return LifeField::get(flags_); }
    Sending sending() const noexcept { return SendingField::get(flags_); }
    Pressure pressure() const noexcept { return PressureField::get(flags_); }
    bool finishing() const noexcept { return life() == Life::finishing; }
    bool broken() const noexcept { return sending() == Sending::broken; }
    void enter(Life life) noexcept { LifeField::set(flags_, life); }
    void enter(Sending sending) noexcept { SendingField::set(flags_, sending); }
    void enter(Receiving receiving) noexcept { ReceivingField::set(flags_, receiving); }
    void enter(Pressure pressure) noexcept { PressureField::set(flags_, pressure); }
    /// What moves its bytes.
    ByteChannel& channel() noexcept {
        if (kind_ == StreamKind::memory) [[unlikely]]
            return *extras_->channel;
        return core_.kernel();
    }
    void begin_queue() {
        extras().queue = std::make_unique<WriteQueue>();
        flags_ |= queued;
    }
    std::unique_ptr<WriteQueue> take_queue() noexcept {
        flags_ &= ~queued;
        return std::move(extras_->queue);
    }
    bool can_read() const noexcept {
        return has(readable | given_back) && !has(paused | closing | eof_seen | unannounced | held);
    }
    Extras& extras();
    void note_activity() noexcept {
        if (extras_) [[unlikely]]
            core_.note_activity(extras_->activity);
    }

    std::unique_ptr<Protocol> use(std::unique_ptr<Protocol> protocol) noexcept;
    void announce();
    Sys read_some(MutableBytes into);
    Sys take_given_back(MutableBytes into) noexcept;
    bool see_eof_again() noexcept;
    void on_other_event(std::uint32_t ready);
    void not_readable(std::uint32_t ready);
    void receive();
    void receive_pushed();
    void receive_otherwise();
    void receive_buffered();
    void offer_pull();
    void read_ended(Sys result);
    ReadResult try_read_otherwise(MutableBytes into);
    ReadResult try_read_ended(Sys got);
    void got_eof();
    void broken_after_eof(std::uint32_t ready);
    void reset_by_peer();
    const StreamTraits& traits() const noexcept { return traits_of(kind_); }
    template<class Call>
    bool guarded(const char* name, Call&& call);
    std::exception_ptr reported(const char* name);
    void callback_threw(const char* name);
    /// A callback of this connection is on the stack, and its small writes gather in the loop's
    /// cork buffer.
    bool in_callback() const noexcept { return core_.cork().owner() == this; }
    bool may_gather() const noexcept { return !has(queued | closing | sends_no_more); }
    /// The cork, which is empty, is this connection's.
    void cork() noexcept { core_.cork().open(this, may_gather()); }
    /// To be called when something has changed that lets its writes gather, or keeps them from it.
    void note_room() noexcept {
        if (in_callback()) core_.cork().allow(may_gather());
    }
    /// The callback has returned: what it wrote leaves, and what had to wait for that happens.
    void uncork() {
        Cork& gathered = core_.cork();
        gathered.close();
        if (!gathered.empty()) send_gathered();
        if (has(closing | sends_no_more) && !has(queued)) [[unlikely]]
            drained();
    }
    bool gather_newly();
    bool takes_writes(const char* what);
    void write_otherwise(Bytes data);
    void write_all_otherwise(std::span<const Bytes> pieces, std::size_t total);
    void write_on(Bytes data, Buffer* owner);
    void send_gathered();
    void send_gathered_pieces();
    void send_now(Bytes data, Buffer* owner);
    template<class Pieces>
    bool send_pieces(Pieces&& pieces);
    void queue_unsent(Bytes data, Buffer* owner, Sys sent);
    void queue_rest(Bytes rest, Buffer* owner);
    void note_sent(std::size_t taken, std::size_t offered) noexcept {
        if (taken != 0) note_activity();
        if (taken < offered) flags_ &= ~writable;
    }
    void fail_drain_waiters(std::error_code why);
    void flush_queue();
    std::size_t flush_bytes();
    std::size_t flush_file(FilePart& part);
    bool copy_file(const FilePart& part, std::size_t size, Sys& done);
    void fail_file(int error);
    void drop_queue(std::error_code why);
    void drained();
    void send_failed(int error);
    void check_high_water();
    void check_low_water();
    void tell_pause();
    void tell_resume();
    void queue_again();
    void finish(std::error_code reason);
    void finish_or_linger();
    void discard_input();
    void on_timer(Extras& extras);
    void arm(Extras& extras, TimePoint when);
    std::error_code reason() const noexcept {
        return extras_ ? extras_->reason : std::error_code();
    }
    /// What to tell those who still want something of it.
    std::error_code end_reason() const noexcept {
        return reason() ? reason() : make_error_code(Errc::closed);
    }
    void report_if_odd(int error, const char* what);
    std::string describe(const char* what) const;

    LoopCore& core_;
    std::unique_ptr<Protocol> protocol_;
    std::unique_ptr<Extras> extras_;
    ServerState* server_ = nullptr;
    ServerLink server_link_{*this};
    Token token_ = 0;
    int fd_;
    std::uint32_t flags_;
    Reading reading_ = Reading::push;
    StreamKind kind_;
    std::uint8_t peer_size_ = 0;
    std::array<std::byte, 28> peer_{}; // an IP address; others are rare and kept in the extras
};

} // namespace weft::detail
