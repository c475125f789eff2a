#include "../core/wait_cycle.hpp"
#include "lock_wait.hpp"

#include <string>

namespace weft::coro {

Mutex::~Mutex() {
    if (owner_ != nullptr)
        detail::destroyed_in_use("a Mutex was destroyed while the coroutine " + describe_owner() +
                                 " held it");
}

std::string Mutex::describe_owner() const {
    return owner_->describe();
}

void Mutex::wait(detail::Coroutine& self, Deadline deadline) {
    if (held_by(self))
        throw UsageError("Mutex::lock: the coroutine " + detail::Scheduler::describe(self) +
                         " holds this mutex already");
    const bool ends = detail::bounded(deadline);
    if (!ends) detail::check_cycle("Mutex::lock", *owner_, self);
    owner_->wanted_otherwise = true;
    LockWait wait(self, "a Mutex", ends ? nullptr : this);
    waiters_.park(wait, "Mutex::lock", deadline);
}

void Mutex::lock_in_any_case(detail::Coroutine& self) {
    if (owner_ == nullptr) return set_owner(self);
    LockWait wait(self, "the Mutex of a Condition", this);
    wait.uncancellable = true;
    owner_->wanted_otherwise = true;
    detail::break_cycle("the Mutex of a Condition", wait);
    waiters_.park(wait, "Condition::wait", {});
}

Mutex::Guard Mutex::try_lock() {
    detail::Coroutine& self = detail::running("Mutex::try_lock");
    if (owner_ != nullptr) return {};
    set_owner(self);
    return Guard(*this);
}

void Mutex::hand_over() noexcept {
    detail::QueuedWait& next = waiters_.pop();
    set_owner(next.coroutine);
    if (!waiters_.empty()) owner_->wanted_otherwise = true;
    next.wake();
}

void Mutex::Guard::unlock() {
    if (mutex_ == nullptr) throw UsageError("Mutex::Guard::unlock: this guard holds no mutex");
    detail::check_owner("Mutex::Guard::unlock", *mutex_->owner_);
    drop();
}

} // namespace weft::coro
