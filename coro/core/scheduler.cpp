#include "suspend.hpp"

#include <weft/coro/core/scheduler.hpp>
#include <weft/coro/tasks/local.hpp>
#include <weft/coro/tasks/task.hpp>
#include <weft/reactor/log.hpp>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <span>

namespace weft::coro::detail {

constinit thread_local Coroutine* current = nullptr;

// All that a switch touches.
static_assert(sizeof(Switched) + offsetof(Context, entry) == 64);

void throw_not_running(const char* what) {
    throw UsageError(std::string(what) +
                     ": called outside of a coroutine; start one with coro::run or coro::spawn");
}

// --- Switching ---

void Scheduler::make_ready(Coroutine& coroutine) noexcept {
    coroutine.next_ready = nullptr;
    (ready_ != nullptr ? ready_last_->next_ready : ready_) = &coroutine;
    ready_last_ = &coroutine;
    if (!in_run_) loop_.run_front_end();
}

void Scheduler::rethrow_fatal() {
    std::rethrow_exception(std::exchange(fatal_, nullptr));
}

void Scheduler::run() {
    if (changed_.linked()) [[unlikely]]
        update_now();
    if (watched) [[unlikely]]
        if (const TimePoint now = loop_.now(); now != last_run)
            run_before = std::exchange(last_run, now);
    if (aside_ != nullptr) {
        (ready_ != nullptr ? ready_last_->next_ready : ready_) = aside_;
        ready_last_ = std::exchange(aside_last_, nullptr);
        aside_ = nullptr;
    }
    int jumps = jumps_per_run;
    if (shuffle_state_ != 0) [[unlikely]]
        jumps = shuffle_ready();
    struct InRun {
        Scheduler& scheduler;
        explicit InRun(Scheduler& s) noexcept : scheduler(s) { s.in_run_ = true; }
        ~InRun() {
            scheduler.in_run_ = false;
            if (scheduler.any_ready()) scheduler.loop_.run_front_end();
        }
    } in_run(*this);
    if (loop_.limited()) { // each comes back here, to be counted
        jumps_left_ = 0;
        while (ready_ != nullptr) {
            enter(*std::exchange(ready_, ready_->next_ready));
            if (--jumps == 0 || !loop_.spend()) return;
        }
        return;
    }
    jumps_left_ = debug_ ? -jumps : jumps;
    while (Coroutine* next = next_ready())
        enter(*next);
}

void Scheduler::run_for(Coroutine& consumer, Coroutine& coroutine) {
    const std::uint16_t immediate = consumer.immediate;
    coroutine.consumer = &consumer;
    begin_running(coroutine);
    switch_context(consumer, coroutine);
    consumer.immediate = immediate; // its turn goes on
}

namespace {

// xorshift64 (Marsaglia, Journal of Statistical Software 8/14, 2003).
std::uint64_t next_random(std::uint64_t& state) noexcept {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

} // namespace

std::size_t Scheduler::draw(std::size_t count) noexcept {
    if (draw_state_ == 0) [[unlikely]] {
        loop_.kernel().random(std::as_writable_bytes(std::span(&draw_state_, 1)));
        draw_state_ |= 1;
    }
    return static_cast<std::size_t>(next_random(draw_state_) >> 32) % count;
}

int Scheduler::shuffle_ready() {
    std::vector<Coroutine*> order;
    while (ready_ != nullptr)
        order.push_back(std::exchange(ready_, ready_->next_ready));
    for (std::size_t left = order.size(); left != 0; --left) {
        std::swap(order[left - 1], order[next_random(shuffle_state_) % left]);
        order[left - 1]->next_ready = ready_;
        if (ready_ == nullptr) ready_last_ = order[left - 1];
        ready_ = order[left - 1];
    }
    return static_cast<int>(order.size());
}

void Scheduler::check_duration(const Coroutine& self) {
    const Duration took = loop_.kernel().now() - running_since_;
    if (took <= loop_.options().slow_callback) return;
    log(LogLevel::warning,
        "the coroutine " + describe(self) + " ran for " +
            std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()) +
            " ms without suspending");
}

// --- Waiting ---

void Wait::wake() noexcept {
    coroutine.wait = nullptr;
    coroutine.woken_by = Wake::event;
    coroutine.scheduler.make_ready(coroutine);
}

void Wait::wake_now() {
    wake_here();
}

void Coroutine::end_wait(Wake reason) noexcept {
    if (wait == nullptr || wait->uncancellable) return;
    if (reason == Wake::cancelled) {
        // One whose body has ended has nothing left that could be cancelled.
        if (TaskBase* other = wait->cancel_instead(); other != nullptr && !other->body_ended) {
            if (other == &task) return; // it hears of that when it runs
            task.must_cancel = false;   // it is delivered there
            // One that is cancelled together with this one needs no second request. A scope that
            // it is inside of is another matter: that does not end it.
            if (!other->coroutine->cancelled_as_whole()) other->cancel();
            return;
        }
    }
    Wait& ended = *std::exchange(wait, nullptr);
    ended.abandon();
    woken_by = reason;
    scheduler.make_ready(*this);
}

void Coroutine::update_cancellation() noexcept {
    const bool cancelled = scope->effectively_cancelled() || scheduler.ending();
    cancel_pending = cancelled || no_wait != nullptr;
    if (cancelled) end_wait(Wake::cancelled);
}

bool Coroutine::cancelled_as_whole() const noexcept {
    const CancelScope* whole = own_scope;
    if (whole == nullptr)
        for (whole = scope; whole->owner_ == this;)
            whole = whole->parent_;
    return whole->effective_;
}

void Coroutine::refuse_wait(std::exception_ptr error) noexcept {
    Wait& ended = *std::exchange(wait, nullptr);
    ended.abandon();
    task.error = std::move(error);
    woken_by = Wake::refused;
    scheduler.make_ready(*this);
}

void Scheduler::update_now() noexcept {
    // Of each stack, since what is told may run others: those need not wait until that is over.
    bool& updating = current != nullptr ? current->updating : updating_;
    if (std::exchange(updating, true)) return;
    while (changed_.linked()) {
        Coroutine& next = coroutine_of(*changed_.next);
        next.cancel_link.unlink();
        next.update_cancellation();
    }
    updating = false;
}

// Looked at where a cancellation is, so that waiting costs no more.
NoWaiting::NoWaiting(const char* what) noexcept : self_(current) {
    if (self_ == nullptr) return;
    before_ = std::exchange(self_->no_wait, what);
    self_->cancel_pending = true;
}

NoWaiting::~NoWaiting() {
    if (self_ == nullptr) return;
    self_->no_wait = before_;
    self_->update_cancellation();
}

namespace {

class WaitTimer final : public TimerNode {
public:
    WaitTimer(Coroutine& coroutine, TimePoint deadline) : coroutine_(coroutine) {
        coroutine.scheduler.loop().arm(*this, deadline);
    }
    ~WaitTimer() { coroutine_.scheduler.loop().timers().cancel(*this); }
    void on_timer() override { coroutine_.end_wait(Wake::timed_out); }

private:
    Coroutine& coroutine_;
};

} // namespace

// Returns by a jump, as `yield` does, and needs no registers saved of its own.
Coroutine* Scheduler::park(Wait& wait) {
    Coroutine& self = wait.coroutine;
    if ((self.cancel_pending || unwinding()) && !wait.uncancellable) [[unlikely]]
        refuse_to_wait(wait);
    self.wait = &wait;
    if (self.consumer != nullptr || loop_.cork().is_open() || debug_) [[unlikely]]
        return park_slowly(self);
    Context* to = &main_;
    Coroutine* const next = next_ready();
    if (next != nullptr) {
        count_switch(*next);
        to = next;
    } else {
        current = nullptr;
    }
    swap_thread_state(self, *to);
    return static_cast<Coroutine*>(weft_coro_switch_and_return(&self, to, &self));
}

[[gnu::noinline]] Coroutine* Scheduler::park_slowly(Coroutine& self) {
    switch_away(self);
    return &self;
}

Wake Scheduler::suspend_until(Wait& wait, TimePoint deadline) {
    const WaitTimer timer(wait.coroutine, deadline);
    return suspend(wait);
}

void Scheduler::refuse_to_wait(Wait& wait) {
    Coroutine& self = wait.coroutine;
    wait.abandon();
    if (self.no_wait != nullptr) refuse_in_hook(self, wait.describe());
    if (self.cancel_pending && !unwinding()) throw_cancelled(self);
    throw UsageError("the coroutine " + describe(self) + " would have to wait for " +
                     wait.describe() + " in a destructor that runs because of an exception");
}

void Scheduler::refuse_in_hook(const Coroutine& self, const std::string& wait) {
    throw UsageError("the coroutine " + describe(self) + " would have to wait for " + wait +
                     " in " + self.no_wait + ", which must not wait");
}

// A function of its own, so that the one below needs no registers saved.
[[gnu::noinline]] Coroutine* Scheduler::yield_slowly(Coroutine& self) {
    if (loop_.cork().is_open()) loop_.uncork();
    // What is queued in the loop has its turn, too, and first if it is that which runs this.
    if (!in_run_ || loop_.work_queued()) jumps_left_ = 0;
    make_ready(self);
    switch_away(self);
    return &self;
}

[[gnu::always_inline]] inline Coroutine* Scheduler::yield_unchecked(Coroutine& self) {
    Coroutine* next = ready_;
    if (next == nullptr || jumps_left_ <= 0 || loop_.work_queued() || loop_.cork().is_open() ||
        self.consumer != nullptr) [[unlikely]]
        return yield_slowly(self);
    --jumps_left_;
    self.next_ready = nullptr;
    ready_last_->next_ready = &self;
    ready_last_ = &self;
    ready_ = next->next_ready;
    count_switch(*next); // whose time is not taken: in debug mode there are no jumps left
    swap_thread_state(self, *next);
    return static_cast<Coroutine*>(weft_coro_switch_and_return(&self, next, &self));
}

Coroutine* yield_now() {
    Coroutine* const self = current;
    if (self == nullptr || self->cancel_pending || unwinding()) [[unlikely]]
        return nullptr;
    return self->scheduler.yield_unchecked(*self);
}

void yield_refused() {
    Coroutine& self = running("yield");
    if (!unwinding()) self.scheduler.check_cancelled(self);
    throw UsageError("the coroutine " + Scheduler::describe(self) +
                     " would have to yield in a destructor that runs because of an exception");
}

void Scheduler::yield() {
    coro::yield();
}

void Scheduler::checkpoint_slowly(Coroutine& self) {
    // A destructor's: it has its result, and must not be thrown at.
    if (unwinding() || self.no_wait != nullptr) return;
    check_cancelled(self);
    stand_aside(self);
    if (self.cancel_pending) [[unlikely]]
        throw_cancelled(self);
}

// Whoever has not had to wait for long may be what keeps the loop from its events, or moves a
// flood: others are resumed by events, and it must not come in between each two of them as somebody
// does whom they have woken.
void Scheduler::stand_aside(Coroutine& self) {
    jumps_left_ = 0;
    self.next_ready = nullptr;
    (aside_ != nullptr ? aside_last_->next_ready : aside_) = &self;
    aside_last_ = &self;
    if (!in_run_) loop_.run_front_end();
    switch_away(self);
}

void Scheduler::checkpoint_in_memory_slowly(Coroutine& self) {
    if (ready_ != nullptr || loop_.work_queued() || self.cancel_pending || unwinding())
        return checkpoint_slowly(self);
    self.immediate = immediate_limit - 1;
}

void Scheduler::throw_cancelled(Coroutine& self) {
    if (self.woken_by == Wake::refused && self.task.error) [[unlikely]]
        std::rethrow_exception(std::exchange(self.task.error, nullptr));
    if (self.no_wait != nullptr) refuse_in_hook(self, "others");
    const bool by_scope = self.scope->effectively_cancelled() || ending_;
    if (by_scope && self.in_cancellation && !std::current_exception()) note_swallowed(self);
    self.in_cancellation = by_scope;
    self.cancel_pending = by_scope;
    if (self.task.must_cancel) {
        // Delivered, unless a shield keeps it off and this is about another scope.
        const CancelScope* scope = self.scope;
        while (scope != self.own_scope && !scope->shield())
            scope = scope->parent();
        if (scope == self.own_scope) self.task.must_cancel = false;
    }
    throw Cancelled();
}

// The cancellation of a scope was caught inside, and not thrown on.
void Scheduler::note_swallowed(Coroutine& self) {
    if (++self.swallowed == 1)
        loop_.report(
            {"the coroutine " + describe(self) +
                 " has caught a weft::Cancelled and goes on; a catch (...) must throw it on",
             nullptr, self.task.spawned});
    if (self.swallowed < swallowed_alone) return;
    if ((ending_ || root_scope_.cancel_called()) && self.swallowed >= swallowed_limit) {
        log(LogLevel::error, "the coroutine " + describe(self) + " has caught " +
                                 std::to_string(self.swallowed) +
                                 " cancellations of one scope, and can not be ended");
        std::abort();
    }
    if (self.swallowed == UINT16_MAX) --self.swallowed;
    // It throws without waiting: the others, signals included, would never have their turn.
    if (self.consumer == nullptr) {
        jumps_left_ = 0;
        make_ready(self);
        switch_away(self);
    }
}

// --- Beginning and ending ---

Scheduler& Scheduler::of(Loop& loop) {
    if (Scheduler* found = find(loop)) return *found;
    loop.check_usable("starting a coroutine");
    auto made = std::make_unique<Scheduler>(loop);
    Scheduler& scheduler = *made;
    loop.set_front_end(std::move(made));
    return scheduler;
}

Scheduler::Scheduler(Loop& loop) : loop_(loop), debug_(loop.debug()), root_(loop) {
    root_.scope = &root_scope_;
    root_scope_.entered_ = true; // by nobody, and cancelled as those that are
}

Scheduler::~Scheduler() = default;

Coroutine& Scheduler::make(TaskBase& task, std::size_t stack_size, std::size_t body_size,
                           void (*entry)(Context&)) {
    if (loop_.closing()) throw UsageError("spawn: the loop is closed");
    const Stack stack = stacks_.take(stack_size);
    const auto down = [](std::byte* at, std::size_t size, std::size_t alignment) {
        return reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(at) - size) &
                                            ~(alignment - 1));
    };
    std::byte* coroutine = down(stack.top, sizeof(Coroutine), alignof(Coroutine));
    std::byte* body = down(coroutine, body_size, 16);
    forget_frames(stack.bottom, stack.usable());
    if (measuring) [[unlikely]] {
        std::byte* from = stack.bottom + (stack.has_canary ? StackPool::canary_size : 0);
        std::memset(from, paint, static_cast<std::size_t>(body - from));
    }
    auto* made = ::new (coroutine) Coroutine(*this, task, stack);
    make_context(*made, body, static_cast<std::size_t>(body - stack.bottom), entry);
    return *made;
}

