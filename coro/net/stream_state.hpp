#pragma once

#include "../core/suspend.hpp"

#include <weft/coro/core/block_cache.hpp>
#include <weft/coro/core/scheduler.hpp>
#include <weft/coro/net/stream.hpp>
#include <weft/protocols/protocol.hpp>
#include <weft/reactor/source.hpp>
#include <weft/transports/stream/transport_core.hpp>

#include <memory>
#include <string>
#include <system_error>

namespace weft::coro::detail {

class StreamProtocol;

/// A longer piece is sent out of the caller's memory, while the caller waits, and not copied.
inline constexpr std::size_t longest_copy = 64 * 1024;

/// What lies between a `Stream` and its transport. The stream owns it, together with the operations
/// under way, since a stream may be destroyed while a coroutine waits in one of its functions. The
/// transport owns a protocol that refers to it, as long as both live.
class StreamState {
    // what the event source shows the loop; first, since what follows it is fetched too
    weft::detail::Source::Path path_;

public:
    StreamState() = default;
    ~StreamState();
    StreamState(const StreamState&) = delete;
    StreamState& operator=(const StreamState&) = delete;

    /// Held by an operation that may suspend.
    class Use {
    public:
        explicit Use(StreamState& state) noexcept : state_(state) { ++state.uses_; }
        ~Use() {
            if (--state_.uses_ == 0 && state_.dismissed_) [[unlikely]]
                delete &state_;
        }
        Use(const Use&) = delete;
        Use& operator=(const Use&) = delete;

    protected:
        StreamState& state_;
    };
    /// Held by one that reads. `UsageError` if there is another.
    class Reading : Use {
    public:
        Reading(StreamState& state, Coroutine& self, const char* what) : Use(state) {
            state.check_no_reader(what);
            state.reader_ = &self;
        }
        ~Reading() { state_.reader_ = nullptr; }
    };

    /// The stream lets go: the connection is closed, those who wait here hear that, and the last of
    /// them frees this.
    void dismiss() noexcept;
    /// Nothing is read or written any more, and those who wait for input or room hear that.
    void end() noexcept;

    /// The protocol to give to a transport that is to be made.
    std::unique_ptr<StreamProtocol> make_protocol();
    /// Takes a transport over from whatever protocol it has.
    void take_over(Transport& transport);

    // What the protocol hears.
    void connected(Transport& to) noexcept;
    void lost(std::error_code reason) noexcept;
    void pause_writing() noexcept { writing_paused = true; }
    void resume_writing() noexcept;
    /// The transport is gone, or somebody else's.
    void detached() noexcept;

    void check_no_reader(const char* what) const {
        if (reader_ != nullptr) [[unlikely]]
            throw_second_reader(what);
    }
    /// One read into `into`, which waits if it has to: bytes, 0 at the end. Throws the connection's
    /// error.
    std::size_t receive(Coroutine& self, MutableBytes into, const char* what, TimePoint deadline);
    /// The same after a read that found nothing.
    std::size_t receive_later(Coroutine& self, MutableBytes into, const char* what,
                              TimePoint deadline);
    /// Waits until there is something to be read, or nothing ever will be.
    void wait_for_input(Coroutine& self, const char* what, TimePoint deadline = TimePoint::max());
    /// A read that does not wait, if nothing speaks against it.
    ReadResult receive_now(MutableBytes into);
    /// Appends to the buffer what comes with one read; false at the end.
    bool fill(Coroutine& self, const char* what, TimePoint deadline);
    /// Waits until `writing_paused` is over or nothing can be sent any more.
    void wait_for_room(Coroutine& self, const char* what, TimePoint deadline);
    /// Waits until the transport is there. Throws if there will be none.
    void wait_connected(Coroutine& self, const char* what, TimePoint deadline);
    /// Waits for the connection's end.
    void wait_closed(Coroutine& self, TimePoint deadline);
    /// Throws if the connection is gone, or sending failed.
    Transport& connection(const char* what) const;
    /// The same if nothing can be sent any more.
    Transport& writable(const char* what) const;
    /// The same, and the transport gathers what is written.
    Transport& gathering(const char* what) const {
        if (!closed && !eof_sent && transport != nullptr && core->gather()) [[likely]]
            return *transport;
        return writable(what); // which throws
    }
    /// Writes when there is room, straight from `data`, and waits until there is room again.
    void write_borrowed(Coroutine& self, Bytes data, TimePoint deadline);
    /// Whether an exception with this code told of the connection's loss.
    bool ended_by(std::error_code code) const noexcept;
    [[noreturn, gnu::cold]] void throw_lost(const char* what) const;
    /// "data from 127.0.0.1:4711".
    std::string describe(const char* what, const char* relation) const;

