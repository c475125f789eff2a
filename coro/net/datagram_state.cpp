#include "datagram_state.hpp"

#include <weft/coro/tasks/await.hpp>
#include <weft/reactor/future.hpp>

#include <algorithm>
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

void detail::KeptDatagrams::append(std::span<const Datagram> batch) {
    if (batch.empty()) return;
    std::size_t more = 0;
    for (const Datagram& datagram : batch)
        more += datagram.data.size();
    // At once, or whoever receives much would grow them step by step each time.
    const auto grow = [](auto& array, std::size_t size) {
        if (size > array.capacity()) array.reserve(std::max(size, 2 * array.capacity()));
    };
    grow(entries_, entries_.size() + batch.size());
    grow(bytes_, bytes_.size() + more);
    for (const Datagram& datagram : batch) {
        entries_.push_back({datagram.from, datagram.to, datagram.destination, bytes_.size(),
                            datagram.data.size(), datagram.interface, datagram.ecn,
                            datagram.truncated});
        bytes_.insert(bytes_.end(), datagram.data.begin(), datagram.data.end());
    }
}

void detail::KeptDatagrams::clear() noexcept {
    entries_.clear();
    bytes_.clear();
    next_ = 0;
    if (bytes_.capacity() > kept_bytes) std::vector<std::byte>().swap(bytes_);
    if (entries_.capacity() > kept_entries) std::vector<Entry>().swap(entries_);
}

// --- What the protocol hears ---

void State::received(std::span<const Datagram> batch) {
    if (closed) return;
    live = batch;
    if (receivers.linked()) take_first(receivers).wake_now();
    keep_live();
    if (closed || (arrived->count() < most_datagrams && arrived->bytes() < most_bytes)) return;
    reading_paused = true;
    transport->pause_reading();
}

void State::keep_live() {
    arrived->append(std::exchange(live, {}));
}

/// The network answered with an error.
void State::fail(std::error_code code, const Address& to) {
    if (closed) return;
    // Of an endpoint that is not connected nobody knows who should hear it but who sent there.
    if (transport == nullptr || transport->peer_address().empty()) return refused(code, to);
    if (error) return;
    error = code;
    if (!receivers.linked()) return;
    detail::Wait& first = take_first(receivers);
    if (taking_errors) return first.wake();
    first.wake_now();
}

/// A datagram was not sent, or came to nothing: for who sent it.
void State::refused(std::error_code code, const Address& to) {
    constexpr std::size_t most = 16;
    if (closed) return;
    std::erase_if(send_errors, [&](const SendError& each) { return each.to == to; });
    if (send_errors.size() == most) send_errors.erase(send_errors.begin());
    send_errors.push_back({code, to});
}

void State::lost(std::error_code reason) noexcept {
    transport = nullptr;
    error = reason;
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

// --- Waiting ---

void State::throw_peer_error(const char* what) {
    if (!error || transport == nullptr) return;
    throw std::system_error(std::exchange(error, {}),
                            std::string(what) + ": " + transport->peer_address().to_string());
}

void State::throw_send_error(const char* what, const Address* to) {
    if (send_errors.empty()) [[likely]]
        return;
    const auto found =
        std::find_if(send_errors.begin(), send_errors.end(), [&](const SendError& each) {
            return to == nullptr || to->empty() || each.to == *to ||
                   each.to.unmapped() == to->unmapped();
        });
    if (found == send_errors.end()) return;
    const SendError told = *found;
    send_errors.erase(found);
    throw std::system_error(told.code, what + (": " + told.to.to_string()));
}

DatagramTransport& State::connection(const char* what) {
    if (closed) throw UsageError(std::string(what) + ": the datagram socket was closed");
    if (transport == nullptr)
        throw std::system_error(error ? error : make_error_code(Errc::closed),
                                std::string(what) + ": the datagram socket is gone");
    throw_peer_error(what);
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

/// Waits until everything has left.
void State::drain(Deadline deadline) {
    DatagramTransport& endpoint = connection("drain");
    if (endpoint.write_buffer_size() != 0) {
        Future<void> sent = endpoint.drain();
        try {
            detail::wait_for_future(sent.state_ref().get(), true, deadline.at());
        } catch (const TimeoutError&) {
            throw TimeoutError("drain: the time is up, waiting for room to send");
        }
        if (!closed) sent.take();
    }
    if (closed)
        throw std::system_error(make_error_code(Errc::closed),
                                "drain: the datagram socket was closed by this side");
    take_errors();
    (void)connection("drain");
    throw_send_error("drain", nullptr);
}

/// What the endpoint knows by now.
void State::take_errors() {
    if (transport == nullptr) return;
    taking_errors = true;
    transport->deliver_errors();
    taking_errors = false;
}

/// The first `count` of `shown` have found their owner. The last one's memory is given back.
void State::taken(std::size_t count) {
    shown->pop(count);
    if (shows()) return;
    if (shown.use_count() == 1) {
        shown->clear();
    } else if (!shown->small()) {
        shown = std::make_shared<detail::KeptDatagrams>(); // it goes with the batch
    }
}

/// Makes the oldest datagrams those of `shown`.
void State::show() {
    if (shows()) return;
    if (shown.use_count() == 1) {
        shown->clear();
    } else {
        shown = std::make_shared<detail::KeptDatagrams>(); // a batch has the other
    }
    std::swap(shown, arrived);
    if (std::exchange(reading_paused, false) && transport != nullptr) transport->resume_reading();
}

} // namespace weft::coro
