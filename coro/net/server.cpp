#include "stream_state.hpp"

#include <weft/coro/net/message_reader.hpp>
#include <weft/coro/net/server.hpp>
#include <weft/coro/tasks/await.hpp>
#include <weft/coro/tasks/task_group.hpp>

#include <algorithm>
#include <deque>
#include <utility>

namespace weft::coro {
namespace {

// Accepted connections that wait in the process for somebody to take them; the rest waits in the
// kernel. More are accepted once half of them are taken, so that not every one costs system calls.
constexpr std::size_t most_waiting = 16;

using StartHandler = Function<void(Stream)>;

/// Makes a stream of its connection, and hands it on when it is connected.
class HandledProtocol final : public detail::StreamProtocol {
public:
    HandledProtocol(std::unique_ptr<detail::StreamState> state,
                    std::shared_ptr<StartHandler> start) noexcept
        : StreamProtocol(state.get()), waiting_(std::move(state)), start_(std::move(start)) {
        state_->protocol = this;
    }
    void connection_made(Transport& transport) override {
        StreamProtocol::connection_made(transport);
        const auto start = std::move(start_);
        (*start)(Stream(std::move(waiting_)));
    }

private:
    std::unique_ptr<detail::StreamState> waiting_; // until the connection is made
    std::shared_ptr<StartHandler> start_;
};

ProtocolFactory factory_for(StartHandler start) {
    return [start =
                std::make_shared<StartHandler>(std::move(start))]() -> std::unique_ptr<Protocol> {
        return std::make_unique<HandledProtocol>(std::make_unique<detail::StreamState>(), start);
    };
}

/// The body of a connection's coroutine.
void handle(StreamHandler& handler, Stream& stream, detail::Scheduler& scheduler) {
    const auto failed = [&] {
        const std::string what =
            stream.state() != nullptr
                ? stream.state()->describe("the handler of the connection", " with ")
                : std::string("the handler of a connection that it gave away");
        stream.abort();
        scheduler.report_exception(what);
    };
    try {
        handler(stream);
    } catch (const Cancelled&) {
        stream.abort();
        throw;
    } catch (const std::system_error& error) {
        // Peers that go away are the order of the day.
        if (stream.state() != nullptr && stream.state()->ended_by(error.code()))
            return stream.abort();
        // So are those that fall silent, end in the middle of what they say, or speak another
        // language: an orderly end, and no error.
        const bool silent = dynamic_cast<const TimeoutError*>(&error) != nullptr;
        const bool wrong = dynamic_cast<const FramingError*>(&error) != nullptr;
        if (silent || wrong || dynamic_cast<const IncompleteRead*>(&error) != nullptr) {
            scheduler.loop().log_limited(silent || wrong ? LogLevel::info : LogLevel::debug,
                                         error.what());
            return stream.close();
        }
        failed();
    } catch (...) {
        failed();
    }
}

/// For another cancellation of the task that serves.
class RequestWait final : public detail::Wait {
public:
    RequestWait(detail::Coroutine& self, Wait*& place) noexcept : Wait(self), place_(place) {
        place = this;
    }
    void abandon() noexcept override { place_ = nullptr; }
    std::string describe() const override { return "the end of its handlers"; }

private:
    Wait*& place_;
};

class ServeWait final : public detail::Wait {
public:
    ServeWait(detail::Coroutine& self, Wait*& place) noexcept : Wait(self), place_(place) {
        place = this;
    }
    void abandon() noexcept override { place_ = nullptr; }
    std::string describe() const override { return "connections"; }

private:
    Wait*& place_;
};

} // namespace

struct ServeHandle::State {
    Server* server = nullptr; // while it lasts
    Function<void()> stop;    // likewise: ends the wait of `serve`
    bool closed = false;      // by the handle
};

ServeHandle::ServeHandle() : state_(std::make_shared<State>()) {}
std::vector<Address> ServeHandle::addresses() const {
    return state_->server != nullptr ? state_->server->addresses() : std::vector<Address>();
}
std::uint16_t ServeHandle::port() const {
    return state_->server != nullptr ? state_->server->port() : 0;
}
bool ServeHandle::listening() const noexcept {
    return state_->server != nullptr && state_->server->listening();
}
std::size_t ServeHandle::connections() const noexcept {
    return state_->server != nullptr ? state_->server->connections() : 0;
}
Server::Counters ServeHandle::counters() const noexcept {
    return state_->server != nullptr ? state_->server->counters() : Server::Counters();
}
void ServeHandle::pause_accepting() {
    if (state_->server != nullptr) state_->server->pause_accepting();
}
void ServeHandle::resume_accepting() {
    if (state_->server != nullptr) state_->server->resume_accepting();
}
void ServeHandle::close() noexcept {
    if (std::exchange(state_->closed, true) || !state_->stop) return;
    state_->server->close();
    state_->stop();
}

/// What a handle refers to, as long as `serve` lasts.
class Serving {
public:
    Serving(const std::optional<ServeHandle>& handle, Server& server, Function<void()> stop)
        : state_(handle ? handle->state_ : nullptr) {
        if (!state_) return;
        state_->server = &server;
        state_->stop = std::move(stop);
    }
    ~Serving() {
        if (!state_) return;
        state_->server = nullptr;
        state_->stop = {};
    }
    Serving(const Serving&) = delete;
    Serving& operator=(const Serving&) = delete;

