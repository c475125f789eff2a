#include "../core/wait_cycle.hpp"
#include "lock_wait.hpp"

#include <weft/coro/sync/rw_lock.hpp>

#include <string>

namespace weft::coro {

class RwLock::LockWait final : public detail::QueuedWait {
public:
    LockWait(detail::Coroutine& self, RwLock& lock, bool write, bool ends) noexcept
        : detail::QueuedWait(self, write ? "an RwLock, to write" : "an RwLock, to read"),
          to_write(write), lock_(lock), ends_(ends) {}
    void needed(detail::TaskVisitor& visitor) const override {
        if (!ends_ && lock_.writer_ != nullptr) visitor.visit(*lock_.writer_);
    }
    void abandon() noexcept override {
        unlink();
        lock_.admit(); // readers may have stood behind a writer
    }
    const bool to_write;

private:
    RwLock& lock_;
    const bool ends_; // in any case
};

RwLock::~RwLock() {
    if (writer_ != nullptr || readers_ != 0)
        detail::destroyed_in_use("an RwLock was destroyed while " +
                                 (writer_ != nullptr
                                      ? "the coroutine " + writer_->describe() + " was writing"
                                      : std::to_string(readers_) + " coroutines were reading"));
}

RwLock::Guard RwLock::acquire(bool to_write, const char* what, Deadline deadline) {
    detail::Coroutine& self = detail::running(what);
    self.scheduler.checkpoint(self);
    if (available(to_write)) {
        grant(self, to_write);
    } else {
        if (writer_ == &self.task)
            throw UsageError(std::string(what) + ": the coroutine " +
                             detail::Scheduler::describe(self) +
                             " holds this lock already, to write");
        const bool ends = detail::bounded(deadline);
        if (writer_ != nullptr) {
            if (!ends) detail::check_cycle(what, *writer_, self);
            writer_->wanted_otherwise = true;
        }
        LockWait wait(self, *this, to_write, ends);
        waiters_.park(wait, what, deadline);
    }
    return Guard(*this);
}

RwLock::Guard RwLock::try_acquire(bool to_write, const char* what) {
    detail::Coroutine& self = detail::running(what);
    if (!available(to_write)) return {};
    grant(self, to_write);
    return Guard(*this);
}

void RwLock::grant(detail::Coroutine& coroutine, bool to_write) noexcept {
    if (!to_write) {
        ++readers_;
        return;
    }
    writer_ = &coroutine.task;
    writer_->retain();
    if (!waiters_.empty()) writer_->wanted_otherwise = true;
}

void RwLock::release() noexcept {
    if (writer_ != nullptr) {
        std::exchange(writer_, nullptr)->release();
    } else {
        --readers_;
    }
    admit();
}

void RwLock::admit() noexcept {
    while (!waiters_.empty() && writer_ == nullptr) {
        auto& wait = static_cast<LockWait&>(waiters_.first());
        if (wait.to_write && readers_ != 0) return;
        wait.unlink();
        grant(wait.coroutine, wait.to_write);
        wait.wake();
    }
}

void RwLock::Guard::unlock() {
    if (lock_ == nullptr) throw UsageError("RwLock::Guard::unlock: this guard holds no lock");
    if (lock_->writer_ != nullptr) detail::check_owner("RwLock::Guard::unlock", *lock_->writer_);
    drop();
}

} // namespace weft::coro
