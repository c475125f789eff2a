#include <weft/coro/sync/semaphore.hpp>

#include <string>

namespace weft::coro {

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

} // namespace weft::coro
