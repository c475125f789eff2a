// The receiving half of a datagram endpoint.

#include "datagram_backlog.hpp"
#include "datagram_endpoint.hpp"

#include <algorithm>
#include <cstring>

namespace weft::detail {
namespace {

/// The room's slots and views are on loan to a callback.
class Busy {
public:
    explicit Busy(DatagramRoom& room) noexcept : room_(room) { room_.busy = true; }
    ~Busy() { room_.busy = false; }
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;

private:
    DatagramRoom& room_;
};

} // namespace

void DatagramEndpoint::on_ready(std::uint32_t ready) {
    if (ready == 0) clear(again_queued);
    if (is_over()) return;
    if (!has(made)) make();
    if (ready & ready::error) take_errors();
    if (blocked() && (ready & (ready::writable | ready::error | ready::hangup))) unblock();
    if (can_read()) {
        receive(ready);
    } else if (discards() && (ready & ready::readable)) {
        discard_input();
    } else if (ready & (ready::readable | ready::read_hangup)) {
        update_interest(); // level-triggered: it would be reported for ever
    }
    if (ready & ready::hangup) abort({}); // somebody shut both directions down
}

void DatagramEndpoint::receive(std::uint32_t ready) {
    if (backlog_) deliver_backlog();
    const bool told = (ready & (ready::readable | ready::read_hangup)) != 0;
    // What is left after these is reported again, behind everybody else's.
    for (int left = core_.reads_per_turn(); told && left > 0; --left) {
        if (!can_read() || backlog_) return;
        auto slots = room_->slots(slot_count_, slot_size_);
        if (core_.limited()) slots = slots.first(1);
        const Sys got = core_.kernel().recv_batch(fd_, slots);
        if (got.ok()) {
            deliver(slots.first(got.count()));
            if (got.count() < slots.size()) return;
        } else if (!got.would_block()) {
            receive_failed(got.error());
        } else if (ready & ready::read_hangup) {
            receiving_ = Receiving::shut;
            return update_interest();
        } else {
            return;
        }
    }
}

/// Two that wait for each other's queues would never have sent what is left: nobody wants what is
/// in this one.
void DatagramEndpoint::discard_input() {
    for (int left = core_.reads_per_turn(); left > 0; --left) {
        const auto slots = room_->slots(slot_count_, slot_size_);
        const Sys got = core_.kernel().recv_batch(fd_, slots);
        if (!got.ok() || got.count() < slots.size()) return;
    }
}

void DatagramEndpoint::deliver(std::span<DatagramSlot> slots) {
    std::vector<Datagram>& batch = room_->batch;
    batch.clear();
    for (const DatagramSlot& slot : slots) {
        const Bytes all(slot.data, slot.size);
        if (slot.segment_size == 0) [[likely]] {
            batch.push_back({all.first(std::min(all.size(), datagram_size_)), slot.from, slot.to,
                             slot.destination, slot.interface, slot.ecn,
                             slot.truncated || all.size() > datagram_size_, *this});
            continue;
        }
        // A run of datagrams (GRO): all but the last are as long as the first.
        const std::size_t step = slot.segment_size;
        std::size_t at = 0;
        do {
            const Bytes part = all.subspan(at, std::min(step, all.size() - at));
            at += step;
            const bool cut = part.size() > datagram_size_ || (slot.truncated && at >= all.size());
            batch.push_back({part.first(std::min(part.size(), datagram_size_)), slot.from, slot.to,
                             slot.destination, slot.interface, slot.ecn, cut, *this});
        } while (at < all.size());
    }
    {
        const Busy busy(*room_);
        hand_over(batch);
    }
    if (!core_.debug()) return;
    // Who kept a view beyond the call shall notice.
    for (const DatagramSlot& slot : slots)
        std::memset(slot.data, 0xDD, slot.size);
}

void DatagramEndpoint::hand_over(std::span<const Datagram> batch) {
    guarded("datagrams_received", [&] { protocol_->datagrams_received(batch); });
}

void DatagramEndpoint::deliver_backlog() {
    const std::unique_ptr<Backlog> held = std::move(backlog_);
    std::vector<Datagram> batch;
    batch.reserve(held->entries.size());
    for (const Backlog::Entry& entry : held->entries)
        batch.push_back(held->view(entry, *this));
    hand_over(batch);
}

void DatagramEndpoint::unread(std::span<const Datagram> batch) {
    if (is_closing() || batch.empty()) return;
    auto all = std::make_unique<Backlog>();
    for (const Datagram& datagram : batch)
        all->add(datagram);
    if (backlog_)
        for (const Backlog::Entry& entry : backlog_->entries)
            all->add(backlog_->view(entry, *this));
    backlog_ = std::move(all);
    if (can_read()) queue_again();
}

void DatagramEndpoint::unread_rest(std::span<const Datagram> batch) {
    if (is_closing() || batch.empty()) return;
    if (!backlog_) return unread(batch);
    auto all = std::make_unique<Backlog>(*backlog_); // nothing is lost if memory is
    for (const Datagram& datagram : batch)
        all->add(datagram);
    backlog_ = std::move(all);
}

void DatagramEndpoint::pause_reading() {
    if (receiving_ == Receiving::open) receiving_ = Receiving::paused;
}

void DatagramEndpoint::resume_reading() {
    if (receiving_ == Receiving::paused) receiving_ = Receiving::open;
    if (!can_read()) return;
    update_interest();
    if (backlog_) queue_again();
}

} // namespace weft::detail
