#pragma once

#include <weft/reactor/error.hpp>
#include <weft/reactor/function.hpp>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <source_location>
#include <sys/types.h>
#include <thread>
#include <utility>
#include <vector>

#pragma GCC visibility push(default)

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

    /// Any thread. `Errc::closed` from the begin of the loop's end on; the callback is then
    /// destroyed by the caller's thread.
    std::error_code post(Function<void()>&& function, std::source_location location) {
        return add(std::move(function), location, State::open);
    }
    /// The same for what the loop has to get back before it ends. It is accepted while the loop
    /// closes, and destroyed by the loop's thread then.
    std::error_code give_back(Function<void()>&& function, std::source_location location);
    /// How many were given back.
    std::uint32_t given_back() const noexcept {
        return given_back_.load(std::memory_order_acquire);
    }
    /// Blocks until that number is no longer `seen`.
    void wait_for_more(std::uint32_t seen) const noexcept {
        given_back_.wait(seen, std::memory_order_acquire);
    }
    /// Whether `post` is accepted. Any thread.
    bool open() const noexcept { return state_.load(std::memory_order_acquire) == State::open; }
    /// Whose the loop is: the thread that runs it, or stepped it last; no thread's while nobody
    /// does. Any thread.
    std::thread::id owner() const noexcept { return owner_.load(std::memory_order_relaxed); }

    /// The loop, null once it is closed. For the loop's own thread.
    Loop* loop() const noexcept { return loop_.load(std::memory_order_relaxed); }

    // For the loop alone.
    /// What has come so far, in the order in which it came; `into` must be empty, and gives its
    /// memory for what comes next.
    void take(std::vector<Posted>& into) noexcept;
    /// False if something has come; what is being posted right now may be overlooked.
    bool empty() const noexcept { return !filled_.load(std::memory_order_acquire); }
    /// Announces that the loop is about to sleep. False: a message came in meanwhile, do not sleep.
    bool prepare_to_sleep() noexcept;
    void set_owner(std::thread::id owner) noexcept {
        owner_.store(owner, std::memory_order_relaxed);
    }
    void awake() noexcept { sleeping_.store(false, std::memory_order_relaxed); }
    /// The loop's end begins: `post` is refused from now on, however many threads go on posting.
    void begin_closing() noexcept;
    /// Nothing is accepted from now on, what is there is destroyed, and no thread will touch the
    /// kernel any more.
    void close() noexcept;
    /// In a forked child: the parent's threads are not there, and one of them may have been
    /// posting.
    void after_fork() noexcept;

private:
    enum class State : std::uint8_t { open, closing, closed };
    std::error_code add(Function<void()>&& function, std::source_location location, State latest);

    std::mutex mutex_;
    std::vector<Posted> inbox_;
    std::atomic<State> state_{State::open}; // changed under the lock
    std::atomic<bool> filled_{false};
    std::atomic<bool> sleeping_{false}; // the loop waits, or is about to
    // threads that may be touching kernel_; counted up under the lock
    std::atomic<int> wakers_{0};
    std::atomic<std::uint32_t> given_back_{0};
    std::atomic<Loop*> loop_;
    std::atomic<std::thread::id> owner_{};
    Kernel* kernel_;
    pid_t process_;
};

} // namespace weft::detail

#pragma GCC visibility pop
