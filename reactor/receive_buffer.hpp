#pragma once

#include <weft/reactor/buffer.hpp>
#include <weft/reactor/buffer_pool.hpp>
#include <weft/reactor/bytes.hpp>

#include <cstddef>
#include <cstring>

#pragma GCC visibility push(default)

namespace weft::detail {

/// The one buffer that a loop's input is received into. Protocols look at what is in it during
/// their callback, or keep it: then the next input is received into another block.
class ReceiveBuffer {
public:
    /// Of `size` bytes, from `blocks` where they have such.
    ReceiveBuffer(std::size_t size, BlockPool& blocks) noexcept : size_(size), blocks_(blocks) {}

    /// Room for input, for whoever asks next: nobody keeps any of it.
    MutableBytes room() {
        if (kept_) [[unlikely]]
            renew();
        return {const_cast<std::byte*>(block_.data()), block_.size()};
    }
    std::size_t size() const noexcept { return block_.size(); }
    /// Whether `bytes` lie in it, and so stay there until `room` is asked for again.
    bool holds(Bytes bytes) const noexcept {
        return bytes.data() >= block_.data() && bytes.data() < block_.data() + block_.size();
    }
    /// An owner of `bytes`: without a copy if they lie in it and are a good part of it.
    Buffer keep(Bytes bytes);
    /// In debug mode: what was received last is gone.
    void spoil(std::size_t size) noexcept {
        if (!kept_) std::memset(const_cast<std::byte*>(block_.data()), 0xDD, size);
    }

private:
    void renew();

    std::size_t size_;
    BlockPool& blocks_;
    Buffer block_;
    bool kept_ = true; // a part of it has another owner, or it is still to be made
};

} // namespace weft::detail

#pragma GCC visibility pop
