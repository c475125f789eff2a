#include <weft/coro/channel.hpp>
#include <weft/coro/exchange.hpp>

namespace weft::coro::detail {

std::size_t ExchangeWait::park(const char* operation, Deadline deadline) {
    if (coroutine.scheduler.suspend(*this, deadline.at()) == Wake::timed_out)
        throw TimeoutError(std::string(operation) + ": the time is up");
    const Slot* settled = slots_; // the one that was added last comes first
    while (settled->outcome == Slot::Outcome::none)
        settled = settled->sibling;
    if (settled->outcome == Slot::Outcome::stranded)
        throw UsageError(std::string(operation) + ": what was waited for has been destroyed");
    std::size_t number = 0;
    while ((settled = settled->sibling) != nullptr)
        ++number;
    return number;
}

void settle_all(ListNode& slots, Slot::Outcome outcome) noexcept {
    while (slots.linked()) {
        auto& slot = static_cast<Slot&>(*slots.next);
        slot.wait->settle(slot, outcome);
    }
}

void throw_closed(const char* operation) {
    throw std::system_error(make_error_code(Errc::closed), operation);
}

std::size_t select(Coroutine& self, SelectCase* const* cases, std::size_t count, bool wait,
                   Deadline deadline) {
    self.scheduler.checkpoint(self);
    const std::size_t first = self.scheduler.draw(count);
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t at = (first + i) % count;
        if (cases[at]->try_now()) return at;
    }
    if (!wait) return count;
    ExchangeWait all(self, "one of several Channels");
    for (std::size_t i = 0; i < count; ++i)
        all.add(cases[i]->enter());
    return all.park("select", deadline);
}

} // namespace weft::coro::detail
