#pragma once

#include <weft/coro/tasks/task.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#pragma GCC visibility push(default)

namespace weft::coro {

/// Several errors at once: what the tasks of a group threw, in the order in which they did. A group
/// inside a group shows as one of the errors.
class ExceptionGroup : public std::exception {
public:
    ExceptionGroup(const char* what, std::vector<std::exception_ptr> errors);
    const char* what() const noexcept override { return shared_->text.c_str(); }
    const std::vector<std::exception_ptr>& errors() const noexcept { return shared_->errors; }

    /// Those of type `E`, or derived from it, and the others, each as a group of the same shape;
    /// nothing where there are none. As `except*` does it: handle the first, throw the second on.
    template<class E>
    std::pair<std::optional<ExceptionGroup>, std::optional<ExceptionGroup>> split() const {
        return split_by([](const std::exception_ptr& error) {
            try {
                std::rethrow_exception(error);
            } catch (const E&) {
                return true;
            } catch (...) {
                return false;
            }
        });
    }
    /// Calls `function(const E&)` for each of type `E`, those of groups inside included. How many
    /// there were.
    template<class E, class F>
    std::size_t for_each(F&& function) const {
        std::size_t count = 0;
        for (const std::exception_ptr& error : errors()) {
            try {
                std::rethrow_exception(error);
            } catch (const ExceptionGroup& inner) {
                count += inner.for_each<E>(function);
            } catch (const E& found) {
                function(found);
                ++count;
            } catch (...) {
            }
        }
        return count;
    }

private:
    std::pair<std::optional<ExceptionGroup>, std::optional<ExceptionGroup>>
    split_by(bool (*matches)(const std::exception_ptr&)) const;
    // Copies of an exception must not throw.
    struct Shared {
        std::string title;
        std::string text;
        std::vector<std::exception_ptr> errors;
    };
    std::shared_ptr<const Shared> shared_;
};

template<class T>
class Started;

/// Tasks that begin and end together; made by `task_group`. Its tasks, and they too, may add more
/// as long as it is open. For the loop's thread.
class TaskGroup final : private detail::Family {
public:
    /// Starts `function()` in the group. The handle is for code that wants the outcome: dropping it
    /// cancels nothing. Throws `UsageError` when the group has failed or is over,
    /// `std::system_error` if there is no memory for a stack; the callable is then destroyed
    /// without being called. In a group that is cancelled the task runs up to its first suspension.
    /// Does not suspend. May also be called by the loop's callbacks.
    template<class F>
    Task<detail::SpawnResult<F>>
    spawn(F&& function, SpawnOptions options = {},
          std::source_location where = std::source_location::current()) {
        check_open("TaskGroup::spawn");
        auto task = detail::spawn_in(scheduler_, *this, std::forward<F>(function), options, where);
        task.state()->kept = true;
        return task;
    }

    /// Starts `function(Started<T>&)` in the group, and waits until it has called that, or
    /// returned: what it told. What it throws before that is thrown here, and the group goes on.
    /// Cancelling the caller cancels the task up to that moment. `UsageError` if the group has
    /// failed or was cancelled, or if the task returned without telling anything.
    template<class T = void, class F>
    T start(F&& function, SpawnOptions options = {},
            std::source_location where = std::source_location::current());

    /// Gives `value` to the group: it lives until all tasks have ended, so that they may refer to
    /// it. What the body declares itself does not: it is gone when the body returns, before the
    /// tasks are waited for. Does not suspend.
    template<class T>
    std::decay_t<T>& keep(T&& value) {
        kept_.push_back(std::make_shared<std::decay_t<T>>(std::forward<T>(value)));
        return *static_cast<std::decay_t<T>*>(kept_.back().get());
    }

    /// Cancels every task in it and the body. They may still throw.
    void cancel() noexcept { scope_.cancel(); }
    CancelScope& cancel_scope() noexcept { return scope_; }
    /// Tasks that have not ended.
    std::size_t size() const noexcept;

    explicit TaskGroup(detail::Coroutine& owner);
    ~TaskGroup();
    template<class F>
    friend auto task_group(F&& body) -> std::invoke_result_t<F&, TaskGroup&>;

private:
    template<class T>
    friend class Started;
    void check_open(const char* what) const;
    void take_error(detail::TaskBase& child) noexcept override;
    void fail(std::exception_ptr error) noexcept;
    void enter();
    /// Joins the tasks, leaves the scope, and throws what is to be thrown. `body_error`: what the
    /// body threw.
    void leave(std::exception_ptr body_error, bool body_cancelled);

