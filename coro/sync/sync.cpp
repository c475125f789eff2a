#include "../core/circle.hpp"

#include <weft/coro/sync/barrier.hpp>
#include <weft/coro/sync/condition.hpp>
#include <weft/coro/sync/event.hpp>
#include <weft/coro/sync/mutex.hpp>
#include <weft/coro/sync/rw_lock.hpp>
#include <weft/coro/sync/semaphore.hpp>
#include <weft/reactor/log.hpp>

#include <cstdlib>

namespace weft::coro {
namespace detail {

WaitQueue::~WaitQueue() {
    while (!empty()) {
        QueuedWait& wait = pop();
        wait.stranded = true;
        wait.wake();
    }
}

std::size_t WaitQueue::size() const noexcept {
    std::size_t count = 0;
    for (const ListNode* link = waits_.next; link != &waits_; link = link->next)
        ++count;
    return count;
}

void WaitQueue::wake_all() noexcept {
    while (!empty())
        pop().wake();
}

void throw_timeout(const char* operation) {
    throw TimeoutError(std::string(operation) + ": the time is up");
}

void throw_stranded(const char* operation) {
    throw UsageError(std::string(operation) + ": what was waited for has been destroyed");
}

void destroyed_in_use(const std::string& what) noexcept {
    log(LogLevel::error, what);
    std::abort();
}

} // namespace detail

using detail::Coroutine;
using detail::QueuedWait;
using detail::Scheduler;

namespace {

/// Whether something will end a wait in any case: then it may be part of a circle.
bool bounded(Deadline deadline) {
    return !deadline.never() || current_effective_deadline() != TimePoint::max();
}

/// That it is the owner who unlocks.
void check_caller(const char* what, const detail::TaskBase& owner) {
    if (detail::current != nullptr && &detail::current->task == &owner) return;
    throw UsageError(std::string(what) + ": called by " +
                     (detail::current == nullptr
                          ? std::string("a plain callback")
                          : "the coroutine " + Scheduler::describe(*detail::current)) +
                     ", but it is the coroutine " + owner.describe() + " that holds the lock");
}

} // namespace

/// Waits for a mutex, or will when its condition is notified.
class Mutex::LockWait final : public QueuedWait {
public:
    LockWait(Coroutine& self, const char* what, const Mutex* mutex) noexcept
        : QueuedWait(self, what), mutex_(mutex) {}
    void wait_for(const Mutex& mutex) noexcept { mutex_ = &mutex; }
    void needed(detail::TaskVisitor& visitor) const override {
        if (mutex_ != nullptr && mutex_->owner_ != nullptr) visitor.visit(*mutex_->owner_);
    }

private:
    const Mutex* mutex_; // null as long as it need not be waited for
};

Mutex::~Mutex() {
    if (owner_ != nullptr)
        detail::destroyed_in_use("a Mutex was destroyed while the coroutine " + describe_owner() +
                                 " held it");
}

std::string Mutex::describe_owner() const {
    return owner_->describe();
}

void Mutex::wait(Coroutine& self, Deadline deadline) {
    if (held_by(self))
        throw UsageError("Mutex::lock: the coroutine " + Scheduler::describe(self) +
                         " holds this mutex already");
    const bool ends = bounded(deadline);
    if (!ends) detail::check_circle("Mutex::lock", *owner_, self);
    owner_->wanted_otherwise = true;
    LockWait wait(self, "a Mutex", ends ? nullptr : this);
    waiters_.park(wait, "Mutex::lock", deadline);
}

void Mutex::lock_in_any_case(Coroutine& self) {
    if (owner_ == nullptr) return set_owner(self);
    LockWait wait(self, "the Mutex of a Condition", this);
    wait.uncancellable = true;
    owner_->wanted_otherwise = true;
    detail::open_circle("the Mutex of a Condition", wait);
    waiters_.park(wait, "Condition::wait", {});
}

Mutex::Guard Mutex::try_lock() {
    Coroutine& self = detail::running("Mutex::try_lock");
    if (owner_ != nullptr) return {};
    set_owner(self);
    return Guard(*this);
}

void Mutex::hand_over() noexcept {
    QueuedWait& next = waiters_.pop();
    set_owner(next.coroutine);
    if (!waiters_.empty()) owner_->wanted_otherwise = true;
    next.wake();
}

void Mutex::Guard::unlock() {
    if (mutex_ == nullptr) throw UsageError("Mutex::Guard::unlock: this guard holds no mutex");
    check_caller("Mutex::Guard::unlock", *mutex_->owner_);
    drop();
}

void Event::wait(Deadline deadline) {
    Coroutine& self = detail::running("Event::wait");
    self.scheduler.checkpoint(self);
    if (set_) return;
    QueuedWait wait(self, "an Event");
    waiters_.park(wait, "Event::wait", deadline);
}

void Event::set() noexcept {
    set_ = true;
    waiters_.wake_all();
}

Semaphore::Semaphore(std::ptrdiff_t permits, std::ptrdiff_t limit)
    : permits_(permits), limit_(limit) {
    if (permits < 0)
        throw UsageError("Semaphore: " + std::to_string(permits) + " permits to begin with");
    if (permits > limit)
        throw UsageError("Semaphore: " + std::to_string(permits) +
                         " permits to begin with, but no more than " + std::to_string(limit) +
                         " are allowed");
}

void Semaphore::give_back() noexcept {
    if (waiters_.empty()) {
        ++permits_;
    } else {
        waiters_.pop().wake();
    }
}

void Semaphore::release(std::ptrdiff_t count) {
    if (count < 0) throw UsageError("Semaphore::release: " + std::to_string(count) + " permits");
    if (count > limit_ - permits_)
        throw UsageError("Semaphore::release: " + std::to_string(count) + " more than the " +
                         std::to_string(permits_) + " that are free would be more than " +
                         std::to_string(limit_));
    for (; count != 0 && !waiters_.empty(); --count)
        waiters_.pop().wake();
    permits_ += count;
}

Condition::~Condition() {
    if (!waiters_.empty())
        detail::destroyed_in_use("a Condition was destroyed while the coroutine " +
                                 Scheduler::describe(waiters_.first().coroutine) +
                                 " waited for it");
}

Coroutine& Condition::holder(const char* what) const {
    Coroutine& self = detail::running(what);
    if (mutex_.held_by(self)) return self;
    throw UsageError(
        std::string(what) + ": the coroutine " + Scheduler::describe(self) +
        " does not hold the mutex of this condition" +
        (mutex_.locked() ? "; the coroutine " + mutex_.describe_owner() + " does" : std::string()));
}

void Condition::wait(Deadline deadline) {
    Coroutine& self = holder("Condition::wait");
    self.scheduler.checkpoint(self);
    if (!wait_once(self, deadline)) throw_timeout();
}

bool Condition::wait_once(Coroutine& self, Deadline deadline) {
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

class Barrier::PartyWait final : public QueuedWait {
public:
    PartyWait(Coroutine& self) noexcept : QueuedWait(self, "the others at a Barrier") {}
    std::size_t index = 0;
    bool broken = true; // unless it is told otherwise
};

namespace {

[[noreturn]] void throw_aborted() {
    throw std::system_error(make_error_code(Errc::aborted),
                            "Barrier::wait: the barrier was reset or aborted");
}

} // namespace

Barrier::Barrier(std::size_t parties) : parties_(parties) {
    if (parties == 0) throw UsageError("Barrier: for nobody");
}

std::size_t Barrier::wait(Deadline deadline) {
    Coroutine& self = detail::running("Barrier::wait");
    self.scheduler.checkpoint(self);
    if (aborted_) throw_aborted();
    if (waiters_.size() + 1 == parties_) {
        for (std::size_t index = 0; !waiters_.empty(); ++index) {
            auto& wait = static_cast<PartyWait&>(waiters_.pop());
            wait.index = index;
            wait.broken = false;
            wait.wake();
        }
        return parties_ - 1;
    }
    PartyWait wait(self);
    waiters_.park(wait, "Barrier::wait", deadline);
    if (wait.broken) throw_aborted();
    return wait.index;
}

void Barrier::reset() noexcept {
    aborted_ = false;
    waiters_.wake_all();
}

void Barrier::abort() noexcept {
    aborted_ = true;
    waiters_.wake_all();
}

class RwLock::LockWait final : public QueuedWait {
public:
    LockWait(Coroutine& self, RwLock& lock, bool write, bool ends) noexcept
        : QueuedWait(self, write ? "an RwLock, to write" : "an RwLock, to read"), to_write(write),
          lock_(lock), ends_(ends) {}
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
    Coroutine& self = detail::running(what);
    self.scheduler.checkpoint(self);
    if (available(to_write)) {
        grant(self, to_write);
    } else {
        if (writer_ == &self.task)
            throw UsageError(std::string(what) + ": the coroutine " + Scheduler::describe(self) +
                             " holds this lock already, to write");
        const bool ends = bounded(deadline);
        if (writer_ != nullptr) {
            if (!ends) detail::check_circle(what, *writer_, self);
            writer_->wanted_otherwise = true;
        }
        LockWait wait(self, *this, to_write, ends);
        waiters_.park(wait, what, deadline);
    }
    return Guard(*this);
}

RwLock::Guard RwLock::try_acquire(bool to_write, const char* what) {
    Coroutine& self = detail::running(what);
    if (!available(to_write)) return {};
    grant(self, to_write);
    return Guard(*this);
}

void RwLock::grant(Coroutine& coroutine, bool to_write) noexcept {
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
    if (lock_->writer_ != nullptr) check_caller("RwLock::Guard::unlock", *lock_->writer_);
    drop();
}

} // namespace weft::coro
