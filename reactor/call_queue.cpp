#include <weft/reactor/call_queue.hpp>

namespace weft {

bool Handle::pending() const noexcept {
    return node_ != nullptr && node_->sequence == sequence_ && static_cast<bool>(node_->function);
}

bool Handle::cancel() noexcept {
    if (!pending()) return false;
    auto captures = std::move(node_->function);
    return true;
}

detail::CallQueue::~CallQueue() {
    begin_turn();
    while (pending()) {
        const auto captures = take();
    }
    while (free_ != nullptr)
        delete std::exchange(free_, free_->next);
}

} // namespace weft
