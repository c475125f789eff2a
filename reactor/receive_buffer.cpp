#include <weft/reactor/receive_buffer.hpp>

namespace weft::detail {

void ReceiveBuffer::renew() {
    if (!block_.unique()) {
        block_ = {};
        block_ = size_ == BlockPool::large_size ? blocks_.take_large() : Buffer(size_);
    }
    kept_ = false;
}

Buffer ReceiveBuffer::keep(Bytes bytes) {
    if (bytes.size() < block_.size() / 8 || !holds(bytes)) return Buffer::copy(bytes);
    kept_ = true;
    return block_.share(static_cast<std::size_t>(bytes.data() - block_.data()), bytes.size());
}

} // namespace weft::detail