    detail::Coroutine& owner_;
    detail::Scheduler& scheduler_;
    CancelScope scope_;
    std::vector<std::exception_ptr> errors_;
    std::exception_ptr fatal_;
    std::vector<std::shared_ptr<void>> kept_; // for the tasks
    int requests_at_entry_ = 0;               // to cancel the owner's task
    // open, until a task or the body fails: failed, until all have ended: over
    enum class Phase : std::uint8_t { open, failed, over };
    Phase phase_ = Phase::open;
};

/// Calls `body(TaskGroup&)`, and waits for every task in the group before it returns what the body
/// did. The first error, of a task or the body, cancels all others; when they have ended, all
/// errors but `Cancelled` are thrown as an `ExceptionGroup`. One that is a `FatalError` is thrown
/// as it is. A task that is cancelled by itself disturbs nobody. `TaskGroup::cancel` ends the group
/// without an error, but with `Cancelled` if the body has no value to return. Cancelling the caller
/// cancels them all; then `Cancelled` leaves, or their errors if there are any.
///
/// The tasks outlive the body: they may refer to what is around this call, and to what
/// `TaskGroup::keep` was given, but not to what the body declares.
template<class F>
auto task_group(F&& body) -> std::invoke_result_t<F&, TaskGroup&> {
    using R = std::invoke_result_t<F&, TaskGroup&>;
    TaskGroup group(detail::running("task_group"));
    std::exception_ptr error;
    bool cancelled = false;
    std::conditional_t<std::is_void_v<R>, std::monostate, std::optional<R>> result;
    group.enter();
    try {
        if constexpr (std::is_void_v<R>) {
            body(group);
        } else {
            result.emplace(body(group));
        }
    } catch (const Cancelled&) {
        cancelled = true;
    } catch (...) {
        error = std::current_exception();
    }
    group.leave(std::move(error), cancelled);
    if constexpr (!std::is_void_v<R>) {
        if (!result) throw Cancelled(); // by `TaskGroup::cancel`
        return std::move(*result);
    }
}

/// What a task that was started with `TaskGroup::start` calls when it is ready for use.
template<class T>
class Started {
public:
    /// Tells the starter, once; a second call is a `UsageError`. Does not suspend.
    template<class... Value>
    void operator()(Value&&... value) {
        if (phase_ == Phase::told) throw UsageError("started: called a second time");
        if constexpr (!std::is_void_v<T>) value_.emplace(std::forward<Value>(value)...);
        phase_ = Phase::told;
        if (starter_ != nullptr) std::exchange(starter_, nullptr)->wake();
    }

private:
    friend class TaskGroup;
    bool told() const noexcept { return phase_ == Phase::told; }
    std::optional<std::conditional_t<std::is_void_v<T>, std::monostate, T>> value_;
    detail::Wait* starter_ = nullptr;
    // The task has told that it has started, or was cancelled before that.
    enum class Phase : std::uint8_t { starting, told, cancelled };
    Phase phase_ = Phase::starting;
};

namespace detail {

class StartWait final : public Wait {
public:
    StartWait(Coroutine& self, TaskBase& task, Wait*& starter) noexcept
        : Wait(self), task_(task), starter_(starter) {
        starter = this;
        task.wanted_otherwise = true;
    }
    void abandon() noexcept override { starter_ = nullptr; }
    void needed(TaskVisitor& visitor) const override { visitor.visit(task_); }
    std::string describe() const override { return "a task to report that it has started"; }

private:
    TaskBase& task_;
    Wait*& starter_;
};

} // namespace detail

template<class T, class F>
T TaskGroup::start(F&& function, SpawnOptions options, std::source_location where) {
    check_open("TaskGroup::start");
    detail::Coroutine& self = detail::running("TaskGroup::start");
    if (!scope_.cancel_called()) self.scheduler.check_cancelled(self);
    if (scope_.effectively_cancelled())
        throw UsageError("TaskGroup::start: the group was cancelled");
    // Shared, since either side may be the first to go.
    auto started = std::make_shared<Started<T>>();
    std::exception_ptr early;
    std::exception_ptr* failure = &early;
    auto task = spawn(
        [started, failure, function = std::forward<F>(function)]() mutable {
            struct Ended {
                Started<T>& started;
                ~Ended() {
                    if (started.starter_ != nullptr)
                        std::exchange(started.starter_, nullptr)->wake();
                }
            } ended{*started};
            try {
                function(*started);
            } catch (const Cancelled&) {
                if (started->phase_ == Started<T>::Phase::starting)
                    started->phase_ = Started<T>::Phase::cancelled;
                throw;
            } catch (...) {
                // Until it has told that it has started the error is the starter's.
                if (started->told() || started->starter_ == nullptr) throw;
                *failure = std::current_exception();
            }
        },
        options, where);
    detail::StartWait wait(self, *task.state(), started->starter_);
    try {
        self.scheduler.suspend(wait);
    } catch (...) {
        if (!started->told()) task.cancel();
        throw;
    }
    if (early) std::rethrow_exception(early);
    if (!started->told()) {
        if (started->phase_ == Started<T>::Phase::cancelled || (task.done() && task.cancelled()))
            throw Cancelled();
        throw UsageError("TaskGroup::start: the task " + task.state()->describe() +
                         " ended without having started");
    }
    if constexpr (!std::is_void_v<T>) return std::move(*started->value_);
}

} // namespace weft::coro

#pragma GCC visibility pop
