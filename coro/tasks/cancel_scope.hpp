#pragma once

#include <weft/coro/core/coroutine.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#pragma GCC visibility push(default)

namespace weft::coro {

/// Thrown by `with_timeout` and by operations with a deadline of their own: `std::errc::timed_out`.
struct TimeoutError : std::system_error {
    explicit TimeoutError(const std::string& what)
        : std::system_error(std::make_error_code(std::errc::timed_out)), text_(what) {}
    /// What was waited for in vain. Not the system's text for that code, "Connection timed out".
    const char* what() const noexcept override { return text_.what(); }

private:
    std::runtime_error text_; // is copied without throwing
};

/// When something has to be done: never, at a time, or after a while. A duration counts from its
/// conversion on, by the clock of the loop that runs.
class Deadline {
public:
    constexpr Deadline() noexcept = default;
    constexpr Deadline(TimePoint at) noexcept : at_(at) {}
    template<class Rep, class Period>
    Deadline(std::chrono::duration<Rep, Period> after) : at_(from_now(after)) {}
    constexpr TimePoint at() const noexcept { return at_; }
    constexpr bool never() const noexcept { return at_ == TimePoint::max(); }

private:
    static TimePoint from_now(Duration after);
    TimePoint at_ = TimePoint::max();
};

/// A part of a program that can be cancelled as a whole, with everything that was started in it.
/// Once cancelled, by `cancel`, by its deadline or because a scope around it was, every suspension
/// inside throws `weft::Cancelled`, again and again, until the scope is left; `run` of the
/// outermost cancelled scope stops that exception. Code that catches it and goes on is reported
/// once. It may do so as often as it likes, and lets the others run from the hundredth time on;
/// only when everything is being ended the process is aborted at the fifty thousandth, since that
/// would never be over. Tasks that were spawned inside belong to it, and to the scope around it
/// when it is left before they have ended; those of a cancelled scope stay cancelled then. For the
/// loop's thread.
///
/// A scope is entered once, by `run`; its object may be made before that and outlive it, and
/// `cancel` and the setters may be called by others meanwhile.
class CancelScope {
public:
    CancelScope() noexcept = default;
    explicit CancelScope(Deadline deadline, bool shield = false) noexcept
        : deadline_(deadline.at()), shield_(shield) {}
    /// Neither suspends nor cancels. It must have been left.
    ~CancelScope();
    CancelScope(const CancelScope&) = delete;
    CancelScope& operator=(const CancelScope&) = delete;

    /// Calls `function()` or `function(*this)` inside the scope: what it returns, or empty (`false`
    /// for void) if the scope was cancelled and the cancellation has left the function; of a
    /// reference, a copy of what it refers to. Other exceptions pass. `UsageError` outside of a
    /// coroutine and when the scope was entered before. Suspends only where `function` does.
    template<class F>
    auto run(F&& function);

    /// Cancels what runs inside, now or once it is entered. Idempotent; cannot be taken back.
    void cancel() noexcept;
    /// Whether `cancel` was called or the deadline has passed while it was entered.
    bool cancel_called() const noexcept { return request_ != Request::none; }
    /// Whether `run` has stopped a `Cancelled` of this scope.
    bool cancelled_caught() const noexcept { return phase_ == Phase::caught; }
    /// Whether the deadline is what cancelled it.
    bool expired() const noexcept { return request_ == Request::expired; }
    /// Whether suspensions directly inside throw: this scope, or one around it that no shield keeps
    /// off, is cancelled.
    bool effectively_cancelled() const noexcept { return effective_; }

    TimePoint deadline() const noexcept { return deadline_; }
    /// Moves the deadline, also into the past, which cancels at once. `UsageError` once it has
    /// expired or was left.
    void set_deadline(Deadline deadline);
    bool shield() const noexcept { return shield_; }
    /// The scope around it, null unless entered.
    const CancelScope* parent() const noexcept { return parent_; }
    /// With a shield the cancellation of scopes around this one is kept off; without it is
    /// delivered at once.
    void set_shield(bool shield) noexcept;

private:
    friend class detail::Coroutine;
    friend class detail::GeneratorBase;
    friend class detail::Scheduler;
    friend class detail::TaskBase;
    friend class TaskGroup;

