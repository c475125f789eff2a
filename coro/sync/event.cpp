#include <weft/coro/sync/event.hpp>

namespace weft::coro {

void Event::wait(Deadline deadline) {
    detail::Coroutine& self = detail::running("Event::wait");
    self.scheduler.checkpoint(self);
    if (set_) return;
    detail::QueuedWait wait(self, "an Event");
    waiters_.park(wait, "Event::wait", deadline);
}

void Event::set() noexcept {
    set_ = true;
    waiters_.wake_all();
}

} // namespace weft::coro