void Scheduler::start(Coroutine& coroutine, Family& family, Coroutine* parent) {
    add(coroutine, family, parent);
    make_ready(coroutine);
}

void Scheduler::add(Coroutine& coroutine, Family& family, Coroutine* parent) {
    TaskBase& task = coroutine.task;
    task.retain();
    task.coroutine = &coroutine;
    task.family = &family;
    family.children.push_back(task.sibling);
    // Children belong to the scope that they are spawned in, not to all of their parent.
    CancelScope* scope = family.scope;
    if (parent != nullptr && &family == parent->task.own_children.get()) scope = parent->scope;
    coroutine.scope = scope;
    scope->add_member(coroutine);
    coroutine.cancel_pending = scope->effectively_cancelled();
    if (parent != nullptr && parent->locals != nullptr) coroutine.locals = retain(parent->locals);
    all_.push_back(coroutine.all_link);
    ++count_;
}

void Scheduler::end_writing(Coroutine& self) noexcept {
    try {
        if (loop_.cork().is_open()) loop_.uncork();
    } catch (...) {
        report_exception("sending what the coroutine " + describe(self) + " wrote last");
    }
}

void Scheduler::end(Coroutine& self) noexcept {
    if (debug_) [[unlikely]]
        check_duration(self);
    if (measuring) [[unlikely]]
        measure(self);
    if (!stacks_.intact(self.stack)) [[unlikely]] {
        log(LogLevel::error, "the coroutine " + describe(self) + " has overflowed its stack of " +
                                 std::to_string(self.stack.usable()) +
                                 " bytes, and overwritten what lies below it");
        std::abort();
    }
    if (self.own_scope != nullptr) {
        self.scope_link.unlink();
        CancelScope::end_own(self); // which may lie in one that the task owns
    }
    self.task.release();
    self.scope_link.unlink();
    if (self.cancel_link.linked()) self.cancel_link.unlink();
    self.all_link.unlink();
    --count_;
    Coroutine* coroutine = self.consumer != nullptr ? self.consumer : next_ready();
    if (stacks_.give_back(self.stack)) trimming_.begin();
    if (coroutine != nullptr) {
        begin_running(*coroutine);
        leave_context(self, *coroutine);
    }
    current = nullptr;
    leave_context(self, main_);
}

