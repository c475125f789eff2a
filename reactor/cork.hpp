#pragma once

#include <weft/reactor/buffer.hpp>
#include <weft/reactor/bytes.hpp>
#include <weft/reactor/source.hpp>

#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

#pragma GCC visibility push(default)

namespace weft::detail {

/// Where the small writes of one connection gather, so that they leave with one system call: of the
/// one whose callback runs, or that a coroutine writes to. A loop has one. Small pieces are copied;
/// longer ones that have an owner, or that stay where they are until the cork is flushed, are
/// referred to. Its owner empties it before it closes it.
class Cork {
public:
    static constexpr std::size_t capacity = 64 * 1024; ///< bytes gathered at a time
    /// longer ones are sent at once, with what is there
    static constexpr std::size_t largest_piece = 16 * 1024;
    /// up to here a copy costs less than a reference
    static constexpr std::size_t copied = 512;
    static constexpr std::size_t most_references = 15;
    static constexpr std::size_t most_pieces = 2 * most_references + 1;

    /// Null: nobody gathers.
    Source* owner() const noexcept { return owner_; }
    bool is_open() const noexcept { return owner_ != nullptr; }
    /// It is empty, and `owner`'s from now on, which may add if `gathers`.
    void open(Source* owner, bool gathers) noexcept {
        owner_ = owner;
        limit_ = next_ + (gathers ? capacity : 0);
    }
    /// Whether its owner may add, as far as there is room: no longer once something stands before
    /// its writes.
    void allow(bool gathers) noexcept { limit_ = next_ + (gathers ? capacity - size() : 0); }
    /// Nobody's. It has been emptied, or is emptied next.
    void close() noexcept {
        owner_ = nullptr;
        limit_ = next_;
    }

    /// What has been gathered leaves, and nobody gathers any more.
    void flush() {
        if (is_open()) owner_->on_uncork();
    }

    /// Adds a copy. False if `piece` must go another way, as it must if it is empty or somebody
    /// else gathers.
    bool add(const Source* source, Bytes piece) noexcept {
        if (owner_ != source || piece.size() - 1 >= room() || piece.size() > largest_piece)
            return false;
        std::memcpy(next_, piece.data(), piece.size());
        next_ += piece.size();
        return true;
    }
    /// The same for pieces that a copy is the best way for.
    bool add_small(const Source* source, Bytes piece) noexcept {
        return piece.size() <= copied && add(source, piece);
    }
    /// The same for several one after the other, of `total` bytes, some of which may be empty.
    bool add_small(const Source* source, std::span<const Bytes> pieces,
                   std::size_t total) noexcept {
        if (owner_ != source || total - 1 >= room() || total > copied) return false;
        for (const Bytes piece : pieces) {
            if (piece.empty()) continue;
            std::memcpy(next_, piece.data(), piece.size());
            next_ += piece.size();
        }
        return true;
    }
    /// Adds a reference. False, with `piece` untouched, if it must go another way. One without an
    /// owner stays valid until the cork is emptied.
    bool refer(const Source* source, Buffer& piece) noexcept {
        if (owner_ != source || piece.size() - 1 >= room() || piece.size() > largest_piece ||
            references_ == most_references)
            return false;
        referred_size_ += piece.size();
        limit_ -= piece.size();
        referred_[references_++] = {copied_size(), std::move(piece)};
        return true;
    }

    std::size_t size() const noexcept { return copied_size() + referred_size_; }
    bool empty() const noexcept { return next_ == data_.get() && references_ == 0; }
    /// Whether all of it is one stretch of copies.
    bool plain() const noexcept { return references_ == 0; }
    /// Empties a plain one; the bytes stay where they are until the next `add`.
    Bytes take_copies() noexcept {
        const Bytes copies{data_.get(), copied_size()};
        limit_ = next_ = data_.get();
        return copies;
    }

    /// What was gathered if that is one reference, else null. It stays until `clear`.
    Buffer* single() noexcept {
        return references_ == 1 && copied_size() == 0 ? &referred_[0].piece : nullptr;
    }
    /// Calls `each(bytes, owner)` for what was gathered, in order, at most `most_pieces` times;
    /// `owner` shows the same bytes, and is null for copies. Nothing is dropped.
    template<class Each>
    void for_each(Each&& each) {
        std::size_t from = 0;
        for (std::size_t i = 0; i < references_; ++i) {
            Reference& next = referred_[i];
            if (next.at != from) each(Bytes(data_.get() + from, next.at - from), nullptr);
            from = next.at;
            each(next.piece.bytes(), &next.piece);
        }
        if (copied_size() != from) each(Bytes(data_.get() + from, copied_size() - from), nullptr);
    }
    /// Drops what was gathered.
    void clear() noexcept {
        while (references_ != 0)
            referred_[--references_].piece = {};
        referred_size_ = 0;
        limit_ = next_ = data_.get();
    }

private:
    struct Reference {
        std::size_t at; // copies that stand before it
        Buffer piece;
    };
    /// What the owner may add without a further look; nothing without an owner.
    std::size_t room() const noexcept { return static_cast<std::size_t>(limit_ - next_); }
    std::size_t copied_size() const noexcept {
        return static_cast<std::size_t>(next_ - data_.get());
    }

    const std::unique_ptr<std::byte[]> data_{new std::byte[capacity]};
    Source* owner_ = nullptr;
    std::byte* next_ = data_.get(); // where the next copy goes
    std::byte* limit_ = next_;      // `room` behind that; never past the end of `data_`
    std::size_t references_ = 0;
    std::size_t referred_size_ = 0;
    std::array<Reference, most_references> referred_;
};

/// The cork during one callback of `Owner`, a source: its small writes gather, and leave when the
/// callback has returned. What a callback wrote that throws is dropped.
template<class Owner>
class CorkScope {
public:
    CorkScope(Cork& cork, Owner& owner, bool gathers) noexcept : cork_(cork), owner_(owner) {
        cork.open(&owner, gathers);
    }
    CorkScope(const CorkScope&) = delete;
    CorkScope& operator=(const CorkScope&) = delete;
    /// The callback has returned. May call the owner's user back, to pause.
    void flush() { owner_.on_uncork(); }
    /// It threw.
    void drop() noexcept {
        cork_.close();
        cork_.clear();
    }

private:
    Cork& cork_;
    Owner& owner_;
};

} // namespace weft::detail

#pragma GCC visibility pop
