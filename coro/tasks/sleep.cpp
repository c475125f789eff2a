#include <weft/coro/core/scheduler.hpp>
#include <weft/coro/tasks/sleep.hpp>

#include <chrono>
#include <cstdlib>
#include <string>

namespace weft::coro {
namespace {

class SleepWait final : public detail::Wait {
public:
    SleepWait(detail::Coroutine& self, TimePoint until) noexcept : Wait(self), until_(until) {}
    void abandon() noexcept override {}
    std::string describe() const override {
        if (until_ == TimePoint::max()) return "a cancellation (sleep_forever)";
        const Duration left = difference(until_, coroutine.scheduler.loop().now());
        return "the end of a sleep in " +
               std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(left).count()) +
               " ms";
    }

private:
    TimePoint until_;
};

} // namespace

void sleep(Duration time) {
    detail::Coroutine& self = detail::running("sleep");
    if (time <= Duration::zero()) return self.scheduler.yield();
    const TimePoint until = self.scheduler.loop().deadline_in(time);
    SleepWait wait(self, until);
    self.scheduler.suspend(wait, until);
}

void sleep_until(TimePoint when) {
    detail::Coroutine& self = detail::running("sleep_until");
    if (when <= self.scheduler.loop().now()) return self.scheduler.yield();
    SleepWait wait(self, when);
    self.scheduler.suspend(wait, when);
}

void sleep_forever() {
    detail::Coroutine& self = detail::running("sleep_forever");
    SleepWait wait(self, TimePoint::max());
    struct Endless {
        std::size_t& count;
        explicit Endless(std::size_t& c) noexcept : count(++c) {}
        ~Endless() { --count; }
    } endless(self.scheduler.endless);
    self.scheduler.suspend(wait);
    std::abort(); // there is no event that could end it
}

void check_cancelled() {
    detail::Coroutine& self = detail::running("check_cancelled");
    self.scheduler.check_cancelled(self);
}

Loop& this_loop() {
    if (detail::current != nullptr) return detail::current->scheduler.loop();
    if (Loop* loop = Loop::current()) return *loop;
    throw UsageError("no loop runs on this thread");
}

} // namespace weft::coro
