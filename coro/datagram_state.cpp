#include "datagram_state.hpp"

#include <string>
#include <utility>

namespace weft::coro {

using State = DatagramSocket::State;

namespace {

class SocketWait final : public detail::Wait {
public:
    SocketWait(detail::Coroutine& self, detail::ListNode& waits, const char* what) noexcept
        : Wait(self), what_(what) {
        waits.push_back(*this);
    }
    std::string describe() const override { return what_; }

private:
    const char* what_;
};

detail::Wait& take_first(detail::ListNode& waits) noexcept {
    auto& wait = static_cast<detail::Wait&>(*waits.next);
    wait.unlink();
    return wait;
}

void wake_all(detail::ListNode& waits) noexcept {
    while (waits.linked())
        take_first(waits).wake();
}

} // namespace

// --- What the protocol hears ---------------------------------------------------------------------

void State::received(std::span<const Datagram> batch) {
    if (closed) return;
    live = batch;
    if (receivers.linked()) take_first(receivers).wake_now();
    keep_live();
    if (closed || (arrived.count() < most_datagrams && arrived.bytes() < most_bytes)) return;
    reading_paused = true;
    transport->pause_reading();
}

void State::keep_live() {
    for (; !live.empty(); live = live.subspan(1))
        arrived.append(live.front());
}

void State::fail(std::error_code code, const Address& to) {
    if (error || closed) return;
    error = code;
    error_to = to;
    if (receivers.linked()) take_first(receivers).wake_now();
}

void State::lost(std::error_code reason) noexcept {
    transport = nullptr;
    error = reason;
    error_to = {};
    wake_all(receivers);
    wake_all(others);
}

void State::resume_writing() noexcept {
    writing_paused = false;
    wake_all(others);
}

void State::end() noexcept {
    closed = true;
    live = {};
    error.clear();
    wake_all(receivers);
    wake_all(others);
}

// --- Waiting -------------------------------------------------------------------------------------

void State::throw_error(const char* what) {
    if (!error) return;
    const std::string to = error_to.empty() ? std::string() : ": " + error_to.to_string();
    throw std::system_error(std::exchange(error, {}), what + to);
}

DatagramTransport& State::connection(const char* what) {
    if (closed) throw UsageError(std::string(what) + ": the datagram socket was closed");
    if (transport == nullptr)
        throw std::system_error(error ? error : make_error_code(Errc::closed),
                                std::string(what) + ": the datagram socket is gone");
    throw_error(what);
    return *transport;
}

template<class Done>
void State::wait(detail::Coroutine& self, detail::ListNode& waits, const char* call,
                 const char* what, Deadline deadline, Done done) {
    while (!done()) {
        SocketWait wait(self, waits, what);
        if (self.scheduler.suspend(wait, deadline.at()) == detail::Wake::timed_out)
            throw TimeoutError(std::string(call) + ": the time is up, waiting for " + what);
        if (closed)
            throw std::system_error(make_error_code(Errc::closed),
                                    std::string(call) +
                                        ": the datagram socket was closed by this side");
    }
}

void State::wait_for_datagram(detail::Coroutine& self, const char* what, Deadline deadline) {
    (void)connection(what);
    wait(self, receivers, what, "a datagram", deadline,
         [this] { return any() || error || transport == nullptr; });
    (void)connection(what);
}

void State::hand_on() noexcept {
    if (receivers.linked() && any()) take_first(receivers).wake();
}

void State::wait_for_room(detail::Coroutine& self, const char* what, Deadline deadline) {
    wait(self, others, what, "room to send", deadline,
         [this] { return !writing_paused || transport == nullptr; });
}

void State::wait_closed(detail::Coroutine& self, Deadline deadline) {
    while (transport != nullptr) {
        SocketWait wait(self, others, "the end of a datagram socket");
        if (self.scheduler.suspend(wait, deadline.at()) == detail::Wake::timed_out)
            throw TimeoutError("wait_closed: the datagram socket is still there");
    }
}

/// Makes the oldest datagrams those of `shown`.
void State::show() {
    if (!shown.empty()) return;
    shown.clear();
    std::swap(shown, arrived);
    if (std::exchange(reading_paused, false) && transport != nullptr) transport->resume_reading();
}

} // namespace weft::coro
