#include <weft/coro/core/scheduler.hpp>
#include <weft/coro/tasks/task_local.hpp>

namespace weft::coro::detail {

const void* LocalValues::find(const void* key) const noexcept {
    for (const Entry& entry : entries)
        if (entry.key == key) return entry.value.get();
    return nullptr;
}

LocalValues* LocalValues::with(const LocalValues* old, const void* key,
                               std::shared_ptr<const void> value) {
    auto made = std::make_unique<LocalValues>();
    if (old != nullptr)
        for (const Entry& entry : old->entries)
            if (entry.key != key) made->entries.push_back(entry);
    if (value) made->entries.push_back({key, std::move(value)});
    return made.release();
}

LocalValues* retain(LocalValues* values) noexcept {
    if (values != nullptr) ++values->references;
    return values;
}

void release(LocalValues* values) noexcept {
    if (values != nullptr && --values->references == 0) delete values;
}

void drop_locals(Coroutine& self) noexcept {
    release(std::exchange(self.locals, nullptr));
}

const void* local_value(const void* key) {
    const LocalValues* values = running("a task-local").locals;
    return values != nullptr ? values->find(key) : nullptr;
}

void set_local_value(const void* key, std::shared_ptr<const void> value) {
    Coroutine& self = running("a task-local");
    LocalValues* changed = LocalValues::with(self.locals, key, std::move(value));
    release(std::exchange(self.locals, changed));
}

} // namespace weft::coro::detail
