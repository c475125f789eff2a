#pragma once

#include <weft/reactor/loop.hpp>

#include <coroutine>
#include <type_traits>
#include <utility>

#pragma GCC visibility push(default)

/// C++20 coroutines over futures: `co_await future` in any of them, and functions that are
/// coroutines and return a `weft::Future<T>`.
///
///     weft::Future<int> twice(weft::Loop& loop, weft::Future<int> value) {
///         co_return 2 * co_await value;
///     }
///
/// Such a coroutine starts in the loop that is its first argument (after `this` of a member
/// function or a lambda), or else in `Loop::current()`: not when it is called but in the loop's
/// next turn, and it goes on there alone. Cancelling its future cancels the future that it awaits,
/// which throws `Cancelled` there; one that has not begun never will. When the loop is closed the
/// frames of those that are suspended are destroyed.
namespace weft {
namespace detail {

/// A promise type whose frames belong to nothing but the code that resumes them.
template<class P>
concept OwnFrame = requires { typename P::owns_its_frame; };

/// A queued call that goes on with a coroutine. If the loop ends before, so does the frame, unless
/// it is somebody else's.
class Resumption {
public:
    Resumption(std::coroutine_handle<> frame, bool destroys) noexcept
        : frame_(frame), destroys_(destroys) {}
    Resumption(Resumption&& other) noexcept
        : frame_(std::exchange(other.frame_, nullptr)), destroys_(other.destroys_) {}
    Resumption& operator=(Resumption&&) = delete;
    ~Resumption() {
        if (frame_ && destroys_) frame_.destroy();
    }
    void operator()() { std::exchange(frame_, nullptr).resume(); }

private:
    std::coroutine_handle<> frame_;
    bool destroys_;
};

/// What `co_await` of a future does.
template<class T, bool Takes>
class FutureAwaiter final : FutureStateBase::Waiter {
public:
    explicit FutureAwaiter(Future<T> future) noexcept : future_(std::move(future)) {}
    FutureAwaiter(const FutureAwaiter&) = delete;
    FutureAwaiter& operator=(const FutureAwaiter&) = delete;
    ~FutureAwaiter() { this->unlink(); }

    bool await_ready() const {
        if (future_.done()) return true;
        if (future_.loop() != Loop::current())
            throw UsageError("co_await: the future does not belong to the loop of this thread");
        return false;
    }
    template<class P>
    void await_suspend(std::coroutine_handle<P> frame) {
        if constexpr (OwnFrame<P>) {
            frame.promise().check_not_itself(future_.state_ref().get());
            waiting_ = frame.promise().state();
            waiting_->cancel_with(StateRef<FutureStateBase>(future_.state_ref().get()));
            destroys_ = true;
        }
        frame_ = frame;
        future_.state_ref()->add_waiter(*this);
    }
    decltype(auto) await_resume() {
        if (waiting_ != nullptr) waiting_->cancel_with({});
        if constexpr (std::is_void_v<T>) {
            future_.take();
        } else if constexpr (Takes) {
            return T(future_.take());
        } else {
            return static_cast<T&>(future_.result());
        }
    }

private:
    void on_done() noexcept override {
        Resumption resumption(frame_, destroys_);
        if (Loop* loop = future_.loop()) loop->call_soon(std::move(resumption), {});
    }
    Future<T> future_;
    std::coroutine_handle<> frame_;
    FutureStateBase* waiting_ = nullptr; // the coroutine's own, which is cancelled first
    bool destroys_ = false;
};

inline Loop& coroutine_loop() {
    if (Loop* loop = Loop::current()) return *loop;
    throw UsageError("a coroutine that returns a weft::Future was called with no loop: none is its "
                     "first argument, and none runs on this thread");
}
template<class... None>
Loop& loop_among(None&...) {
    return coroutine_loop();
}
template<class First, class... Rest>
    requires std::is_base_of_v<Loop, First>
Loop& loop_among(First& first, Rest&...) {
    return first;
}
template<class This, class First, class... Rest>
    requires(!std::is_base_of_v<Loop, This> && std::is_base_of_v<Loop, First>)
Loop& loop_among(This&, First& first, Rest&...) {
    return first;
}

/// What coroutines that return a `Future<T>` have in common.
template<class T>
class FuturePromiseBase {
public:
    using owns_its_frame = void;

    template<class... Args>
    explicit FuturePromiseBase(Args&... args) : loop_(loop_among(args...)), promise(loop_) {}
    FuturePromiseBase(const FuturePromiseBase&) = delete;
    FuturePromiseBase& operator=(const FuturePromiseBase&) = delete;

    Future<T> get_return_object() const { return promise.future(); }
    auto initial_suspend() noexcept {
        struct Start {
            FuturePromiseBase& self;
            bool await_ready() const noexcept { return false; }
            void await_suspend(std::coroutine_handle<> frame) {
                self.loop_.call_soon(
                    [next = Resumption(frame, true), &self = self]() mutable {
                        if (self.promise.pending()) next(); // else it was cancelled
                    },
                    {});
            }
            void await_resume() const noexcept {}
        };
        return Start{*this};
    }
    std::suspend_never final_suspend() noexcept { return {}; }
    void unhandled_exception() {
        try {
            throw;
        } catch (const Cancelled&) {
            promise.future().cancel();
        } catch (...) {
            promise.set_exception_if_pending(std::current_exception());
        }
    }
    void check_not_itself(const FutureStateBase* future) const {
        if (future == promise.future().state_ref().get())
            throw UsageError("co_await: the coroutine would wait for itself");
    }

    FutureStateBase* state() const { return promise.future().state_ref().get(); }

private:
    Loop& loop_;

protected:
    Promise<T> promise;
};

template<class T>
class FuturePromise final : public FuturePromiseBase<T> {
public:
    using FuturePromiseBase<T>::FuturePromiseBase;
    template<class U>
    void return_value(U&& value) {
        this->promise.set_value_if_pending(std::forward<U>(value));
    }
};
template<>
class FuturePromise<void> final : public FuturePromiseBase<void> {
public:
    using FuturePromiseBase<void>::FuturePromiseBase;
    void return_void() { this->promise.set_value_if_pending(); }
};

} // namespace detail

/// Suspends the C++20 coroutine until the future is done: its value, moved out of an rvalue and a
/// reference to it otherwise; or throws its error, or `Cancelled`. It goes on in a callback of the
/// loop's. `UsageError` if the future is another loop's or the coroutine's own.
template<class T>
auto operator co_await(Future<T>&& future) {
    return detail::FutureAwaiter<T, true>(std::move(future));
}
/// The same for a future that stays where it is.
template<class T>
auto operator co_await(Future<T>& future) {
    return detail::FutureAwaiter<T, false>(future);
}

} // namespace weft

/// What makes a function that returns a `weft::Future` a coroutine.
template<class T, class... Args>
struct std::coroutine_traits<weft::Future<T>, Args...> {
    using promise_type = weft::detail::FuturePromise<T>;
};

#pragma GCC visibility pop