    // What was received and not read yet.
    std::size_t buffered() const noexcept { return end_ - begin_; }
    Bytes input() const noexcept { return {bytes() + begin_, buffered()}; }
    void consume(std::size_t size) noexcept { begin_ += size; }
    /// An owner of a part of what was received, also after it was read.
    Buffer keep(Bytes part) const;
    /// All of it, as it lies there.
    Buffer take_all(Coroutine& self);
    /// Whether nothing speaks against a read from the connection, which may have to wait.
    bool reads_on() const noexcept {
        return begin_ == end_ && !eof && !closed && transport != nullptr;
    }
    /// Whether a read would find nothing now, as far as is known.
    bool quiet() const noexcept { return quiet_; }
    /// One read, which does not wait, into a block of its own. `data`, which is empty, stays so if
    /// there was nothing.
    ReadResult::State receive_block(Coroutine& self, Buffer& data);
    /// The same, waiting if it has to. Empty at the end.
    void receive_block_later(Coroutine& self, Buffer& data, const char* what, TimePoint deadline);
    /// Large messages come in fewer and larger pieces, as long as they go on coming.
    void note_filled(std::size_t size, std::size_t room) noexcept {
        if (size < weft::detail::BlockPool::block_size / 4) [[likely]] {
            fills_blocks_ = false;
        } else if (size == room) {
            fills_blocks_ = true;
        }
    }
    /// Moves what is there to `into`, as far as it goes; how much.
    std::size_t take(MutableBytes into) noexcept;
    /// In front of the input.
    void put_back(Bytes data);

    Transport* transport = nullptr;              ///< null once the connection is gone
    weft::detail::TransportCore* core = nullptr; ///< of the transport; null likewise
    /// who the cork belongs to while the transport gathers; null where writes cannot go straight
    /// there
    weft::detail::Source* cork_owner = nullptr;
    bool eof = false;
    bool closed = false; ///< by this side
    bool writing_paused = false;
    bool eof_sent = false;
    bool line_cut = false; ///< the last line had no end
    std::uint32_t limit = 64 * 1024;
    StreamProtocol* protocol = nullptr;
    std::error_code error;

    static void* operator new(std::size_t size) { return allocate_block(size); }
    static void operator delete(void* block, std::size_t size) noexcept { free_block(block, size); }

private:
    friend StreamProtocol;
    class ReadWait;
    class OtherWait;

    ReadResult try_read(MutableBytes into);
    [[noreturn, gnu::cold]] void throw_no_data(const char* what);
    [[gnu::cold]] std::size_t nothing_more(const char* what) const;
    [[noreturn, gnu::cold]] void fail(const char* what);
    [[noreturn, gnu::cold]] void throw_timed_out(std::string what);
    [[noreturn, gnu::cold]] void throw_closed(const char* what) const;
    [[noreturn, gnu::cold]] void throw_second_reader(const char* what) const;
    std::byte* bytes() const noexcept { return const_cast<std::byte*>(block_.data()); }
    void use(Transport* to) noexcept;
    void wake_others() noexcept;
    /// Makes room behind the input.
    void reserve(Coroutine& self, std::size_t more);
    void drop_buffer() noexcept;

