// What every transport has, whatever it is made over.

#include <weft/protocols/transport.hpp>
#include <weft/reactor/loop_core.hpp>
#include <weft/reactor/source.hpp>

#include <algorithm>

namespace weft {

void Transport::write_all(std::initializer_list<std::string_view> pieces) {
    constexpr std::size_t few = 16;
    Bytes some[few];
    if (pieces.size() <= few) {
        std::transform(pieces.begin(), pieces.end(), some,
                       [](std::string_view piece) { return bytes_of(piece); });
        return write_all(std::span<const Bytes>(some, pieces.size()));
    }
    std::vector<Bytes> all;
    for (const std::string_view piece : pieces)
        all.push_back(bytes_of(piece));
    write_all(std::span<const Bytes>(all));
}

Transport* TransportRef::get() const noexcept {
    if (!loop_ || loop_->loop() == nullptr) return nullptr;
    detail::Source* source = detail::core_of(*loop_->loop()).sources().find(token_);
    return source ? source->as_transport() : nullptr;
}

} // namespace weft
