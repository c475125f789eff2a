#include "suspend.hpp"

#include <weft/coro/core/scheduler.hpp>
#include <weft/coro/tasks/task.hpp>
#include <weft/coro/tasks/task_local.hpp>
#include <weft/reactor/log.hpp>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <span>

namespace weft::coro::detail {

void Scheduler::rethrow_fatal() {
    std::rethrow_exception(std::exchange(fatal_, nullptr));
}

void Scheduler::run() {
    if (changed_.linked()) [[unlikely]]
        update_now();
    if (watched) [[unlikely]]
        if (const TimePoint now = core_.now(); now != last_run)
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
            if (scheduler.any_ready()) scheduler.core_.run_front_end(scheduler);
        }
    } in_run(*this);
    if (core_.limited()) { // each comes back here, to be counted
        jumps_left_ = 0;
        while (ready_ != nullptr) {
            enter(*std::exchange(ready_, ready_->next_ready));
            if (--jumps == 0 || !core_.spend()) return;
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
        core_.kernel().random(std::as_writable_bytes(std::span(&draw_state_, 1)));
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
    const Duration took = core_.kernel().now() - running_since_;
    if (took <= core_.options().slow_callback) return;
    log(LogLevel::warning,
        "the coroutine " + describe(self) + " ran for " +
            std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()) +
            " ms without suspending");
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

// --- Beginning and ending ---

Scheduler& Scheduler::of(Loop& loop) {
    if (Scheduler* found = find(loop)) return *found;
    weft::detail::LoopCore& core = weft::detail::core_of(loop);
    core.check_usable("starting a coroutine");
    auto made = std::make_unique<Scheduler>(core);
    Scheduler& scheduler = *made;
    core.add_front_end(std::move(made));
    return scheduler;
}

Scheduler::Scheduler(weft::detail::LoopCore& core)
    : FrontEnd(kind), core_(core), debug_(core.debug()), root_(core.loop()) {
    root_.scope = &root_scope_;
    root_scope_.phase_ = CancelScope::Phase::entered; // by nobody, and cancelled as those that are
}

Scheduler::~Scheduler() = default;

Coroutine& Scheduler::make(TaskBase& task, std::size_t stack_size, std::size_t body_size,
                           void (*entry)(Context&)) {
    if (core_.closing()) throw UsageError("spawn: the loop is closed");
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
    task.phase = TaskBase::Phase::queued;
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
        core_.cork().flush();
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
    Context& next = next_context(self);
    if (stacks_.give_back(self.stack)) trimming_.begin();
    leave_context(self, next);
}

void Scheduler::report_exception(const std::string& what) noexcept {
    try {
        core_.report_exception(what);
    } catch (...) {
        fatal_ = std::current_exception(); // thrown when the loop's own stack runs again
    }
}

void Scheduler::Trimming::begin() noexcept {
    if (!armed() && !scheduler.core_.closing())
        scheduler.core_.arm(*this, scheduler.core_.deadline_in(patience));
}

void Scheduler::Trimming::on_timer() {
    const StackPool::Left left = scheduler.stacks_.trim_some();
    if (left == StackPool::Left::nothing) return;
    scheduler.core_.arm(
        *this, scheduler.core_.deadline_in(left == StackPool::Left::more ? interval : patience));
}

// --- The end of everything ---

// A line for each place where such coroutines were spawned: there may be thousands of each.
void Scheduler::report_leftovers() {
    struct Place {
        const Coroutine* first;
        std::size_t others = 0;
    };
    std::vector<Place> places;
    for (ListNode* link = all_.next; link != &all_; link = link->next) {
        const Coroutine& left = coroutine_of(*link);
        const auto known = std::find_if(places.begin(), places.end(), [&](const Place& place) {
            return same_place(place.first->task.spawned, left.task.spawned);
        });
        if (known != places.end()) {
            ++known->others;
        } else {
            places.push_back({&left});
        }
    }
    for (const Place& place : places) {
        const Coroutine& left = *place.first;
        std::string text =
            "the loop is closed, and the coroutine " + describe(left) + " had not ended";
        if (left.wait != nullptr) text += ": it waits for " + left.wait->describe();
        if (place.others != 0)
            text += "; nor had " + std::to_string(place.others) + " more that were spawned there";
        core_.report({text, nullptr, left.task.spawned});
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
            core_.report({"while the loop was closed", std::current_exception(), {}});
        }
    }
}

void Scheduler::step_aside() noexcept {
    set_aside_ = std::exchange(current, nullptr);
}

void Scheduler::step_back() noexcept {
    current = std::exchange(set_aside_, nullptr);
}

namespace {

/// Asks for `size` bytes from `at` on. Inlined early: g++ 12 takes a call of a function that only
/// prefetches for one without an effect, and drops it.
[[gnu::always_inline]] inline void fetch(const void* at, std::size_t size) noexcept {
    constexpr std::size_t line = 64;
    for (std::size_t i = 0; i < size; i += line)
        __builtin_prefetch(static_cast<const char*>(at) + i);
}

} // namespace

/// What the next event's path names, the path of the one behind it, the source of the one behind
/// that. In a batch of 512 connections each resumed on a stack of its own, whose lines and page
/// table entry the connections before it had pushed out of the cache, for 6 to 8 % of a request's
/// time.
void Scheduler::look_ahead(const weft::detail::Source* first, const weft::detail::Source* second,
                           const weft::detail::Source* third) const noexcept {
    if (third != nullptr) fetch(third, 192);
    if (second != nullptr && second->path != nullptr) fetch(second->path, 192);
    // Nothing is mapped at null, which the processor would find out each time.
    if (first == nullptr || first->path == nullptr || first->path->object == nullptr) return;
    fetch(first->path->object, 128);
    fetch(first->path->stack, 448);
}

void Scheduler::on_nothing_to_wait_for() {
    if (deadlock_handler_ && count_ != 0) deadlock_handler_();
}

std::string Scheduler::describe(const Coroutine& coroutine) {
    return coroutine.task.describe();
}

bool Scheduler::same_place(const std::source_location& a, const std::source_location& b) noexcept {
    return a.line() == b.line() && a.column() == b.column() &&
           std::string_view(a.file_name()) == b.file_name();
}

void Family::child_ended(TaskBase&) noexcept {
    if (joiner != nullptr && !children.linked()) std::exchange(joiner, nullptr)->wake();
}

void Scheduler::Root::child_ended(TaskBase& child) noexcept {
    if (&child == last || (until_empty && !children.linked())) loop.stop();
}

} // namespace weft::coro::detail
