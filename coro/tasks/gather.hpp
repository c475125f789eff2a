#pragma once

#include <weft/coro/tasks/collector.hpp>

#include <exception>
#include <optional>
#include <ranges>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#pragma GCC visibility push(default)

namespace weft::coro {

/// How something ended: with a value, an error, or cancelled.
template<class T>
class Outcome {
public:
    using Value = std::conditional_t<std::is_void_v<T>, std::monostate, T>;
    Outcome(Value value) : value_(std::move(value)) {}
    /// Without an error it is cancelled.
    explicit Outcome(std::exception_ptr error) noexcept : error_(std::move(error)) {}

    explicit operator bool() const noexcept { return value_.has_value(); }
    bool cancelled() const noexcept { return !value_ && !error_; }
    /// Null unless it failed.
    const std::exception_ptr& error() const noexcept { return error_; }
    /// Throws the error, or `Cancelled`, if there is no value.
    Value& value() {
        if (error_) std::rethrow_exception(error_);
        if (!value_) throw Cancelled();
        return *value_;
    }

private:
    std::optional<Value> value_;
    std::exception_ptr error_;
};

namespace detail {

/// Waits for all, or for the first without a value, and throws what that threw. When the caller is
/// cancelled so are all, and they are waited for.
void gather_values(std::vector<Awaited> items);
/// Waits for all.
void gather_ends(std::vector<Awaited> items);

/// One of those that are gathered: given by the caller, or a task made of a callable.
template<class T>
class Part {
public:
    using Value = typename Outcome<T>::Value;
    Part(Task<T>&& task) noexcept : task_(task.state()), owned_(std::move(task)) {}
    Part(Task<T>& task) noexcept : task_(task.state()), copies_(true) {}
    Part(Future<T>&& future) noexcept : future_(std::move(future)) {}
    Part(Future<T>& future) noexcept : future_(future), copies_(true) {}

