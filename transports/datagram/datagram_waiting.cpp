// What a datagram endpoint can not send yet, and who waits for it to be sent.
//
// A datagram to a Unix socket goes straight into its queue, and EAGAIN says that there is no room
// in that one. The sender is writable meanwhile, unless it is connected, and nothing tells of room
// (unix(7)). So what is for that receiver is set aside, the others have theirs, and a timer tries
// again.

#include "datagram_endpoint.hpp"

namespace weft::detail {

DatagramEndpoint::Waiting::~Waiting() {
    for (auto& waiter : drained)
        waiter.set_error_if_pending({reason, "drain: the datagram endpoint is gone"});
}

DatagramQueue* DatagramEndpoint::Waiting::queue_for(const Address& to) noexcept {
    for (const Held& each : held)
        if (each.to == to) return each.queue.get();
    return nullptr;
}

std::size_t DatagramEndpoint::Waiting::bytes() const noexcept {
    std::size_t sum = 0;
    for (const Held& each : held)
        sum += each.queue->bytes();
    return sum;
}

DatagramEndpoint::Waiting& DatagramEndpoint::waiting() {
    if (!waiting_) waiting_ = std::make_unique<Waiting>();
    return *waiting_;
}

/// Sets aside what is for the receiver of the first. False if it is not the receiver who has no
/// room.
bool DatagramEndpoint::hold_first() {
    constexpr Duration first_pause = std::chrono::milliseconds(1);
    if (has(internet) || !peer_.empty()) return false;
    Waiting& all = waiting();
    const Address to = queue_->first_target();
    all.held.reserve(all.held.size() + 1);
    auto rest = queue_->split_off(to);
    all.held.push_back({to, std::move(queue_)});
    queue_ = std::move(rest);
    if (all.retry.active()) return true;
    if (all.pause == Duration::zero()) all.pause = first_pause;
    all.retry = core_.loop().call_later(all.pause, [this] { retry_held(); });
    return true;
}

/// No user code runs while the queue is another.
void DatagramEndpoint::retry_held() {
    constexpr Duration longest_pause = std::chrono::milliseconds(64);
    Waiting& all = *waiting_;
    const std::size_t before = all.bytes();
    all.pause = std::min<Duration>(all.pause * 2, longest_pause);
    std::vector<Waiting::Held> held;
    held.reserve(all.held.size());
    held.swap(all.held);
    auto gathered = std::move(queue_);
    for (auto& each : held) {
        queue_ = std::move(each.queue);
        send_queue();
    }
    queue_ = std::move(gathered);
    if (all.bytes() < before) all.pause = Duration::zero();
    tell_drained();
    check_low_water();
    settle();
}

std::size_t DatagramEndpoint::write_buffer_size() const noexcept {
    return (queue_ ? queue_->bytes() : 0) + (waiting_ ? waiting_->bytes() : 0);
}

bool DatagramEndpoint::all_sent() const noexcept {
    return !queue_ && !(waiting_ && !waiting_->held.empty());
}

Future<void> DatagramEndpoint::drain() {
    Promise<void> promise(core_.loop());
    auto future = promise.future();
    flush();
    if (is_over()) {
        promise.set_error({reason_ ? reason_ : make_error_code(Errc::closed), describe("drain")});
    } else if (all_sent()) {
        promise.set_value();
    } else {
        waiting().drained.push_back(std::move(promise));
    }
    return future;
}

void DatagramEndpoint::tell_drained() noexcept {
    if (!waiting_ || waiting_->drained.empty() || !all_sent()) return;
    for (auto& waiter : std::exchange(waiting_->drained, {}))
        waiter.set_value_if_pending();
}

/// Everything is lost: nobody hears that it was sent.
void DatagramEndpoint::drop_all(std::error_code reason) noexcept {
    drop_queue();
    if (!waiting_) return;
    waiting_->reason = reason;
    waiting_.reset();
}

} // namespace weft::detail
