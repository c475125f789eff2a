#include <weft/coro/sync/barrier.hpp>

namespace weft::coro {

class Barrier::PartyWait final : public detail::QueuedWait {
public:
    PartyWait(detail::Coroutine& self) noexcept
        : detail::QueuedWait(self, "the others at a Barrier") {}
    std::size_t index = 0;
    bool broken = true; // unless it is told otherwise
};

namespace {

[[noreturn]] void throw_aborted() {
    throw std::system_error(make_error_code(Errc::aborted),
                            "Barrier::wait: the barrier was reset or aborted");
}

} // namespace

Barrier::Barrier(std::size_t parties) : parties_(parties) {
    if (parties == 0) throw UsageError("Barrier: for nobody");
}

std::size_t Barrier::wait(Deadline deadline) {
    detail::Coroutine& self = detail::running("Barrier::wait");
    self.scheduler.checkpoint(self);
    if (aborted_) throw_aborted();
    if (waiters_.size() + 1 == parties_) {
        for (std::size_t index = 0; !waiters_.empty(); ++index) {
            auto& wait = static_cast<PartyWait&>(waiters_.pop());
            wait.index = index;
            wait.broken = false;
            wait.wake();
        }
        return parties_ - 1;
    }
    PartyWait wait(self);
    waiters_.park(wait, "Barrier::wait", deadline);
    if (wait.broken) throw_aborted();
    return wait.index;
}

void Barrier::reset() noexcept {
    aborted_ = false;
    waiters_.wake_all();
}

void Barrier::abort() noexcept {
    aborted_ = true;
    waiters_.wake_all();
}

} // namespace weft::coro
