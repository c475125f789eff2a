#pragma once

#include <weft/coro/sync/mutex.hpp>

#include <string>

// What the locks' implementations share.

namespace weft::coro {
namespace detail {

/// Whether something will end a wait in any case: then it may be part of a cycle.
inline bool bounded(Deadline deadline) {
    return !deadline.never() || current_effective_deadline() != TimePoint::max();
}
/// `UsageError` unless it is the owner that unlocks.
inline void check_owner(const char* what, const TaskBase& owner) {
    if (current != nullptr && &current->task == &owner) return;
    throw UsageError(std::string(what) + ": called by " +
                     (current == nullptr ? std::string("a plain callback")
                                         : "the coroutine " + Scheduler::describe(*current)) +
                     ", but it is the coroutine " + owner.describe() + " that holds the lock");
}

} // namespace detail

/// Waits for a mutex, or will when its condition is notified.
class Mutex::LockWait final : public detail::QueuedWait {
public:
    LockWait(detail::Coroutine& self, const char* what, const Mutex* mutex) noexcept
        : detail::QueuedWait(self, what), mutex_(mutex) {}
    void wait_for(const Mutex& mutex) noexcept { mutex_ = &mutex; }
    void needed(detail::TaskVisitor& visitor) const override {
        if (mutex_ != nullptr && mutex_->owner_ != nullptr) visitor.visit(*mutex_->owner_);
    }

private:
    const Mutex* mutex_; // null as long as it need not be waited for
};

} // namespace weft::coro
