#include <weft/coro/channel.hpp>
#include <weft/coro/exchange.hpp>

namespace weft::coro::detail {

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
    if (wait) self.scheduler.checkpoint(self);
    const std::size_t first = self.scheduler.draw(count);
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t at = (first + i) % count;
        if (cases[at]->try_now()) return at;
    }
    if (!wait) return count;
    ExchangeWait all(self, "one of several Channels");
    for (std::size_t i = 0; i < count; ++i)
        all.add(cases[i]->enter());
    // Of the places, the one that was added last comes first.
    std::size_t at = 0;
    for (const Slot* slot = all.park("select", deadline).sibling; slot != nullptr;
         slot = slot->sibling)
        ++at;
    return at;
}

} // namespace weft::coro::detail
