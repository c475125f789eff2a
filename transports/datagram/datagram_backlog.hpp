#pragma once

#include "datagram_endpoint.hpp"

#include <vector>

namespace weft::detail {

struct DatagramEndpoint::Backlog {
    struct Entry {
        Address from;
        Address to;
        Address destination;
        std::size_t offset;
        std::size_t size;
        std::uint32_t interface;
        std::int8_t ecn;
        bool truncated;
    };
    std::vector<Entry> entries;
    std::vector<std::byte> bytes;

    void add(const Datagram& datagram) {
        entries.push_back({datagram.from, datagram.to, datagram.destination, bytes.size(),
                           datagram.data.size(), datagram.interface, datagram.ecn,
                           datagram.truncated});
        bytes.insert(bytes.end(), datagram.data.begin(), datagram.data.end());
    }
    Datagram view(const Entry& entry, DatagramTransport& transport) const noexcept {
        return {Bytes(bytes.data() + entry.offset, entry.size),
                entry.from,
                entry.to,
                entry.destination,
                entry.interface,
                entry.ecn,
                entry.truncated,
                transport};
    }
};

} // namespace weft::detail
