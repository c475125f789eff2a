#include "stream_state.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>

namespace weft::coro::detail {
namespace {

// A read into less room than this would cost a system call for little.
constexpr std::size_t least_room = 4 * 1024;

} // namespace

/// For room, or for the end of the connection. Whoever is woken looks again.
class StreamState::OtherWait final : public Wait {
public:
    OtherWait(Coroutine& self, StreamState& state, const char* what, const char* relation) noexcept
        : Wait(self), state_(state), what_(what), relation_(relation) {
        state.others_.push_back(*this);
    }
    std::string describe() const override { return state_.describe(what_, relation_); }

private:
    StreamState& state_;
    const char* what_;
    const char* relation_;
};

// --- The transport's end ---

void StreamProtocol::let_go() noexcept {
    if (state_ != nullptr) std::exchange(state_, nullptr)->protocol = nullptr;
}

StreamProtocol::~StreamProtocol() {
    if (state_ == nullptr) return;
    state_->protocol = nullptr;
    if (state_->transport != nullptr) state_->detached(); // another has taken the transport over
}
void StreamProtocol::connection_made(Transport& transport) {
    if (state_ == nullptr) return transport.close(); // its stream has gone meanwhile
    state_->connected(transport);
}
void StreamProtocol::read_ready() {
    if (state_ == nullptr) [[unlikely]]
        return;
    StreamState& state = *state_;
    state.quiet_ = false;
    if (state.read_wait_ != nullptr) [[likely]]
        return std::exchange(state.read_wait_, nullptr)->wake_here();
    // The peer may have reset the connection, which those who wait for its end or for room want to
    // know.
    if (state.others_.linked() && state.transport != nullptr && state.transport->write_error())
        state.wake_others();
}
void StreamProtocol::connection_lost(std::error_code reason) {
    if (state_ != nullptr) state_->lost(reason);
}
void StreamProtocol::pause_writing() {
    if (state_ != nullptr) state_->pause_writing();
}
void StreamProtocol::resume_writing() {
    if (state_ != nullptr) state_->resume_writing();
}

// --- Beginning and ending ---

StreamState::~StreamState() {
    if (protocol != nullptr) protocol->let_go();
    if (transport != nullptr && !closed) transport->close();
    use(nullptr);
    drop_buffer();
}

void StreamState::dismiss() noexcept {
    if (uses_ == 0) {
        delete this;
        return;
    }
    dismissed_ = true;
    if (protocol != nullptr) protocol->let_go();
    if (transport != nullptr && !closed) transport->close();
    use(nullptr);
    end();
}

void StreamState::end() noexcept {
    closed = true;
    if (reader_ == nullptr) drop_buffer(); // it may be reading into it
    if (read_wait_ != nullptr) std::exchange(read_wait_, nullptr)->wake();
    wake_others();
}

std::unique_ptr<StreamProtocol> StreamState::make_protocol() {
    auto made = std::make_unique<StreamProtocol>(this);
    protocol = made.get();
    return made;
}

void StreamState::take_over(Transport& to) {
    if (weft::detail::TransportCore::of(to) == nullptr)
        throw UsageError("Stream: the transport is none of a loop's");
    connected(to);
    auto old = to.set_protocol(make_protocol());
    // It may be the one whose callback this is.
    to.loop().call_soon([old = std::move(old)] {});
    if (to.is_closing() || to.write_error()) return;
    writing_paused = !to.drain().done();
    to.resume_reading(); // the protocol before may have paused it
}

void StreamState::use(Transport* to) noexcept {
    if (core != nullptr) {
        if (borrowing_ != 0) core->own_queued();
        core->event_source().path = nullptr;
    }
    transport = to;
    core = to != nullptr ? weft::detail::TransportCore::of(*to) : nullptr;
    cork_owner = core != nullptr ? core->cork_owner() : nullptr;
    if (core != nullptr) core->event_source().path = &path_;
    quiet_ = false;
}

void StreamState::connected(Transport& to) noexcept {
    use(&to);
    wake_others();
}

void StreamState::lost(std::error_code reason) noexcept {
    if (!closed) {
        try {
            peer_ = std::make_unique<std::string>(transport->peer_address().to_string());
        } catch (...) { // the text will do without
        }
    }
    error = reason;
    detached();
}

void StreamState::detached() noexcept {
    use(nullptr);
    if (read_wait_ != nullptr) std::exchange(read_wait_, nullptr)->wake();
    wake_others();
}

void StreamState::resume_writing() noexcept {
    writing_paused = false;
    wake_others();
}

void StreamState::wake_others() noexcept {
    while (others_.linked()) {
        auto& wait = static_cast<Wait&>(*others_.next);
        wait.unlink();
        wait.wake();
    }
}

// --- Errors ---

std::string StreamState::describe(const char* what, const char* relation) const {
    std::string name;
    if (transport != nullptr) {
        name = transport->peer_address().to_string();
    } else if (peer_) {
        name = *peer_;
    }
    return name.empty() ? std::string(what) : std::string(what) + relation + name;
}

bool StreamState::ended_by(std::error_code code) const noexcept {
    if (transport == nullptr) return code == (error ? error : make_error_code(Errc::closed));
    return code == error || code == transport->write_error() ||
           (code == Errc::closed && transport->is_closing());
}

void StreamState::throw_lost(const char* what) const {
    if (closed) throw UsageError(std::string(what) + ": the stream was closed");
    throw std::system_error(error ? error : make_error_code(Errc::closed),
                            std::string(what) + ": " + describe("the connection", " with ") +
                                " was lost");
}

void StreamState::throw_second_reader(const char* what) const {
    throw UsageError(std::string(what) + ": the coroutine " + Scheduler::describe(*reader_) +
                     " is already reading from this stream");
}

void StreamState::throw_timed_out(std::string what) {
    throw TimeoutError(std::move(what));
}

void StreamState::throw_no_data(const char* what) {
    throw_timed_out(std::string(what) + ": no " + describe("data", " from "));
}

// Not misuse: it was open when the wait began.
void StreamState::throw_closed(const char* what) const {
    throw std::system_error(make_error_code(Errc::closed),
                            std::string(what) + ": the stream was closed by this side");
}

// --- Reading ---

std::size_t StreamState::nothing_more(const char* what) const {
    if (eof) return 0;
    throw_lost(what);
}

void StreamState::fail(const char* what) {
    error = transport->read_error();
    throw_lost(what);
}

bool StreamState::fill(Coroutine& self, const char* what, TimePoint deadline) {
    self.scheduler.checkpoint_read(self);
    using State = ReadResult::State;
    for (;;) {
        if (eof || closed || transport == nullptr) return nothing_more(what) != 0;
        if (quiet_) {
            // one that would stay empty while it waits is not held
            if (buffered() == 0) drop_buffer();
            wait_for_input(self, what, deadline);
            continue;
        }
        const bool afresh = buffered() == 0;
        if (afresh) {
            // Somebody keeps what was read, or a larger one is worth it now.
            if (!block_.unique() ||
                (fills_blocks_ && block_.size() == weft::detail::BlockPool::block_size))
                block_.clear();
            begin_ = end_ = 0;
        }
        reserve(self, least_room);
        const MutableBytes room{bytes() + end_, block_.size() - end_};
        const ReadResult got = try_read(room);
        if (got.state == State::data) [[likely]] {
            end_ += got.size;
            if (afresh) note_filled(got.size, room.size());
            self.scheduler.charge(self, got.size);
            return true;
        }
        if (got.state == State::eof) eof = true;
        if (got.state == State::failed) fail(what);
    }
}

void StreamState::reserve(Coroutine& self, std::size_t more) {
    const std::size_t capacity = block_.size();
    if (capacity - end_ >= more && capacity != 0) return;
    const std::size_t size = buffered();
    if (begin_ != 0 && size + more <= capacity && size <= capacity / 2 && block_.unique()) {
        std::memmove(bytes(), bytes() + begin_, size);
    } else {
        using weft::detail::BlockPool;
        const std::size_t usual = fills_blocks_ ? BlockPool::large_size : BlockPool::block_size;
        std::size_t wanted = std::max(usual, capacity);
        while (wanted < size + more || (wanted == capacity && size > capacity / 2))
            wanted *= 2;
        BlockPool& blocks = self.scheduler.core().blocks();
        Buffer larger = wanted == BlockPool::block_size   ? blocks.take()
                        : wanted == BlockPool::large_size ? blocks.take_large()
                                                          : Buffer(wanted);
        if (size != 0) std::memcpy(const_cast<std::byte*>(larger.data()), bytes() + begin_, size);
        block_ = std::move(larger);
    }
    begin_ = 0;
    end_ = size;
}

Buffer StreamState::keep(Bytes part) const {
    const std::less_equal<const std::byte*> before;
    const bool held = before(block_.data(), part.data()) &&
                      before(part.data() + part.size(), block_.data() + end_);
    // Of a message that fills most of what it came in, a block is no waste.
    if (!held || part.size() < end_ / 2 || part.size() < weft::detail::LoopCore::worth_a_block)
        return Buffer::copy(part);
    return block_.share(static_cast<std::size_t>(part.data() - block_.data()), part.size());
}

Buffer StreamState::take_all(Coroutine& self) {
    Buffer all = std::move(block_);
    all.truncate(end_);
    all.remove_prefix(begin_);
    begin_ = end_ = 0;
    copy_if_many(self.scheduler.core().blocks(), all);
    return all;
}

void StreamState::put_back(Bytes data) {
    if (data.empty()) return;
    const std::size_t size = buffered();
    if (!block_.unique() && !block_.empty()) { // somebody keeps what was read
        Buffer mine = Buffer::copy(block_);
        block_ = std::move(mine);
    }
    reserve(*current, data.size());
    if (size != 0) std::memmove(bytes() + begin_ + data.size(), bytes() + begin_, size);
    std::memcpy(bytes() + begin_, data.data(), data.size());
    end_ += data.size();
}

std::size_t StreamState::take(MutableBytes into) noexcept {
    const std::size_t size = std::min(into.size(), buffered());
    if (size != 0) std::memcpy(into.data(), bytes() + begin_, size);
    consume(size);
    return size;
}

void StreamState::drop_buffer() noexcept {
    block_.clear();
    begin_ = end_ = 0;
}

// --- Writing ---

Transport& StreamState::connection(const char* what) const {
    if (closed || transport == nullptr) throw_lost(what);
    if (const std::error_code broken = transport->write_error())
        throw std::system_error(broken, std::string(what) + ": sending to " +
                                            transport->peer_address().to_string());
    return *transport;
}

Transport& StreamState::writable(const char* what) const {
    Transport& open = connection(what);
    if (eof_sent) throw UsageError(std::string(what) + ": write_eof was called");
    if (!open.is_closing()) return open;
    // For a reason that its protocol has not been told yet.
    throw std::system_error(make_error_code(Errc::closed),
                            std::string(what) + ": the connection with " +
                                open.peer_address().to_string() + " is being closed");
}

void StreamState::write_borrowed(Coroutine& self, Bytes data, TimePoint deadline) {
    wait_for_room(self, "write", deadline);
    gathering("write").write(Buffer::unowned(data));
    struct Borrowing {
        explicit Borrowing(StreamState& s) noexcept : state(s) { ++state.borrowing_; }
        ~Borrowing() {
            --state.borrowing_;
            if (state.core != nullptr) state.core->own_queued();
        }
        StreamState& state;
    };
    {
        const Borrowing borrowing(*this);
        if (transport != nullptr && !transport->write_error())
            weft::detail::core_of(transport->loop()).cork().flush();
        wait_for_room(self, "write", deadline);
    }
    (void)connection("write");
}

void StreamState::wait_for_room(Coroutine& self, const char* what, TimePoint deadline) {
    while (writing_paused && !closed && transport != nullptr && !transport->write_error()) {
        OtherWait wait(self, *this, "room to write", " to ");
        if (self.scheduler.suspend(wait, deadline) == Wake::timed_out)
            throw_timed_out(std::string(what) + ": no " + describe("room to write", " to "));
        if (closed) throw_closed(what);
    }
}

void StreamState::wait_connected(Coroutine& self, const char* what, TimePoint deadline) {
    while (transport == nullptr && protocol != nullptr) {
        OtherWait wait(self, *this, "a connection", " with ");
        if (self.scheduler.suspend(wait, deadline) == Wake::timed_out)
            throw TimeoutError(std::string(what) + ": no connection");
    }
    if (transport == nullptr) throw_lost(what);
}

void StreamState::wait_closed(Coroutine& self, TimePoint deadline) {
    // A reset ends it for those who do not read, though what came before could still be read.
    while (transport != nullptr && (reader_ != nullptr || closed || !transport->write_error())) {
        OtherWait wait(self, *this, "the end of the connection", " with ");
        if (self.scheduler.suspend(wait, deadline) == Wake::timed_out)
            throw TimeoutError("wait_closed: the connection is still there");
    }
}

} // namespace weft::coro::detail
