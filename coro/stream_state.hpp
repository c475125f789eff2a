#pragma once

#include <weft/coro/block_cache.hpp>
#include <weft/coro/scheduler.hpp>
#include <weft/coro/stream.hpp>
#include <weft/protocols/protocol.hpp>

#include <memory>
#include <string>
#include <system_error>

namespace weft::coro::detail {

class StreamProtocol;

/// What lies between a `Stream` and its transport. The stream owns it; the transport owns a
/// protocol that refers to it, as long as both live.
class StreamState {
public:
    StreamState() = default;
    ~StreamState();
    StreamState(const StreamState&) = delete;
    StreamState& operator=(const StreamState&) = delete;

    /// The protocol to give to a transport that is to be made.
    std::unique_ptr<StreamProtocol> make_protocol();
    /// Takes a transport over from whatever protocol it has.
    void take_over(Transport& transport);

    // What the protocol hears.
    void connected(Transport& to) noexcept { transport = &to; }
    void read_ready();
    void lost(std::error_code reason) noexcept;
    /// The transport is gone, or somebody else's.
    void detached() noexcept;
    void pause_writing() noexcept { writing_paused = true; }
    void resume_writing() noexcept;

    /// One read into `into`, which waits if it has to: bytes, 0 at the end. Throws the connection's
    /// error.
    std::size_t receive(Coroutine& self, MutableBytes into, const char* what, TimePoint deadline);
    /// Appends to the buffer what comes with one read; false at the end.
    bool fill(Coroutine& self, const char* what, TimePoint deadline);
    void check_only_reader(const char* what) const {
        if (reader != nullptr) [[unlikely]]
            throw_second_reader(what);
    }
    [[noreturn]] void throw_second_reader(const char* what) const;
    /// Waits until `writing_paused` is over.
    void wait_for_room(Coroutine& self, const char* what, TimePoint deadline);
    /// Throws if nothing can be sent any more.
    Transport& writable(const char* what) const;
    /// The same, and the transport gathers what is written.
    Transport& gathering(const char* what) const {
        if (!closed && !eof_sent && transport != nullptr && transport->gather()) [[likely]]
            return *transport;
        return refuse_write(what);
    }
    Transport& refuse_write(const char* what) const;
    [[noreturn, gnu::cold]] void throw_lost(const char* what) const;
    [[noreturn, gnu::cold]] void throw_timed_out(const char* what) const;
    [[noreturn, gnu::cold]] void fail(const char* what);
    [[gnu::cold]] std::size_t nothing_more(const char* what) const;
    void wait_for_input(Coroutine& self, const char* what, TimePoint deadline);
    std::string describe(const char* what) const;

    // What was received and not read yet.
    std::size_t buffered() const noexcept { return end_ - begin_; }
    Bytes input() const noexcept { return {buffer_.get() + begin_, buffered()}; }
    void consume(std::size_t size) noexcept { begin_ += size; }
    /// Makes room for `more` bytes behind the input.
    void reserve(std::size_t more);
    /// Moves what is there to `into`, as far as it goes; how much.
    std::size_t take(MutableBytes into) noexcept;
    /// In front of the input.
    void put_back(Bytes data);
    void drop_buffer() noexcept;

    Transport* transport = nullptr; ///< null once the connection is gone
    StreamProtocol* protocol = nullptr;
    Wait* reader = nullptr;
    ListNode writers;       ///< waits of those who wait for room
    ListNode close_waiters; ///< waits of those who wait for the end
    std::error_code error;
    std::string peer; ///< who it was, for error texts once it is gone
    std::uint32_t limit = 64 * 1024;
    bool connected_once = false;
    bool eof = false;
    bool closed = false; ///< by this side
    bool writing_paused = false;
    bool eof_sent = false;

    static void* operator new(std::size_t size) { return allocate_block(size); }
    static void operator delete(void* block, std::size_t size) noexcept { free_block(block, size); }

private:
    std::unique_ptr<std::byte[]> buffer_;
    std::size_t begin_ = 0, end_ = 0, capacity_ = 0;
};

class ReadWait final : public Wait {
public:
    ReadWait(Coroutine& self, StreamState& state) noexcept : Wait(self), state_(state) {}
    void abandon() noexcept override { state_.reader = nullptr; }
    std::string describe() const override { return state_.describe("data"); }

private:
    StreamState& state_;
};

// Inlined into what users call: each return between a switch and their code is one that the processor
// predicts from the calls of another coroutine.

/// The next read would have to wait; this does.
[[gnu::always_inline]] inline void StreamState::wait_for_input(Coroutine& self, const char* what,
                                                               TimePoint deadline) {
    ReadWait wait(self, *this);
    reader = &wait;
    const Wake woken = deadline == TimePoint::max() ? self.scheduler.suspend(wait)
                                                    : self.scheduler.suspend(wait, deadline);
    if (woken == Wake::timed_out) [[unlikely]]
        throw_timed_out(what);
}

[[gnu::always_inline]] inline std::size_t StreamState::receive(Coroutine& self, MutableBytes into,
                                                               const char* what,
                                                               TimePoint deadline) {
    using State = ReadResult::State;
    check_only_reader(what);
    for (;;) {
        if (eof || closed || transport == nullptr) [[unlikely]]
            return nothing_more(what);
        if (!transport->input_ready()) {
            wait_for_input(self, what, deadline);
            continue;
        }
        const ReadResult got = transport->try_read(into);
        if (got.state == State::data) [[likely]]
            return got.size;
        if (got.state == State::eof) eof = true;
        if (got.state == State::failed) fail(what);
    }
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

    static void* operator new(std::size_t size) { return allocate_block(size); }
    static void operator delete(void* block, std::size_t size) noexcept { free_block(block, size); }

protected:
    friend class StreamState;
    StreamState* state_;
};

} // namespace weft::coro::detail