    class DeadlineTimer final : public detail::TimerNode {
    public:
        explicit DeadlineTimer(CancelScope& s) noexcept : scope(s) {}
        void on_timer() override;
        CancelScope& scope;
    };
    struct ScopeLink : detail::ListNode {
        explicit ScopeLink(CancelScope& s) noexcept : scope(s) {}
        CancelScope& scope;
    };

    // A scope is in one of these phases, and goes from one to the next by
    //
    //     outside  enter              entered
    //     entered  leave              left
    //     entered  leave(cancelled)   caught    the `Cancelled` was its own, and ends here
    //
    // What it was asked for, in the first two of them:
    //
    //     none       cancel           cancelled
    //     none       expire           expired   by its deadline, while it is entered
    //     cancelled  take_back        none      of the scope of a task as a whole
    //
    // `effective_`, whether suspensions inside throw, follows from that, the shield, and the same
    // of the scope around it. Scopes of tasks as a whole are made entered.
    enum class Phase : std::uint8_t { outside, entered, left, caught };
    enum class Request : std::uint8_t { none, cancelled, expired };

    void enter();
    /// Leaves; `cancelled`: because of a `Cancelled`. True if that ends here.
    bool leave(bool cancelled) noexcept;
    void link_to(CancelScope* parent) noexcept;
    void add_member(detail::Coroutine& coroutine) noexcept;
    /// The scope that stands for a coroutine as a whole, around those that it enters: made when it
    /// is first cancelled, spawns a task or is moved.
    static CancelScope& own_of(detail::Coroutine& coroutine) noexcept;
    static void end_own(detail::Coroutine& coroutine) noexcept;
    /// The coroutine with its scopes is a part of `place` from now on.
    static void move(detail::Coroutine& coroutine, CancelScope& place) noexcept;
    /// What is left inside belongs to the parent from now on.
    void hand_over() noexcept;
    void take_back() noexcept;
    bool active() const noexcept { return phase_ == Phase::entered; }
    bool wants_cancel() const noexcept {
        return cancel_called() || (!shield_ && parent_ != nullptr && parent_->effective_);
    }
    /// Works out anew what is cancelled, in this scope and those inside it, and tells them, which
    /// may call somebody's code.
    void update() noexcept;
    /// The same, and they are told later, by the scheduler that is returned; null if nobody is.
    detail::Scheduler* mark() noexcept;
    void arm();
    void expire() noexcept;
    void request(Request by) noexcept;

