#pragma once

#include <weft/coro/sync/exchange.hpp>
#include <weft/coro/sync/item_store.hpp>
#include <weft/coro/sync/wait_queue.hpp>

#include <cstddef>
#include <limits>
#include <optional>
#include <utility>

#pragma GCC visibility push(default)

namespace weft::coro {

namespace detail {

inline constexpr ExchangeNames queue_names{"Queue::put", "Queue::get", "room in a Queue",
                                           "an item of a Queue"};

} // namespace detail

/// Items on their way from those that put them to those that get them, first in, first out;
/// `LifoQueue` and `PriorityQueue` have another order. Those that wait on either side are served in
/// the order in which they came. A wait that was cancelled or timed out has put or got nothing; one
/// that was served before that has, and returns. Items must not throw when moved. For the
/// coroutines of one loop; `try_put`, `try_get`, `task_done` and `close` also for its plain
/// callbacks.
template<class T, class Store = detail::FifoStore<T>>
class Queue {
public:
    /// Holds `capacity` items before those that put more have to wait; 0: any number.
    explicit Queue(std::size_t capacity = 0) noexcept
        : items_(capacity != 0 ? capacity : std::numeric_limits<std::size_t>::max(),
                 detail::queue_names) {}
    /// Those that still wait get a `UsageError`.
    ~Queue() = default;
    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;

    /// Puts an item. Suspends while there is no room. When it throws, `Cancelled`, `TimeoutError`,
    /// or `std::system_error` with `Errc::closed`, nothing was put, and `item` is as it was.
    void put(T&& item, Deadline deadline = {}) {
        detail::Coroutine& self = detail::running("Queue::put");
        self.scheduler.checkpoint(self);
        items_.give(self, item, deadline);
    }
    void put(const T& item, Deadline deadline = {}) { put(T(item), deadline); }
    /// Puts it if there is room, else `Errc::queue_full`, or `Errc::closed`; then `item` is as it
    /// was. Does not suspend.
    [[nodiscard]] std::error_code try_put(T&& item) { return items_.give_now(item); }
    [[nodiscard]] std::error_code try_put(const T& item) { return try_put(T(item)); }

    /// Gets the next item. Suspends while there is none. Throws `Cancelled` and `TimeoutError`, and
    /// `std::system_error` with `Errc::closed` if the queue is closed and empty.
    T get(Deadline deadline = {}) {
        std::optional<T> item;
        const bool was_closed = closed();
        if (!next(item, deadline))
            was_closed ? detail::throw_closed("Queue::get")
                       : detail::throw_closed_meanwhile("Queue::get");
        return std::move(*item);
    }
    /// Gets one if there is one, else `std::errc::resource_unavailable_try_again`, or
    /// `Errc::closed`. Does not suspend.
    Result<T> try_get() { return items_.take_now("Queue::try_get"); }

    /// To be called when the work on an item that was got is done, for those that `join`. Does not
    /// suspend. `UsageError` if it is called more often than items were put.
    void task_done() {
        if (done_ == items_.given())
            throw UsageError("Queue::task_done: called more often than items were put");
        if (++done_ == items_.given()) joiners_.wake_all();
    }
    /// Waits until `task_done` was called for every item. Suspends unless it was. Throws
    /// `Cancelled` and `TimeoutError`.
    void join(Deadline deadline = {}) {
        detail::Coroutine& self = detail::running("Queue::join");
        self.scheduler.checkpoint(self);
        if (unfinished() == 0) return;
        detail::QueuedWait wait(self, "the items of a Queue to be done");
        joiners_.park(wait, "Queue::join", deadline);
    }
    /// Items that were put and not reported with `task_done`.
    std::size_t unfinished() const noexcept {
        return static_cast<std::size_t>(items_.given() - done_);
    }

    /// Nothing can be put any more, and those that wait to do so fail. What is in it can still be
    /// got; after that those that get fail, and a loop over the queue ends. Does not suspend.
    void close() noexcept { items_.close(); }
    bool closed() const noexcept { return items_.closed(); }

    std::size_t size() const noexcept { return items_.size(); }
    bool empty() const noexcept { return items_.size() == 0; }
    bool full() const noexcept { return items_.size() >= items_.capacity(); }

    /// For a range-for over the items up to the end of a queue that is closed; suspends and throws
    /// as `get` does.
    auto begin() { return detail::ItemIterator<Queue, T>(*this); }
    std::default_sentinel_t end() const noexcept { return {}; }

private:
    friend class detail::ItemIterator<Queue, T>;
    bool next(std::optional<T>& item, Deadline deadline = {}) {
        detail::Coroutine& self = detail::running("Queue::get");
        self.scheduler.checkpoint(self);
        return items_.take(self, item, deadline);
    }

    detail::Exchange<T, Store> items_;
    std::uint64_t done_ = 0;
    detail::WaitQueue joiners_;
};

/// Gives the item that was put last.
template<class T>
using LifoQueue = Queue<T, detail::LifoStore<T>>;

/// Gives the smallest item, and of equal ones that which was put first. `Compare` must not throw.
template<class T, class Compare = detail::Less>
using PriorityQueue = Queue<T, detail::PriorityStore<T, Compare>>;

} // namespace weft::coro

#pragma GCC visibility pop
