#include <weft/coro/cancel_scope.hpp>
#include <weft/coro/scheduler.hpp>
#include <weft/coro/task.hpp>
#include <weft/reactor/log.hpp>

#include <cstdlib>

namespace weft::coro {

TimePoint Deadline::from_now(Duration after) {
    return add_saturated(this_loop().now(), after);
}

CancelScope::~CancelScope() {
    if (owner_ == nullptr && !members_.linked() && !scopes_.linked()) return;
    log(LogLevel::error, "a CancelScope was destroyed while coroutines were inside it");
    std::abort(); // they would go on with a scope that is gone
}

void CancelScope::enter() {
    detail::Coroutine& self = detail::running("CancelScope::run");
    if (entered_)
        throw UsageError(
            "CancelScope::run: this scope was entered before; a scope is entered once");
    entered_ = true;
    owner_ = &self;
    requests_at_entry_ = self.task.cancel_requests;
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
    self.scheduler.loop().timers().cancel(timer_);
    left_ = true;
    const bool from_outside = !shield_ && parent_->effective_;
    caught_ = cancelled && cancelled_ && !from_outside &&
              self.task.cancel_requests <= requests_at_entry_ && !self.scheduler.ending();
    self.scope_link.unlink();
    parent_->add_member(self);
    self.scope = std::exchange(parent_, nullptr);
    link_.unlink();
    self.in_cancellation = owner_was_in_cancellation_;
    if (!self.in_cancellation) self.swallowed = 0;
    self.update_cancellation();
    return caught_;
}

void CancelScope::link_to(CancelScope* parent) noexcept {
    parent_ = parent;
    parent->scopes_.push_back(link_);
}

void CancelScope::add_member(detail::Coroutine& coroutine) noexcept {
    members_.push_back(coroutine.scope_link);
}

void CancelScope::cancel() noexcept {
    if (std::exchange(cancelled_, true)) return;
    if (entered_ && !left_) update();
}

void CancelScope::expire() noexcept {
    if (cancelled_) return;
    expired_ = true;
    cancel();
}

void CancelScope::DeadlineTimer::on_timer() {
    scope.expire();
}

void CancelScope::arm() {
    Loop& loop = owner_->scheduler.loop();
    loop.timers().cancel(timer_);
    if (deadline_ == TimePoint::max() || cancelled_) return;
    if (deadline_ <= loop.now()) {
        expire();
    } else {
        loop.arm(timer_, deadline_);
    }
}

void CancelScope::set_deadline(Deadline deadline) {
    if (left_) throw UsageError("CancelScope::set_deadline: the scope was left");
    if (expired_) throw UsageError("CancelScope::set_deadline: the deadline has passed");
    deadline_ = deadline.at();
    if (owner_ != nullptr) arm();
}

void CancelScope::set_shield(bool shield) noexcept {
    shield_ = shield;
    if (entered_ && !left_) update();
}

// Parents before children, without recursion: scopes may be nested deeper than a coroutine's stack
// is.
void CancelScope::update() noexcept {
    const auto first_of = [](detail::ListNode& scopes) {
        return &static_cast<ScopeLink*>(scopes.next)->scope;
    };
    for (CancelScope* scope = this;;) {
        const bool wanted = scope->wants_cancel();
        if (std::exchange(scope->effective_, wanted) != wanted) {
            for (detail::ListNode* link = scope->members_.next; link != &scope->members_;
                 link = link->next)
                detail::coroutine_of(*link).update_cancellation();
            if (scope->scopes_.linked()) {
                scope = first_of(scope->scopes_);
                continue;
            }
        }
        while (scope != this && scope->link_.next == &scope->parent_->scopes_)
            scope = scope->parent_;
        if (scope == this) return;
        scope = &static_cast<ScopeLink*>(scope->link_.next)->scope;
    }
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
