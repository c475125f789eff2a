#pragma once

#include <weft/coro/tasks/await.hpp>

#include <cstddef>
#include <exception>
#include <iterator>
#include <optional>
#include <ranges>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

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

/// What `wait` waits for.
enum class WaitUntil : std::uint8_t {
    first_completed, ///< one has ended, however
    first_exception, ///< one has failed or was cancelled, or all have ended
    all,             ///< all have ended
};

/// Positions in what was given to `wait`, in ascending order.
struct WaitResult {
    std::vector<std::size_t> done = {};
    std::vector<std::size_t> pending = {};
};

namespace detail {

template<class T>
struct IsTask : std::false_type {};
template<class T>
struct IsTask<Task<T>> : std::true_type {};

/// A task or a future, whatever its type.
class Awaited {
public:
    explicit Awaited(TaskBase* task) noexcept : task_(task) {}
    explicit Awaited(weft::detail::FutureStateBase* future) noexcept : future_(future) {}
    template<class T>
    explicit Awaited(const Task<T>& task) noexcept : task_(task.state()) {}
    template<class T>
    explicit Awaited(const Future<T>& future) noexcept : future_(future.state_ref().get()) {}

    const void* id() const noexcept;
    TaskBase* task() const noexcept { return task_.get(); }
    bool done() const noexcept;
    /// It has ended without a value.
    bool failed() const noexcept;
    void cancel();
    void add(Waiter& waiter) noexcept;
    /// Throws unless there is a value.
    void check_value() const;
    /// Throws `UsageError` if `self` cannot wait for it.
    void check(const char* what, const Coroutine& self) const;

private:
    weft::detail::StateRef<TaskBase> task_;
    weft::detail::StateRef<weft::detail::FutureStateBase> future_;
};

/// Waits for several, and tells them in the order in which they end. What is given twice is told
/// once, at its first position.
class Collector {
public:
    Collector(const char* what, std::vector<Awaited> items);
    ~Collector();
    Collector(const Collector&) = delete;
    Collector& operator=(const Collector&) = delete;

    static constexpr std::size_t none = SIZE_MAX;
    /// Suspends until one more has ended: its position, `none` if the deadline has passed. `left()`
    /// must not be 0.
    std::size_t next(TimePoint deadline = TimePoint::max());
    /// Suspends until all have ended or, with `until_failure`, one without a value: its position,
    /// else `none`, also if the deadline has passed.
    std::size_t wait_for_all(bool until_failure, TimePoint deadline = TimePoint::max());
    /// How many have not been told.
    std::size_t left() const noexcept { return distinct_ - told_; }
    /// Cancels all, and waits for their ends. Cannot be cancelled.
    void end_all();
    const std::vector<Awaited>& items() const noexcept { return items_; }

private:
    friend class CollectWait;
    struct Node final : TaskWaiter {
        void on_done() noexcept override { collector->ended(index); }
        TaskBase* who() const noexcept override;
        Collector* collector = nullptr;
        std::size_t index = 0;
    };
    void ended(std::size_t index) noexcept;
    bool park(std::size_t wanted, TimePoint deadline, bool uncancellable);

    const char* what_;
    Coroutine& self_;
    std::vector<Awaited> items_;
    std::vector<Node> nodes_;
    std::vector<std::size_t> ended_; // in order
    std::size_t distinct_ = 0;
    std::size_t told_ = 0;
    std::size_t wanted_ = 0; // how many are to have ended for it to go on
    bool until_failure_ = false;
    Wait* wait_ = nullptr;
};

/// Waits for all, or for the first without a value, and throws what that threw. When the caller is
/// cancelled so are all, and they are waited for.
void gather_values(std::vector<Awaited> items);
/// Waits for all.
void gather_ends(std::vector<Awaited> items);
WaitResult wait_for_some(std::vector<Awaited> items, WaitUntil until, TimePoint deadline);
/// Waits for `task`, and when the deadline passes cancels it and waits for its end. True if it was
/// cancelled by that.
bool join_until(TaskBase& task, TimePoint deadline);

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

template<class R>
std::vector<Awaited> awaited_of(R& range) {
    std::vector<Awaited> items;
    for (auto& item : range)
        items.emplace_back(item);
    return items;
}

} // namespace detail

