#include "lock_wait.hpp"

#include <weft/coro/sync/condition.hpp>

#include <string>

namespace weft::coro {

Condition::~Condition() {
    if (!waiters_.empty())
        detail::destroyed_in_use("a Condition was destroyed while the coroutine " +
                                 detail::Scheduler::describe(waiters_.first().coroutine) +
                                 " waited for it");
}

detail::Coroutine& Condition::holder(const char* what) const {
    detail::Coroutine& self = detail::running(what);
    if (mutex_.held_by(self)) return self;
    throw UsageError(
        std::string(what) + ": the coroutine " + detail::Scheduler::describe(self) +
        " does not hold the mutex of this condition" +
        (mutex_.locked() ? "; the coroutine " + mutex_.describe_owner() + " does" : std::string()));
}

void Condition::wait(Deadline deadline) {
    detail::Coroutine& self = holder("Condition::wait");
    self.scheduler.checkpoint(self);
    if (!wait_once(self, deadline)) throw_timeout();
}

bool Condition::wait_once(detail::Coroutine& self, Deadline deadline) {
    // Once it is notified this is moved into the mutex's queue, and wakes up with the mutex.
    Mutex::LockWait wait(self, "a Condition", nullptr);
    waiters_.add(wait);
    mutex_.release();
    detail::Wake woken_by;
    try {
        woken_by = self.scheduler.suspend(wait, deadline.at());
    } catch (...) {
        mutex_.lock_in_any_case(self);
        throw;
    }
    if (woken_by == detail::Wake::event) return true;
    mutex_.lock_in_any_case(self);
    return false;
}

void Condition::throw_timeout() {
    throw TimeoutError("Condition::wait: the time is up");
}

void Condition::notify(std::size_t count) {
    holder("Condition::notify").task.wanted_otherwise = true;
    for (; count != 0 && !waiters_.empty(); --count) {
        auto& wait = static_cast<Mutex::LockWait&>(waiters_.pop());
        wait.uncancellable = true;
        wait.wait_for(mutex_);
        mutex_.waiters_.add(wait);
    }
}

} // namespace weft::coro
