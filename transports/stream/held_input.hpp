#pragma once

#include <weft/reactor/bytes.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

namespace weft::detail {

/// Input that was received and is still to be delivered, in order.
class HeldInput {
public:
    bool empty() const noexcept { return begin_ == bytes_.size(); }
    Bytes bytes() const noexcept { return Bytes(bytes_).subspan(begin_); }
    /// Behind what is there.
    void append(Bytes data) { bytes_.insert(bytes_.end(), data.begin(), data.end()); }
    /// Before what is there. What was taken leaves room in front: whoever gives back what it did
    /// not use moves no other byte.
    void put_back(Bytes data) {
        const std::size_t room = std::min(begin_, data.size());
        const Bytes front = data.first(data.size() - room);
        begin_ -= room;
        const auto begin = bytes_.begin() + static_cast<std::ptrdiff_t>(begin_);
        std::copy(data.end() - static_cast<std::ptrdiff_t>(room), data.end(), begin);
        bytes_.insert(begin, front.begin(), front.end());
    }
    /// Takes the first bytes, as many as fit; how many.
    std::size_t take(MutableBytes into) noexcept {
        const std::size_t size = std::min(into.size(), bytes_.size() - begin_);
        if (size != 0) std::memcpy(into.data(), bytes_.data() + begin_, size);
        begin_ += size;
        if (empty()) clear();
        return size;
    }
    /// Takes all of it.
    std::vector<std::byte> take_all() {
        bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(begin_));
        begin_ = 0;
        return std::exchange(bytes_, {});
    }
    /// Drops it, with its memory.
    void clear() noexcept {
        bytes_ = {};
        begin_ = 0;
    }

private:
    std::vector<std::byte> bytes_;
    std::size_t begin_ = 0; // so many of them have been taken
};

} // namespace weft::detail
