#pragma once

#include <weft/coro/core/coroutine.hpp>
#include <weft/coro/tasks/cancel_scope.hpp>
#include <weft/reactor/loop_core.hpp>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#pragma GCC visibility push(default)

namespace weft::coro::detail {

/// Tasks that somebody joins: the children of a task, of a group, or of the loop's root.
class Family {
public:
    Family() = default;
    Family(const Family&) = delete;
    Family& operator=(const Family&) = delete;

    ListNode children;            ///< those that have not ended
    CancelScope* scope = nullptr; ///< what they are started in
    Wait* joiner = nullptr;       ///< waits for the last of them to end

    /// A child is about to end with an error that nobody has looked at. Called by the child, which
    /// may still do anything.
    virtual void take_error(TaskBase&) noexcept {}
    /// A child ended, and has left the list. Calls nobody's code.
    virtual void child_ended(TaskBase& child) noexcept;

protected:
    ~Family() = default;
};

/// Runs the coroutines of one loop, on its thread. Made when the first is started, and gone with
/// the loop.
///
/// Coroutines that can go on stand in one queue. One that suspends jumps straight to the next of
/// the queue; the loop gets its turn when the queue is empty, and after so many jumps at the
/// latest. A coroutine that waits for I/O is not queued at all: the event jumps to it.
class Scheduler final : public weft::detail::FrontEnd {
public:
    /// The loop's, made if there is none.
    static Scheduler& of(Loop& loop);
    static Scheduler* find(Loop& loop) noexcept {
        return weft::detail::core_of(loop).front_end<Scheduler>();
    }
    static constexpr char kind = 0; // names it among the front-ends of a loop
    explicit Scheduler(weft::detail::LoopCore& core);
    ~Scheduler() override;

    weft::detail::LoopCore& core() noexcept { return core_; }
    Loop& loop() noexcept { return core_.loop(); }
    StackPool& stacks() noexcept { return stacks_; }
    Family& root() noexcept { return root_; }
    CancelScope& root_scope() noexcept { return root_scope_; }
    std::size_t count() const noexcept { return count_; }
    ListNode& all() noexcept { return all_; }
    std::uint64_t switches() const noexcept { return switches_; }

    /// The one place where coroutines suspend: parks the one that runs until the wait is over.
    /// Throws `Cancelled`.
    Wake suspend(Wait& wait) {
        Coroutine& self = *park(wait);
        if (self.woken_by >= Wake::cancelled) [[unlikely]]
            throw_cancelled(self);
        return self.woken_by;
    }
    Wake suspend(Wait& wait, TimePoint deadline) {
        return deadline == TimePoint::max() ? suspend(wait) : suspend_until(wait, deadline);
    }
    /// `suspend`, inlined (suspend.hpp).
    Wake suspend_here(Wait& wait);
    /// To the end of the queue. Throws `Cancelled`.
    void yield();
    /// The same; the coroutine itself is returned when it runs again. It has to look whether it is
    /// cancelled.
    Coroutine* yield_unchecked(Coroutine& self);
    /// What every operation does that might suspend, when it did not have to: throws if it is
    /// cancelled, and lets the others have their turn from time to time.
    void checkpoint(Coroutine& self) {
        self.immediate += 2;
        if (self.cancel_pending || self.immediate >= immediate_limit) [[unlikely]]
            checkpoint_slowly(self);
    }
    /// Whether it may go on without a checkpoint: for reads and writes, of which two together count
    /// as much as one operation of another kind. So a coroutine that does both keeps its batch
    /// together.
    bool goes_on(Coroutine& self) noexcept {
        return !self.cancel_pending && ++self.immediate < immediate_limit;
    }
    /// For a read that is going to ask the kernel: a checkpoint, of which each counts for half.
    void checkpoint_read(Coroutine& self) {
        if (!goes_on(self)) [[unlikely]]
            checkpoint_slowly(self);
    }
    /// For what is done in memory alone, with what has come or until so much is gathered that it is
    /// sent: the same, but only those that are ready now get their turn. The loop has it at the
    /// next read or send, which is not far, so that what was gathered leaves in one piece.
    void checkpoint_in_memory(Coroutine& self) {
        if (self.cancel_pending || ++self.immediate >= immediate_limit) [[unlikely]]
            checkpoint_in_memory_slowly(self);
    }
    /// What was moved counts as well: the coroutine of a peer that sends without end lets others
    /// run as often as somebody with many small messages.
    void charge(Coroutine& self, std::size_t bytes) noexcept {
        self.immediate = static_cast<std::uint16_t>(
            self.immediate + std::min<std::size_t>(bytes / bytes_per_count, immediate_limit));
    }
    /// Throws if the coroutine is cancelled.
    void check_cancelled(Coroutine& self) {
        if (self.cancel_pending) [[unlikely]]
            throw_cancelled(self);
    }

