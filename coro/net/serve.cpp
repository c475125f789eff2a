#include "accepted_stream.hpp"

#include <weft/coro/net/serve.hpp>
#include <weft/coro/tasks/sleep.hpp>
#include <weft/coro/tasks/task_group.hpp>

#include <string>
#include <utility>

namespace weft::coro {

// A handle is in one of these phases, and goes from one to the next by
//
//     idle     serve listens           serving     it is refused to any other `serve`
//     idle     close                   closed      a `serve` with it returns at once
//     serving  serve is cancelled      idle
//     serving  close                   closing
//     closing  serve returns           closed
struct ServeHandle::State {
    enum class Phase : std::uint8_t { idle, serving, closing, closed };
    Phase phase = Phase::idle;
    // As long as `serve` lasts:
    Server* server = nullptr;
    Function<void()> stop; // ends its wait
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
    using Phase = State::Phase;
    switch (state_->phase) {
    case Phase::idle:
        state_->phase = Phase::closed;
        return;
    case Phase::serving:
        state_->phase = Phase::closing;
        state_->server->close();
        return state_->stop();
    case Phase::closing:
    case Phase::closed:
        return;
    }
}

/// What a handle refers to, as long as `serve` lasts.
class Serving {
    using Phase = ServeHandle::State::Phase;

public:
    Serving(const std::optional<ServeHandle>& handle, Server& server, Function<void()> stop)
        : state_(handle ? handle->state_ : nullptr) {
        if (!state_) return;
        state_->phase = Phase::serving;
        state_->server = &server;
        state_->stop = std::move(stop);
    }
    ~Serving() {
        if (!state_) return;
        state_->phase = closed() ? Phase::closed : Phase::idle;
        state_->server = nullptr;
        state_->stop = {};
    }
    Serving(const Serving&) = delete;
    Serving& operator=(const Serving&) = delete;

    bool closed() const noexcept { return state_ && state_->phase == Phase::closing; }
    /// Whether it was closed before it has begun. `UsageError` if it is another one's.
    static bool closed_before(const std::optional<ServeHandle>& handle) {
        if (!handle || handle->state_->phase == Phase::idle) return false;
        if (handle->state_->phase != Phase::closed)
            throw UsageError("serve: the handle is that of another serve");
        return true;
    }

private:
    std::shared_ptr<ServeHandle::State> state_;
};

namespace {

/// Stands in `place` until it is woken.
class ServeWait final : public detail::Wait {
public:
    ServeWait(detail::Coroutine& self, Wait*& place, const char* what) noexcept
        : Wait(self), place_(place), what_(what) {
        place = this;
    }
    void abandon() noexcept override { place_ = nullptr; }
    std::string describe() const override { return what_; }

private:
    Wait*& place_;
    const char* what_;
};

/// One call of `serve`. Its handlers may outlive a cancellation by the grace. So they are shielded
/// from it, with the one who joins them, and another task, the sentry, hears of it.
class Service {
public:
    Service(detail::Coroutine& self, const ListenAddresses& addresses, StreamHandler& handler,
            const ServeOptions& options)
        : self_(self), scheduler_(self.scheduler), handler_(handler), options_(options),
          server_(weft::listen(scheduler_.loop(), addresses,
                               detail::factory_for(
                                   [this](Stream stream) { start_handler(std::move(stream)); }),
                               options.listen)
                      .value()),
          serving_(options.handle, server_, [this] { stop_listening(); }) {
        if (options.started) options.started(server_.addresses());
    }

    /// Returns when all has ended: cancelled, or closed by its handle.
    void run() {
        task_group([this](TaskGroup& both) {
            auto sentry = both.spawn([this] { watch(); }, {.name = "serve"});
            (void)handling_.run(
                [this] { task_group([this](TaskGroup& group) { listen(group); }); });
            watching_.cancel();
            sentry.cancel();
        });
    }
    bool closed() const noexcept { return serving_.closed(); }

private:
    void start_handler(Stream stream) {
        // The handle is for whoever wants the outcome.
        (void)handlers_->spawn(
            [this, stream = std::move(stream)]() mutable {
                detail::handle(handler_, stream, scheduler_);
            },
            options_.handler);
    }
    void stop_listening() noexcept {
        if (listening_ != nullptr) std::exchange(listening_, nullptr)->wake();
    }
    void listen(TaskGroup& group) {
        handlers_ = &group; // before anybody can connect
        try {
            ServeWait wait(self_, listening_, "connections");
            if (!closed()) scheduler_.suspend(wait);
        } catch (const Cancelled&) { // by `Task::cancel`, or at the loop's end
            end();
            if (scheduler_.ending()) throw;
            return;
        }
        end();
    }
    void end() {
        listening_ = nullptr;
        server_.close();
        if (options_.grace <= Duration::zero()) return handling_.cancel();
        handling_.set_deadline(options_.grace);
    }
    /// The sentry: the first cancellation ends the listening, and another one the grace.
    void watch() {
        try {
            sleep_forever();
        } catch (const Cancelled&) {
            stop_listening();
            if (closed()) handling_.cancel();
            (void)watching_.run([this] {
                ServeWait again(detail::running("serve"), self_.task.next_request,
                                "the end of its handlers");
                scheduler_.suspend(again);
                handling_.cancel();
            });
            throw;
        }
    }

    detail::Coroutine& self_;
    detail::Scheduler& scheduler_;
    StreamHandler& handler_;
    const ServeOptions& options_;
    TaskGroup* handlers_ = nullptr;
    Server server_;
    detail::Wait* listening_ = nullptr;
    const Serving serving_;
    CancelScope handling_{Deadline(), true}, watching_{Deadline(), true};
};

} // namespace

void serve(const ListenAddresses& addresses, StreamHandler handler, const ServeOptions& options) {
    detail::Coroutine& self = detail::running("serve");
    self.scheduler.check_cancelled(self);
    if (Serving::closed_before(options.handle)) return;
    weft::detail::check_not_negative("ServeOptions: grace", options.grace);
    Service service(self, addresses, handler, options);
    service.run();
    detail::check_cancelled("serve");
    if (service.closed()) return;
    throw Cancelled();
}

} // namespace weft::coro
