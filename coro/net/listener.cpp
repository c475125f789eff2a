#include "accepted_stream.hpp"

#include <weft/coro/net/listener.hpp>
#include <weft/coro/tasks/sleep.hpp>

#include <deque>
#include <string>
#include <system_error>
#include <utility>

namespace weft::coro {

namespace {

// Accepted connections that wait in the process for somebody to take them; the rest waits in the
// kernel. More are accepted once half of them are taken, so that not every one costs system calls.
constexpr std::size_t most_waiting = 16;

} // namespace

struct Listener::State {
    std::deque<Stream> waiting;
    detail::ListNode accepting; // waits of those who want a connection
    Server server;
    bool closed = false;
};

namespace {

class AcceptWait final : public detail::Wait {
public:
    using Wait::Wait;
    std::string describe() const override { return "a connection"; }
    Stream accepted;
};

} // namespace

Listener::Listener(const ListenAddresses& addresses, const ListenOptions& options)
    : state_(std::make_shared<State>()) {
    detail::StartHandler start = [weak = std::weak_ptr<State>(state_)](Stream stream) {
        const auto state = weak.lock();
        if (!state || state->closed) return; // which closes it
        if (state->accepting.linked()) {
            auto& wait = static_cast<AcceptWait&>(*state->accepting.next);
            wait.unlink();
            wait.accepted = std::move(stream);
            return wait.wake();
        }
        state->waiting.push_back(std::move(stream));
        if (state->waiting.size() >= most_waiting) state->server.pause_accepting();
    };
    state_->server =
        weft::listen(this_loop(), addresses, detail::factory_for(std::move(start)), options)
            .value();
}

Listener::Listener(Listener&&) noexcept = default;
Listener& Listener::operator=(Listener&& other) noexcept {
    if (this != &other) {
        close();
        state_ = std::move(other.state_);
    }
    return *this;
}
Listener::~Listener() {
    close();
    if (state_) state_->waiting.clear();
}

Stream Listener::accept(Deadline deadline) {
    detail::Coroutine& self = detail::running("accept");
    if (!state_) throw UsageError("accept: the listener is empty (moved from)");
    const auto state = state_;
    self.scheduler.checkpoint(self);
    if (!state->waiting.empty()) {
        Stream next = std::move(state->waiting.front());
        state->waiting.pop_front();
        if (!state->closed && state->waiting.size() == most_waiting / 2)
            state->server.resume_accepting();
        return next;
    }
    AcceptWait wait(self);
    if (!state->closed) {
        state->accepting.push_back(wait);
        if (self.scheduler.suspend(wait, deadline.at()) == detail::Wake::timed_out)
            throw TimeoutError("accept: no connection came");
    }
    if (!wait.accepted.state())
        throw std::system_error(make_error_code(Errc::closed), "accept: the listener was closed");
    return std::move(wait.accepted);
}

void Listener::close() noexcept {
    if (!state_ || std::exchange(state_->closed, true)) return;
    state_->server.close();
    while (state_->accepting.linked()) {
        auto& wait = static_cast<AcceptWait&>(*state_->accepting.next);
        wait.unlink();
        wait.wake();
    }
}

std::vector<Address> Listener::addresses() const {
    return state_ ? state_->server.addresses() : std::vector<Address>();
}
std::uint16_t Listener::port() const {
    return state_ ? state_->server.port() : 0;
}

} // namespace weft::coro
