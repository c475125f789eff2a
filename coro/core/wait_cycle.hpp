#pragma once

#include <weft/coro/core/coroutine.hpp>

namespace weft::coro::detail {

/// Throws `UsageError`, which names all of them, if `task` waits for the calling coroutine in turn:
/// through joins, what is gathered, groups, generators and locks. `what`: what would wait for it.
/// Chains of any length cost no more than their shorter end.
void check_cycle(const char* what, const TaskBase& task, const Coroutine& self);

/// For a wait that has to be, and that its coroutine is about to be parked in: if it closes a
/// cycle, another one of those that wait in it is refused its wait, and throws `UsageError` there.
void break_cycle(const char* what, const Wait& wait) noexcept;

} // namespace weft::coro::detail
