#pragma once

#include <weft/reactor/error.hpp>
#include <weft/reactor/function.hpp>
#include <weft/reactor/mailbox.hpp>
#include <weft/reactor/timer_queue.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <future>
#include <memory>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#pragma GCC visibility push(default)

namespace weft {

class Loop;
template<class T>
class Future;
template<class T>
class Promise;

/// Names done callbacks for their removal. Several may share one id.
enum class CallbackId : std::uint64_t {};

namespace detail {

/// A counted reference to a state.
template<class State>
class StateRef {
public:
    StateRef() noexcept = default;
    explicit StateRef(State* state) noexcept : state_(state) {
        if (state_) state_->retain();
    }
    StateRef(const StateRef& other) noexcept : StateRef(other.state_) {}
    StateRef(StateRef&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    StateRef& operator=(StateRef other) noexcept {
        std::swap(state_, other.state_);
        return *this;
    }
    ~StateRef() {
        if (state_) state_->release();
    }
    State* operator->() const noexcept { return state_; }
    State& operator*() const noexcept { return *state_; }
    State* get() const noexcept { return state_; }
    explicit operator bool() const noexcept { return state_ != nullptr; }

private:
    State* state_ = nullptr;
};

/// What futures of all types have in common. Shared by promises, futures and pending callbacks;
/// counted atomically, because the last reference may be dropped on another thread. All else is for
/// the loop's thread. While it is pending it is in the loop's list of those, so that the loop's end
/// ends it. Chains of any length are cancelled, ended and freed on any stack.
class FutureStateBase : private ListNode {
public:
    enum class Status : std::uint8_t { pending, value, failed, cancelled };

    explicit FutureStateBase(Loop& loop);
    virtual ~FutureStateBase();
    FutureStateBase(const FutureStateBase&) = delete;
    FutureStateBase& operator=(const FutureStateBase&) = delete;

    void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
    void release() noexcept {
        if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) dispose(*this);
    }

    Status status() const noexcept { return status_; }
    bool done() const noexcept { return status_ != Status::pending; }
    const std::shared_ptr<Mailbox>& mailbox() const noexcept { return mailbox_; }
    Loop* loop() const noexcept { return mailbox_->loop(); }

    CallbackId add_callback(Function<void(FutureStateBase&)> function, std::optional<CallbackId> id,
                            std::source_location location = {});
    std::size_t remove_callback(CallbackId id);
    /// A waiter, told at once when there is an outcome and without an allocation: it may
    /// only note that, and queue what is to follow. It leaves the list by `unlink`.
    struct Waiter : ListNode {
        virtual void on_done() noexcept = 0;

    protected:
        ~Waiter() = default;
    };
    /// Only while pending.
    void add_waiter(Waiter& waiter) noexcept { waiters_.push_back(waiter); }
    bool cancel();
    void on_cancel(Function<void()> hook) { cancel_hook_ = std::move(hook); }
    /// Cancelling this one cancels `source` next, which may be empty.
    void cancel_with(StateRef<FutureStateBase> source) noexcept { cancels_ = std::move(source); }
    void fail(std::exception_ptr error);
    void complete(Status status);
    /// Nobody will bring an outcome: a broken promise, or, when the loop is ending, an aborted
    /// operation.
    void break_promise() noexcept;
    /// The loop is closed: fails with `Errc::aborted`, which needs no fetching. Callbacks are
    /// destroyed unrun.
    void abandon() noexcept;
    /// Into another list of its loop's, if it is pending.
    void move_to(ListNode& list) noexcept {
        if (done()) return;
        unlink();
        list.push_back(*this);
    }
    /// Whether there is a waiter that is to be told at once.
    bool waited_for() const noexcept { return waiters_.linked(); }
    /// `abandon` for each state in a loop's list.
    static void abandon_all(ListNode& pending) noexcept;
    /// The exception of a failed future; it counts as retrieved from now on.
    const std::exception_ptr& error() noexcept {
        retrieved_ = true;
        return error_;
    }
    /// Throws unless there is a value.
    void check_value();
    /// Throws unless pending.
    void check_pending(const char* what) const;

private:
    struct Callback {
        CallbackId id;
        Function<void(FutureStateBase&)> function;
        std::source_location location;
    };
    void check_thread(const char* what) const;
    void schedule(std::size_t count);
    void run_callbacks(std::size_t count);
    void drop_callbacks() noexcept;
    void tell_waiters() noexcept;
    static void dispose(FutureStateBase& state) noexcept;
    void dispose_now() noexcept;
    class Runner;
    struct Disposal;

