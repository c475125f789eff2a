#pragma once

#include <weft/reactor/clock.hpp>
#include <weft/reactor/function.hpp>
#include <weft/reactor/timer_queue.hpp>

#include <source_location>
#include <utility>
#include <vector>

#pragma GCC visibility push(default)

namespace weft {

class Loop;

namespace detail {

class LoopCore;

/// A timer's place in the queue, its callback and its state. Shared between the loop and at most
/// one `Timer`; recycled by the loop, so that setting a timer does not allocate.
struct TimerRecord final : TimerNode {
    void on_timer() override;
    void on_abandoned() noexcept override;

    LoopCore* loop = nullptr; ///< null once the loop is closed
    Function<void()> function;
    Duration interval{-1}; ///< below 0: fires once
    std::source_location location;
    bool held = false;    ///< a `Timer` refers to it
    bool running = false; ///< its callback is on the stack
    bool wanted = false;  ///< waiting to be fired (again)
    TimerRecord* next_free = nullptr;
};

/// The records of a loop's timers, in use or not: setting a timer does not allocate.
class TimerRecords {
public:
    /// One that nobody uses, of `loop`.
    TimerRecord& take(LoopCore& loop) {
        if (free_ == nullptr) [[unlikely]]
            make_one(loop);
        return *std::exchange(free_, free_->next_free);
    }
    void give_back(TimerRecord& record) noexcept {
        record.next_free = free_;
        free_ = &record;
    }
    /// The loop is closed: the last to hold one deletes it.
    void let_go() noexcept;

private:
    void make_one(LoopCore& loop);

    std::vector<TimerRecord*> all_;
    TimerRecord* free_ = nullptr;
};

} // namespace detail

/// A callback with a deadline, made by `Loop::call_later`, `call_at` and `call_every`. Destroying
/// it cancels, now, also from inside its own callback. For the loop's thread, also if it outlives
/// the loop.
class Timer {
public:
    Timer() noexcept = default;
    Timer(Timer&& other) noexcept : record_(std::exchange(other.record_, nullptr)) {}
    Timer& operator=(Timer&& other) noexcept {
        Timer old(std::move(*this));
        record_ = std::exchange(other.record_, nullptr);
        return *this;
    }
    ~Timer();

    /// Takes it out of the queue and destroys its callback now (after it has returned, if it is the
    /// one that is running). False if it was not waiting.
    bool cancel() noexcept;
    /// Whether it waits to be fired.
    bool active() const noexcept { return record_ != nullptr && record_->wanted; }
    /// When it is due; `TimePoint::max()` if it is not active.
    TimePoint when() const noexcept { return active() ? record_->deadline() : TimePoint::max(); }
    /// Moves the deadline. False if it is not active: what has fired cannot be revived.
    bool reschedule(TimePoint when);
    /// Lets go of it: it fires without anybody holding it.
    void detach() noexcept;

private:
    friend class detail::LoopCore;
    explicit Timer(detail::TimerRecord* record) noexcept : record_(record) { record_->held = true; }
    detail::TimerRecord* record_ = nullptr;
};

} // namespace weft

#pragma GCC visibility pop