    bool closed() const noexcept { return state_ && state_->closed; }
    /// Whether it was closed before it has begun. `UsageError` if it is another one's.
    static bool closed_before(const std::optional<ServeHandle>& handle) {
        if (handle && handle->state_->server != nullptr)
            throw UsageError("serve: the handle is that of another serve");
        return handle && handle->state_->closed;
    }

private:
    std::shared_ptr<ServeHandle::State> state_;
};

void serve(std::string_view address, StreamHandler handler, ServeOptions options) {
    const std::string one(address);
    serve(std::span(&one, 1), std::move(handler), std::move(options));
}

void serve(std::span<const std::string> addresses, StreamHandler handler, ServeOptions options) {
    detail::Coroutine& self = detail::running("serve");
    self.scheduler.check_cancelled(self);
    if (Serving::closed_before(options.handle)) return;
    weft::detail::check_not_negative("ServeOptions: grace", options.grace);
    detail::Scheduler& scheduler = self.scheduler;
    TaskGroup* handlers = nullptr; // set before anybody can connect
    const auto start = [&](Stream stream) {
        // The handle is for whoever wants the outcome.
        (void)handlers->spawn(
            [&, stream = std::move(stream)]() mutable { handle(handler, stream, scheduler); },
            options.handler);
    };
    Server server =
        weft::listen(scheduler.loop(), addresses, factory_for(start), std::move(options.listen))
            .value();
    // Handlers may outlive a cancellation by the grace. So they are shielded from it, with the one
    // who joins them, and another hears of it.
    detail::Wait* listening = nullptr;
    const Serving serving(options.handle, server, [&] {
        if (listening != nullptr) std::exchange(listening, nullptr)->wake();
    });
    if (options.started) options.started(server.addresses());
    CancelScope handling(Deadline(), true), watching(Deadline(), true);
    task_group([&](TaskGroup& both) {
        auto sentry = both.spawn(
            [&] {
                try {
                    sleep_forever();
                } catch (const Cancelled&) {
                    if (listening != nullptr) std::exchange(listening, nullptr)->wake();
                    if (serving.closed()) handling.cancel();
                    (void)watching.run([&] {
                        RequestWait again(detail::running("serve"), self.task.next_request);
                        scheduler.suspend(again);
                        handling.cancel();
                    });
                    throw;
                }
            },
            {.name = "serve"});
        (void)handling.run([&] {
            task_group([&](TaskGroup& group) {
                handlers = &group;
                const auto end = [&] {
                    listening = nullptr;
                    server.close();
                    if (options.grace <= Duration::zero()) return handling.cancel();
                    handling.set_deadline(options.grace);
                };
                try {
                    ServeWait wait(self, listening);
                    if (!serving.closed()) scheduler.suspend(wait);
                } catch (const Cancelled&) { // by `Task::cancel`, or at the loop's end
                    end();
                    if (scheduler.ending()) throw;
                    return;
                }
                end();
            });
        });
        watching.cancel();
        sentry.cancel();
    });
    check_cancelled();
    if (serving.closed()) return;
    throw Cancelled();
}

ProtocolFactory stream_protocol(Loop& loop, StreamHandler handler, SpawnOptions options) {
    detail::Scheduler& scheduler = detail::Scheduler::of(loop);
    auto shared = std::make_shared<StreamHandler>(std::move(handler));
    return factory_for([&scheduler, shared = std::move(shared), name = std::string(options.name),
                        size = options.stack_size](Stream stream) {
        auto task = spawn(scheduler.loop(),
                          [shared, &scheduler, stream = std::move(stream)]() mutable {
                              handle(*shared, stream, scheduler);
                          },
                          {.name = name, .stack_size = size});
        task.detach();
    });
}

// --- Listener ---

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

Listener::Listener(std::string_view address, ListenOptions options)
    : state_(std::make_shared<State>()) {
    StartHandler start = [weak = std::weak_ptr<State>(state_)](Stream stream) {
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
        weft::listen(this_loop(), address, factory_for(std::move(start)), std::move(options))
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

// --- Streams over other transports ---

Stream stream_over(Function<Result<TransportRef>(std::unique_ptr<Protocol>)> make,
                   Deadline deadline) {
    detail::Coroutine& self = detail::running("stream_over");
    self.scheduler.check_cancelled(self);
    auto state = std::make_unique<detail::StreamState>();
    (void)make(state->make_protocol()).value();
    state->wait_connected(self, "stream_over", deadline.at());
    return Stream(std::move(state));
}

std::pair<Stream, Stream> stream_pair() {
    detail::Coroutine& self = detail::running("stream_pair");
    self.scheduler.check_cancelled(self);
    auto first = std::make_unique<detail::StreamState>();
    auto second = std::make_unique<detail::StreamState>();
    (void)connected_pair(self.scheduler.loop(), first->make_protocol(), second->make_protocol());
    first->wait_connected(self, "stream_pair", TimePoint::max());
    second->wait_connected(self, "stream_pair", TimePoint::max());
    return {Stream(std::move(first)), Stream(std::move(second))};
}

} // namespace weft::coro
