#pragma once

#include <weft/reactor/kernel/kernel.hpp>
#include <weft/reactor/source.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

#pragma GCC visibility push(default)

namespace weft::detail {

/// The sources of a loop by their tokens: a slot number and the generation of its use, so that an
/// event for what is closed in the meantime is known by comparison.
class SourceTable {
public:
    Token add(Source& source);
    void remove(Token token) noexcept;
    /// `source` has the slot from now on.
    void replace(Token token, Source& source) noexcept { slots_[index(token)].source = &source; }
    /// Null if the token is stale. For tokens from anywhere.
    Source* find(Token token) const noexcept {
        return index(token) < slots_.size() ? of_event(token) : nullptr;
    }
    /// The same for one that `add` has made: slots are never taken away.
    Source* of_event(Token token) const noexcept {
        const Slot& slot = slots_[index(token)];
        return slot.generation == token >> 32 ? slot.source : nullptr;
    }
    /// The source in the slot of a token that `add` has made, though the token may be stale; null
    /// if there is none.
    const Source* in_slot(Token token) const noexcept { return slots_[index(token)].source; }
    std::size_t size() const noexcept { return size_; }

    /// Calls `each(source, token)` for all there are, those that come meanwhile perhaps included.
    template<class Each>
    void for_each(Each&& each) {
        for (std::size_t i = 1; i < slots_.size(); ++i)
            if (slots_[i].source != nullptr)
                each(*slots_[i].source, Token{slots_[i].generation} << 32 | i);
    }

private:
    struct Slot {
        Source* source = nullptr;
        std::uint32_t generation = 0;
        std::uint32_t next_free = 0;
    };
    static std::uint32_t index(Token token) noexcept { return static_cast<std::uint32_t>(token); }

    std::vector<Slot> slots_{1}; // the first is never used
    std::uint32_t free_ = 0;     // 0: none
    std::size_t size_ = 0;
};

/// Sources that want a call in one phase, of those that are there when the phase begins.
class SourceQueue {
public:
    void add(Source& source) { coming_.push_back(&source); }
    bool empty() const noexcept { return coming_.empty() && next_ == now_.size(); }
    /// Calls `each(source)` as long as `may_go_on()`; false if that ended it. Those that come
    /// meanwhile are for the next time. One that throws has had its turn, and may be gone.
    template<class MayGoOn, class Each>
    bool call_each(MayGoOn&& may_go_on, Each&& each) {
        if (next_ == now_.size()) {
            now_.clear();
            next_ = 0;
            now_.swap(coming_);
        }
        while (next_ < now_.size()) {
            if (!may_go_on()) return false;
            each(*now_[next_++]);
        }
        return true;
    }

private:
    std::vector<Source*> coming_;
    std::vector<Source*> now_;
    std::size_t next_ = 0; // of `now_`
};

} // namespace weft::detail

#pragma GCC visibility pop
