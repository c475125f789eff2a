#include "wait_cycle.hpp"

#include <weft/coro/core/scheduler.hpp>
#include <weft/coro/tasks/task.hpp>

#include <algorithm>
#include <new>
#include <string>
#include <vector>

// What waits for what
//
// A coroutine that is parked may need others: the task that it joins, all that it gathers, the
// tasks of its group, the generator's body, the owner of the lock. A cycle closes with the wait of
// one of its members, so it is looked for there: from those that are needed onwards to all that
// they need, until the one that would wait is met. That alone would make building a chain of joins,
// each behind the last, quadratic. So its other end is followed at the same time, step by step: who
// waits for the one that would wait? Where nobody is left there, nobody can be in a cycle with it.

namespace weft::coro::detail {
namespace {

/// Everybody that is met, each once, in the order of being met.
class Met final : public TaskVisitor {
public:
    struct Step {
        TaskBase* task;
        std::size_t from; ///< from which it was met
    };
    explicit Met(std::uint64_t mark, bool backwards) noexcept
        : mark_(mark), backwards_(backwards) {}
    void visit(TaskBase& task) override {
        std::uint64_t& seen = backwards_ ? task.met_backwards : task.met;
        if (std::exchange(seen, mark_) != mark_) steps.push_back({&task, next - 1});
    }
    bool has(const TaskBase& task) const noexcept {
        return (backwards_ ? task.met_backwards : task.met) == mark_;
    }
    bool at_end() const noexcept { return next == steps.size(); }
    TaskBase& take() noexcept { return *steps[next++].task; }

    std::vector<Step> steps;
    std::size_t next = 0; // whose needs were not looked at

private:
    const std::uint64_t mark_;
    const bool backwards_;
};

const Wait* wait_of(const TaskBase& task) noexcept {
    return task.coroutine != nullptr ? task.coroutine->wait : nullptr;
}

/// Whether anybody at all is shown.
struct Anybody final : TaskVisitor {
    void visit(TaskBase&) override { found = true; }
    bool found = false;
};

/// Whether those that are shown need somebody in turn. Mostly they do not, and then nothing has to
/// be remembered.
struct InTurn final : TaskVisitor {
    void visit(TaskBase& task) override {
        if (const Wait* wait = wait_of(task)) wait->needed(somebody);
    }
    Anybody somebody;
};

/// Those that are in a cycle that `self` closes when it waits for what is in `onwards`, in order,
/// from the first that it needs; none if there is none.
std::vector<TaskBase*> find_cycle(Met& onwards, const TaskBase& self, std::uint64_t mark) {
    Met back(mark, true);
    back.visit(const_cast<TaskBase&>(self));
    bool known = true; // what waits for it
    while (!onwards.at_end()) {
        if (known && back.at_end()) return {};
        if (known) {
            TaskBase& task = back.take();
            known = !task.wanted_otherwise;
            task.visit_waiting(back);
        }
        if (const Wait* wait = wait_of(onwards.take())) wait->needed(onwards);
        if (!onwards.has(self)) continue;
        std::size_t at = onwards.steps.size() - 1; // or a little before that
        while (onwards.steps[at].task != &self)
            --at;
        std::vector<TaskBase*> cycle;
        while ((at = onwards.steps[at].from) != SIZE_MAX)
            cycle.push_back(onwards.steps[at].task);
        std::reverse(cycle.begin(), cycle.end());
        return cycle;
    }
    return {};
}

/// "'b' (…) waits for the end of the task …, and 'c' (…) for …".
std::string story(const std::vector<TaskBase*>& cycle) {
    std::string text;
    for (const TaskBase* task : cycle) {
        const Wait* wait = wait_of(*task);
        text += (text.empty() ? "" : "; ") + task->describe() + " waits for " +
                (wait != nullptr ? wait->describe() : std::string("it"));
    }
    return text;
}

} // namespace

void check_cycle(const char* what, const TaskBase& task, const Coroutine& self) {
    InTurn in_turn;
    in_turn.visit(const_cast<TaskBase&>(task));
    if (!in_turn.somebody.found) return;
    const std::uint64_t mark = self.scheduler.next_search();
    Met onwards(mark, false);
    onwards.visit(const_cast<TaskBase&>(task));
    const auto cycle = find_cycle(onwards, self.task, mark);
    if (cycle.empty()) return;
    throw UsageError(std::string(what) + ": the task " + task.describe() +
                     " waits in turn for the one that would wait for it, " + self.task.describe() +
                     ": " + story(cycle));
}

void break_cycle(const char* what, const Wait& wait) noexcept {
    try {
        InTurn in_turn;
        wait.needed(in_turn);
        if (!in_turn.somebody.found) return;
        const std::uint64_t mark = wait.coroutine.scheduler.next_search();
        Met onwards(mark, false);
        wait.needed(onwards);
        const TaskBase& self = wait.coroutine.task;
        const auto cycle = find_cycle(onwards, self, mark);
        for (TaskBase* task : cycle) {
            const Wait* refused = wait_of(*task);
            if (refused == nullptr || !refused->refusable()) continue;
            const std::string text = "the coroutine " + task->describe() + " waits for " +
                                     refused->describe() + ", but that waits in turn for it (" +
                                     what + "): " + story(cycle) + "; " + self.describe() +
                                     " waits for " + wait.describe();
            return task->coroutine->refuse_wait(std::make_exception_ptr(UsageError(text)));
        }
    } catch (const std::bad_alloc&) { // then an observer finds them waiting
    }
}

} // namespace weft::coro::detail
