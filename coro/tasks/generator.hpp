#pragma once

#include <weft/coro/core/scheduler.hpp>
#include <weft/coro/tasks/cancel_scope.hpp>
#include <weft/coro/tasks/task.hpp>

#include <concepts>
#include <cstddef>
#include <iterator>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

#pragma GCC visibility push(default)

namespace weft::coro {

namespace detail {

/// A generator's body: a coroutine that runs when its consumer wants an item, and stands still
/// otherwise. Lives as long as the generator or the coroutine.
class GeneratorBase : public TaskBase {
public:
    GeneratorBase(const SpawnOptions& options, std::source_location where);
    ~GeneratorBase() override = default;

    /// For the consumer: lets the body run up to its next item. False if there is none; throws what
    /// the body did, and `TimeoutError`.
    bool next(Deadline deadline);
    /// The generator has gone: what has begun is unwound.
    void abandon() noexcept;
    /// For the body: `at` is the next item.
    void yield(void* at);

    TaskBase* asked_by() const noexcept override {
        return waiting_ != nullptr ? &consumer_->task : nullptr;
    }

    void* item = nullptr; ///< what was yielded last, where the body keeps it; null at the end

protected:
    virtual void run() = 0;
    /// Destroys the callable.
    virtual void drop() noexcept = 0;

private:
    struct Body final : Family {
        explicit Body(GeneratorBase& g) noexcept : generator(g) {}
        void child_ended(TaskBase&) noexcept override { generator.ended(); }
        GeneratorBase& generator;
    };
    class YieldWait;
    class ItemWait;
    static void entry(Context& context);
    void begin(Coroutine& consumer);
    void run_body(Coroutine& consumer);
    void enter_scope(CancelScope* parent) noexcept;
    void wake_consumer() noexcept;
    void ended() noexcept;

    CancelScope scope_; // the body's outermost: inside the consumer's while that waits for it
    Body body_{*this};
    std::size_t stack_size_;
    Coroutine* consumer_ = nullptr; // the one in `next`
    Wait* waiting_ = nullptr;       // its wait, if the body has to wait itself
    bool at_yield_ = false; // the body stands there, and nothing but its consumer lets it go on
    bool unasked_ = false;  // the item came when nobody waited for it any more
};

template<class Yield, class F>
class GeneratorBody final : public GeneratorBase {
public:
    GeneratorBody(F&& function, const SpawnOptions& options, std::source_location where)
        : GeneratorBase(options, where), function_(std::move(function)) {}

private:
    void run() override {
        Yield yield(*this);
        (*function_)(yield);
    }
    void drop() noexcept override { function_.reset(); }
    std::optional<F> function_;
};

} // namespace detail

/// Items that a function makes one by one, as they are asked for:
///
///     coro::Generator<int> squares([](auto& yield) {
///         for (int i = 0;; ++i) yield(i * i);
///     });
///     for (int square : squares) ...
///
/// The function runs on a stack of its own, and only while somebody asks, as if called by that
/// coroutine: it may wait for anything, and the consumer waits with it; what cancels the consumer
/// cancels it; what it throws leaves the loop. It begins with the first item that is asked for. One
/// coroutine asks at a time. For the coroutines of one loop.
///
/// The function is a task of its own, which `current_task` tells inside of it: a lock that it takes
/// is its own and not its consumer's, and one that its consumer holds it cannot get (it is refused
/// as a cycle). Its task-locals are those that its first consumer had when it began; what either
/// sets later the other does not see. What it spawns it joins when it ends.
template<class T>
class [[nodiscard]] Generator {
    static_assert(std::is_object_v<T> && !std::is_const_v<T>);

public:
    /// What the function is called with.
    class Yield {
    public:
        explicit Yield(detail::GeneratorBase& generator) noexcept : generator_(generator) {}
        Yield(const Yield&) = delete;
        Yield& operator=(const Yield&) = delete;
        /// Gives the consumer `item`, which stays where it is, and waits until it asks for another.
        /// Throws `Cancelled` if the generator was destroyed, or a scope that the function has
        /// opened is cancelled. `UsageError` if another coroutine calls it, or a destructor that
        /// runs because of an exception.
        void operator()(T&& item) { generator_.yield(std::addressof(item)); }
        void operator()(const T& item) { (*this)(T(item)); }

    private:
        detail::GeneratorBase& generator_;
    };

    /// Goes through the values once; moving on suspends where the generator's body does.
    class Iterator {
    public:
        using iterator_concept = std::input_iterator_tag;
        using value_type = T;
        using difference_type = std::ptrdiff_t;

        explicit Iterator(detail::GeneratorBase& generator) noexcept : generator_(&generator) {}
        T& operator*() const noexcept { return *static_cast<T*>(generator_->item); }
        Iterator& operator++() {
            generator_->next({});
            return *this;
        }
        void operator++(int) { ++*this; }
        bool operator==(std::default_sentinel_t) const noexcept {
            return generator_->item == nullptr;
        }

    private:
        detail::GeneratorBase* generator_;
    };

    /// Neither runs `function` nor needs a coroutine. `options` are those of the coroutine that it
    /// will run in.
    template<class F>
        requires std::invocable<std::decay_t<F>&, Yield&>
    explicit Generator(F&& function, SpawnOptions options = {},
                       std::source_location where = std::source_location::current())
        : state_(new detail::GeneratorBody<Yield, std::decay_t<F>>(
              std::decay_t<F>(std::forward<F>(function)), options, where)) {
        state_->retain();
    }
    /// Iterators stay valid.
    Generator(Generator&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    Generator& operator=(Generator&& other) noexcept {
        Generator old(std::move(*this));
        state_ = std::exchange(other.state_, nullptr);
        return *this;
    }
    /// If the function has begun and not ended, its `yield` throws `Cancelled`, and every
    /// suspension after that: it is unwound before this returns. Does not suspend unless that waits
    /// for what no cancellation ends: a shield, tasks that it has spawned. In a plain callback it
    /// is unwound soon after. What it throws then is reported.
    ~Generator() {
        if (state_ != nullptr) state_->abandon();
    }

    /// The next item, nothing at the end. Suspends where the function does. Throws `Cancelled`, and
    /// what the function throws, after which the generator is at its end. `UsageError` while
    /// another coroutine waits for an item. When the deadline passes it throws `TimeoutError` and
    /// takes nothing: the function goes on with what it waits for, in no scope of anybody's, up to
    /// its next item, which the next call returns. To end the function instead, call this inside
    /// `with_timeout`.
    std::optional<T> next(Deadline deadline = {}) {
        if (!state("Generator::next").next(deadline)) return {};
        return std::move(*static_cast<T*>(state_->item));
    }
    /// For a range-for: the next item, and those after it, as `next` gives them. A second loop goes
    /// on where the first one was left.
    Iterator begin() {
        state("Generator::begin").next({});
        return Iterator(*state_);
    }
    std::default_sentinel_t end() const noexcept { return {}; }

private:
    detail::GeneratorBase& state(const char* what) const {
        if (state_ == nullptr)
            throw UsageError(std::string(what) + ": the generator was moved from");
        return *state_;
    }
    detail::GeneratorBase* state_;
};

} // namespace weft::coro

#pragma GCC visibility pop
