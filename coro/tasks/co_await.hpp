#pragma once

#include <weft/coro/core/scheduler.hpp>
#include <weft/coro/tasks/task.hpp>
#include <weft/reactor/co_await.hpp>
#include <weft/reactor/future.hpp>

#include <coroutine>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#pragma GCC visibility push(default)

namespace weft::coro {
namespace detail {

template<class A>
concept HasMemberAwait = requires(A&& a) { static_cast<A&&>(a).operator co_await(); };
template<class A>
concept HasFreeAwait = requires(A&& a) { operator co_await(static_cast<A&&>(a)); };

template<class A>
decltype(auto) awaiter_of(A&& awaitable) {
    if constexpr (HasMemberAwait<A>) {
        return static_cast<A&&>(awaitable).operator co_await();
    } else if constexpr (HasFreeAwait<A>) {
        return operator co_await(static_cast<A&&>(awaitable));
    } else {
        return static_cast<A&&>(awaitable);
    }
}

/// What can be given to `co_await` in any C++20 coroutine, and is not ours.
template<class A>
concept Awaitable = !IsTask<std::remove_cvref_t<A>>::value &&
                    !weft::detail::IsFuture<std::remove_cvref_t<A>>::value && requires(A&& a) {
                        awaiter_of(static_cast<A&&>(a)).await_ready();
                        awaiter_of(static_cast<A&&>(a)).await_resume();
                    };
template<class A>
using AwaitResult = decltype(awaiter_of(std::declval<A>()).await_resume());

/// The C++20 coroutine that awaits on behalf of a stackful one. It starts at once, and its frame
/// goes when it ends.
struct Bridge {
    struct promise_type {
        using owns_its_frame = void;
        Bridge get_return_object() const noexcept { return {}; }
        std::suspend_never initial_suspend() const noexcept { return {}; }
        std::suspend_never final_suspend() const noexcept { return {}; }
        void return_void() const noexcept {}
        void unhandled_exception() const noexcept { std::terminate(); } // it catches all
        void check_not_itself(const void*) const noexcept {}
        weft::detail::FutureStateBase* awaited = nullptr;
    };
};

/// The stackful side: told by the other one, on whatever thread that ends.
class BridgeEnd {
public:
    explicit BridgeEnd(Coroutine& self) noexcept;
    void tell() noexcept;
    /// Suspends until it was told. Not to be cancelled: the awaitable is on this stack.
    void wait();

private:
    void told() noexcept;
    Coroutine& self_;
    Wait* wait_ = nullptr;
    bool told_ = false;
};

template<class A, class Value>
Bridge cross(A& awaitable, std::optional<Value>& value, std::exception_ptr& error, BridgeEnd& end) {
    try {
        if constexpr (std::is_void_v<AwaitResult<A>>) {
            co_await static_cast<A&&>(awaitable);
            value.emplace();
        } else {
            value.emplace(co_await static_cast<A&&>(awaitable));
        }
    } catch (...) {
        error = std::current_exception();
    }
    end.tell();
}

} // namespace detail

/// Waits for anything that C++20 coroutines can `co_await`: what it yields, by value, or what it
/// throws. Suspends unless it is ready; it may resume on any thread, and the calling coroutine goes
/// on in its own loop. Nothing is known about cancelling such a thing, so a cancellation of the
/// caller waits for its end, and is thrown by the suspension after. For the loop to be closed it
/// must end. `UsageError` outside of a coroutine.
template<detail::Awaitable A>
auto await(A&& awaitable) -> std::decay_t<detail::AwaitResult<A>> {
    using R = detail::AwaitResult<A>;
    using Value = std::conditional_t<std::is_void_v<R>, std::monostate, std::decay_t<R>>;
    detail::Coroutine& self = detail::running("await");
    self.scheduler.checkpoint(self);
    std::optional<Value> value;
    std::exception_ptr error;
    detail::BridgeEnd end(self);
    detail::cross<A>(awaitable, value, error, end);
    end.wait();
    if (error) std::rethrow_exception(error);
    if constexpr (!std::is_void_v<R>) return std::move(*value);
}

} // namespace weft::coro

#pragma GCC visibility pop
