#pragma once

#include <weft/reactor/address.hpp>

#include <array>
#include <cstdint>

namespace weft::sim {

/// An IP address and port. IPv4 is held as the mapped IPv6 address, so that one comparison serves
/// both.
struct Endpoint {
    std::array<std::uint8_t, 16> ip{};
    std::uint16_t port = 0;
    std::uint32_t scope = 0; // carried along, not compared

    static Endpoint of(const Address& address) noexcept;
    Address address(int family) const noexcept;
    bool is_v4() const noexcept;
    bool is_any() const noexcept;
    bool is_loopback() const noexcept;
    bool is_multicast() const noexcept;
    bool is_broadcast() const noexcept;
    bool same_ip(const Endpoint& other) const noexcept { return ip == other.ip; }
    friend bool operator==(const Endpoint& a, const Endpoint& b) noexcept {
        return a.ip == b.ip && a.port == b.port;
    }
};

/// The two ends of a connection that was made by `connect`: what no two of them may share.
struct Tuple {
    Endpoint from, to;
    friend bool operator==(const Tuple&, const Tuple&) = default;
};
struct TupleHash {
    std::size_t operator()(const Tuple& tuple) const noexcept;
};

} // namespace weft::sim