    /// At the end of the queue.
    void make_ready(Coroutine& coroutine) noexcept {
        coroutine.next_ready = nullptr;
        (ready_ != nullptr ? ready_last_->next_ready : ready_) = &coroutine;
        ready_last_ = &coroutine;
        if (!in_run_) core_.run_front_end(*this);
    }
    /// Runs it now. From the loop's own stack only.
    void resume(Coroutine& coroutine);
    /// Runs `coroutine`, which must be new or parked without a wait, on behalf of the one that
    /// runs, until it suspends.
    void run_for(Coroutine& consumer, Coroutine& coroutine);

    /// A coroutine at the top of a new stack, that begins with `entry` when it is switched to.
    /// Below it are `body_size` bytes for its body.
    Coroutine& make(TaskBase& task, std::size_t stack_size, std::size_t body_size,
                    void (*entry)(Context&));
    /// Takes back what was made and not added.
    void unmake(Coroutine& made) noexcept { stacks_.give_back(made.stack); }
    /// Makes it known, in the scope of `family`.
    void add(Coroutine& coroutine, Family& family, Coroutine* parent);
    /// The same, and queues it.
    void start(Coroutine& coroutine, Family& family, Coroutine* parent);
    /// Whether what somebody writes is being gathered.
    bool writing() noexcept { return core_.cork().is_open(); }
    /// Before the end: what was written last leaves. Reports what goes wrong with that.
    void end_writing(Coroutine& self) noexcept;
    /// The coroutine that runs has ended, and its task has its outcome. Calls nobody's code.
    [[noreturn]] void end(Coroutine& self) noexcept;

    /// The scopes of `coroutine` have changed: it hears of that from `update_now`.
    void update_later(Coroutine& coroutine) noexcept {
        if (!coroutine.cancel_link.linked()) changed_.push_back(coroutine.cancel_link);
    }
    /// Cancelling what somebody waits for may cancel others in turn: those follow when it returns,
    /// and not inside it, so that chains of any length are cancelled on any stack.
    void update_now() noexcept;
    /// Whether a coroutine stands in the queue, or beside it.
    bool any_ready() const noexcept { return ready_ != nullptr || aside_ != nullptr; }
    /// `yield`, and the loop has its turn before anybody runs again.
    void yield_to_loop() {
        jumps_left_ = 0;
        yield();
    }

    /// In a catch block, for what nobody will look at: a `FatalError` leaves the loop's `run`.
    void report_exception(const std::string& what) noexcept;

    void on_loop_closing() noexcept override;
    bool alive() const noexcept override { return count_ != 0; }
    void on_nothing_to_wait_for() override;
    void run() override;
    void step_aside() noexcept override;
    void step_back() noexcept override;
    void look_ahead(const weft::detail::Source* first, const weft::detail::Source* second,
                    const weft::detail::Source* third) const noexcept override;

    /// Stops the loop when this task of the root has ended, or, with null, when all have.
    void stop_loop_after(const TaskBase* task) noexcept {
        root_.last = task;
        root_.until_empty = task == nullptr;
    }
    /// A number that no search for cycles has had.
    std::uint64_t next_search() noexcept { return ++searches_; }
    /// A number below `count`, for choices that shall be fair. Not for secrets.
    std::size_t draw(std::size_t count) noexcept;
    /// Called when nothing can ever wake anybody.
    void on_deadlock(Function<void()> handler) { deadlock_handler_ = std::move(handler); }
    /// Runs the coroutines that are ready in an order drawn from `seed` instead of first come,
    /// first served.
    void shuffle(std::uint64_t seed) noexcept {
        // Small seeds have most bits in common with each other.
        shuffle_state_ = (seed * 0x9E3779B97F4A7C15u) | 1;
        jumps_ = 0;
    }
    bool ending() const noexcept { return ending_; }
    /// How many coroutines are in `sleep_forever`.
    std::size_t endless = 0;
    /// Those that wait for all others to be blocked; the first of them looks, for all.
    ListNode watchers;
    bool watched = false;
    /// The last two different times at which coroutines had their turn, the last one first. Not
    /// told of those that were resumed by I/O.
    TimePoint last_run{}, run_before{};

    // How stacks are used: off unless asked for, since it writes over each of them first.
    bool measuring = false;
    struct Usage {
        std::source_location spawned;
        std::size_t count = 0, size = 0, used = 0;
    };
    std::vector<Usage> usage;

