#pragma once

#include <weft/coro/tasks/task_state.hpp>

#include <concepts>
#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <source_location>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#pragma GCC visibility push(default)

namespace weft::coro {

template<class T>
class Task;

/// How a task is started.
struct SpawnOptions {
    std::string_view name = {}; ///< for reports; empty: the place where it was spawned
    /// bytes, rounded up to a power of two, a guard page besides; 0: `default_stack_size`
    std::size_t stack_size = 0;
};

/// What a stack has unless told otherwise. Only touched pages cost memory, so this is address
/// space. Code that is instrumented by AddressSanitizer needs several times as much.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr std::size_t default_stack_size = 256 * 1024;
#else
inline constexpr std::size_t default_stack_size = 64 * 1024;
#endif

namespace detail {

/// The code of a task and its outcome's place, on the task's own stack. Larger callables would
/// leave it too little.
template<class F, class T>
struct Body {
    F function;
    TaskState<T>& state;

    static void entry(Context& context);
};

inline void* body_of(Coroutine& self) noexcept {
    // The context was made to begin right below it.
    return static_cast<std::byte*>(const_cast<void*>(self.stack_bottom)) + self.stack_size;
}

template<class F, class T>
void Body<F, T>::entry(Context& context) {
    auto& self = static_cast<Coroutine&>(context);
    auto& body = *static_cast<Body*>(body_of(self));
    TaskState<T>& state = body.state;
    auto outcome = TaskBase::Phase::cancelled;
    if (begin_task(self)) {
        try {
            if constexpr (std::is_void_v<T>) {
                body.function();
                state.value.emplace();
            } else {
                state.value.emplace(body.function());
            }
            outcome = TaskBase::Phase::value;
        } catch (const Cancelled&) {
        } catch (...) {
            set_error(state);
            outcome = TaskBase::Phase::failed;
        }
    }
    if constexpr (std::is_trivially_destructible_v<F>) {
        end_task(self, outcome);
    } else {
        end_task(self, outcome, &body,
                 [](void* ended) noexcept { std::destroy_at(static_cast<Body*>(ended)); });
    }
}

template<class F>
using SpawnResult = std::decay_t<std::invoke_result_t<std::decay_t<F>&>>;

/// A function that is called with arguments, which are no options.
template<class F, class A, class... Rest>
concept CallableWith = !std::same_as<std::remove_cvref_t<A>, SpawnOptions> &&
                       std::is_invocable_v<std::decay_t<F>, std::unwrap_ref_decay_t<A>,
                                           std::unwrap_ref_decay_t<Rest>...>;

/// Calls `function` with its arguments; once, since it gives them away.
template<class F, class... Arguments>
auto bound(F&& function, Arguments&&... arguments) {
    return [function = std::decay_t<F>(std::forward<F>(function)),
            arguments = std::make_tuple(std::forward<Arguments>(arguments)...)]() mutable
           -> decltype(auto) { return std::apply(std::move(function), std::move(arguments)); };
}

/// Makes a task in `family`. `parent`: whose task-locals it gets, may be null.
template<class F>
Task<SpawnResult<F>> spawn_in(Scheduler& scheduler, Family& family, F&& function,
                              const SpawnOptions& options, std::source_location where);

/// The family that plain `spawn` adds to: the running task's.
Family& current_family(const char* what);
Scheduler& current_scheduler(const char* what);

template<class T>
struct IsTask : std::false_type {};
template<class T>
struct IsTask<Task<T>> : std::true_type {};

} // namespace detail

/// A handle of a coroutine that was started, and of its outcome. Moving it moves the claim;
/// destroying it before the task is done cancels the task, which its parent then joins. A task that
/// a `TaskGroup` started goes on without its handle. For the loop's thread.
template<class T>
class Task {
    using State = detail::TaskState<T>;
    using Keep = weft::detail::StateRef<State>;

public:
    using value_type = T;
    Task() noexcept = default;
    Task(Task&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    Task& operator=(Task&& other) noexcept {
        Task old(std::move(*this));
        state_ = std::exchange(other.state_, nullptr);
        return *this;
    }
    ~Task() {
        if (state_ == nullptr) return;
        if (!state_->done() && !state_->kept) state_->cancel();
        state_->release();
    }

    bool valid() const noexcept { return state_ != nullptr; }
    bool done() const { return state("done").done(); }
    bool cancelled() const { return state("cancelled").phase == State::Phase::cancelled; }
    /// Asks it to end: cancels it and its children as a `CancelScope` around all of it would, so
    /// that each of its suspensions throws `weft::Cancelled` unless it is shielded. A task that has
    /// not begun never will. One that catches that and returns without suspending is done, with its
    /// value. False if its function has returned. Does not suspend.
    bool cancel() { return state("cancel").cancel(); }
    /// Takes a request back, for code that caught its `Cancelled` and goes on; how many are left.
    /// With the last of them it is not cancelled any more.
    int uncancel() {
        state("uncancel").uncancel();
        return state_->cancel_requests;
    }
    /// Requests not taken back.
    int cancelling() const { return state("cancelling").cancel_requests; }

    /// Waits until it is done. Suspends unless it is; cancelling the waiter cancels the task, and
    /// it is that which ends the wait. Never throws the task's own outcome. `UsageError` for the
    /// running task, for one that waits for it in turn, for one of another loop, and outside of a
    /// coroutine unless it is done.
    void wait() { Keep(&state("wait"))->join("wait", true); }
    /// `wait`, then its value, which stays with the task, as long as its handle. Throws what the
    /// task threw, or `Cancelled` if it was cancelled.
    decltype(auto) result() & {
        const Keep keep(&state("result")); // the handle may go while it is waited for
        keep->check_not_taken("result");
        keep->join("result", true);
        keep->check_value();
        keep->check_not_taken("result");
        if constexpr (!std::is_void_v<T>) return static_cast<T&>(*keep->value);
    }
    /// Of a handle that goes, which takes the value with it: the same as `join`.
    T result() && { return join(); }
    /// `result`, moved out: once. `UsageError` for a value that was moved out before.
    T join() {
        const Keep keep(&state("join"));
        keep->check_not_taken("join");
        keep->join("join", true);
        keep->check_value();
        if constexpr (!std::is_void_v<T>) {
            keep->take_value("join");
            return std::move(*keep->value);
        }
    }
    /// What it threw, null if it has a value. `Cancelled` if it was cancelled, `UsageError` while
    /// it runs.
    std::exception_ptr exception() const {
        auto& state = this->state("exception");
        if (!state.done())
            throw UsageError("exception: the task " + state.describe() + " is still running");
        if (state.phase == State::Phase::cancelled) throw Cancelled();
        state.error_seen = true;
        return state.error;
    }

    /// Calls `function()` when the task is done, in the loop, in a turn after that, also if it is
    /// done already. In the order of the calls. Dropped uncalled if the loop is closed before.
    void on_done(Function<void()> function,
                 std::source_location where = std::source_location::current()) {
        detail::call_when_done(state("on_done"), std::move(function), where);
    }

    /// Lets go of it: it belongs to its loop from now on, and the end of that ends it.
    void detach() {
        state("detach").detach();
        state_->release();
        state_ = nullptr;
    }

    const std::string* name() const { return state("name").name.get(); }
    void set_name(std::string_view name) { state("set_name").set_name(name); }

    /// For the library.
    explicit Task(State& state) noexcept : state_(&state) { state.retain(); }
    State* state() const noexcept { return state_; }

private:
    State& state(const char* what) const {
        if (state_ == nullptr)
            throw UsageError(std::string(what) + ": the task is empty (moved from or detached)");
        return *state_;
    }
    State* state_ = nullptr;
};

/// Starts `function()` as a coroutine of its own, a child of the running task, which joins it
/// before it ends. It runs from the caller's next suspension on. Throws `std::system_error` if
/// there is no memory for a stack, `UsageError` outside of a coroutine. Does not suspend.
template<class F>
[[nodiscard]] Task<detail::SpawnResult<F>>
spawn(F&& function, SpawnOptions options = {},
      std::source_location where = std::source_location::current()) {
    return detail::spawn_in(detail::current_scheduler("spawn"), detail::current_family("spawn"),
                            std::forward<F>(function), options, where);
}

/// The same from anywhere on the loop's thread: a task of the loop itself, which ends it when it is
/// closed.
template<class F>
[[nodiscard]] Task<detail::SpawnResult<F>>
spawn(Loop& loop, F&& function, SpawnOptions options = {},
      std::source_location where = std::source_location::current()) {
    detail::Scheduler& scheduler = detail::Scheduler::of(loop);
    return detail::spawn_in(scheduler, scheduler.root(), std::forward<F>(function), options, where);
}

/// The same for `function(arguments...)`: they are copied or moved into the task, and moved from
/// there into the call, as `std::thread` does it; `std::ref` for what shall be referred to. Up to
/// four, so that the caller's line can be told.
template<class F, class A>
    requires detail::CallableWith<F, A>
[[nodiscard]] auto spawn(F&& function, A&& a,
                         std::source_location where = std::source_location::current()) {
    return spawn(detail::bound(std::forward<F>(function), std::forward<A>(a)), {}, where);
}
template<class F, class A, class B>
    requires detail::CallableWith<F, A, B>
[[nodiscard]] auto spawn(F&& function, A&& a, B&& b,
                         std::source_location where = std::source_location::current()) {
    return spawn(detail::bound(std::forward<F>(function), std::forward<A>(a), std::forward<B>(b)),
                 {}, where);
}
template<class F, class A, class B, class C>
    requires detail::CallableWith<F, A, B, C>
[[nodiscard]] auto spawn(F&& function, A&& a, B&& b, C&& c,
                         std::source_location where = std::source_location::current()) {
    return spawn(detail::bound(std::forward<F>(function), std::forward<A>(a), std::forward<B>(b),
                               std::forward<C>(c)),
                 {}, where);
}
template<class F, class A, class B, class C, class D>
    requires detail::CallableWith<F, A, B, C, D>
[[nodiscard]] auto spawn(F&& function, A&& a, B&& b, C&& c, D&& d,
                         std::source_location where = std::source_location::current()) {
    return spawn(detail::bound(std::forward<F>(function), std::forward<A>(a), std::forward<B>(b),
                               std::forward<C>(c), std::forward<D>(d)),
                 {}, where);
}

namespace detail {

template<class F>
Task<SpawnResult<F>> spawn_in(Scheduler& scheduler, Family& family, F&& function,
                              const SpawnOptions& options, std::source_location where) {
    using Function = std::decay_t<F>;
    using T = SpawnResult<F>;
    using Code = Body<Function, T>;
    static_assert(sizeof(Code) <= 4096, "what is captured must fit the stack: put it on the heap");
    static_assert(alignof(Code) <= 16, "what is captured is aligned more strictly than a stack");
    auto* state = new TaskState<T>(where);
    Task<T> task(*state);
    if (!options.name.empty()) state->set_name(options.name);
    const std::size_t size = options.stack_size != 0 ? options.stack_size : default_stack_size;
    Coroutine& made = scheduler.make(*state, size, sizeof(Code), &Code::entry);
    try {
        ::new (body_of(made)) Code{std::forward<F>(function), *state};
    } catch (...) {
        scheduler.unmake(made);
        state->phase = TaskBase::Phase::cancelled;
        throw;
    }
    scheduler.start(made, family, current);
    return task;
}

} // namespace detail
} // namespace weft::coro

#pragma GCC visibility pop
