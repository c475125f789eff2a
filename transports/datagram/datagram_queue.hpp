#pragma once

#include <weft/reactor/kernel/kernel.hpp>

#include <memory>
#include <vector>

namespace weft::detail {

/// Datagrams that wait to be sent: copies, in order, boundaries kept. Everything lies in two arrays
/// that keep their memory when the queue empties.
class DatagramQueue {
public:
    void append(const OutDatagram& datagram);
    /// So much more can be appended without an allocation.
    void reserve(std::size_t count, std::size_t bytes);
    /// Keeps what goes to `to`; the rest, in order, or null if there is none.
    std::unique_ptr<DatagramQueue> split_off(const Address& to);
    bool empty() const noexcept { return head_ == records_.size(); }
    /// Bytes of all that is left. An empty datagram counts as one: it takes room as well.
    std::size_t bytes() const noexcept { return left_; }
    std::size_t count() const noexcept { return records_.size() - head_; }

    /// Describes the first of them for `Kernel::send_batch`, as many as fit; how many. With `gso`
    /// the kernel splits what is to be split, else it is described in pieces. Valid until the queue
    /// is changed.
    std::size_t describe(std::span<OutDatagram> out, bool gso) const noexcept;
    /// Forgets the first `count` of what `describe` gave with the same `gso`.
    void pop(std::size_t count, bool gso) noexcept;
    /// Whether the first is left to the kernel to split.
    bool first_is_segmented(bool gso) const noexcept;
    /// The first is not left to the kernel to split.
    void split_first() noexcept { records_[head_].split_here = true; }
    /// Where the first goes; empty: the connected peer.
    const Address& first_target() const noexcept { return records_[head_].to; }
    void clear() noexcept;

private:
    struct Record {
        Address to;
        Address from;
        std::size_t offset = 0; ///< in `bytes_`
        std::size_t size = 0;
        std::uint16_t segment_size = 0;
        std::int8_t ecn = -1;
        bool split_here = false;
    };
    static std::size_t piece_size(const Record& record, bool gso) noexcept;
    void compact() noexcept;

    std::vector<Record> records_;
    std::vector<std::byte> bytes_;
    std::size_t head_ = 0; ///< records before it are gone
    std::size_t left_ = 0;
};

} // namespace weft::detail
