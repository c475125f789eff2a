#pragma once

#include <weft/coro/tasks/task.hpp>
#include <weft/reactor/future.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

#pragma GCC visibility push(default)

namespace weft::coro::detail {

/// A task or a future, whatever its type.
class Awaited {
public:
    explicit Awaited(TaskBase* task) noexcept : task_(task) {}
    explicit Awaited(weft::detail::FutureStateBase* future) noexcept : future_(future) {}
    template<class T>
    explicit Awaited(const Task<T>& task) noexcept : task_(task.state()) {}
    template<class T>
    explicit Awaited(const Future<T>& future) noexcept : future_(future.state_ref().get()) {}

    const void* id() const noexcept;
    TaskBase* task() const noexcept { return task_.get(); }
    bool done() const noexcept;
    /// It has ended without a value.
    bool failed() const noexcept;
    void cancel();
    void add(Waiter& waiter) noexcept;
    /// Throws unless there is a value.
    void check_value() const;
    /// Throws `UsageError` if `self` cannot wait for it.
    void check(const char* what, const Coroutine& self) const;

private:
    weft::detail::StateRef<TaskBase> task_;
    weft::detail::StateRef<weft::detail::FutureStateBase> future_;
};

/// Waits for several, and tells them in the order in which they end. What is given twice is told
/// once, at its first position.
class Collector {
public:
    Collector(const char* what, std::vector<Awaited> items);
    ~Collector();
    Collector(const Collector&) = delete;
    Collector& operator=(const Collector&) = delete;

    static constexpr std::size_t none = SIZE_MAX;
    /// Suspends until one more has ended: its position, `none` if the deadline has passed. `left()`
    /// must not be 0.
    std::size_t next(TimePoint deadline = TimePoint::max());
    /// Suspends until all have ended or, with `until_failure`, one without a value: its position,
    /// else `none`, also if the deadline has passed.
    std::size_t wait_for_all(bool until_failure, TimePoint deadline = TimePoint::max());
    /// How many have not been told.
    std::size_t left() const noexcept { return distinct_ - told_; }
    /// Cancels all, and waits for their ends. Cannot be cancelled.
    void end_all();
    const std::vector<Awaited>& items() const noexcept { return items_; }

private:
    friend class CollectWait;
    struct Node final : TaskWaiter {
        void on_done() noexcept override { collector->ended(index); }
        TaskBase* who() const noexcept override;
        Collector* collector = nullptr;
        std::size_t index = 0;
    };
    void ended(std::size_t index) noexcept;
    bool park(std::size_t wanted, TimePoint deadline, bool uncancellable);

    const char* what_;
    Coroutine& self_;
    std::vector<Awaited> items_;
    std::vector<Node> nodes_;
    std::vector<std::size_t> ended_; // in order
    std::size_t distinct_ = 0;
    std::size_t told_ = 0;
    std::size_t wanted_ = 0; // how many are to have ended for it to go on
    bool until_failure_ = false;
    Wait* wait_ = nullptr;
};

template<class R>
std::vector<Awaited> awaited_of(R& range) {
    std::vector<Awaited> items;
    for (auto& item : range)
        items.emplace_back(item);
    return items;
}

} // namespace weft::coro::detail

#pragma GCC visibility pop