    std::atomic<int> references_{0};
    Status status_ = Status::pending;
    bool retrieved_ = false;
    std::shared_ptr<Mailbox> mailbox_;
    std::exception_ptr error_;
    std::vector<Callback> callbacks_;
    ListNode waiters_;
    std::size_t next_callback_ = 0; // of those that are scheduled, the first that has not run
    Function<void()> cancel_hook_;
    StateRef<FutureStateBase> cancels_;
    FutureStateBase* next_disposed_ = nullptr;
    std::uint64_t next_id_ = std::uint64_t{1} << 63; // far from the ids that callers choose
};

template<class T>
class FutureState final : public FutureStateBase {
public:
    using FutureStateBase::FutureStateBase;
    using Value = std::conditional_t<std::is_void_v<T>, std::monostate, T>;
    std::optional<Value> value;
};

template<class T>
struct IsFuture : std::false_type {};
template<class T>
struct IsFuture<Future<T>> : std::true_type {
    using Value = T;
};

[[noreturn]] void throw_no_state(const char* what);

} // namespace detail

/// The outcome of something that goes on: pending, then once and for ever a value, an error or
/// cancelled. Belongs to one loop and is used on its thread; a reference, cheap to copy, which may
/// be kept and dropped on any thread. An error that nobody ever looks at is reported to
/// `Loop::on_unhandled` when the last reference goes. When the loop is closed a pending future
/// fails with `Errc::aborted`, and callbacks that did not run are destroyed.
template<class T>
class Future {
    using State = detail::FutureState<T>;

public:
    using value_type = T;
    Future() = default;
    explicit Future(detail::StateRef<State> state) : state_(std::move(state)) {}

    bool valid() const noexcept { return static_cast<bool>(state_); }
    bool done() const { return state("done").done(); }
    bool cancelled() const { return state("cancelled").status() == State::Status::cancelled; }

    /// The value, which stays in the future. Throws its error, `Cancelled`, or `UsageError` while
    /// pending.
    decltype(auto) result() const {
        state("result").check_value();
        if constexpr (!std::is_void_v<T>) return static_cast<T&>(*state_->value);
    }
    /// Moves the value out. Throws as `result()`.
    T take() {
        state("take").check_value();
        if constexpr (!std::is_void_v<T>) return std::move(*state_->value);
    }
    /// The error, null if there is a value. Throws `Cancelled`, or `UsageError` while pending.
    std::exception_ptr exception() const {
        auto& state = this->state("exception");
        if (state.status() != State::Status::failed) {
            state.check_value();
            return nullptr;
        }
        return state.error();
    }
    /// The error as a code: that of a `std::system_error`, `operation_canceled` if cancelled, empty
    /// if there is a value, `Errc::invalid_state` while pending or for any other exception.
    std::error_code error_code() const;

    /// Gives the operation up. True if that changed the state; the operation itself is told, and
    /// done callbacks run.
    bool cancel() { return state("cancel").cancel(); }
    /// `cancel`, soon, from any thread. `Errc::closed` if the loop is, which has ended the
    /// operation as well.
    std::error_code cancel_from_any_thread() const {
        return state("cancel_from_any_thread")
            .mailbox()
            ->post([future = *this]() mutable { future.cancel(); }, {});
    }

