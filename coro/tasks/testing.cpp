#include <weft/coro/core/scheduler.hpp>
#include <weft/coro/tasks/sleep.hpp>
#include <weft/coro/tasks/task.hpp>
#include <weft/coro/tasks/testing.hpp>

#include <algorithm>
#include <string>

namespace weft::coro {
namespace {

// One turn of the loop in which nobody else did anything.
bool quiet_turn(detail::Scheduler& scheduler) {
    const auto before = scheduler.switches();
    scheduler.yield_to_loop();
    return scheduler.switches() == before + 1 && !scheduler.any_ready() &&
           scheduler.loop().stats().callbacks == 0;
}

// Whether anything happened in the meantime.
bool wait_for_quiet(detail::Scheduler& scheduler) {
    // So many turns may go by without a look at the kernel.
    const int enough = scheduler.core().options().turns_per_poll + 1;
    bool noise = false;
    for (int quiet = 0; quiet < enough;) {
        if (quiet_turn(scheduler)) {
            ++quiet;
        } else {
            quiet = 0;
            noise = true;
        }
    }
    return noise;
}

/// One of several that wait. They would keep each other awake by looking, so that only the first
/// looks.
class BlockedWait final : public detail::Wait {
public:
    BlockedWait(detail::Coroutine& self, Duration c) noexcept : Wait(self), cushion(c) {}
    std::string describe() const override { return "all others to be blocked"; }
    const Duration cushion;
    bool looks_now = false; ///< woken to look in place of another
};

BlockedWait& wait_of(detail::ListNode* link) noexcept {
    return static_cast<BlockedWait&>(*link);
}

/// The one that looks, until it is satisfied itself or cancelled.
class Lookout {
public:
    explicit Lookout(detail::Scheduler& s) noexcept : scheduler_(s) { s.watched = true; }
    ~Lookout() {
        const bool others = scheduler_.watchers.linked();
        scheduler_.watched = others; // until the next one runs
        if (!others) return;
        BlockedWait& next = wait_of(scheduler_.watchers.next);
        next.unlink();
        next.looks_now = true;
        next.wake();
    }
    Lookout(const Lookout&) = delete;
    Lookout& operator=(const Lookout&) = delete;

    void look(Duration own) {
        (void)wait_for_quiet(scheduler_);
        for (TimePoint since = scheduler_.loop().now();;) {
            const Duration shortest = shortest_of(own);
            if (shortest > Duration::zero()) {
                const auto before = scheduler_.switches();
                sleep_until(add_saturated(since, shortest));
                const bool woken_alone =
                    scheduler_.switches() == before + 1 && !scheduler_.any_ready();
                const TimePoint last = woken_alone ? since : scheduler_.run_before;
                const bool noise = wait_for_quiet(scheduler_);
                if (noise || !woken_alone) {
                    // It counts from the last time that somebody did something.
                    since = noise || last <= since ? scheduler_.loop().now() : last;
                    continue;
                }
            }
            const bool told = tell(shortest);
            if (own <= shortest) return;
            if (told) (void)wait_for_quiet(scheduler_);
            since = told ? scheduler_.loop().now() : since;
        }
    }

private:
    Duration shortest_of(Duration own) const noexcept {
        for (detail::ListNode* link = scheduler_.watchers.next; link != &scheduler_.watchers;
             link = link->next)
            own = std::min(own, wait_of(link).cushion);
        return own;
    }
    bool tell(Duration cushion) noexcept {
        bool any = false;
        for (detail::ListNode* link = scheduler_.watchers.next; link != &scheduler_.watchers;) {
            BlockedWait& wait = wait_of(link);
            link = link->next;
            if (wait.cushion > cushion) continue;
            wait.unlink();
            wait.wake();
            any = true;
        }
        return any;
    }
    detail::Scheduler& scheduler_;
};

} // namespace

void wait_all_blocked(Duration cushion) {
    detail::Coroutine& self = detail::running("wait_all_blocked");
    cushion = std::max(cushion, Duration::zero());
    if (self.scheduler.watched) {
        BlockedWait wait(self, cushion);
        self.scheduler.check_cancelled(self);
        self.scheduler.watchers.push_back(wait);
        self.scheduler.suspend(wait);
        if (!wait.looks_now) return;
    }
    Lookout(self.scheduler).look(cushion);
}

} // namespace weft::coro
