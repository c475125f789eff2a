#pragma once

#include <weft/reactor/error.hpp>
#include <weft/reactor/function.hpp>

#include <atomic>
#include <mutex>
#include <source_location>
#include <sys/types.h>
#include <vector>

namespace weft {
class Kernel;
class Loop;
} // namespace weft

namespace weft::detail {

/// A callback from another thread.
struct Posted {
    Function<void()> function;
    std::source_location location;
};

/// What other threads know of a loop; it outlives the loop for as long as somebody refers to it.
/// They add to a list, which the loop takes as a whole, and only wake the loop when it sleeps.
class Mailbox {
public:
    Mailbox(Loop& loop, Kernel& kernel);
    Mailbox(const Mailbox&) = delete;
    Mailbox& operator=(const Mailbox&) = delete;

    /// Any thread. `Errc::closed` once the loop is closed; the callback is then destroyed by the caller's thread. One
    /// that is accepted while the loop closes is destroyed by the loop's.
    std::error_code post(Function<void()> function, std::source_location location);

    /// The loop, null once it is closed. For the loop's own thread.
    Loop* loop() const noexcept { return loop_.load(std::memory_order_relaxed); }

    // For the loop alone.
    /// What has come so far, in the order in which it came; `into` must be empty, and gives its memory for what comes
    /// next.
    void take(std::vector<Posted>& into) noexcept;
    /// False if something has come; what is being posted right now may be overlooked.
    bool empty() const noexcept { return !filled_.load(std::memory_order_acquire); }
    /// Announces that the loop is about to sleep. False: a message came in meanwhile, do not sleep.
    bool prepare_to_sleep() noexcept;
    void awake() noexcept { sleeping_.store(false, std::memory_order_relaxed); }
    /// No message is accepted from now on, those there are destroyed, and no thread will touch the kernel any more.
    void close() noexcept;
    /// In a forked child: the parent's threads are not there, and one of them may have been posting.
    void after_fork() noexcept;

private:
    std::mutex mutex_;
    std::vector<Posted> inbox_;
    bool closed_ = false;
    std::atomic<bool> filled_{false};
    std::atomic<bool> sleeping_{false}; // the loop waits, or is about to
    std::atomic<int> wakers_{0};        // threads that may be touching kernel_; counted up under the lock
    std::atomic<Loop*> loop_;
    Kernel* kernel_;
    pid_t process_;
};

} // namespace weft::detail
