#include <weft/reactor/log.hpp>
#include <weft/reactor/loop_core.hpp>
#include <weft/reactor/timer.hpp>

#include <memory>
#include <string>

namespace weft {
namespace {

// Gives a record back once nothing refers to it any more. A closed loop has left it to the last
// that does.
void drop_if_unused(detail::TimerRecord* record) noexcept {
    if (record->held || record->running || record->wanted) return;
    if (record->loop != nullptr) {
        record->loop->timer_records().give_back(*record);
    } else {
        delete record;
    }
}

// The record leaves the queue for good.
void retire(detail::TimerRecord* record) noexcept {
    if (record->loop != nullptr) record->loop->timers().cancel(*record);
    record->wanted = false;
    // Destroying the captures may run anything, also a call on this very timer.
    auto captures = std::move(record->function);
}

// The first multiple of the interval after the last deadline that is not past: missed ticks are not
// made up for.
TimePoint next_tick(TimePoint last, Duration interval, TimePoint now) noexcept {
    const TimePoint next = add_saturated(last, interval);
    if (next >= now) return next;
    if (interval == Duration::zero()) return now;
    // Without signs, since the last one may lie as far back as it can.
    const auto begin = static_cast<std::uint64_t>(last.time_since_epoch().count());
    const std::uint64_t late = static_cast<std::uint64_t>(now.time_since_epoch().count()) - begin;
    const std::uint64_t whole = late - late % static_cast<std::uint64_t>(interval.count());
    const TimePoint current(Duration(static_cast<std::int64_t>(begin + whole)));
    return current < now ? add_saturated(current, interval) : current;
}

} // namespace

namespace detail {

void TimerRecords::make_one(LoopCore& loop) {
    auto made = std::make_unique<TimerRecord>();
    made->loop = &loop;
    all_.push_back(made.get());
    free_ = made.release();
}

void TimerRecords::let_go() noexcept {
    for (TimerRecord* record : all_) {
        if (record->held) {
            record->loop = nullptr;
        } else {
            delete record;
        }
    }
    all_.clear();
    free_ = nullptr;
}

void TimerRecord::on_timer() {
    // The callable is on the stack while it runs: cancelling or destroying the timer inside it is
    // fine. A repeating one is armed again first, so that it can be asked, moved and cancelled
    // there like any other.
    auto callable = std::move(function);
    running = true;
    wanted = interval >= Duration::zero();
    struct Ended {
        TimerRecord* record;
        Function<void()>* callable;
        ~Ended() {
            record->running = false;
            if (record->wanted) record->function = std::move(*callable);
            drop_if_unused(record);
        }
    } ended{this, &callable};
    if (wanted) loop->arm(*this, next_tick(deadline(), interval, loop->now()));
    loop->call_guarded(callable, "a timer's callback", location);
}

void TimerRecord::on_abandoned() noexcept {
    auto captures = std::move(function);
    wanted = false;
    if (!loop->debug() || !held) return;
    log(LogLevel::warning, std::string("a Timer set at ") + location.file_name() + ":" +
                               std::to_string(location.line()) +
                               " was still armed when its loop was closed");
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
