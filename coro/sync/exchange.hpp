#pragma once

#include <weft/coro/sync/wait_queue.hpp>
#include <weft/reactor/result.hpp>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#pragma GCC visibility push(default)

namespace weft::coro::detail {

class ExchangeWait;

/// A place among those that wait to give or to take an item.
struct Slot : ListNode {
    enum class Outcome : std::uint8_t { none, done, closed, stranded };
    ExchangeWait* wait = nullptr;
    Slot* sibling = nullptr; ///< another place of the same wait
    Outcome outcome = Outcome::none;
};
template<class T>
struct GiveSlot final : Slot {
    explicit GiveSlot(T& i) noexcept : item(i) {}
    T& item;
};
template<class T>
struct TakeSlot final : Slot {
    explicit TakeSlot(std::optional<T>& i) noexcept : into(i) {}
    std::optional<T>& into;
};

/// Waits in one place or several, and the first of them in which something happens ends it.
class ExchangeWait final : public Wait {
public:
    ExchangeWait(Coroutine& self, const char* what) noexcept : Wait(self), what_(what) {}
    void add(Slot& slot) noexcept {
        slot.wait = this;
        slot.sibling = std::exchange(slots_, &slot);
    }
    void abandon() noexcept override { unlink_all(); }
    std::string describe() const override { return what_; }
    /// What was waited for has happened, or cannot happen any more.
    void settle(Slot& slot, Slot::Outcome outcome) noexcept {
        unlink_all();
        slot.outcome = outcome;
        wake();
    }
    /// Suspends until one place is settled, and returns that. Throws `Cancelled`, `TimeoutError`,
    /// and `UsageError` if the other side was destroyed.
    const Slot& park(const char* operation, Deadline deadline) {
        suspend_until(*this, operation, deadline);
        const Slot* settled = slots_;
        while (settled->outcome == Slot::Outcome::none)
            settled = settled->sibling;
        if (settled->outcome == Slot::Outcome::stranded) [[unlikely]]
            throw_stranded(operation);
        return *settled;
    }

private:
    void unlink_all() noexcept {
        for (Slot* slot = slots_; slot != nullptr; slot = slot->sibling)
            slot->unlink();
    }
    Slot* slots_ = nullptr;
    const char* what_;
};

/// How the users of an `Exchange` are called, for texts.
struct ExchangeNames {
    const char* give;
    const char* take;
    const char* room; ///< what a giver waits for
    const char* item; ///< what a taker waits for
};

void settle_all(ListNode& slots, Slot::Outcome outcome) noexcept;
[[noreturn]] void throw_closed(const char* operation);
[[noreturn]] void throw_closed_meanwhile(const char* operation);

/// What queues and channels have in common: items that wait for those that take them, up to a
/// capacity, and those that wait on either side, first come, first served. An item goes from hand
/// to hand: the one that comes second completes the operation of the one that waits, which has then
/// taken effect.
template<class T, class Store>
class Exchange {
    static_assert(std::is_object_v<T> && std::is_nothrow_move_constructible_v<T>,
                  "items are moved when others run, and can not be lost then");

public:
    Exchange(std::size_t capacity, const ExchangeNames& names) noexcept
        : names_(names), capacity_(capacity) {}
    ~Exchange() {
        settle_all(givers_, Slot::Outcome::stranded);
        settle_all(takers_, Slot::Outcome::stranded);
    }
    Exchange(const Exchange&) = delete;
    Exchange& operator=(const Exchange&) = delete;

    /// Gives `item` to the first that waits, or stores it. False if there is no room; then it is
    /// untouched.
    bool try_give(T& item) {
        if (takers_.linked()) {
            auto& slot = static_cast<TakeSlot<T>&>(*takers_.next);
            slot.into.emplace(std::move(item));
            slot.wait->settle(slot, Slot::Outcome::done);
        } else if (store_.size() < capacity_) {
            store_.push(std::move(item));
        } else {
            return false;
        }
        ++given_;
        return true;
    }
    /// Takes the next item, and lets the first that waits to give one do so. False if there is
    /// none.
    bool try_take(std::optional<T>& into) {
        if (store_.size() != 0) {
            store_.pop(into);
            if (givers_.linked()) accept([this](T& item) { store_.push(std::move(item)); });
            return true;
        }
        if (!givers_.linked()) return false;
        accept([&](T& item) { into.emplace(std::move(item)); });
        return true;
    }
    /// Suspends while there is no room. `item` is moved from when that has taken effect, and only
    /// then. Throws also if it is closed.
    void give(Coroutine& self, T& item, Deadline deadline) {
        if (closed_) throw_closed(names_.give);
        if (try_give(item)) return;
        ExchangeWait wait(self, names_.room);
        GiveSlot<T> slot(item);
        wait.add(slot);
        enter(slot);
        wait.park(names_.give, deadline);
        if (slot.outcome == Slot::Outcome::closed) throw_closed_meanwhile(names_.give);
    }
    /// Suspends while there is none. False if there will never be one again.
    bool take(Coroutine& self, std::optional<T>& into, Deadline deadline) {
        if (try_take(into)) return true;
        if (closed_) return false;
        ExchangeWait wait(self, names_.item);
        TakeSlot<T> slot(into);
        wait.add(slot);
        enter(slot);
        wait.park(names_.take, deadline);
        return slot.outcome == Slot::Outcome::done;
    }
    void enter(GiveSlot<T>& slot) noexcept { givers_.push_back(slot); }
    void enter(TakeSlot<T>& slot) noexcept { takers_.push_back(slot); }

    void close() noexcept {
        closed_ = true;
        settle_all(givers_, Slot::Outcome::closed);
        settle_all(takers_, Slot::Outcome::closed);
    }
    bool closed() const noexcept { return closed_; }
    std::size_t size() const noexcept { return store_.size(); }
    std::size_t capacity() const noexcept { return capacity_; }
    /// Items so far, whatever has become of them.
    std::uint64_t given() const noexcept { return given_; }

    // Without waiting; the texts are short, so that asking in vain allocates nothing.
    std::error_code give_now(T& item) {
        if (closed_) return make_error_code(Errc::closed);
        return try_give(item) ? std::error_code() : make_error_code(Errc::queue_full);
    }
    Result<T> take_now(const char* operation) {
        std::optional<T> item;
        if (try_take(item)) return std::move(*item);
        return Error{closed_ ? make_error_code(Errc::closed)
                             : std::make_error_code(std::errc::resource_unavailable_try_again),
                     operation};
    }

private:
    template<class Put>
    void accept(Put put) {
        auto& slot = static_cast<GiveSlot<T>&>(*givers_.next);
        put(slot.item);
        ++given_;
        slot.wait->settle(slot, Slot::Outcome::done);
    }

    const ExchangeNames& names_;
    const std::size_t capacity_;
    bool closed_ = false;
    std::uint64_t given_ = 0;
    Store store_;
    ListNode givers_; // while the store is full
    ListNode takers_; // while it is empty
};

/// The items that `Source::next(std::optional<T>&)` gives until it returns false, for a range-for.
template<class Source, class T>
class ItemIterator {
public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = T;
    using difference_type = std::ptrdiff_t;

    explicit ItemIterator(Source& source) : source_(&source) { ++*this; }
    T& operator*() const noexcept { return *item_; }
    ItemIterator& operator++() {
        item_.reset();
        if (!source_->next(item_)) item_.reset();
        return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const noexcept { return !item_; }

private:
    Source* source_;
    mutable std::optional<T> item_;
};

} // namespace weft::coro::detail

#pragma GCC visibility pop
