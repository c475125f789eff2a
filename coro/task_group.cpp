#include <weft/coro/task_group.hpp>

namespace weft::coro {
namespace {

class GroupWait final : public detail::Wait {
public:
    GroupWait(detail::Coroutine& owner, Wait*& joiner) noexcept : Wait(owner), joiner_(joiner) {
        joiner = this;
    }
    void abandon() noexcept override { joiner_ = nullptr; }
    std::string describe() const override { return "the tasks of its group"; }

private:
    Wait*& joiner_;
};

} // namespace

ExceptionGroup::ExceptionGroup(const char* what, std::vector<std::exception_ptr> errors) {
    std::string text = std::string(what) + ": " + std::to_string(errors.size()) +
                       (errors.size() == 1 ? " error" : " errors");
    for (const std::exception_ptr& error : errors)
        text += (&error == &errors.front() ? ": " : "; ") + detail::text_of(error);
    shared_ = std::make_shared<const Shared>(Shared{std::move(text), std::move(errors)});
}

TaskGroup::TaskGroup(detail::Coroutine& owner) : owner_(owner), scheduler_(owner.scheduler) {
    scope = &scope_;
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
    if (over_) throw UsageError(std::string(what) + ": the group is over");
    if (failed_)
        throw UsageError(std::string(what) +
                         ": a task of the group has failed, and the others are being cancelled");
}

void TaskGroup::child_ended(detail::TaskBase& child) noexcept {
    if (child.status == detail::TaskBase::Status::failed && !child.error_seen) {
        child.error_seen = true;
        fail(child.error);
    }
    Family::child_ended(child);
}

void TaskGroup::fail(std::exception_ptr error) noexcept {
    failed_ = true;
    scope_.cancel();
    try {
        std::rethrow_exception(error);
    } catch (const FatalError&) {
        if (!fatal_) fatal_ = error;
    } catch (...) {
    }
    try {
        errors_.push_back(std::move(error));
    } catch (
        const std::bad_alloc&) { // the first error is what counts, and the memory for that is there
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
        GroupWait wait(owner_, joiner);
        wait.uncancellable = cancelled || failed_;
        try {
            scheduler_.suspend(wait);
        } catch (const Cancelled&) {
            cancelled = true;
            scope_.cancel();
        }
    }
    over_ = true;
    // A request that came meanwhile is not delivered by what is thrown instead.
    const bool requested = owner_.task.cancel_requests > requests_at_entry_;
    const bool caught = scope_.leave(cancelled);
    if (failed_ && requested) owner_.task.must_cancel = true;
    if (fatal_) std::rethrow_exception(fatal_);
    if (failed_) throw ExceptionGroup("a task group failed", std::move(errors_));
    if (foreign || (cancelled && !caught)) throw Cancelled();
}

} // namespace weft::coro
