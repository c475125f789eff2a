#include "../core/wait_cycle.hpp"

#include <weft/coro/tasks/task_group.hpp>

namespace weft::coro {
namespace {

class GroupWait final : public detail::Wait {
public:
    GroupWait(detail::Coroutine& owner, detail::ListNode& children, Wait*& joiner) noexcept
        : Wait(owner), children_(children), joiner_(joiner) {
        joiner = this;
    }
    void abandon() noexcept override { joiner_ = nullptr; }
    void needed(detail::TaskVisitor& visitor) const override {
        for (detail::ListNode* link = children_.next; link != &children_; link = link->next)
            visitor.visit(detail::TaskBase::of_child(*link));
    }
    bool refusable() const noexcept override { return false; } // the group has to end
    std::string describe() const override { return "the tasks of its group"; }

private:
    detail::ListNode& children_;
    Wait*& joiner_;
};

} // namespace

ExceptionGroup::ExceptionGroup(const char* what, std::vector<std::exception_ptr> errors) {
    std::string text = std::string(what) + ": " + std::to_string(errors.size()) +
                       (errors.size() == 1 ? " error" : " errors");
    for (const std::exception_ptr& error : errors)
        text += (&error == &errors.front() ? ": " : "; ") + detail::text_of(error);
    shared_ = std::make_shared<const Shared>(Shared{what, std::move(text), std::move(errors)});
}

std::pair<std::optional<ExceptionGroup>, std::optional<ExceptionGroup>>
ExceptionGroup::split_by(bool (*matches)(const std::exception_ptr&)) const {
    std::vector<std::exception_ptr> yes, no;
    for (const std::exception_ptr& error : errors()) {
        if (matches(error)) {
            yes.push_back(error);
            continue;
        }
        try {
            std::rethrow_exception(error);
        } catch (const ExceptionGroup& inner) {
            auto [matching, others] = inner.split_by(matches);
            if (matching) yes.push_back(std::make_exception_ptr(*matching));
            if (others) no.push_back(std::make_exception_ptr(*others));
        } catch (...) {
            no.push_back(error);
        }
    }
    const auto group_of = [this](std::vector<std::exception_ptr>& some) {
        std::optional<ExceptionGroup> group;
        if (!some.empty()) group = ExceptionGroup(shared_->title.c_str(), std::move(some));
        return group;
    };
    return {group_of(yes), group_of(no)};
}

TaskGroup::TaskGroup(detail::Coroutine& owner) : owner_(owner), scheduler_(owner.scheduler) {
    scope = &scope_;
}

TaskGroup::~TaskGroup() {
    while (!kept_.empty())
        kept_.pop_back(); // what was given later may refer to what was before
}

void TaskGroup::enter() {
    requests_at_entry_ = owner_.task.cancel_requests;
    scope_.enter();
}

std::size_t TaskGroup::size() const noexcept {
    std::size_t count = 0;
    for (const detail::ListNode* link = children.next; link != &children; link = link->next)
        ++count;
    return count;
}

void TaskGroup::check_open(const char* what) const {
    if (phase_ == Phase::over) throw UsageError(std::string(what) + ": the group is over");
    if (phase_ == Phase::failed)
        throw UsageError(std::string(what) +
                         ": a task of the group has failed, and the others are being cancelled");
}

void TaskGroup::take_error(detail::TaskBase& child) noexcept {
    child.error_seen = true;
    fail(child.error);
}

void TaskGroup::fail(std::exception_ptr error) noexcept {
    phase_ = Phase::failed;
    scope_.cancel();
    try {
        std::rethrow_exception(error);
    } catch (const FatalError&) {
        if (!fatal_) fatal_ = error;
    } catch (...) {
    }
    try {
        errors_.push_back(std::move(error));
        // the first error is what counts, and the memory for that is there
    } catch (const std::bad_alloc&) {
        scheduler_.report_exception("collecting the errors of a task group");
    }
}

void TaskGroup::leave(std::exception_ptr body_error, bool body_cancelled) {
    bool cancelled = body_cancelled;
    // Not by this group's scope or one around it, but what the body waited for was cancelled.
    const bool foreign = body_cancelled && !scope_.effectively_cancelled();
    if (body_error) fail(std::move(body_error));
    if (body_cancelled) scope_.cancel();
    while (children.linked()) {
        GroupWait wait(owner_, children, joiner);
        wait.uncancellable = cancelled || phase_ == Phase::failed;
        detail::break_cycle("the tasks of a group", wait);
        try {
            scheduler_.suspend(wait);
        } catch (const Cancelled&) {
            cancelled = true;
            scope_.cancel();
        }
    }
    const bool failed = std::exchange(phase_, Phase::over) == Phase::failed;
    // A request that came meanwhile is not delivered by what is thrown instead.
    const bool requested = owner_.task.cancel_requests > requests_at_entry_;
    const bool caught = scope_.leave(cancelled);
    if (failed && requested) owner_.task.must_cancel = true;
    if (fatal_) std::rethrow_exception(fatal_);
    if (failed) throw ExceptionGroup("a task group failed", std::move(errors_));
    if (foreign || (cancelled && !caught)) throw Cancelled();
}

} // namespace weft::coro
