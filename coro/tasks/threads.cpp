#include <weft/coro/tasks/threads.hpp>

#include <string>

namespace weft::coro::detail {

void RemoteState::cancel(const std::shared_ptr<RemoteState>& self) noexcept {
    self->cancelled.store(true);
    try {
        (void)self->loop->post(
            [self] {
                if (self->task_) self->task_->cancel();
            },
            {});
    } catch (const std::bad_alloc&) { // as if it had come too late
    }
}

void RemoteState::check_may_block(const char* what) const {
    if (Loop::current() != nullptr)
        throw UsageError(std::string(what) +
                         ": called on a thread that runs a loop, which it would block");
    if (loop->owner() == std::this_thread::get_id())
        throw UsageError(std::string(what) + ": called on the thread that steps the loop, which "
                                             "would have to run the task meanwhile");
}

void RemoteState::note_waiting(const std::shared_ptr<RemoteState>& self, bool waits) {
    (void)self->loop->post([self, waits] { self->count_waiting(waits ? +1 : -1); }, {});
}

void RemoteState::count_waiting(int change) noexcept {
    if (settled_) return; // it has gone on
    waiting_jobs_ += change;
    weft::detail::core_of(*loop->loop()).kernel().outside_work(-change);
}

bool RemoteState::settle_now() noexcept {
    if (settled_) return false;
    // Before they can know: the clock must not jump in between.
    if (waiting_jobs_ != 0)
        weft::detail::core_of(*loop->loop()).kernel().outside_work(std::exchange(waiting_jobs_, 0));
    return settled_ = true;
}

std::exception_ptr RemoteState::not_begun() const {
    if (cancelled.load())
        return std::make_exception_ptr(
            std::system_error(std::make_error_code(std::errc::operation_canceled),
                              "the task was cancelled before it began"));
    const Loop* alive = loop->open() ? loop->loop() : nullptr;
    if (alive != nullptr && spawned) // with all others of its loop, whose main task has ended
        return std::make_exception_ptr(
            std::system_error(std::make_error_code(std::errc::operation_canceled),
                              "the task was cancelled before it began"));
    return std::make_exception_ptr(std::system_error(
        make_error_code(Errc::aborted), "start: the loop was closed before the task began"));
}

} // namespace weft::coro::detail
