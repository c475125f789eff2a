#pragma once

#include <weft/reactor/clock.hpp>

#include <cstddef>
#include <cstdint>

#pragma GCC visibility push(default)

namespace weft::detail {

/// A link of a circular doubly linked list; a list is a node that stands for its own ends.
struct ListNode {
    ListNode* previous = this;
    ListNode* next = this;

    bool linked() const noexcept { return next != this; }
    void unlink() noexcept {
        previous->next = next;
        next->previous = previous;
        previous = next = this;
    }
    /// Puts `node` before this one; on a list's own node: at its end.
    void push_back(ListNode& node) noexcept {
        node.previous = previous;
        node.next = this;
        previous->next = &node;
        previous = &node;
    }
    /// Moves all of `other`'s nodes to this list's end, in order.
    void splice_back(ListNode& other) noexcept {
        if (!other.linked()) return;
        other.next->previous = previous;
        previous->next = other.next;
        other.previous->next = this;
        previous = other.previous;
        other.previous = other.next = &other;
    }
};

/// Something that happens at a deadline. Embed it (no allocation); it must be cancelled before it
/// dies.
class TimerNode : public ListNode {
public:
    TimePoint deadline() const noexcept { return TimePoint(Duration(deadline_)); }
    bool armed() const noexcept { return linked(); }
    /// Called when the deadline has passed; the node is out of the queue and may be added again or
    /// destroyed.
    virtual void on_timer() = 0;
    /// Called when the loop closes with the timer still armed.
    virtual void on_abandoned() noexcept {}

protected:
    ~TimerNode() = default;

private:
    friend class TimerQueue;
    std::int64_t deadline_ = 0;
    std::uint8_t bucket_ = 0;
};

/// Deadlines in a monotone radix queue: a timer lies in the bucket of the highest bit in which its
/// deadline differs from the last expiry time. Adding and cancelling are O(1) and touch no other
/// timer than the neighbours; a timer moves at most once per bit before it fires, and most are
/// cancelled before that. Equal deadlines always share a bucket and every move keeps their order,
/// so they fire first in, first out.
class TimerQueue {
public:
    TimerQueue() = default;
    TimerQueue(const TimerQueue&) = delete;
    TimerQueue& operator=(const TimerQueue&) = delete;

    void add(TimerNode& node, TimePoint deadline) noexcept;
    /// Takes it out, also from the list of those due. Harmless when it is not armed.
    void cancel(TimerNode& node) noexcept;
    /// Moves every timer due at `now` to the end of `due`, sorted by deadline.
    void expire(TimePoint now, ListNode& due) noexcept;
    /// A time before which nothing is due, exact unless very many timers lie close together; never
    /// later than the earliest deadline. `TimePoint::max()` when empty.
    TimePoint next_deadline() noexcept;

    bool empty() const noexcept { return occupied_ == 0; }
    /// Timers armed or due and not fired yet.
    std::size_t size() const noexcept { return size_; }
    /// Takes any armed timer out and returns it, null when there is none. For the loop's end.
    TimerNode* pop_any() noexcept;
    /// To be called for each timer taken off a due list to be fired.
    void fired(TimerNode& node) noexcept {
        node.unlink();
        --size_;
    }

private:
    static constexpr int bucket_count = 65;
    static constexpr std::uint8_t due_bucket = 255;
    int bucket_of(std::int64_t deadline) const noexcept;
    void put(TimerNode& node) noexcept;
    std::int64_t earliest_in(int bucket) const noexcept;

    ListNode buckets_[bucket_count];
    // bit b: bucket b holds timers; bucket 64 cannot be used, see bucket_of
    std::uint64_t occupied_ = 0;
    std::int64_t last_ = 0;
    std::int64_t earliest_ = 0; // valid while earliest_known_
    bool earliest_known_ = false;
    std::size_t size_ = 0;
};

/// Sorts a list by deadline, keeping equal ones in order. No allocation.
void sort_by_deadline(ListNode& list) noexcept;

} // namespace weft::detail

#pragma GCC visibility pop