    CancelScope* parent_ = nullptr;
    ScopeLink link_{*this};              // among the parent's scopes
    detail::ListNode scopes_;            // directly inside
    detail::ListNode members_;           // coroutines whose innermost scope this is
    detail::Coroutine* owner_ = nullptr; // the one inside `run`
    DeadlineTimer timer_{*this};
    TimePoint deadline_ = TimePoint::max();
    bool shield_ = false;
    bool effective_ = false;
    Phase phase_ = Phase::outside;
    Request request_ = Request::none;
    bool owner_was_in_cancellation_ = false;
};

namespace detail {

template<class F>
decltype(auto) call_with_scope(F& function, CancelScope& scope) {
    if constexpr (std::is_invocable_v<F&, CancelScope&>) {
        return function(scope);
    } else {
        return function();
    }
}

template<class F>
using ScopeResult = decltype(call_with_scope(std::declval<F&>(), std::declval<CancelScope&>()));
/// What is returned for `R`: what an rvalue refers to may be gone, what an lvalue refers to is not
/// ours.
template<class R>
using ScopeReturn = std::conditional_t<std::is_lvalue_reference_v<R>, R, std::remove_cvref_t<R>>;
/// Holds an `R`, or where it is, or nothing.
template<class R>
using Kept = std::optional<std::conditional_t<std::is_reference_v<R>, std::remove_reference_t<R>*,
                                              std::remove_cvref_t<R>>>;
template<class R, class Value>
Kept<R> keep(Value&& value) {
    if constexpr (std::is_reference_v<R>) {
        return std::addressof(value);
    } else {
        return Kept<R>(std::forward<Value>(value));
    }
}

} // namespace detail

template<class F>
auto CancelScope::run(F&& function) {
    using R = detail::ScopeResult<F>;
    enter();
    try {
        if constexpr (std::is_void_v<R>) {
            detail::call_with_scope(function, *this);
            leave(false);
            return true;
        } else {
            std::optional<std::remove_cvref_t<R>> result(detail::call_with_scope(function, *this));
            leave(false);
            return result;
        }
    } catch (const Cancelled&) {
        if (!leave(true)) throw;
    } catch (...) {
        leave(false);
        throw;
    }
    if constexpr (std::is_void_v<R>) {
        return false;
    } else {
        return std::optional<std::remove_cvref_t<R>>();
    }
}

namespace detail {

/// `scope.run(function)`, and what a reference refers to is not copied.
template<class F>
auto run_to_return(CancelScope& scope, F& function) {
    using R = ScopeReturn<ScopeResult<F>>;
    if constexpr (std::is_reference_v<R>) {
        return scope.run([&] { return std::addressof(call_with_scope(function, scope)); });
    } else {
        return scope.run(function);
    }
}

} // namespace detail

/// Calls `function()`, or `function(CancelScope&)`, and cancels it when `limit` has passed: what it
/// returns, or empty (`false` for void) if it was cut short. With a limit in the past it runs up to
/// its first suspension.
template<class F>
auto move_on_after(Deadline limit, F&& function) {
    CancelScope scope(limit);
    return scope.run(function);
}

/// The same, but throws `TimeoutError` if the function was cut short. If it comes to its end
/// although the time had passed its result counts, and what it throws while it is being cancelled
/// passes. A reference that the function returns is returned.
template<class F>
auto with_timeout(Deadline limit, F&& function) -> detail::ScopeReturn<detail::ScopeResult<F>> {
    using R = detail::ScopeReturn<detail::ScopeResult<F>>;
    CancelScope scope(limit);
    auto result = detail::run_to_return(scope, function);
    if (!scope.cancelled_caught()) {
        if constexpr (std::is_void_v<R>) {
            return;
        } else if constexpr (std::is_reference_v<R>) {
            return **result;
        } else {
            return std::move(*result);
        }
    }
    if (!scope.expired()) throw Cancelled(); // by hand, through the scope it was given
    throw TimeoutError("with_timeout: the time is up");
}

/// Calls `function` shielded: cancellations from outside wait until it is done, and come with the
/// suspension after. Suspends where `function` does; nothing but what it does itself cancels it. A
/// reference that the function returns is returned.
template<class F>
    requires std::is_invocable_v<F&>
auto shield(F&& function) -> detail::ScopeReturn<std::invoke_result_t<F&>> {
    using R = detail::ScopeReturn<std::invoke_result_t<F&>>;
    CancelScope scope(Deadline(), true);
    const auto plainly = [&]() -> decltype(auto) { return function(); };
    if constexpr (std::is_void_v<R>) {
        (void)scope.run(plainly);
    } else if constexpr (std::is_reference_v<R>) {
        return **detail::run_to_return(scope, plainly);
    } else {
        return std::move(*scope.run(plainly));
    }
}

/// Calls `body()`, and then `clean_up()`, whatever has become of the body, and shielded, so that it
/// may wait also when the caller is cancelled. What the body returned or threw goes on; what
/// `clean_up` throws takes its place. Suspends where they do. Give clean-up that may hang a
/// `with_timeout` inside.
template<class Body, class CleanUp>
    requires std::is_invocable_v<Body&> && std::is_invocable_v<CleanUp&>
auto finally(Body&& body, CleanUp&& clean_up) -> detail::ScopeReturn<std::invoke_result_t<Body&>> {
    using R = detail::ScopeReturn<std::invoke_result_t<Body&>>;
    // Not in a catch block, and not in a destructor: neither may wait as the others do.
    std::exception_ptr error;
    const auto run_body = [&]() -> std::conditional_t<std::is_void_v<R>, bool, detail::Kept<R>> {
        try {
            if constexpr (std::is_void_v<R>) {
                body();
                return true;
            } else {
                return detail::keep<R>(body());
            }
        } catch (...) {
            error = std::current_exception();
        }
        return {};
    };
    auto result = run_body();
    shield([&] { (void)clean_up(); });
    if (error) std::rethrow_exception(error);
    if constexpr (std::is_reference_v<R>) {
        return **result;
    } else if constexpr (!std::is_void_v<R>) {
        return std::move(*result);
    }
}

/// When the scopes around the calling coroutine will cancel it: the earliest deadline that no
/// shield keeps off, `TimePoint::max()` for none, `TimePoint::min()` if it is cancelled already.
TimePoint current_effective_deadline();

} // namespace weft::coro

#pragma GCC visibility pop
