#include "datagram_queue.hpp"

#include <algorithm>

namespace weft::detail {
namespace {

// What the kernel splits in one call: UDP_MAX_SEGMENTS of Linux before 6.9 (128 since), and never
// more than one IPv4 datagram could carry.
constexpr std::size_t max_segments = 64;
constexpr std::size_t max_payload = 65507;

// Memory kept by an empty queue: a burst of four times the default high-water mark. More was an
// exception.
constexpr std::size_t kept_bytes = 256 * 1024;
constexpr std::size_t kept_records = 512;

constexpr std::size_t weight(std::size_t size) noexcept {
    return size == 0 ? 1 : size;
}

} // namespace

void DatagramQueue::append(const OutDatagram& datagram) {
    Record& record = records_.emplace_back();
    const std::size_t offset = bytes_.size();
    try {
        bytes_.insert(bytes_.end(), datagram.data.begin(), datagram.data.end());
    } catch (...) {
        records_.pop_back();
        throw;
    }
    if (datagram.to) record.to = *datagram.to;
    if (datagram.from) record.from = *datagram.from;
    record.offset = offset;
    record.size = datagram.data.size();
    record.ecn = datagram.ecn;
    if (datagram.segment_size < datagram.data.size()) record.segment_size = datagram.segment_size;
    left_ += weight(record.size);
}

void DatagramQueue::reserve(std::size_t count, std::size_t bytes) {
    const auto grow = [](auto& array, std::size_t more) {
        const std::size_t wanted = array.size() + more;
        if (wanted > array.capacity()) array.reserve(std::max(wanted, 2 * array.capacity()));
    };
    grow(records_, count);
    grow(bytes_, bytes);
}

std::unique_ptr<DatagramQueue> DatagramQueue::split_off(const Address& to) {
    const auto mine = [&](const Record& record) { return record.to == to; };
    if (std::all_of(records_.begin() + static_cast<std::ptrdiff_t>(head_), records_.end(), mine))
        return nullptr;
    auto rest = std::make_unique<DatagramQueue>();
    DatagramQueue kept;
    kept.reserve(count(), bytes_.size());
    rest->reserve(count(), bytes_.size());
    for (std::size_t i = head_; i < records_.size(); ++i) {
        const Record& record = records_[i];
        DatagramQueue& target = mine(record) ? kept : *rest;
        target.append({Bytes(bytes_.data() + record.offset, record.size), &record.to, nullptr,
                       record.segment_size, record.ecn});
        target.records_.back().split_here = record.split_here;
    }
    *this = std::move(kept);
    return rest;
}

std::size_t DatagramQueue::piece_size(const Record& record, bool gso) noexcept {
    const std::size_t segment = record.segment_size;
    if (segment == 0) return record.size;
    if (!gso || record.split_here) return std::min(segment, record.size);
    const std::size_t segments =
        std::clamp<std::size_t>(max_payload / segment, std::size_t(1), max_segments);
    return std::min(segments * segment, record.size);
}

bool DatagramQueue::first_is_segmented(bool gso) const noexcept {
    const Record& first = records_[head_];
    return first.segment_size != 0 && piece_size(first, gso) > first.segment_size;
}

std::size_t DatagramQueue::describe(std::span<OutDatagram> out, bool gso) const noexcept {
    std::size_t count = 0;
    for (std::size_t i = head_; i < records_.size(); ++i) {
        const Record& record = records_[i];
        const std::size_t step = piece_size(record, gso);
        std::size_t done = 0;
        do {
            if (count == out.size()) return count;
            const std::size_t size = std::min(step, record.size - done);
            OutDatagram& piece = out[count++];
            piece.data = Bytes(bytes_.data() + record.offset + done, size);
            piece.to = record.to.empty() ? nullptr : &record.to;
            piece.from = record.from.empty() ? nullptr : &record.from;
            piece.segment_size =
                size > record.segment_size ? record.segment_size : std::uint16_t{0};
            piece.ecn = record.ecn;
            done += size;
        } while (done < record.size);
    }
    return count;
}

void DatagramQueue::pop(std::size_t count, bool gso) noexcept {
    for (; count > 0; --count) {
        Record& first = records_[head_];
        const std::size_t gone = piece_size(first, gso);
        left_ -= weight(gone);
        first.offset += gone;
        first.size -= gone;
        if (first.size == 0) ++head_;
    }
    if (empty()) {
        clear();
    } else if (head_ >= 64 && head_ >= records_.size() / 2) {
        compact(); // moves no more records than have gone since it last did
    }
}

void DatagramQueue::compact() noexcept {
    const std::size_t gone = records_[head_].offset;
    records_.erase(records_.begin(), records_.begin() + static_cast<std::ptrdiff_t>(head_));
    bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(gone));
    for (Record& record : records_)
        record.offset -= gone;
    head_ = 0;
}

void DatagramQueue::clear() noexcept {
    head_ = left_ = 0;
    records_.clear();
    bytes_.clear();
    if (bytes_.capacity() > kept_bytes) std::vector<std::byte>().swap(bytes_);
    if (records_.capacity() > kept_records) std::vector<Record>().swap(records_);
}

} // namespace weft::detail