    /// What is wrong, for error texts: "'name' (spawned at file:line)".
    static std::string describe(const Coroutine& coroutine);

private:
    // Jumps from coroutine to coroutine before the loop gets its turn: at 10 ns each it does not
    // wait for two microseconds.
    static constexpr int jumps_per_run = 256;
    // Twice the operations that did not have to wait before others get their turn. A hundred let a
    // reader of 512-byte pieces answer 48 KiB in one go.
    static constexpr std::uint16_t immediate_limit = 200;
    // So that 200 KiB are as much as a hundred operations.
    static constexpr std::size_t bytes_per_count = 1024;
    // A catch block that keeps a cancellation to itself over and over lets the others run each
    // time from here on...
    static constexpr std::uint16_t swallowed_alone = 100;
    // ...and when everything is being ended, and it keeps that from happening, the process dies.
    static constexpr std::uint16_t swallowed_limit = 50000;
    static constexpr unsigned char paint = 0xA5;

    // `suspend` but for what it may throw afterwards: returns by a jump where nothing stands in the
    // way (no cork to send, no generator's consumer, no clock to read), else by `switch_away`.
    Coroutine* park(Wait& wait);
    Coroutine* park_slowly(Coroutine& self);
    Coroutine& begin_wait(Wait& wait);
    Wake suspend_until(Wait& wait, TimePoint deadline);
    void switch_away(Coroutine& self);
    Context& next_context(Coroutine& self);
    Coroutine* next_ready() noexcept;
    void enter(Coroutine& coroutine);
    [[noreturn, gnu::cold]] void rethrow_fatal();
    void checkpoint_slowly(Coroutine& self);
    void checkpoint_in_memory_slowly(Coroutine& self);
    Coroutine* yield_slowly(Coroutine& self);
    void stand_aside(Coroutine& self);
    [[noreturn, gnu::cold]] void throw_cancelled(Coroutine& self);
    [[noreturn, gnu::cold]] void refuse_to_wait(Wait& wait);
    [[noreturn, gnu::cold]] static void refuse_in_hook(const Coroutine& self,
                                                       const std::string& wait);
    void note_swallowed(Coroutine& self);
    int shuffle_ready();
    void count_switch(Coroutine& to) noexcept;
    void begin_running(Coroutine& self) noexcept;
    void check_duration(const Coroutine& self);
    void measure(const Coroutine& self);
    static bool same_place(const std::source_location& a, const std::source_location& b) noexcept;
    void report_leftovers();

    weft::detail::LoopCore& core_;
    Context main_;                   // the loop's own stack
    Coroutine* set_aside_ = nullptr; // what ran when another loop was stepped inside of it
    Coroutine* ready_ = nullptr;     // the next to be run
    Coroutine* ready_last_ = nullptr;
    // had their share of this turn, and stand in the queue from the next phase of theirs on
    Coroutine* aside_ = nullptr;
    Coroutine* aside_last_ = nullptr;
    int jumps_ = jumps_per_run; // none when shuffling: what becomes ready stands in the next order
    int jumps_left_ = 0;        // until the loop's turn; negative: a yield ends them
    bool in_run_ = false;
    const bool debug_;
    bool ending_ = false;
    std::uint64_t switches_ = 0;
    std::uint64_t searches_ = 0;
    TimePoint running_since_{};
    ListNode all_;
    ListNode changed_;      // those whose scopes have changed, and that have not heard of that
    bool updating_ = false; // by the loop's own stack
    std::size_t count_ = 0;
    StackPool stacks_;
    /// Gives the memory of a crowd's stacks back when the crowd has been gone for a while: one that
    /// comes again at once would pay for every page anew, 2 us each.
    struct Trimming final : TimerNode {
        static constexpr Duration patience = std::chrono::seconds(1);
        static constexpr Duration interval = std::chrono::milliseconds(5);
        explicit Trimming(Scheduler& s) noexcept : scheduler(s) {}
        void begin() noexcept;
        void on_timer() override;
        Scheduler& scheduler;
    } trimming_{*this};
    CancelScope root_scope_;
    struct Root final : Family {
        explicit Root(Loop& l) noexcept : loop(l) {}
        void child_ended(TaskBase& child) noexcept override;
        Loop& loop;
        const TaskBase* last = nullptr;
        bool until_empty = false;
    } root_;
    std::exception_ptr fatal_;
    std::uint64_t shuffle_state_ = 0;
    std::uint64_t draw_state_ = 0; // from the kernel's random numbers at first use
    Function<void()> deadlock_handler_;
};

[[noreturn]] void throw_not_running(const char* what);

/// The coroutine that runs; `UsageError` if there is none, naming what was called.
inline Coroutine& running(const char* what) {
    if (current == nullptr) [[unlikely]]
        throw_not_running(what);
    return *current;
}

/// For what begins something before it waits for it: throws if the coroutine that runs is
/// cancelled.
inline void check_cancelled(const char* what) {
    Coroutine& self = running(what);
    self.scheduler.check_cancelled(self);
}

} // namespace weft::coro::detail

#pragma GCC visibility pop
