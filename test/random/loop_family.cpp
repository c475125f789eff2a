// Timers, callbacks, posts and watches under a clock that stands still, jumps, and goes on inside
// callbacks.

#include "family.hpp"

#include <weft/reactor/loop.hpp>
#include <weft/reactor/sim/faulty_kernel.hpp>

#include <algorithm>
#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

namespace {

/// Any kernel, with a clock that moves at a word.
class ClockKernel final : public sim::FaultyKernel {
public:
    using FaultyKernel::FaultyKernel;
    TimePoint now() noexcept override { return time; }
    /// Only looks: nobody waits for a clock that stands still.
    Sys wait(std::span<Event> events, TimePoint) noexcept override {
        return FaultyKernel::wait(events, TimePoint::min());
    }
    TimePoint time{24h};
};

class World {
public:
    explicit World(Round& used) : round_(used), random_(used.random.split()) {
        LoopOptions options;
        auto kernel = std::make_unique<ClockKernel>(used.make_kernel());
        clock_ = kernel.get();
        options.kernel = std::move(kernel);
        loop_.emplace(std::move(options));
        loop_->on_unhandled([this](const Unhandled& what) { RANDOM_CHECK(false, what.message); });
        for (auto& pair : pairs_) {
            int fds[2];
            RANDOM_CHECK(clock_->socketpair(1, fds).ok());
            pair.near = fds[0];
            pair.far = fds[1];
        }
    }
    ~World() {
        for (auto& pair : pairs_) {
            pair.watch.cancel();
            clock_->close(pair.near);
            clock_->close(pair.far);
        }
    }

    void play(int operations) {
        for (int i = 0; i < operations; ++i) {
            if (random_.one_in(3)) {
                run();
            } else {
                change();
            }
            look();
        }
        end();
    }

private:
    struct Armed {
        Timer timer;
        TimePoint deadline{};
        std::uint64_t sequence = 0; ///< of its arming: equal deadlines fire in this order
        std::uint64_t turn = 0;     ///< in which it was armed
        Duration interval{-1};
        bool active = true;
    };
    struct Pair {
        int near = -1, far = -1;
        std::size_t waiting = 0; ///< bytes that were sent and not read
        Watch watch;
        bool reads = false;
        std::uint64_t calls = 0, changes = 0; ///< of the callback
    };
    struct Queued {
        std::uint64_t id;
        std::uint64_t turn;
    };

    std::uint64_t turn() const { return loop_->stats().turns; }
    TimePoint now() const { return clock_->time; }

