#include <weft/reactor/source_table.hpp>

namespace weft::detail {

Token SourceTable::add(Source& source) {
    std::uint32_t at = free_;
    if (at != 0) {
        free_ = slots_[at].next_free;
    } else {
        at = static_cast<std::uint32_t>(slots_.size());
        slots_.emplace_back();
    }
    slots_[at].source = &source;
    ++size_;
    return Token{slots_[at].generation} << 32 | at;
}

void SourceTable::remove(Token token) noexcept {
    Slot& slot = slots_[index(token)];
    slot.source = nullptr;
    ++slot.generation;
    slot.next_free = free_;
    free_ = index(token);
    --size_;
}

} // namespace weft::detail
