#pragma once

#include <weft/coro/core/block_cache.hpp>
#include <weft/coro/core/scheduler.hpp>

#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

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

using Waiter = weft::detail::FutureStateBase::Waiter;
/// Who is told of a task's end.
struct TaskWaiter : Waiter {
    /// The task that cannot go on before; null: none that is known.
    virtual TaskBase* who() const noexcept { return nullptr; }
};

/// What tasks of all types have in common: the side of a coroutine that outlives it. Counted by its
/// handles and its coroutine, on the loop's thread.
class TaskBase {
public:
    enum class Status : std::uint8_t { pending, value, failed, cancelled };

    explicit TaskBase(std::source_location where) noexcept : spawned(where) {}
    virtual ~TaskBase();
    TaskBase(const TaskBase&) = delete;
    TaskBase& operator=(const TaskBase&) = delete;

    void retain() noexcept { ++references_; }
    void release() noexcept {
        if (--references_ == 0) delete this;
    }

    bool done() const noexcept { return status != Status::pending; }
    /// Cancels its own scope: what it waits for is cancelled, and its suspensions throw
    /// `Cancelled`. False if its body has ended.
    bool cancel() noexcept;
    void uncancel() noexcept;
    /// Parks the calling coroutine, which refers to this meanwhile, until this is done. With
    /// `pass_on` a cancellation of the caller goes to this task. False: the deadline has passed.
    /// Inlined, since each return after a switch is one that the processor predicts wrong.
    bool join(const char* what, bool pass_on, TimePoint deadline = TimePoint::max());
    /// Who is to wait for it, as `what` says; null if nobody has to.
    Coroutine* joiner(const char* what);
    /// `UsageError` if `self`, which runs, cannot wait for this: itself, another loop's, or one
    /// that waits for it in turn. Only while pending.
    void check_joinable(const char* what, const Coroutine& self) const;
    /// A child of the calling coroutine is not cancelled with it any more, but still joined by it.
    void protect();
    /// The outcome is there: those who wait hear of it.
    void finish(Status outcome) noexcept;
    /// Throws unless there is a value; the error counts as seen.
    void check_value();
    /// The value is about to be moved out. `UsageError` if it was before.
    void take_value(const char* what);
    /// `UsageError` if it was moved out.
    void check_not_taken(const char* what) const;
    /// Nobody can ask for the outcome any more: it goes while the task may still do anything.
    void drop_outcome() noexcept;
    /// Shows who waits for it, as far as `wanted_otherwise` does not say that there may be others.
    void visit_waiting(TaskVisitor& visitor) const;
    /// For a generator: who waits for its next item.
    virtual TaskBase* asked_by() const noexcept { return nullptr; }
    bool shared() const noexcept { return references_ > 1; }
    /// Moves it to the root of its loop, whose end alone ends it.
    void detach() noexcept;
    /// "'name' (spawned at file:line)".
    std::string describe() const;
    void set_name(std::string_view text) {
        name.reset(text.empty() ? nullptr : new std::string(text));
    }

    struct Child : ListNode {
        explicit Child(TaskBase& t) noexcept : task(t) {}
        TaskBase& task;
    };
    static TaskBase& of_child(ListNode& link) noexcept { return static_cast<Child&>(link).task; }

    Child sibling{*this};           ///< among `family->children`
    Family* family = nullptr;       ///< null once it has ended
    Coroutine* coroutine = nullptr; ///< null once it has ended
    ListNode joiners;               ///< `TaskWaiter`s of those who join it
    std::exception_ptr error;
    std::source_location spawned;
    std::unique_ptr<std::string> name;
    Wait* next_request = nullptr; ///< of somebody who waits for the next call of `cancel`
    int cancel_requests = 0;
    Status status = Status::pending;
    bool must_cancel = false; ///< a request has not been delivered
    bool error_seen = false;
    bool started = false;
    bool body_ended = false;       ///< it may still join its children
    bool kept = false;             ///< dropping its handle cancels nothing
    bool taken = false;            ///< the value was moved out
    bool wanted_otherwise = false; ///< somebody may wait for it, or did, who is not among `joiners`
    // What the last search for a circle saw that came by.
    std::uint64_t met = 0, met_backwards = 0;

