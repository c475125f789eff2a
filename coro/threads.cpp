#include <weft/coro/threads.hpp>

#include <string>

namespace weft::coro::detail {

void RemoteState::cancel(const std::shared_ptr<RemoteState>& self) noexcept {
    cancelled.store(true);
    try {
        (void)loop->post(
            [self] {
                if (self->task_ != nullptr) self->task_->cancel();
            },
            {});
    } catch (const std::bad_alloc&) { // as if it had come too late
    }
}

void RemoteState::check_may_block(const char* what) const {
    if (Loop* running = Loop::current(); running != nullptr)
        throw UsageError(std::string(what) +
                         ": called on a thread that runs a loop, which it would block");
}

} // namespace weft::coro::detail
