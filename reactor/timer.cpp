#include <weft/reactor/loop.hpp>
#include <weft/reactor/timer.hpp>

namespace weft {
namespace {

// Gives a record back once nobody refers to it any more.
void drop_if_unused(detail::TimerRecord* record) noexcept {
    if (record->held || record->running || record->wanted) return;
    if (record->loop != nullptr) {
        record->loop->recycle(record);
    } else {
        delete record;
    }
}

// The record leaves the queue for good. One that stays in somebody's hands forgets the loop, which it may outlive.
void retire(detail::TimerRecord* record) noexcept {
    if (record->loop != nullptr) record->loop->timers().cancel(*record);
    record->wanted = false;
    if (record->held && !record->running) record->loop = nullptr;
    // Destroying the captures may run anything, also a call on this very timer.
    auto function = std::move(record->function);
}

// The first multiple of the interval after the last deadline that is not past: missed ticks are not made up for.
TimePoint next_tick(TimePoint last, Duration interval, TimePoint now) noexcept {
    const TimePoint next = add_saturated(last, interval);
    if (next >= now) return next;
    if (interval == Duration::zero()) return now;
    const TimePoint current = last + (now - last) / interval * interval;
    return current < now ? current + interval : current;
}

} // namespace

namespace detail {

void TimerRecord::on_timer() {
    // The callable is on the stack while it runs: cancelling or destroying the timer inside it is fine.
    auto callable = std::move(function);
    running = true;
    wanted = interval >= Duration::zero();
    struct Ended {
        TimerRecord* record;
        Function<void()>* callable;
        ~Ended() {
            record->running = false;
            if (record->wanted && record->loop != nullptr) {
                record->function = std::move(*callable);
                if (!record->armed()) {
                    record->loop->arm(*record,
                                      next_tick(record->deadline(), record->interval, record->loop->now()));
                }
            } else if (record->held) {
                record->loop = nullptr;
            }
            drop_if_unused(record);
        }
    } ended{this, &callable};
    loop->watched_call(callable, "a timer's callback", location);
}

void TimerRecord::on_abandoned() noexcept {
    auto captures = std::move(function);
    wanted = false;
    loop = nullptr;
    drop_if_unused(this);
}

} // namespace detail

Timer::~Timer() {
    if (record_ == nullptr) return;
    record_->held = false;
    retire(record_);
    drop_if_unused(record_);
}

bool Timer::cancel() noexcept {
    if (!active()) return false;
    retire(record_);
    return true;
}

bool Timer::reschedule(TimePoint when) {
    if (!active() || record_->loop == nullptr) return false;
    record_->loop->arm(*record_, when);
    return true;
}

void Timer::detach() noexcept {
    if (record_ == nullptr) return;
    auto* record = std::exchange(record_, nullptr);
    record->held = false;
    drop_if_unused(record);
}

} // namespace weft