    /// Its own children, which it joins before it ends. A task that spawns none has none.
    struct Children final : Family {};
    Children& children();
    std::unique_ptr<Children> own_children;

    static void* operator new(std::size_t size) { return allocate_block(size); }
    static void operator delete(void* block, std::size_t size) noexcept { free_block(block, size); }

    /// Whether dropping the value may call somebody's code.
    virtual bool has_destructor() const noexcept { return false; }

protected:
    virtual void drop_value() noexcept {}

private:
    unsigned references_ = 0;
};

/// Waits for a task's end. Cancelling the one who waits cancels the task, unless it is shielded.
class JoinWait final : public Wait {
public:
    JoinWait(Coroutine& self, TaskBase& task, bool pass_on) noexcept
        : Wait(self), task_(task), pass_on_(pass_on) {
        task.joiners.push_back(told_);
    }
    void abandon() noexcept override { told_.unlink(); }
    TaskBase* cancel_instead() noexcept override { return pass_on_ ? &task_ : nullptr; }
    void needed(TaskVisitor& visitor) const override { visitor.visit(task_); }
    std::string describe() const override;

private:
    struct Told final : TaskWaiter {
        explicit Told(JoinWait& w) noexcept : wait(w) {}
        void on_done() noexcept override { wait.wake(); }
        TaskBase* who() const noexcept override { return &wait.coroutine.task; }
        JoinWait& wait;
    };
    TaskBase& task_;
    Told told_{*this};
    bool pass_on_;
};

inline bool TaskBase::join(const char* what, bool pass_on, TimePoint deadline) {
    Coroutine* self = joiner(what);
    if (self == nullptr) return true;
    JoinWait wait(*self, *this, pass_on);
    return self->scheduler.suspend(wait, deadline) != Wake::timed_out;
}

template<class T>
class TaskState final : public TaskBase {
public:
    using TaskBase::TaskBase;
    using Value = std::conditional_t<std::is_void_v<T>, std::monostate, T>;
    std::optional<Value> value;

    bool has_destructor() const noexcept override {
        return !std::is_trivially_destructible_v<Value> && value.has_value();
    }

protected:
    void drop_value() noexcept override { value.reset(); }
};

/// The code of a task and its outcome's place, on the task's own stack. Larger callables would
/// leave it too little.
template<class F, class T>
struct Body {
    F function;
    TaskState<T>& state;

    static void entry(Context& context);
};

/// Runs `call`, and gives `task` its outcome.
template<class T, class Call>
void run_body(TaskState<T>& state, Call&& call) noexcept;

/// For `Task::on_done`.
void call_when_done(TaskBase& task, Function<void()> function, std::source_location where);
inline void* body_of(Coroutine& self) noexcept {
    // The context was made to begin right below it.
    return static_cast<std::byte*>(const_cast<void*>(self.stack_bottom)) + self.stack_size;
}
/// What an exception says, for reports.
std::string text_of(const std::exception_ptr& error);
/// Before the body runs: false if it was cancelled before.
bool begin_task(Coroutine& self) noexcept;
/// After it: the task's children are joined, and the coroutine ends. `function`, which may be null,
/// is what it ran: that goes first.
[[noreturn]] void end_task(Coroutine& self, TaskBase::Status outcome, void* function = nullptr,
                           void (*destroy)(void*) noexcept = nullptr) noexcept;
/// In a catch block: what the body threw becomes the task's error.
void set_error(TaskBase& task) noexcept;

