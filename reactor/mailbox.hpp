#pragma once

#include <weft/reactor/error.hpp>
#include <weft/reactor/function.hpp>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <source_location>

namespace weft {
class Kernel;
class Loop;
} // namespace weft

namespace weft::detail {

/// A callback in a queue. Nodes for `call_soon` come from the loop's free list and keep their memory, so that
/// a stale `Handle` is recognised by its sequence number; posted nodes come from the heap.
struct CallNode {
    std::atomic<CallNode*> next{nullptr};
    Function<void()> function;
    std::uint64_t sequence = 0; // 0: posted, no handle refers to it
    std::source_location location;
};

/// What other threads know of a loop; it outlives the loop for as long as somebody refers to it.
/// A queue of many producers and one consumer (an exchange per push, no lock), and the flag that makes a
/// producer wake the loop only when it sleeps.
class Mailbox {
public:
    Mailbox(Loop& loop, Kernel& kernel);
    ~Mailbox();
    Mailbox(const Mailbox&) = delete;
    Mailbox& operator=(const Mailbox&) = delete;

    /// Any thread. `Errc::closed` once the loop is closed; the callback is then destroyed by the caller's thread. One
    /// that is accepted while the loop closes may be destroyed by either thread, but never twice and never later.
    std::error_code post(Function<void()> function, std::source_location location);

    /// The loop, null once it is closed. For the loop's own thread.
    Loop* loop() const noexcept { return loop_.load(std::memory_order_relaxed); }

    // For the loop alone.
    /// The oldest message, or null. One still being pushed counts as not there; its producer will wake us.
    CallNode* pop() noexcept;
    /// The newest message, as a mark for `reached`: producers faster than the loop must not hold it up.
    const CallNode* newest() const noexcept { return tail_.load(std::memory_order_acquire); }
    /// Whether every message up to `mark` has been popped.
    bool reached(const CallNode* mark) const noexcept { return head_ == mark; }
    bool maybe_empty() const noexcept {
        return head_->next.load(std::memory_order_acquire) == nullptr &&
               tail_.load(std::memory_order_seq_cst) == head_;
    }
    /// Announces that the loop is about to sleep. False: a message came in meanwhile, do not sleep.
    bool prepare_to_sleep() noexcept;
    void awake() noexcept { sleeping_.store(false, std::memory_order_relaxed); }
    /// No message is accepted from now on, those there are destroyed, and no thread will touch the kernel any more.
    void close() noexcept;

private:
    void push(CallNode* node) noexcept;
    void wake_if_sleeping() noexcept;
    void drain_closed() noexcept;

    std::atomic<CallNode*> tail_;       // producers exchange here
    std::atomic<bool> sleeping_{false}; // the loop waits, or is about to
    std::atomic<bool> closed_{false};
    std::atomic<int> wakers_{0}; // threads that may be touching kernel_
    std::mutex draining_;        // only ever taken once closed_: the loop is then no longer the one consumer
    std::atomic<Loop*> loop_;
    Kernel* kernel_;
    CallNode* head_; // the consumer's: an already consumed node, whose successor is the oldest message
};

} // namespace weft::detail
