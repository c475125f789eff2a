#include <weft/coro/core/scheduler.hpp>
#include <weft/coro/net/descriptor.hpp>
#include <weft/coro/tasks/sleep.hpp>
#include <weft/coro/tasks/task.hpp>
#include <weft/reactor/watch.hpp>

#include <string>
#include <system_error>

namespace weft::coro {

struct Descriptor::State {
    /// Those who wait for one direction.
    struct Direction {
        const char* name;
        detail::ListNode waiting = {};

        void wake_all() noexcept {
            while (waiting.linked()) {
                auto& wait = static_cast<detail::Wait&>(*waiting.next);
                wait.unlink();
                wait.wake();
            }
        }
    };

    int fd = -1;
    Watch watch;
    Direction reading{"wait_readable"};
    Direction writing{"wait_writable"};
    bool closed = false;
};

namespace {

class DescriptorWait final : public detail::Wait {
public:
    DescriptorWait(detail::Coroutine& self, const char* what, int fd) noexcept
        : Wait(self), what_(what), fd_(fd) {}
    std::string describe() const override {
        return std::string(what_) + " of descriptor " + std::to_string(fd_);
    }

private:
    const char* what_;
    int fd_;
};

/// Parks the caller among those of `direction` until it is ready.
template<class State, class Direction>
void wait_for(const std::shared_ptr<State>& state, Direction& direction, Deadline deadline) {
    detail::Coroutine& self = detail::running(direction.name);
    self.scheduler.check_cancelled(self);
    const std::shared_ptr<State> keep = state; // it may be destroyed meanwhile
    DescriptorWait wait(self, direction.name, state->fd);
    const bool first = !direction.waiting.linked();
    direction.waiting.push_back(wait);
    // Watched only while somebody waits. The last of them may have left without the event.
    if (first) {
        const bool reads = &direction == &state->reading;
        auto ready = [&state = *state, reads] {
            (reads ? state.reading : state.writing).wake_all();
            reads ? state.watch.stop_reading() : state.watch.stop_writing();
        };
        if (reads)
            state->watch.on_readable(ready);
        else
            state->watch.on_writable(ready);
    }
    if (self.scheduler.suspend(wait, deadline.at()) == detail::Wake::timed_out)
        throw TimeoutError(wait.describe() + ": not ready");
    if (keep->closed) throw std::system_error(make_error_code(Errc::closed), wait.describe());
}

} // namespace

Descriptor::Descriptor(int fd) : state_(std::make_shared<State>()) {
    state_->fd = fd;
    state_->watch = this_loop().watch(fd).value();
}

Descriptor::~Descriptor() {
    state_->closed = true;
    state_->watch.cancel();
    state_->reading.wake_all();
    state_->writing.wake_all();
}

void Descriptor::wait_readable(Deadline deadline) {
    wait_for(state_, state_->reading, deadline);
}
void Descriptor::wait_writable(Deadline deadline) {
    wait_for(state_, state_->writing, deadline);
}

int Descriptor::fd() const noexcept {
    return state_->fd;
}

} // namespace weft::coro
