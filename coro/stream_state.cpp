#include "stream_state.hpp"

#include <weft/reactor/log.hpp>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace weft::coro::detail {
namespace {

// Fits a page allocator's habits and 250 lines of 64 bytes; a connection that waits for input holds
// none.
constexpr std::size_t first_capacity = 16 * 1024;

class RoomWait final : public Wait {
public:
    RoomWait(Coroutine& self, StreamState& state) noexcept : Wait(self), state_(state) {}
    std::string describe() const override {
        return state_.describe("room to write to the connection");
    }

private:
    StreamState& state_;
};

void wake_all(ListNode& waits) noexcept {
    while (waits.linked()) {
        auto& wait = static_cast<Wait&>(*waits.next);
        wait.unlink();
        wait.wake();
    }
}

} // namespace

// --- The transport's end
// ----------------------------------------------------------------------------------------

StreamProtocol::~StreamProtocol() {
    if (state_ != nullptr) state_->protocol = nullptr;
}
void StreamProtocol::connection_made(Transport& transport) {
    if (state_ == nullptr) return transport.close(); // its stream has gone meanwhile
    state_->connected(transport);
}
void StreamProtocol::read_ready() {
    if (state_ != nullptr) state_->read_ready();
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

// --- The stream's end
// -------------------------------------------------------------------------------------------

StreamState::~StreamState() {
    if (reader != nullptr) {
        log(LogLevel::error, "a Stream was destroyed while the coroutine " +
                                 Scheduler::describe(reader->coroutine) + " was reading from it");
        std::abort(); // it would go on with what is gone
    }
    if (protocol != nullptr) protocol->state_ = nullptr;
    if (transport != nullptr && !closed) transport->close();
}

std::unique_ptr<StreamProtocol> StreamState::make_protocol() {
    auto made = std::make_unique<StreamProtocol>(this);
    protocol = made.get();
    return made;
}

void StreamState::take_over(Transport& to) {
    connected(to);
    auto old = to.set_protocol(make_protocol());
    // It may be the one whose callback this is.
    to.loop().call_soon([old = std::move(old)] {});
}

void StreamState::read_ready() {
    if (reader != nullptr) std::exchange(reader, nullptr)->wake_now();
}

void StreamState::lost(std::error_code reason) noexcept {
    try {
        peer = transport->peer_address().to_string();
    } catch (...) { // the text will do without
    }
    error = reason;
    detached();
}

void StreamState::detached() noexcept {
    transport = nullptr;
    if (reader != nullptr) std::exchange(reader, nullptr)->wake();
    wake_all(writers);
    wake_all(close_waiters);
}

void StreamState::resume_writing() noexcept {
    writing_paused = false;
    wake_all(writers);
}

std::string StreamState::describe(const char* what) const {
    const std::string name = transport != nullptr ? transport->peer_address().to_string() : peer;
    return name.empty() ? std::string(what) : std::string(what) + " from " + name;
}

void StreamState::throw_lost(const char* what) const {
    if (closed) throw UsageError(std::string(what) + ": the stream was closed");
    throw std::system_error(error ? error : make_error_code(Errc::closed),
                            std::string(what) + ": the connection" +
                                (peer.empty() ? "" : " with " + peer) + " was lost");
}

void StreamState::throw_second_reader(const char* what) const {
    throw UsageError(std::string(what) + ": the coroutine " +
                     Scheduler::describe(reader->coroutine) + " is already reading from this stream");
}

std::size_t StreamState::nothing_more(const char* what) const {
    if (eof) return 0;
    throw_lost(what);
}

void StreamState::fail(const char* what) {
    error = transport->read_error();
    throw_lost(what);
}

void StreamState::throw_timed_out(const char* what) const {
    throw TimeoutError(std::string(what) + ": no " + describe("data"));
}

bool StreamState::fill(Coroutine& self, const char* what, TimePoint deadline) {
    check_only_reader(what);
    // A buffer that would stay empty while it waits is not held.
    if (buffered() == 0) {
        begin_ = end_ = 0;
        while (transport != nullptr && !eof && !closed && !transport->input_ready()) {
            drop_buffer();
            wait_for_input(self, what, deadline);
        }
    }
    reserve(1);
    const std::size_t got = receive(self, {buffer_.get() + end_, capacity_ - end_}, what, deadline);
    end_ += got;
    return got != 0;
}

void StreamState::reserve(std::size_t more) {
    if (capacity_ - end_ >= more && capacity_ != 0) return;
    const std::size_t size = buffered();
    if (begin_ != 0 && size + more <= capacity_ && size <= capacity_ / 2) {
        std::memmove(buffer_.get(), buffer_.get() + begin_, size);
    } else {
        std::size_t capacity = std::max(first_capacity, capacity_);
        while (capacity < size + more || (capacity == capacity_ && size > capacity / 2))
            capacity *= 2;
        std::unique_ptr<std::byte[]> larger(new std::byte[capacity]);
        if (size != 0) std::memcpy(larger.get(), buffer_.get() + begin_, size);
        buffer_ = std::move(larger);
        capacity_ = capacity;
    }
    begin_ = 0;
    end_ = size;
}

void StreamState::put_back(Bytes data) {
    if (data.empty()) return;
    reserve(data.size());
    std::memmove(buffer_.get() + begin_ + data.size(), buffer_.get() + begin_, buffered());
    std::memcpy(buffer_.get() + begin_, data.data(), data.size());
    end_ += data.size();
}

std::size_t StreamState::take(MutableBytes into) noexcept {
    const std::size_t size = std::min(into.size(), buffered());
    if (size != 0) std::memcpy(into.data(), input().data(), size);
    consume(size);
    return size;
}

void StreamState::drop_buffer() noexcept {
    buffer_.reset();
    begin_ = end_ = capacity_ = 0;
}

Transport& StreamState::refuse_write(const char* what) const {
    (void)writable(what);
    // Closing for a reason that its protocol has not been told yet.
    throw std::system_error(make_error_code(Errc::closed),
                            std::string(what) + ": the connection with " + transport->peer_address().to_string() +
                                " is being closed");
}

Transport& StreamState::writable(const char* what) const {
    if (closed || transport == nullptr) throw_lost(what);
    if (const std::error_code broken = transport->write_error())
        throw std::system_error(broken, std::string(what) + ": sending to " +
                                            transport->peer_address().to_string());
    if (eof_sent) throw UsageError(std::string(what) + ": write_eof was called");
    return *transport;
}

void StreamState::wait_for_room(Coroutine& self, const char* what, TimePoint deadline) {
    while (writing_paused && transport != nullptr && !transport->write_error()) {
        RoomWait wait(self, *this);
        writers.push_back(wait);
        if (self.scheduler.suspend(wait, deadline) == Wake::timed_out)
            throw TimeoutError(std::string(what) + ": no room to write");
    }
}

} // namespace weft::coro::detail