namespace detail {

template<class... Parts>
auto gather_tuple(const SpawnOptions& options, std::source_location where, Parts&&... given) {
    std::tuple<PartOf<Parts>...> parts{make_part(std::forward<Parts>(given), options, where)...};
    gather_values(all_of(parts));
    return std::apply([](auto&... part) { return std::tuple{part.take()...}; }, parts);
}
template<class... Parts>
auto outcomes_tuple(const SpawnOptions& options, std::source_location where, Parts&&... given) {
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
/// who joins them before it ends. Whatever they refer to must live so long; where that is too long,
/// use `task_group`. Cancelling the caller cancels them all and waits for their ends. With
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

/// Suspends until as many of the tasks or futures have ended as `until` says, or the deadline has
/// passed: those that have ended, and those that have not. Never throws their outcomes, and never
/// cancels them, be it that the deadline passes or the caller is cancelled. What is there twice
/// shows twice. `UsageError` for an empty range.
template<std::ranges::forward_range R>
WaitResult wait(R&& tasks, WaitUntil until = WaitUntil::all, Deadline deadline = {}) {
    return detail::wait_for_some(detail::awaited_of(tasks), until, deadline.at());
}

/// A range of tasks or futures in the order in which they end, each once; made by `as_completed`.
template<class T>
class AsCompleted {
public:
    class Iterator {
    public:
        using value_type = T;
        using difference_type = std::ptrdiff_t;
        explicit Iterator(AsCompleted& range) noexcept : range_(&range) {}
        T& operator*() const noexcept { return *range_->items_[range_->at_]; }
        Iterator& operator++() {
            range_->advance();
            return *this;
        }
        void operator++(int) { range_->advance(); }
        bool operator==(std::default_sentinel_t) const noexcept { return range_->at_end_; }

    private:
        AsCompleted* range_;
    };

    AsCompleted(std::vector<T*> items, std::vector<detail::Awaited> awaited, Deadline deadline)
        : items_(std::move(items)), collector_("as_completed", std::move(awaited)),
          deadline_(deadline.at()) {}
    /// Suspends until the first has ended.
    Iterator begin() {
        advance();
        return Iterator(*this);
    }
    std::default_sentinel_t end() const noexcept { return {}; }

private:
    void advance() {
        at_end_ = collector_.left() == 0;
        if (at_end_) return;
        at_ = collector_.next(deadline_);
        if (at_ == detail::Collector::none)
            throw TimeoutError("as_completed: the time is up, and " +
                               std::to_string(collector_.left()) + " have not ended");
    }
    std::vector<T*> items_;
    detail::Collector collector_;
    TimePoint deadline_;
    std::size_t at_ = 0;
    bool at_end_ = false;
};

/// For `for (Task<int>& task : as_completed(tasks))`: suspends at each step until one more has
/// ended. When the deadline passes before, the step throws `TimeoutError`; that, cancelling the
/// caller and leaving the loop cancel none of them. What is there twice comes once. The range must
/// outlive the loop.
template<std::ranges::forward_range R>
auto as_completed(R& tasks, Deadline deadline = {}) {
    using T = std::remove_reference_t<std::ranges::range_reference_t<R>>;
    std::vector<T*> items;
    for (T& item : tasks)
        items.push_back(&item);
    return AsCompleted<T>(std::move(items), detail::awaited_of(tasks), deadline);
}

/// Waits for a task, and cancels it when the limit has passed: its value, its error, or
/// `TimeoutError` once it has ended cancelled. What it returns or throws all the same counts. With
/// a limit in the past only one that is done has a result. Suspends; cancelling the caller cancels
/// the task, but ends the wait at once when that is being cancelled already.
template<class T>
decltype(auto) wait_for(Task<T>& task, Deadline limit) {
    (void)task.done(); // or it throws that the task is empty
    const weft::detail::StateRef<detail::TaskState<T>> keep(task.state());
    keep->check_not_taken("wait_for");
    if (detail::join_until(*keep, limit.at()) &&
        keep->status == detail::TaskBase::Status::cancelled)
        throw TimeoutError("wait_for: the time is up for the task " + keep->describe());
    // Not by way of another checkpoint: what was got is not lost to a cancellation that came since.
    keep->check_value();
    if constexpr (!std::is_void_v<T>) return static_cast<T&>(*keep->value);
}
template<class T>
T wait_for(Task<T>&& task, Deadline limit) {
    Task<T> mine = std::move(task);
    if constexpr (std::is_void_v<T>) {
        wait_for(mine, limit);
    } else {
        return std::move(wait_for(mine, limit));
    }
}
/// The same for a future, which ends when it is cancelled.
template<class T>
decltype(auto) wait_for(Future<T>& future, Deadline limit) {
    if (!future.done() && limit.at() <= this_loop().now()) {
        future.cancel();
        throw TimeoutError("wait_for: the time is up for a future");
    }
    detail::wait_for_future(future.state_ref().get(), true, limit.at());
    return future.result();
}
/// The same for a callable, which runs as a task of its own; not at all if the limit has passed.
template<class F>
    requires std::is_invocable_v<std::decay_t<F>&>
auto wait_for(F&& function, Deadline limit, SpawnOptions options = {},
              std::source_location where = std::source_location::current())
    -> detail::SpawnResult<F> {
    if (limit.at() <= this_loop().now())
        throw TimeoutError("wait_for: the time was up before the start");
    return wait_for(spawn(std::forward<F>(function), options, where), limit);
}

} // namespace weft::coro