void Scheduler::report_exception(const std::string& what) noexcept {
    try {
        loop_.report_exception(what);
    } catch (...) {
        fatal_ = std::current_exception(); // thrown when the loop's own stack runs again
    }
}

void Scheduler::Trimming::begin() noexcept {
    if (!armed() && !scheduler.loop_.closing())
        scheduler.loop_.arm(*this, scheduler.loop_.deadline_in(patience));
}

void Scheduler::Trimming::on_timer() {
    const StackPool::Left left = scheduler.stacks_.trim_some();
    if (left == StackPool::Left::nothing) return;
    scheduler.loop_.arm(
        *this, scheduler.loop_.deadline_in(left == StackPool::Left::more ? interval : patience));
}

namespace {

bool same_place(const std::source_location& a, const std::source_location& b) noexcept {
    return a.line() == b.line() && a.column() == b.column() &&
           std::string_view(a.file_name()) == b.file_name();
}

} // namespace

// --- How stacks are used ---

[[gnu::no_sanitize_address]] void Scheduler::measure(const Coroutine& self) {
    const std::byte* deepest =
        self.stack.bottom + (self.stack.has_canary ? StackPool::canary_size : 0);
    if (*deepest != std::byte{paint}) return; // spawned before anybody measured
    while (deepest < self.stack.top && *deepest == std::byte{paint})
        ++deepest;
    const auto used = static_cast<std::size_t>(self.stack.top - deepest);
    const std::source_location& where = self.task.spawned;
    for (Usage& known : usage) {
        if (!same_place(known.spawned, where)) continue;
        ++known.count;
        known.used = std::max(known.used, used);
        known.size = std::max(known.size, self.stack.usable());
        return;
    }
    try {
        usage.push_back({where, 1, self.stack.usable(), used});
    } catch (const std::bad_alloc&) { // one less in the statistics
    }
}

