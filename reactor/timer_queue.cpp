#include <weft/reactor/timer_queue.hpp>

#include <bit>
#include <limits>

namespace weft::detail {
namespace {

std::int64_t deadline_of(const ListNode* node) noexcept {
    return static_cast<const TimerNode*>(node)->deadline().time_since_epoch().count();
}

// Merges two chains that are linked by `next` only and end in null.
ListNode* merge(ListNode* a, ListNode* b) noexcept {
    ListNode* head = nullptr;
    ListNode** tail = &head;
    while (a && b) {
        // On a tie the one from `a` goes first: it was there first.
        ListNode*& smaller = deadline_of(b) < deadline_of(a) ? b : a;
        *tail = smaller;
        tail = &smaller->next;
        smaller = smaller->next;
    }
    *tail = a ? a : b;
    return head;
}

} // namespace

void sort_by_deadline(ListNode& list) noexcept {
    bool sorted = true;
    for (auto* node = list.next; sorted && node != &list && node->next != &list; node = node->next)
        sorted = deadline_of(node) <= deadline_of(node->next);
    if (sorted) return;
    // Bottom-up merge sort: runs[i] holds a sorted chain of 2^i nodes, older ones in higher places.
    ListNode* runs[64] = {};
    list.previous->next = nullptr;
    for (ListNode* node = list.next; node != nullptr;) {
        ListNode* chain = node;
        node = node->next;
        chain->next = nullptr;
        int i = 0;
        for (; runs[i] != nullptr; ++i) {
            chain = merge(runs[i], chain);
            runs[i] = nullptr;
        }
        runs[i] = chain;
    }
    ListNode* chain = nullptr;
    for (ListNode* run : runs)
        chain = merge(run, chain);
    list.previous = list.next = &list;
    while (chain != nullptr) {
        ListNode* node = chain;
        chain = chain->next;
        list.push_back(*node);
    }
}

int TimerQueue::bucket_of(std::int64_t deadline) const noexcept {
    if (deadline <= last_) return 0;
    // Both are at least 0 here, so that the highest differing bit is at most bit 62 and the bucket
    // 63.
    return 64 - std::countl_zero(static_cast<std::uint64_t>(deadline ^ last_));
}

void TimerQueue::put(TimerNode& node) noexcept {
    const int bucket = bucket_of(node.deadline_);
    node.bucket_ = static_cast<std::uint8_t>(bucket);
    buckets_[bucket].push_back(node);
    occupied_ |= std::uint64_t{1} << bucket;
}

void TimerQueue::add(TimerNode& node, TimePoint deadline) noexcept {
    if (node.armed()) cancel(node);
    node.deadline_ = deadline.time_since_epoch().count();
    if (occupied_ == 0) {
        earliest_ = node.deadline_;
        earliest_known_ = true;
    } else if (earliest_known_ && node.deadline_ < earliest_) {
        earliest_ = node.deadline_;
    }
    put(node);
    ++size_;
}

void TimerQueue::cancel(TimerNode& node) noexcept {
    if (!node.armed()) return;
    node.unlink();
    --size_;
    if (node.bucket_ == due_bucket) return;
    if (!buckets_[node.bucket_].linked()) occupied_ &= ~(std::uint64_t{1} << node.bucket_);
    if (node.deadline_ <= earliest_) earliest_known_ = false;
}

void TimerQueue::expire(TimePoint now, ListNode& due) noexcept {
    const std::int64_t time = now.time_since_epoch().count();
    if (occupied_ == 0) {
        last_ = time > last_ ? time : last_;
        return;
    }
    if (earliest_known_ && time < earliest_) return;
    if (time < last_) return; // the clock never runs backwards; nothing new can be due
    ListNode ripe;
    ListNode mixed;
    const int limit = bucket_of(time);
    // Deadlines in the buckets below differ from `last_` in lower bits only than `time` does: all
    // are past.
    for (std::uint64_t below = occupied_ & ((std::uint64_t{1} << limit) - 1); below != 0;
         below &= below - 1)
        ripe.splice_back(buckets_[std::countr_zero(below)]);
    mixed.splice_back(buckets_[limit]);
    occupied_ &= limit == 63 ? 0 : ~((std::uint64_t{2} << limit) - 1);
    last_ = time;
    while (mixed.linked()) {
        auto& node = static_cast<TimerNode&>(*mixed.next);
        node.unlink();
        if (node.deadline_ <= time) {
            ripe.push_back(node);
        } else {
            put(node);
        }
    }
    earliest_known_ = false;
    sort_by_deadline(ripe);
    for (auto* node = ripe.next; node != &ripe; node = node->next)
        static_cast<TimerNode*>(node)->bucket_ = due_bucket;
    due.splice_back(ripe);
}

std::int64_t TimerQueue::earliest_in(int bucket) const noexcept {
    // More than this many are not worth a walk each time: the bucket's lower bound wakes the loop
    // too early at most once per bit, and then spreads them over finer buckets.
    constexpr int scan_limit = 128;
    std::int64_t earliest = std::numeric_limits<std::int64_t>::max();
    int seen = 0;
    for (auto* node = buckets_[bucket].next; node != &buckets_[bucket]; node = node->next) {
        if (++seen > scan_limit) {
            if (bucket == 0) return last_;
            const int bit = bucket - 1;
            return ((last_ >> bit) | 1) << bit;
        }
        if (const auto deadline = deadline_of(node); deadline < earliest) earliest = deadline;
    }
    return earliest;
}

TimePoint TimerQueue::next_deadline() noexcept {
    if (occupied_ == 0) return TimePoint::max();
    if (!earliest_known_) {
        earliest_ = earliest_in(std::countr_zero(occupied_));
        earliest_known_ = true;
    }
    return TimePoint(Duration(earliest_));
}

TimerNode* TimerQueue::pop_any() noexcept {
    if (occupied_ == 0) return nullptr;
    auto& node = static_cast<TimerNode&>(*buckets_[std::countr_zero(occupied_)].next);
    cancel(node);
    return &node;
}

} // namespace weft::detail
