#pragma once

#include <weft/reactor/timer_queue.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

#pragma GCC visibility push(default)

namespace weft::detail {

class WatchedSignal;

/// The watches of signals of a loop.
class SignalWatches {
public:
    void add(WatchedSignal& watched) noexcept;
    void remove(WatchedSignal& watched) noexcept;
    /// How many there are of this signal.
    int watching(int number) const noexcept { return uses_[static_cast<std::size_t>(number)]; }
    std::size_t size() const noexcept { return size_; }
    /// How many of them are a front-end's own, and do not count as something to wait for.
    void set_own(std::size_t count) noexcept { own_ = count; }
    /// Whether somebody else waits for a signal.
    bool awaited() const noexcept { return size_ > own_; }

    /// Signals came: bit n-1 for signal n.
    void note(std::uint64_t seen) noexcept;
    /// Whether one that came is still to be delivered.
    bool due() const noexcept { return due_; }
    /// Calls the watches that are due, as long as `may_go_on()`; false if that ended it.
    template<class MayGoOn>
    bool deliver(MayGoOn&& may_go_on) {
        while (WatchedSignal* watched = next_due()) {
            if (!may_go_on()) return false;
            deliver(*watched);
        }
        due_ = false;
        return true;
    }
    /// Ends all of them.
    void close() noexcept;

private:
    WatchedSignal* next_due() noexcept;
    static void deliver(WatchedSignal& watched);

    ListNode watches_;
    std::size_t size_ = 0;
    std::size_t own_ = 0;
    std::array<std::uint16_t, 65> uses_{}; // by number
    bool due_ = false;
};

} // namespace weft::detail

#pragma GCC visibility pop