// --- The end of everything ---

// A line for each place where such coroutines were spawned: there may be thousands of each.
void Scheduler::report_leftovers() {
    struct Kind {
        const Coroutine* first;
        std::size_t others = 0;
    };
    std::vector<Kind> kinds;
    for (ListNode* link = all_.next; link != &all_; link = link->next) {
        const Coroutine& left = coroutine_of(*link);
        const auto known = std::find_if(kinds.begin(), kinds.end(), [&](const Kind& kind) {
            return same_place(kind.first->task.spawned, left.task.spawned);
        });
        if (known != kinds.end()) {
            ++known->others;
        } else {
            kinds.push_back({&left});
        }
    }
    for (const Kind& kind : kinds) {
        const Coroutine& left = *kind.first;
        std::string text =
            "the loop is closed, and the coroutine " + describe(left) + " had not ended";
        if (left.wait != nullptr) text += ": it waits for " + left.wait->describe();
        if (kind.others != 0)
            text += "; nor had " + std::to_string(kind.others) + " more that were spawned there";
        loop_.report({text, nullptr, left.task.spawned});
    }
}

void Scheduler::on_loop_closing() noexcept {
    if (!std::exchange(ending_, true)) {
        report_leftovers();
    }
    for (ListNode* link = all_.next; link != &all_; link = link->next)
        update_later(coroutine_of(*link));
    update_now();
    while (any_ready()) {
        try {
            run();
        } catch (...) { // a FatalError: there is no `run` of the loop's to leave
            loop_.report(
                {"while the loop was closed", std::current_exception(), Loop::no_location()});
        }
    }
}

void* Scheduler::step_aside() noexcept {
    return std::exchange(current, nullptr);
}

void Scheduler::step_back(void* running) noexcept {
    current = static_cast<Coroutine*>(running);
}

void Scheduler::on_nothing_to_wait_for() {
    if (deadlock_handler_ && count_ != 0) deadlock_handler_();
}

std::string Scheduler::describe(const Coroutine& coroutine) {
    return coroutine.task.describe();
}

void Family::child_ended(TaskBase&) noexcept {
    if (joiner != nullptr && !children.linked()) std::exchange(joiner, nullptr)->wake();
}

void Scheduler::Root::child_ended(TaskBase& child) noexcept {
    if (&child == last || (until_empty && !children.linked())) loop.stop();
}

} // namespace weft::coro::detail