    Duration some_delay() {
        switch (random_.below(8)) {
        case 0:
            return Duration(0);
        case 1:
            return Duration(-static_cast<std::int64_t>(random_.below(1'000'000'000)));
        case 2:
            return Duration(1);
        case 3:
            return std::chrono::hours::max();
        case 4:
            return std::chrono::milliseconds(10); // ties
        case 5:
            return std::chrono::duration<double>(static_cast<double>(random_.below(1000)) / 7);
        default:
            return Duration(static_cast<std::int64_t>(random_.size(std::size_t{1} << 40)));
        }
    }

    // --- What may be done, outside and inside of callbacks ---

    void change() {
        switch (random_.below(12)) {
        case 0:
        case 1:
        case 2:
            return add_timer();
        case 3:
            return cancel_timer();
        case 4:
            return move_timer();
        case 5:
        case 6:
            return queue(soon_, "call_soon",
                         [this](auto function) { loop_->call_soon(std::move(function)); });
        case 7:
            return queue(posts_, "post", [this](auto function) {
                RANDOM_CHECK(!loop_->post(std::move(function)));
            });
        case 8:
            return send();
        case 9:
            return watch();
        case 10:
            return jump(random_.one_in(8)
                            ? Duration(10h)
                            : Duration(static_cast<std::int64_t>(random_.size(100'000'000))));
        default:
            return jump(difference(first_deadline(), now()));
        }
    }

    void jump(Duration by) {
        if (by <= Duration::zero() || by > Duration(200h)) return; // it stands still
        round_.operation("the clock jumps by % ns", by.count());
        clock_->time = add_saturated(clock_->time, by);
    }

    void add_timer() {
        const std::uint64_t id = next_id_++;
        const Duration delay = some_delay();
        Armed& armed = timers_[id];
        armed.deadline = add_saturated(now(), delay);
        const auto fire = [this, id] { fired(id); };
        switch (random_.below(3)) {
        case 0:
            round_.operation("timer %: call_later %", static_cast<std::int64_t>(id), delay.count());
            armed.timer = loop_->call_later(delay, fire);
            break;
        case 1:
            round_.operation("timer %: call_at, in %", static_cast<std::int64_t>(id),
                             delay.count());
            armed.timer = loop_->call_at(armed.deadline, fire);
            break;
        default:
            armed.interval = std::max(delay, Duration::zero());
            armed.deadline = add_saturated(now(), armed.interval);
            round_.operation("timer %: call_every %", static_cast<std::int64_t>(id),
                             armed.interval.count());
            armed.timer = loop_->call_every(armed.interval, fire);
        }
        note_armed(armed);
        if (timers_.size() > 60) cancel_timer();
    }

    void note_armed(Armed& armed) {
        armed.sequence = next_sequence_++;
        armed.turn = turn();
        RANDOM_CHECK(armed.timer.active());
        RANDOM_EQUAL(armed.timer.when().time_since_epoch().count(),
                     armed.deadline.time_since_epoch().count());
    }

    Armed* pick_timer() {
        if (timers_.empty()) return nullptr;
        auto at = timers_.begin();
        std::advance(at, random_.below(timers_.size()));
        picked_ = at->first;
        return &at->second;
    }

    void cancel_timer() {
        Armed* armed = pick_timer();
        if (armed == nullptr) return;
        round_.operation("cancel timer %", static_cast<std::int64_t>(picked_));
        RANDOM_EQUAL(armed->timer.cancel(), armed->active);
        RANDOM_CHECK(!armed->timer.active());
        armed->active = false;
        if (picked_ != running_) timers_.erase(picked_);
    }

    void move_timer() {
        Armed* armed = pick_timer();
        if (armed == nullptr) return;
        const TimePoint when = add_saturated(now(), some_delay());
        round_.operation("move timer % by %", static_cast<std::int64_t>(picked_),
                         difference(when, now()).count());
        RANDOM_EQUAL(armed->timer.reschedule(when), armed->active);
        if (!armed->active) return;
        armed->deadline = when;
        note_armed(*armed);
    }

    template<class Queue>
    void queue(std::deque<Queued>& queued, const char* what, Queue&& into) {
        const std::uint64_t id = next_id_++;
        round_.operation(what, static_cast<std::int64_t>(id));
        queued.push_back({id, turn()});
        into([this, &queued, id] {
            RANDOM_CHECK(!queued.empty());
            RANDOM_EQUAL(queued.front().id, id);
            RANDOM_CHECK(queued.front().turn < turn(), "queued and run in the same turn");
            queued.pop_front();
            in_callback();
        });
    }

    void send() {
        Pair& pair = random_.pick(pairs_);
        char bytes[64] = {};
        const std::size_t size = 1 + random_.below(sizeof bytes);
        const Sys sent = clock_->send(pair.far, bytes, size);
        if (!sent.ok()) return;
        round_.operation("% bytes sent", sent.value());
        pair.waiting += sent.count();
    }

    void watch() {
        Pair& pair = random_.pick(pairs_);
        ++pair.changes;
        if (!pair.watch.active()) {
            round_.operation("watch");
            pair.watch = loop_->watch(pair.near).value();
            pair.reads = false;
        } else if (random_.one_in(3)) {
            round_.operation("watch refused");
            RANDOM_CHECK(loop_->watch(pair.near).error().code == std::errc::file_exists);
        }
        if (!random_.one_in(4)) {
            pair.reads = true;
            pair.watch.on_readable([this, &pair] { readable(pair); });
        } else if (random_.one_in(2)) {
            RANDOM_EQUAL(pair.watch.stop_reading(), pair.reads);
            pair.reads = false;
        } else {
            pair.watch.cancel();
            pair.reads = false;
        }
    }

    // --- What comes of it ---

    void in_callback() {
        if (ending_) return;
        if (random_.one_in(4)) jump(Duration(static_cast<std::int64_t>(random_.size(50'000'000))));
        if (random_.one_in(3)) change();
    }

    void fired(std::uint64_t id) {
        round_.note("timer % fires", static_cast<std::int64_t>(id));
        const auto found = timers_.find(id);
        RANDOM_CHECK(found != timers_.end() && found->second.active,
                     "fires once, and not when it was cancelled");
        Armed& armed = found->second;
        RANDOM_CHECK(armed.deadline <= now(), "early");
        for (const auto& [other_id, other] : timers_) {
            if (!other.active || other.turn >= turn()) continue;
            RANDOM_CHECK(std::pair(armed.deadline, armed.sequence) <=
                             std::pair(other.deadline, other.sequence),
                         "timer " << other_id << " is due before timer " << id);
        }
        if (armed.interval < Duration::zero()) {
            armed.active = false;
            RANDOM_CHECK(!armed.timer.active());
        } else {
            // The first multiple that is not over.
            TimePoint next = add_saturated(armed.deadline, armed.interval);
            if (next < now() && armed.interval == Duration::zero()) next = now();
            if (next < now()) {
                const Duration late = difference(now(), armed.deadline);
                const std::int64_t ticks =
                    (late.count() + armed.interval.count() - 1) / armed.interval.count();
                next = armed.deadline + armed.interval * ticks;
            }
            armed.deadline = next;
            note_armed(armed);
        }
        const std::uint64_t outer = std::exchange(running_, id);
        in_callback();
        running_ = outer;
        if (!timers_.at(id).active) timers_.erase(id);
    }

    void readable(Pair& pair) {
        ++pair.calls;
        RANDOM_CHECK(pair.reads);
        RANDOM_CHECK(pair.waiting != 0, "nothing was sent");
        char bytes[100];
        const Sys got = clock_->recv(pair.near, bytes, 1 + random_.below(sizeof bytes));
        RANDOM_CHECK(got.value() > 0 && got.count() <= pair.waiting);
        pair.waiting -= got.count();
        in_callback();
    }

    TimePoint first_deadline() const {
        TimePoint first = TimePoint::max();
        for (const auto& [id, armed] : timers_)
            if (armed.active) first = std::min(first, armed.deadline);
        return first;
    }

    void run() {
        const TimePoint begin = now();
        const std::uint64_t before = turn();
        if (random_.one_in(2)) {
            const Loop::Budget budget{
                random_.one_in(2) ? Duration(1h)
                                  : Duration(static_cast<std::int64_t>(random_.below(20'000'000))),
                random_.below(10)};
            round_.operation("step of % ns and %", budget.time.count(),
                             static_cast<std::int64_t>(budget.count));
            const StepResult result = loop_->step(budget);
            RANDOM_CHECK(result.ran <= budget.count);
            RANDOM_CHECK(result.more_ready == (loop_->next_deadline() == TimePoint::min()));
            cut_short_ = result.more_ready;
            return;
        }
        round_.operation("run_once");
        // A turn of callbacks may go without a look at the kernel.
        const bool looks = soon_.empty();
        struct Seen {
            bool readable;
            std::uint64_t calls, changes;
        } seen[std::size(pairs_)];
        for (std::size_t i = 0; i < std::size(pairs_); ++i)
            seen[i] = {looks && pairs_[i].reads && pairs_[i].waiting != 0, pairs_[i].calls,
                       pairs_[i].changes};
        loop_->run_once();
        if (std::exchange(cut_short_, false)) return; // it went on with an older turn
        RANDOM_EQUAL(turn(), before + 1);
        for (const auto& [id, armed] : timers_)
            RANDOM_CHECK(!armed.active || armed.deadline > begin || armed.turn > before,
                         "timer " << id << " is lost");
        for (std::size_t i = 0; i < std::size(pairs_); ++i)
            if (seen[i].readable && pairs_[i].changes == seen[i].changes)
                RANDOM_EQUAL(pairs_[i].calls, seen[i].calls + 1);
    }

    void look() {
        const TimePoint next = loop_->next_deadline();
        RANDOM_CHECK(next <= first_deadline(), "next_deadline is later than the first timer");
        RANDOM_EQUAL(loop_->now().time_since_epoch().count(), now().time_since_epoch().count());
    }

    /// Everything that is still to come comes, in a number of turns that is not large.
    void end() {
        for (auto& pair : pairs_) {
            if (!pair.watch.active()) pair.watch = loop_->watch(pair.near).value();
            pair.reads = true;
            pair.watch.on_readable([this, &pair] { readable(pair); });
        }
        for (auto& [id, armed] : timers_) { // the repeating ones would go on for ever
            if (armed.interval < Duration::zero()) continue;
            armed.timer.cancel();
            armed.active = false;
        }
        ending_ = true;
        const auto left = [this] {
            if (!soon_.empty() || !posts_.empty()) return true;
            for (const Pair& pair : pairs_)
                if (pair.reads && pair.waiting != 0) return true;
            return std::any_of(timers_.begin(), timers_.end(), [this](const auto& timer) {
                return timer.second.active && timer.second.deadline <= now() &&
                       timer.second.interval < Duration::zero();
            });
        };
        for (int turns = 0; left(); ++turns) {
            RANDOM_CHECK(turns < 100'000, "it does not come to an end");
            loop_->run_once();
        }
    }

    Round& round_;
    Random random_;
    ClockKernel* clock_ = nullptr;
    std::optional<Loop> loop_;
    std::map<std::uint64_t, Armed> timers_;
    std::deque<Queued> soon_, posts_;
    Pair pairs_[4];
    std::uint64_t next_id_ = 1, next_sequence_ = 1, picked_ = 0, running_ = 0;
    bool cut_short_ = false;
    bool ending_ = false;
};

void play(Round& round) {
    World world(round);
    world.play(100 + static_cast<int>(round.random.below(300)));
}

const RegisterFamily family(
    {"loop", "timers, callbacks, posts and watches, with a clock that stalls and jumps", &play});

} // namespace
