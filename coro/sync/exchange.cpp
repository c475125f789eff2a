#include <weft/coro/sync/channel.hpp>
#include <weft/coro/sync/exchange.hpp>

#include <stdexcept>
#include <string>

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

void throw_closed_meanwhile(const char* operation) {
    // The code's own text speaks of one that was closed before.
    struct ClosedMeanwhile final : std::system_error {
        explicit ClosedMeanwhile(const std::string& what)
            : std::system_error(make_error_code(Errc::closed)), text(what) {}
        const char* what() const noexcept override { return text.what(); }
        std::runtime_error text;
    };
    throw ClosedMeanwhile(std::string(operation) + ": closed while it waited");
}

namespace {

/// The cases of a `select`, each in no other one meanwhile.
class Cases {
public:
    Cases(SelectCase* const* cases, std::size_t count) : cases_(cases) {
        try {
            for (; count_ < count; ++count_) {
                SelectCase& next = *cases[count_];
                if (next.in_select)
                    throw UsageError("select: one of the cases is in a select already");
                next.begin();
                next.in_select = true;
            }
        } catch (...) {
            leave();
            throw;
        }
    }
    ~Cases() { leave(); }
    Cases(const Cases&) = delete;
    Cases& operator=(const Cases&) = delete;

private:
    void leave() noexcept {
        while (count_ != 0)
            cases_[--count_]->in_select = false;
    }
    SelectCase* const* cases_;
    std::size_t count_ = 0;
};

} // namespace

std::size_t select(Coroutine& self, SelectCase* const* cases, std::size_t count, bool wait,
                   Deadline deadline) {
    const Cases taking_part(cases, count);
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
