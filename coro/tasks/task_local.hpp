#pragma once

#include <weft/coro/core/coroutine.hpp>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#pragma GCC visibility push(default)

namespace weft::coro {
namespace detail {

/// The task-locals of a coroutine: shared by those that have not changed theirs since, never
/// changed itself.
struct LocalValues {
    struct Entry {
        const void* key;
        std::shared_ptr<const void> value;
    };
    std::vector<Entry> entries;
    unsigned references = 1;

    const void* find(const void* key) const noexcept;
    /// A copy of `old` with one value exchanged; an empty one takes it out.
    static LocalValues* with(const LocalValues* old, const void* key,
                             std::shared_ptr<const void> value);
};

LocalValues* retain(LocalValues* values) noexcept;
void release(LocalValues* values) noexcept;
/// The coroutine that runs has no values any more. Their destructors may do anything.
void drop_locals(Coroutine& self) noexcept;
/// Of the running coroutine. `UsageError` outside of one.
const void* local_value(const void* key);
void set_local_value(const void* key, std::shared_ptr<const void> value);

} // namespace detail

/// A value of which each task has its own: the request that is being served, a logger. A task
/// starts with its parent's values; what either sets later the other does not see. Declare one per
/// purpose, with static storage. Reading and setting do not suspend, and throw `UsageError` outside
/// of a coroutine.
template<class T>
class TaskLocal {
public:
    TaskLocal() = default;
    explicit TaskLocal(T initial) : initial_(std::move(initial)) {}
    TaskLocal(const TaskLocal&) = delete;
    TaskLocal& operator=(const TaskLocal&) = delete;

    /// This task's value, or else the initial one; null if there is neither. Valid until the task
    /// sets another.
    const T* get() const {
        if (const void* value = detail::local_value(this)) return static_cast<const T*>(value);
        return initial_ ? &*initial_ : nullptr;
    }
    void set(T value) {
        detail::set_local_value(this, std::make_shared<const T>(std::move(value)));
    }
    /// Back to the initial value.
    void reset() { detail::set_local_value(this, nullptr); }

private:
    std::optional<T> initial_;
};

} // namespace weft::coro

#pragma GCC visibility pop
