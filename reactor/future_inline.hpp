#pragma once

#include <weft/reactor/future.hpp>

#pragma GCC visibility push(default)

namespace weft {
namespace detail {

std::error_code error_code_of(const std::exception_ptr& error) noexcept;

/// Throws `UsageError` if `waiting` cannot wait for `inner`: itself, another loop's, or none.
void check_awaitable(const FutureStateBase& waiting, const FutureStateBase* inner);

/// Gives `promise` what `done` has: value, error or cancellation.
template<class T>
void forward_outcome(Future<T>& done, Promise<T>& promise) {
    if (done.cancelled()) {
        promise.future().cancel();
    } else if (auto error = done.exception()) {
        promise.set_exception_if_pending(error);
    } else if constexpr (std::is_void_v<T>) {
        promise.set_value_if_pending();
    } else {
        promise.set_value_if_pending(done.result());
    }
}

/// Completes `promise` with what `call()` returns or throws; a returned future is waited for.
template<class R, class Call>
void complete_with(Promise<R> promise, Call&& call) {
    try {
        using Returned = std::invoke_result_t<Call>;
        if constexpr (IsFuture<Returned>::value) {
            Returned inner = call();
            check_awaitable(*promise.future().state_ref(), inner.state_ref().get());
            promise.future().state_ref()->cancel_with(
                StateRef<FutureStateBase>(inner.state_ref().get()));
            inner.add_done_callback([promise = std::move(promise)](Future<R> done) mutable {
                forward_outcome(done, promise);
            });
        } else if constexpr (std::is_void_v<R>) {
            call();
            promise.set_value_if_pending();
        } else {
            promise.set_value_if_pending(call());
        }
    } catch (const Cancelled&) {
        promise.future().cancel();
    } catch (...) {
        promise.set_exception_if_pending(std::current_exception());
    }
}

template<class R>
struct Unwrapped {
    using Type = R;
};
template<class R>
struct Unwrapped<Future<R>> {
    using Type = R;
};

template<class F, class T>
struct ThenResult {
    using Type = std::invoke_result_t<F&, T>;
};
template<class F>
struct ThenResult<F, void> {
    using Type = std::invoke_result_t<F&>;
};

} // namespace detail

template<class T>
std::error_code Future<T>::error_code() const {
    auto& state = this->state("error_code");
    switch (state.status()) {
    case State::Status::pending:
        return Errc::invalid_state;
    case State::Status::cancelled:
        return std::make_error_code(std::errc::operation_canceled);
    case State::Status::value:
        return {};
    case State::Status::failed:
        break;
    }
    return detail::error_code_of(state.error());
}

template<class T>
template<class F>
auto Future<T>::then(F function) {
    using R = typename detail::Unwrapped<typename detail::ThenResult<F, T>::Type>::Type;
    auto& state = this->state("then");
    Loop* loop = state.loop();
    if (loop == nullptr) throw UsageError("then: the future's loop is closed");
    Promise<R> promise(*loop);
    Future<R> result = promise.future();
    result.state_ref()->cancel_with(detail::StateRef<detail::FutureStateBase>(&state));
    add_done_callback(
        [promise = std::move(promise), function = std::move(function)](Future<T> done) mutable {
            if (done.cancelled()) {
                promise.future().cancel();
            } else if (auto error = done.exception()) {
                promise.set_exception_if_pending(error);
            } else if (!promise.pending()) {
                return;
            } else if constexpr (std::is_void_v<T>) {
                detail::complete_with(std::move(promise), [&] { return function(); });
            } else {
                detail::complete_with(std::move(promise), [&] { return function(done.result()); });
            }
        });
    return result;
}

template<class T>
template<class F>
Future<T> Future<T>::or_else(F function) {
    auto& state = this->state("or_else");
    Loop* loop = state.loop();
    if (loop == nullptr) throw UsageError("or_else: the future's loop is closed");
    Promise<T> promise(*loop);
    Future<T> result = promise.future();
    result.state_ref()->cancel_with(detail::StateRef<detail::FutureStateBase>(&state));
    add_done_callback(
        [promise = std::move(promise), function = std::move(function)](Future<T> done) mutable {
            if (!done.cancelled() && promise.pending()) {
                if (auto error = done.exception()) {
                    detail::complete_with(std::move(promise), [&] { return function(error); });
                    return;
                }
            }
            detail::forward_outcome(done, promise);
        });
    return result;
}

template<class T>
std::future<T> Future<T>::to_std() {
    std::promise<T> promise;
    std::future<T> result = promise.get_future();
    add_done_callback([promise = std::move(promise)](Future<T> done) mutable {
        if (done.cancelled()) {
            promise.set_exception(std::make_exception_ptr(
                std::system_error(std::make_error_code(std::errc::operation_canceled), "future")));
        } else if (auto error = done.exception()) {
            promise.set_exception(error);
        } else if constexpr (std::is_void_v<T>) {
            promise.set_value();
        } else {
            promise.set_value(done.result());
        }
    });
    return result;
}

} // namespace weft

#pragma GCC visibility pop