    /// Calls `function(Future<T>)` in the loop once this is done, never before returning; in order
    /// of adding. Callbacks that share an id are removed together.
    template<class F>
    CallbackId add_done_callback(F function, std::optional<CallbackId> id = {},
                                 std::source_location location = std::source_location::current()) {
        return state("add_done_callback")
            .add_callback(
                [function = std::move(function)](detail::FutureStateBase& base) mutable {
                    function(Future(detail::StateRef<State>(static_cast<State*>(&base))));
                },
                id, location);
    }
    /// Removes every callback with `id` that is not scheduled yet; how many there were.
    std::size_t remove_done_callback(CallbackId id) {
        return state("remove_done_callback").remove_callback(id);
    }

    /// A future for what `function(value)` returns; a returned future is waited for. Errors and
    /// cancellation of this one pass through without calling it, and cancelling the result cancels
    /// this one.
    template<class F>
    auto then(F function);
    /// A future with this one's value, or with what `function(std::exception_ptr)` returns in place
    /// of an error.
    template<class F>
    Future<T> or_else(F function);

    /// For a thread that is not the loop's: the same outcome as a standard future. Cancellation and
    /// a closed loop arrive as `std::system_error` with `operation_canceled` and as
    /// `std::future_errc::broken_promise`.
    std::future<T> to_std();

    Loop* loop() const noexcept { return state_ ? state_->loop() : nullptr; }
    const detail::StateRef<State>& state_ref() const noexcept { return state_; }

private:
    State& state(const char* what) const {
        if (!state_) detail::throw_no_state(what);
        return *state_;
    }
    detail::StateRef<State> state_;
};

/// The side that brings the outcome. Destroying it without one breaks the future
/// (`Errc::broken_promise`, or `Errc::aborted` if that happens because the loop is closed). For the
/// loop's thread.
template<class T>
class Promise {
    using State = detail::FutureState<T>;

public:
    explicit Promise(Loop& loop) : state_(new State(loop)) {}
    Promise(Promise&&) noexcept = default;
    Promise& operator=(Promise&& other) noexcept {
        Promise old(std::move(*this));
        state_ = std::move(other.state_);
        return *this;
    }
    ~Promise() {
        if (state_) state_->break_promise();
    }

    Future<T> future() const { return Future<T>(state_); }
    /// False once there is an outcome, be it the future's cancellation, or for a moved-from
    /// promise.
    bool pending() const noexcept { return state_ && !state_->done(); }

    /// Sets the outcome; `UsageError` if there is one already. A `Cancelled` as the exception
    /// cancels the future.
    template<class... Value>
    void set_value(Value&&... value) {
        state_->check_pending("set_value");
        set_value_if_pending(std::forward<Value>(value)...);
    }
    void set_exception(std::exception_ptr error) {
        state_->check_pending("set_exception");
        state_->fail(std::move(error));
    }
    void set_error(const Error& error) {
        set_exception(std::make_exception_ptr(std::system_error(error.code, error.context)));
    }
    /// The same, silently doing nothing if there is an outcome already; true if it was set.
    template<class... Value>
    bool set_value_if_pending(Value&&... value) {
        if (!pending()) return false;
        state_->value.emplace(std::forward<Value>(value)...);
        state_->complete(State::Status::value);
        return true;
    }
    bool set_exception_if_pending(std::exception_ptr error) {
        if (!pending()) return false;
        state_->fail(std::move(error));
        return true;
    }
    bool set_error_if_pending(const Error& error) {
        if (!pending()) return false;
        set_error(error);
        return true;
    }
    /// Called, inside `Future::cancel`, if the future is cancelled while pending.
    void on_cancel(Function<void()> hook) { state_->on_cancel(std::move(hook)); }

private:
    detail::StateRef<State> state_;
};

/// A future with a value.
template<class T>
Future<std::decay_t<T>> make_ready_future(Loop& loop, T&& value) {
    Promise<std::decay_t<T>> promise(loop);
    promise.set_value(std::forward<T>(value));
    return promise.future();
}
/// A future that is done, without a value.
inline Future<void> make_ready_future(Loop& loop) {
    Promise<void> promise(loop);
    promise.set_value();
    return promise.future();
}

} // namespace weft

#pragma GCC visibility pop

#include <weft/reactor/future_inline.hpp>
