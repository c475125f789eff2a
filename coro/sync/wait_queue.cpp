#include <weft/coro/sync/wait_queue.hpp>
#include <weft/reactor/log.hpp>

#include <cstdlib>

namespace weft::coro::detail {

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

} // namespace weft::coro::detail