template<class F, class T>
void Body<F, T>::entry(Context& context) {
    auto& self = static_cast<Coroutine&>(context);
    auto& body = *static_cast<Body*>(body_of(self));
    TaskState<T>& state = body.state;
    auto outcome = TaskBase::Status::cancelled;
    if (begin_task(self)) {
        try {
            if constexpr (std::is_void_v<T>) {
                body.function();
                state.value.emplace();
            } else {
                state.value.emplace(body.function());
            }
            outcome = TaskBase::Status::value;
        } catch (const Cancelled&) {
        } catch (...) {
            set_error(state);
            outcome = TaskBase::Status::failed;
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
    bool cancelled() const { return state("cancelled").status == State::Status::cancelled; }
    /// Asks it to end: cancels it and its children as a `CancelScope` around all of it would, so
    /// that each of its suspensions throws `weft::Cancelled` unless it is shielded. A task that has
    /// not begun never will. One that catches that and returns without suspending is done, with its
    /// value. False if its function has returned. Does not suspend.
    bool cancel() { return state("cancel").cancel(); }
    /// Takes a request back, for those who caught its `Cancelled` and go on; how many are left.
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
        if (state.status == State::Status::cancelled) throw Cancelled();
        state.error_seen = true;
        return state.error;
    }

    /// Calls `function()` when the task is done, in the loop, in a turn after that, also if it is
    /// done already. In the order of the calls. Dropped uncalled if the loop is closed before.
    void on_done(Function<void()> function,
                 std::source_location where = std::source_location::current()) {
        detail::call_when_done(state("on_done"), std::move(function), where);
    }

    /// Lets go of it: it belongs to its loop from now on, and whoever ends that ends it.
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

/// The coroutine that runs, when it runs again after the others; null if it cannot yield.
Coroutine* yield_now();
/// Throws what speaks against yielding.
void yield_refused();

} // namespace detail

/// Lets every coroutine that is ready, and what is queued in the loop, run once. Throws
/// `Cancelled`.
inline void yield() {
    const detail::Coroutine* self = detail::yield_now();
    if (self == nullptr || self->cancel_pending) [[unlikely]]
        detail::yield_refused();
}
/// Suspends for `time`, never less; 0 or less is `yield`. Cancelling removes its timer.
void sleep(Duration time);
void sleep_until(TimePoint when);
/// Suspends until it is cancelled; by SIGINT, too, where `run` handles it, which then does not take
/// it for a deadlock that nothing else can end it.
[[noreturn]] void sleep_forever();
/// Throws `Cancelled` if the coroutine is cancelled, else does nothing: for long computations.
void check_cancelled();

/// The loop that the calling coroutine, or else callback, runs in. `UsageError` if there is none.
Loop& this_loop();

/// A task, whatever its type: a handle of the running one, or of one that `all_tasks` lists. Copies
/// name the same task; dropping one cancels nothing. For the loop's thread.
class TaskRef {
public:
    TaskRef() noexcept = default;
    template<class T>
    TaskRef(const Task<T>& task) noexcept : task_(task.state()) {}
    explicit TaskRef(detail::TaskBase* task) noexcept : task_(task) {}

    bool valid() const noexcept { return static_cast<bool>(task_); }
    bool done() const { return task("done").done(); }
    /// As `Task::cancel`: false if it has ended.
    bool cancel() { return task("cancel").cancel(); }
    /// As `Task::wait`, but cancelling the waiter does not cancel the task.
    void wait() {
        const weft::detail::StateRef<detail::TaskBase> keep(&task("wait"));
        keep->join("wait", false);
    }
    /// What it is called, and where it was spawned, for people.
    std::string describe() const { return task("describe").describe(); }
    /// Whether they name the same task.
    bool operator==(const TaskRef& other) const noexcept {
        return task_.get() == other.task_.get();
    }

private:
    detail::TaskBase& task(const char* what) const {
        if (!task_) throw UsageError(std::string(what) + ": the reference names no task");
        return *task_;
    }
    weft::detail::StateRef<detail::TaskBase> task_;
};
/// The running task. `UsageError` outside of a coroutine. Does not suspend.
TaskRef this_task();

/// A task from outside: what it is called, where it came from, what it is doing.
struct TaskInfo {
    std::string name = {};
    std::source_location spawned = {};
    std::string waiting_for = {}; ///< empty while it runs or is ready to
    const void* id = nullptr;     ///< the same for the same task as long as it lives
    TaskRef task = {};            ///< to cancel it, or wait for it
};
/// The running one; empty in plain callbacks.
std::optional<TaskInfo> current_task();
/// All tasks of `loop` that have not ended, in the order in which they were started.
std::vector<TaskInfo> all_tasks(Loop& loop);
/// The same of this loop.
std::vector<TaskInfo> all_tasks();

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
        state->status = TaskBase::Status::cancelled;
        throw;
    }
    scheduler.start(made, family, current);
    return task;
}

} // namespace detail
} // namespace weft::coro
