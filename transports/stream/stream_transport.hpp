#pragma once

#include "write_queue.hpp"

#include <weft/protocols/protocol.hpp>
#include <weft/protocols/transport.hpp>
#include <weft/reactor/loop_core.hpp>
#include <weft/reactor/source.hpp>

#include <array>
#include <memory>
#include <string>
#include <vector>

namespace weft::detail {

class ServerState;

/// What a stream transport is made over.
enum class StreamKind : std::uint8_t { tcp, unix_socket, memory, pipe_reader, pipe_writer };

/// The one stream transport: TCP, Unix sockets and in-memory pairs differ in the channel that moves
/// their bytes and in what a short read means. Registered once, edge-triggered, with the readiness
/// kept in `flags_`: a call is made only when the kernel said that it can succeed. The loop owns
/// it; it deletes itself in the closing phase.
class StreamTransport final : public Source, public Transport {
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
    /// Calls `Protocol::draining`.
    void tell_draining();
    /// Only `connection_lost` is left to come.
    bool is_over() const noexcept { return has(finishing); }
    /// The server's hook in its list of connections.
    ListNode server_link;
    static StreamTransport& from_server_link(ListNode& link) noexcept;

    void write(Bytes data) override;
    void write(Buffer&& data) override;
    using Transport::write;
    void write_all(std::span<const Bytes> pieces) override;
    Buffer keep(Bytes data) const override { return core_.receive_buffer().keep(data); }
    Future<std::uint64_t> send_file(int file, std::uint64_t offset,
                                    std::optional<std::uint64_t> count) override;
    void own_queued() override;
    bool gather() override {
        if (in_callback()) [[likely]]
            return !has(closing | write_broken);
        return gather_newly();
    }
    void write_eof() override;
    void close(std::error_code reason = {}) override;
    void close_within(Duration limit) override;
    void abort(std::error_code reason) override;
    std::error_code write_error() const noexcept override {
        return has(write_broken) ? extras_->write_error : std::error_code();
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
    int fd() const noexcept override { return kind_ == StreamKind::memory ? -1 : fd_; }
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
    Source* source() noexcept override { return this; }

    // Facts about the connection, any number at once.
    enum Flag : std::uint32_t {
        readable = 1 << 0, ///< the kernel said so, and no read has found it empty since
        hangup = 1 << 1,   ///< FIN, RST or an error was announced: a short read does not mean empty
        writable = 1 << 2, ///< the kernel said so, and no send has found it full since
        eof_seen = 1 << 3, ///< a read has returned the end of the stream
        paused = 1 << 4,   ///< the user does not want to be called with data
        closing = 1 << 5,  ///< close, abort or loss: the user's writes are dropped from now on
        finishing = 1 << 6,  ///< stands in the loop's list of what ends in the closing phase
        eof_wanted = 1 << 7, ///< write_eof was called
        eof_sent = 1 << 8,   ///< the sending direction is shut down
        /// the buffer rose above the high-water mark, and is not at the low one yet
        writing_paused = 1 << 9,
        again_queued = 1 << 10, ///< stands in the loop's list for another turn
        ready_told = 1 << 11, ///< a pulling protocol was told and has not met an empty socket since
        lingering = 1 << 12,  ///< closed for the user, discarding input until the peer is done
        reset = 1 << 13,      ///< close with RST
        write_broken = 1 << 14, ///< sending failed; what can still be read is delivered first
        /// TCP: a read that did not fill its buffer has emptied the socket
        short_read_empties = 1 << 15,
        given_back = 1 << 16,  ///< `Extras::unread` holds input to be delivered before any other
        unannounced = 1 << 17, ///< `connection_made` is still to come
        pause_told = 1 << 18,  ///< the protocol there is now was told to pause
        queued = 1 << 19,      ///< something waits in `Extras::queue` to be sent
    };

private:
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
        std::vector<std::byte> unread; ///< given back by the protocol
        std::size_t unread_begin = 0;  ///< so many of them have been taken again
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
        return has(readable | given_back) && !has(paused | closing | eof_seen | unannounced);
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
    bool is_pipe() const noexcept { return kind_ >= StreamKind::pipe_reader; }
    template<class Call>
    bool guarded(const char* name, Call&& call);
    std::exception_ptr reported(const char* name);
    void callback_threw(const char* name);
    /// A callback of this connection is on the stack, and its small writes gather in the loop's
    /// cork buffer.
    bool in_callback() const noexcept { return core_.cork().owner() == this; }
    bool may_gather() const noexcept { return !has(queued | closing | eof_wanted | write_broken); }
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
        if (has(closing | eof_wanted) && !has(queued)) [[unlikely]]
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
    Token token_ = 0;
    int fd_;
    std::uint32_t flags_;
    Reading reading_ = Reading::push;
    StreamKind kind_;
    std::uint8_t peer_size_ = 0;
    std::array<std::byte, 28> peer_{}; // an IP address; others are rare and kept in the extras
};

} // namespace weft::detail
