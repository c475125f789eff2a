#include <weft/coro/core/scheduler.hpp>
#include <weft/coro/tasks/cancel_scope.hpp>
#include <weft/coro/tasks/sleep.hpp>
#include <weft/coro/tasks/task.hpp>
#include <weft/reactor/log.hpp>

#include <algorithm>
#include <cstdlib>
#include <new>

namespace weft::coro {

TimePoint Deadline::from_now(Duration after) {
    return this_loop().deadline_in(after);
}

CancelScope::~CancelScope() {
    if (owner_ == nullptr && !members_.linked() && !scopes_.linked()) return;
    log(LogLevel::error, "a CancelScope was destroyed while coroutines were inside it");
    std::abort(); // they would go on with a scope that is gone
}

void CancelScope::enter() {
    detail::Coroutine& self = detail::running("CancelScope::run");
    if (phase_ != Phase::outside)
        throw UsageError(
            "CancelScope::run: this scope was entered before; a scope is entered once");
    phase_ = Phase::entered;
    owner_ = &self;
    owner_was_in_cancellation_ = std::exchange(self.in_cancellation, false);
    link_to(self.scope);
    self.scope_link.unlink();
    add_member(self);
    self.scope = this;
    effective_ = wants_cancel();
    arm();
    self.update_cancellation();
}

bool CancelScope::leave(bool cancelled) noexcept {
    detail::Coroutine& self = *std::exchange(owner_, nullptr);
    self.scheduler.core().timers().cancel(timer_);
    const bool from_outside = !shield_ && parent_->effective_;
    const bool caught = cancelled && cancel_called() && !from_outside && !self.scheduler.ending();
    phase_ = caught ? Phase::caught : Phase::left;
    self.scope_link.unlink();
    if (members_.linked() || scopes_.linked()) [[unlikely]]
        hand_over();
    parent_->add_member(self);
    self.scope = std::exchange(parent_, nullptr);
    link_.unlink();
    self.in_cancellation = owner_was_in_cancellation_;
    if (!self.in_cancellation) self.swallowed = 0;
    self.update_cancellation();
    self.scheduler.update_now(); // those that were handed over
    return caught;
}

// --- The scope of a coroutine as a whole ---

CancelScope& CancelScope::own_of(detail::Coroutine& coroutine) noexcept {
    if (coroutine.own_scope != nullptr) return *coroutine.own_scope;
    static_assert(sizeof(CancelScope) <= sizeof coroutine.own_scope_place);
    auto* own = ::new (coroutine.own_scope_place) CancelScope();
    CancelScope* outermost = nullptr;
    CancelScope* around = coroutine.scope;
    while (around->owner_ == &coroutine)
        around = (outermost = around)->parent_;
    own->owner_ = &coroutine;
    own->phase_ = Phase::entered;
    own->effective_ = around->effective_;
    own->link_to(around);
    if (outermost != nullptr) {
        outermost->link_.unlink();
        outermost->link_to(own);
    } else {
        coroutine.scope_link.unlink();
        own->add_member(coroutine);
        coroutine.scope = own;
    }
    return *(coroutine.own_scope = own);
}

void CancelScope::end_own(detail::Coroutine& coroutine) noexcept {
    CancelScope* own = std::exchange(coroutine.own_scope, nullptr);
    own->owner_ = nullptr;
    if (own->members_.linked() || own->scopes_.linked()) own->hand_over();
    own->link_.unlink();
    own->~CancelScope();
}

void CancelScope::move(detail::Coroutine& coroutine, CancelScope& place) noexcept {
    CancelScope& own = own_of(coroutine);
    own.link_.unlink();
    own.link_to(&place);
    own.update();
}

void CancelScope::hand_over() noexcept {
    const auto first_of = [this] { return &static_cast<ScopeLink*>(scopes_.next)->scope; };
    while (members_.linked())
        own_of(detail::coroutine_of(*members_.next));
    while (scopes_.linked()) {
        // All are scopes of coroutines; a generator's is its own already.
        detail::Coroutine* other = first_of()->owner_;
        CancelScope& own = other != nullptr ? own_of(*other) : *first_of();
        if (cancel_called()) own.request_ = Request::cancelled;
        own.link_.unlink();
        own.link_to(parent_);
        own.mark();
    }
}

void CancelScope::take_back() noexcept {
    request_ = Request::none;
    update();
}

// --- What is cancelled ---

void CancelScope::link_to(CancelScope* parent) noexcept {
    parent_ = parent;
    parent->scopes_.push_back(link_);
}

void CancelScope::add_member(detail::Coroutine& coroutine) noexcept {
    members_.push_back(coroutine.scope_link);
}

void CancelScope::cancel() noexcept {
    request(Request::cancelled);
}

void CancelScope::expire() noexcept {
    request(Request::expired);
}

void CancelScope::request(Request by) noexcept {
    if (cancel_called()) return;
    request_ = by;
    if (active()) update();
}

void CancelScope::DeadlineTimer::on_timer() {
    scope.expire();
}

void CancelScope::arm() {
    weft::detail::LoopCore& loop = owner_->scheduler.core();
    loop.timers().cancel(timer_);
    if (deadline_ == TimePoint::max() || cancel_called()) return;
    if (deadline_ <= loop.now()) {
        expire();
    } else {
        loop.arm(timer_, deadline_);
    }
}

void CancelScope::set_deadline(Deadline deadline) {
    if (phase_ == Phase::left || phase_ == Phase::caught)
        throw UsageError("CancelScope::set_deadline: the scope was left");
    if (expired()) throw UsageError("CancelScope::set_deadline: the deadline has passed");
    deadline_ = deadline.at();
    if (owner_ != nullptr) arm();
}

void CancelScope::set_shield(bool shield) noexcept {
    shield_ = shield;
    if (active()) update();
}

// Nobody is told before all is worked out, since that may call somebody's code.
void CancelScope::update() noexcept {
    if (detail::Scheduler* scheduler = mark()) scheduler->update_now();
}

// Parents before children, without recursion: scopes may be nested deeper than a coroutine's stack
// is.
detail::Scheduler* CancelScope::mark() noexcept {
    detail::Scheduler* scheduler = nullptr;
    const auto first_of = [](detail::ListNode& scopes) {
        return &static_cast<ScopeLink*>(scopes.next)->scope;
    };
    for (CancelScope* scope = this;;) {
        const bool wanted = scope->wants_cancel();
        if (std::exchange(scope->effective_, wanted) != wanted) {
            for (detail::ListNode* link = scope->members_.next; link != &scope->members_;
                 link = link->next) {
                scheduler = &detail::coroutine_of(*link).scheduler;
                scheduler->update_later(detail::coroutine_of(*link));
            }
            if (scope->scopes_.linked()) {
                scope = first_of(scope->scopes_);
                continue;
            }
        }
        while (scope != this && scope->link_.next == &scope->parent_->scopes_)
            scope = scope->parent_;
        if (scope == this) break;
        scope = &static_cast<ScopeLink*>(scope->link_.next)->scope;
    }
    return scheduler;
}

TimePoint current_effective_deadline() {
    const detail::Coroutine& self = detail::running("current_effective_deadline");
    if (self.cancel_pending) return TimePoint::min();
    TimePoint earliest = TimePoint::max();
    for (const CancelScope* scope = self.scope; scope != nullptr;) {
        earliest = std::min(earliest, scope->deadline());
        scope = scope->shield() ? nullptr : scope->parent();
    }
    return earliest;
}

} // namespace weft::coro