    Awaited awaited() const { return task_ ? Awaited(task_.get()) : Awaited(future_); }
    /// From now on it runs on when this is destroyed.
    void keep() noexcept {
        if (owned_.valid()) task_->kept = true;
    }
    Value take() {
        if (task_) task_->check_not_taken("gather");
        auto& state =
            task_ ? static_cast<std::optional<Value>&>(task_->value) : future_.state_ref()->value;
        if constexpr (std::is_copy_constructible_v<Value>)
            if (copies_) return *state;
        if constexpr (!std::is_void_v<T>)
            if (task_) task_->take_value("gather");
        return std::move(*state);
    }
    Outcome<T> outcome() {
        try {
            awaited().check_value();
            return Outcome<T>(take());
        } catch (const Cancelled&) {
            return Outcome<T>(std::exception_ptr());
        } catch (...) {
            return Outcome<T>(std::current_exception());
        }
    }

private:
    weft::detail::StateRef<TaskState<T>> task_;
    Future<T> future_;
    Task<T> owned_;
    bool copies_ = false; // it is somebody else's, too
};

template<class T>
concept Gatherable =
    IsTask<std::remove_cvref_t<T>>::value ||
    weft::detail::IsFuture<std::remove_cvref_t<T>>::value || std::is_invocable_v<std::decay_t<T>&>;
template<class R>
concept GatherableRange =
    std::ranges::input_range<R> && !Gatherable<R> && Gatherable<std::ranges::range_reference_t<R>>;

template<class T>
auto make_part(T&& given, [[maybe_unused]] const SpawnOptions& options,
               [[maybe_unused]] std::source_location where) {
    using Plain = std::remove_cvref_t<T>;
    if constexpr (IsTask<Plain>::value || weft::detail::IsFuture<Plain>::value) {
        return Part<typename Plain::value_type>(std::forward<T>(given));
    } else {
        return Part<SpawnResult<T>>(spawn(std::forward<T>(given), options, where));
    }
}
template<class T>
using PartOf = decltype(make_part(std::declval<T>(), SpawnOptions(), std::source_location()));

/// The parts of a range; what it owns is moved out of it if it is moved from.
template<class R>
auto make_parts(R&& range, const SpawnOptions& options, std::source_location where) {
    using Reference = std::ranges::range_reference_t<R>;
    constexpr bool owns =
        !std::is_lvalue_reference_v<R> && !std::ranges::view<std::remove_cvref_t<R>>;
    using Given = std::conditional_t<owns, std::remove_reference_t<Reference>&&, Reference>;
    std::vector<PartOf<Given>> parts;
    for (auto&& given : range)
        parts.push_back(make_part(static_cast<Given>(given), options, where));
    return parts;
}
template<class R>
using PartOfRange = typename decltype(make_parts(std::declval<R>(), SpawnOptions(),
                                                 std::source_location()))::value_type;

template<class Parts>
std::vector<Awaited> all_of(Parts& parts) {
    std::vector<Awaited> items;
    for (auto& part : parts) {
        part.keep();
        items.push_back(part.awaited());
    }
    return items;
}
template<class... P>
std::vector<Awaited> all_of(std::tuple<P...>& parts) {
    return std::apply(
        [](auto&... part) {
            (part.keep(), ...);
            return std::vector<Awaited>{part.awaited()...};
        },
        parts);
}

template<class... Parts>
auto gather_tuple([[maybe_unused]] const SpawnOptions& options,
                  [[maybe_unused]] std::source_location where, Parts&&... given) {
    std::tuple<PartOf<Parts>...> parts{make_part(std::forward<Parts>(given), options, where)...};
    gather_values(all_of(parts));
    return std::apply([](auto&... part) { return std::tuple{part.take()...}; }, parts);
}
template<class... Parts>
auto outcomes_tuple([[maybe_unused]] const SpawnOptions& options,
                    [[maybe_unused]] std::source_location where, Parts&&... given) {
    std::tuple<PartOf<Parts>...> parts{make_part(std::forward<Parts>(given), options, where)...};
    gather_ends(all_of(parts));
    return std::apply([](auto&... part) { return std::tuple{part.outcome()...}; }, parts);
}

} // namespace detail

/// Runs several at once and returns their values in the order of the arguments, as a tuple; void
/// shows as `std::monostate`. Each is a callable, for which a task is spawned, a `Task` or a
/// `Future`; what is given as an lvalue keeps its value, unless that can only be moved, and what is
/// given twice runs once. Suspends until all have ended. The first that fails or is cancelled ends
/// the wait: its error, or `Cancelled`, is thrown, and the rest run on, as children of the caller,
/// which joins them before it ends. Whatever they refer to must live so long; where that is too
/// long, use `task_group`. Cancelling the caller cancels them all and waits for their ends. With
/// `SpawnOptions` first those are for the tasks that are spawned.
///
/// (An overload for each number: what follows a parameter pack cannot have a default, and the
/// default is what knows the caller's line, which the tasks are named for.)
template<detail::Gatherable A>
auto gather(A&& a, std::source_location where = std::source_location::current()) {
    return detail::gather_tuple({.name = "gathered"}, where, std::forward<A>(a));
}
template<detail::Gatherable A, detail::Gatherable B>
auto gather(A&& a, B&& b, std::source_location where = std::source_location::current()) {
    return detail::gather_tuple({.name = "gathered"}, where, std::forward<A>(a),
                                std::forward<B>(b));
}
template<detail::Gatherable A, detail::Gatherable B, detail::Gatherable C>
auto gather(A&& a, B&& b, C&& c, std::source_location where = std::source_location::current()) {
    return detail::gather_tuple({.name = "gathered"}, where, std::forward<A>(a), std::forward<B>(b),
                                std::forward<C>(c));
}
template<detail::Gatherable A, detail::Gatherable B, detail::Gatherable C, detail::Gatherable D>
auto gather(A&& a, B&& b, C&& c, D&& d,
            std::source_location where = std::source_location::current()) {
    return detail::gather_tuple({.name = "gathered"}, where, std::forward<A>(a), std::forward<B>(b),
                                std::forward<C>(c), std::forward<D>(d));
}
template<detail::Gatherable A, detail::Gatherable B, detail::Gatherable C, detail::Gatherable D,
         detail::Gatherable E>
auto gather(A&& a, B&& b, C&& c, D&& d, E&& e,
            std::source_location where = std::source_location::current()) {
    return detail::gather_tuple({.name = "gathered"}, where, std::forward<A>(a), std::forward<B>(b),
                                std::forward<C>(c), std::forward<D>(d), std::forward<E>(e));
}
template<detail::Gatherable A, detail::Gatherable B, detail::Gatherable C, detail::Gatherable D,
         detail::Gatherable E, detail::Gatherable F>
auto gather(A&& a, B&& b, C&& c, D&& d, E&& e, F&& f,
            std::source_location where = std::source_location::current()) {
    return detail::gather_tuple({.name = "gathered"}, where, std::forward<A>(a), std::forward<B>(b),
                                std::forward<C>(c), std::forward<D>(d), std::forward<E>(e),
                                std::forward<F>(f));
}
template<detail::Gatherable A, detail::Gatherable B, detail::Gatherable C, detail::Gatherable D,
         detail::Gatherable E, detail::Gatherable F, detail::Gatherable G>
auto gather(A&& a, B&& b, C&& c, D&& d, E&& e, F&& f, G&& g,
            std::source_location where = std::source_location::current()) {
    return detail::gather_tuple({.name = "gathered"}, where, std::forward<A>(a), std::forward<B>(b),
                                std::forward<C>(c), std::forward<D>(d), std::forward<E>(e),
                                std::forward<F>(f), std::forward<G>(g));
}
template<detail::Gatherable A, detail::Gatherable B, detail::Gatherable C, detail::Gatherable D,
         detail::Gatherable E, detail::Gatherable F, detail::Gatherable G, detail::Gatherable H>
auto gather(A&& a, B&& b, C&& c, D&& d, E&& e, F&& f, G&& g, H&& h,
            std::source_location where = std::source_location::current()) {
    return detail::gather_tuple({.name = "gathered"}, where, std::forward<A>(a), std::forward<B>(b),
                                std::forward<C>(c), std::forward<D>(d), std::forward<E>(e),
                                std::forward<F>(f), std::forward<G>(g), std::forward<H>(h));
}
template<class... Parts>
    requires(sizeof...(Parts) == 0 || sizeof...(Parts) > 8) && (detail::Gatherable<Parts> && ...)
auto gather(Parts&&... given) {
    return detail::gather_tuple({.name = "gathered"}, std::source_location::current(),
                                std::forward<Parts>(given)...);
}
template<class... Parts>
    requires(detail::Gatherable<Parts> && ...)
auto gather(const SpawnOptions& options, Parts&&... given) {
    return detail::gather_tuple(options, std::source_location::current(),
                                std::forward<Parts>(given)...);
}
/// The same for all elements of a range: a vector of their values. Elements are moved out of a
/// range that is given as an rvalue.
template<detail::GatherableRange R>
auto gather(R&& range, SpawnOptions options = {.name = "gathered"},
            std::source_location where = std::source_location::current()) {
    auto parts = detail::make_parts(std::forward<R>(range), options, where);
    detail::gather_values(detail::all_of(parts));
    std::vector<typename detail::PartOfRange<R>::Value> values;
    for (auto& part : parts)
        values.push_back(part.take());
    return values;
}

/// `gather` that waits for all, whatever becomes of them: a tuple of `Outcome`s. Suspends until all
/// have ended. Cancelling the caller cancels them all and waits for their ends.
template<detail::Gatherable A>
auto gather_outcomes(A&& a, std::source_location where = std::source_location::current()) {
    return detail::outcomes_tuple({.name = "gathered"}, where, std::forward<A>(a));
}
template<detail::Gatherable A, detail::Gatherable B>
auto gather_outcomes(A&& a, B&& b, std::source_location where = std::source_location::current()) {
    return detail::outcomes_tuple({.name = "gathered"}, where, std::forward<A>(a),
                                  std::forward<B>(b));
}
template<detail::Gatherable A, detail::Gatherable B, detail::Gatherable C>
auto gather_outcomes(A&& a, B&& b, C&& c,
                     std::source_location where = std::source_location::current()) {
    return detail::outcomes_tuple({.name = "gathered"}, where, std::forward<A>(a),
                                  std::forward<B>(b), std::forward<C>(c));
}
template<detail::Gatherable A, detail::Gatherable B, detail::Gatherable C, detail::Gatherable D>
auto gather_outcomes(A&& a, B&& b, C&& c, D&& d,
                     std::source_location where = std::source_location::current()) {
    return detail::outcomes_tuple({.name = "gathered"}, where, std::forward<A>(a),
                                  std::forward<B>(b), std::forward<C>(c), std::forward<D>(d));
}
template<detail::Gatherable A, detail::Gatherable B, detail::Gatherable C, detail::Gatherable D,
         detail::Gatherable E>
auto gather_outcomes(A&& a, B&& b, C&& c, D&& d, E&& e,
                     std::source_location where = std::source_location::current()) {
    return detail::outcomes_tuple({.name = "gathered"}, where, std::forward<A>(a),
                                  std::forward<B>(b), std::forward<C>(c), std::forward<D>(d),
                                  std::forward<E>(e));
}
template<detail::Gatherable A, detail::Gatherable B, detail::Gatherable C, detail::Gatherable D,
         detail::Gatherable E, detail::Gatherable F>
auto gather_outcomes(A&& a, B&& b, C&& c, D&& d, E&& e, F&& f,
                     std::source_location where = std::source_location::current()) {
    return detail::outcomes_tuple({.name = "gathered"}, where, std::forward<A>(a),
                                  std::forward<B>(b), std::forward<C>(c), std::forward<D>(d),
                                  std::forward<E>(e), std::forward<F>(f));
}
template<detail::Gatherable A, detail::Gatherable B, detail::Gatherable C, detail::Gatherable D,
         detail::Gatherable E, detail::Gatherable F, detail::Gatherable G>
auto gather_outcomes(A&& a, B&& b, C&& c, D&& d, E&& e, F&& f, G&& g,
                     std::source_location where = std::source_location::current()) {
    return detail::outcomes_tuple({.name = "gathered"}, where, std::forward<A>(a),
                                  std::forward<B>(b), std::forward<C>(c), std::forward<D>(d),
                                  std::forward<E>(e), std::forward<F>(f), std::forward<G>(g));
}
template<detail::Gatherable A, detail::Gatherable B, detail::Gatherable C, detail::Gatherable D,
         detail::Gatherable E, detail::Gatherable F, detail::Gatherable G, detail::Gatherable H>
auto gather_outcomes(A&& a, B&& b, C&& c, D&& d, E&& e, F&& f, G&& g, H&& h,
                     std::source_location where = std::source_location::current()) {
    return detail::outcomes_tuple({.name = "gathered"}, where, std::forward<A>(a),
                                  std::forward<B>(b), std::forward<C>(c), std::forward<D>(d),
                                  std::forward<E>(e), std::forward<F>(f), std::forward<G>(g),
                                  std::forward<H>(h));
}
template<class... Parts>
    requires(sizeof...(Parts) == 0 || sizeof...(Parts) > 8) && (detail::Gatherable<Parts> && ...)
auto gather_outcomes(Parts&&... given) {
    return detail::outcomes_tuple({.name = "gathered"}, std::source_location::current(),
                                  std::forward<Parts>(given)...);
}
template<class... Parts>
    requires(detail::Gatherable<Parts> && ...)
auto gather_outcomes(const SpawnOptions& options, Parts&&... given) {
    return detail::outcomes_tuple(options, std::source_location::current(),
                                  std::forward<Parts>(given)...);
}
/// The same for all elements of a range: a vector of `Outcome`s.
template<detail::GatherableRange R>
auto gather_outcomes(R&& range, SpawnOptions options = {.name = "gathered"},
                     std::source_location where = std::source_location::current()) {
    auto parts = detail::make_parts(std::forward<R>(range), options, where);
    detail::gather_ends(detail::all_of(parts));
    std::vector<decltype(parts.front().outcome())> outcomes;
    for (auto& part : parts)
        outcomes.push_back(part.outcome());
    return outcomes;
}

} // namespace weft::coro

#pragma GCC visibility pop