    Coroutine* reader_ = nullptr;       ///< who is in a function that reads
    Wait* read_wait_ = nullptr;         ///< what it waits in
    ListNode others_;                   ///< waits of those who wait for room or for the end
    std::unique_ptr<std::string> peer_; ///< who it was, for error texts once it is gone
    Buffer block_; // whose bytes from `begin_` to `end_` were received and not read yet
    std::size_t begin_ = 0, end_ = 0;
    std::uint32_t uses_ = 0;
    std::uint16_t borrowing_ = 0; // writers whose memory the transport may still be sending from
    bool dismissed_ = false;
    // the last read has emptied the connection, and `read_ready` has not come since
    bool quiet_ = false;
    bool fills_blocks_ = false; // what is read does not fit into a small block
};

/// For a buffer of what was read, which may be kept: once many blocks are, small input is not worth
/// one.
inline void copy_if_many(const weft::detail::BlockPool& blocks, Buffer& data) {
    constexpr std::size_t many = 16;
    if (blocks.out() > many && data.size() < weft::detail::LoopCore::worth_a_block) [[unlikely]]
        data = Buffer::copy(data);
}

class StreamState::ReadWait final : public Wait {
public:
    ReadWait(Coroutine& self, StreamState& state) noexcept : Wait(self), state_(state) {
        state.read_wait_ = this;
    }
    void abandon() noexcept override { state_.read_wait_ = nullptr; }
    std::string describe() const override { return state_.describe("data", " from "); }

private:
    StreamState& state_;
};

// Inlined into what users call: each return between a switch and their code is one that the
// processor predicts from the calls of another coroutine.

/// The next read would have to wait; this does.
[[gnu::always_inline]] inline void StreamState::wait_for_input(Coroutine& self, const char* what,
                                                               TimePoint deadline) {
    ReadWait wait(self, *this);
    path_.object = &self;
    path_.stack = self.resume_at; // where it suspended last, most often here
    const Wake woken = deadline == TimePoint::max() ? self.scheduler.suspend_here(wait)
                                                    : self.scheduler.suspend(wait, deadline);
    if (woken == Wake::timed_out) [[unlikely]]
        throw_no_data(what);
    if (closed) [[unlikely]]
        throw_closed(what);
}

[[gnu::always_inline]] inline ReadResult StreamState::try_read(MutableBytes into) {
    const ReadResult got = transport->try_read(into);
    quiet_ = got.emptied || got.state == ReadResult::State::would_block;
    return got;
}

[[gnu::always_inline]] inline std::size_t
StreamState::receive(Coroutine& self, MutableBytes into, const char* what, TimePoint deadline) {
    using State = ReadResult::State;
    for (;;) {
        if (eof || closed || transport == nullptr) [[unlikely]]
            return nothing_more(what);
        const ReadResult got = try_read(into);
        if (got.state == State::data) [[likely]]
            return got.size;
        if (got.state == State::would_block) wait_for_input(self, what, deadline);
        if (got.state == State::eof) eof = true;
        if (got.state == State::failed) fail(what);
    }
}

[[gnu::always_inline]] inline ReadResult::State StreamState::receive_block(Coroutine& self,
                                                                           Buffer& data) {
    weft::detail::BlockPool& blocks = self.scheduler.core().blocks();
    data = fills_blocks_ ? blocks.take_large() : blocks.take();
    const ReadResult got = try_read({const_cast<std::byte*>(data.data()), data.size()});
    if (got.state != ReadResult::State::data) [[unlikely]] {
        data.clear();
        return got.state;
    }
    note_filled(got.size, data.size());
    data.truncate(got.size);
    self.scheduler.charge(self, got.size);
    copy_if_many(blocks, data);
    return got.state;
}

[[gnu::always_inline]] inline void StreamState::receive_block_later(Coroutine& self, Buffer& data,
                                                                    const char* what,
                                                                    TimePoint deadline) {
    using State = ReadResult::State;
    for (;;) {
        if (eof || closed || transport == nullptr) [[unlikely]] {
            (void)nothing_more(what);
            return;
        }
        if (quiet_) [[likely]]
            wait_for_input(self, what, deadline);
        if (transport == nullptr) [[unlikely]]
            continue;
        const State found = receive_block(self, data);
        if (found == State::data) [[likely]]
            return;
        if (found == State::failed) fail(what);
        if (found == State::eof) eof = true;
    }
}

[[gnu::always_inline]] inline std::size_t StreamState::receive_later(Coroutine& self,
                                                                     MutableBytes into,
                                                                     const char* what,
                                                                     TimePoint deadline) {
    wait_for_input(self, what, deadline);
    return receive(self, into, what, deadline);
}

[[gnu::always_inline]] inline ReadResult StreamState::receive_now(MutableBytes into) {
    if (begin_ != end_ || eof || closed || transport == nullptr || into.empty()) [[unlikely]]
        return {ReadResult::State::failed};
    if (quiet_) return {ReadResult::State::would_block};
    return try_read(into);
}

/// The transport's end of a stream.
class StreamProtocol : public PullProtocol {
public:
    explicit StreamProtocol(StreamState* state) noexcept : state_(state) {}
    ~StreamProtocol() override;
    void connection_made(Transport& transport) override;
    void read_ready() override;
    void connection_lost(std::error_code reason) override;
    void pause_writing() override;
    void resume_writing() override;
    bool eof_received() override { return true; }
    /// Stream and transport have nothing to do with each other any more.
    void let_go() noexcept;

    static void* operator new(std::size_t size) { return allocate_block(size); }
    static void operator delete(void* block, std::size_t size) noexcept { free_block(block, size); }

protected:
    StreamState* state_; ///< null once the stream has gone
};

} // namespace weft::coro::detail
