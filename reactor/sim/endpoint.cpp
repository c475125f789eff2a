#include "endpoint.hpp"

#include "random.hpp"

#include <algorithm>
#include <cstring>
#include <netinet/in.h>
#include <string_view>
#include <sys/socket.h>

namespace weft::sim {
namespace {

constexpr std::array<std::uint8_t, 12> mapped_prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool zero(const std::uint8_t* first, std::size_t count) noexcept {
    return std::all_of(first, first + count, [](std::uint8_t byte) { return byte == 0; });
}

} // namespace

Endpoint Endpoint::of(const Address& address) noexcept {
    Endpoint endpoint;
    endpoint.port = address.port();
    if (address.family() == Address::Family::ipv4) {
        sockaddr_in in;
        std::memcpy(&in, address.data(), sizeof in);
        std::memcpy(endpoint.ip.data(), mapped_prefix.data(), mapped_prefix.size());
        std::memcpy(endpoint.ip.data() + 12, &in.sin_addr, 4);
    } else if (address.family() == Address::Family::ipv6) {
        sockaddr_in6 in;
        std::memcpy(&in, address.data(), sizeof in);
        std::memcpy(endpoint.ip.data(), &in.sin6_addr, 16);
        endpoint.scope = in.sin6_scope_id;
    }
    return endpoint;
}

Address Endpoint::address(int family) const noexcept {
    if (family == AF_INET6) return Address::ipv6(ip, port, scope);
    return Address::ipv4({ip[12], ip[13], ip[14], ip[15]}, port);
}

bool Endpoint::is_v4() const noexcept {
    return std::memcmp(ip.data(), mapped_prefix.data(), mapped_prefix.size()) == 0;
}
bool Endpoint::is_any() const noexcept {
    return is_v4() ? zero(ip.data() + 12, 4) : zero(ip.data(), 16);
}
bool Endpoint::is_loopback() const noexcept {
    return is_v4() ? ip[12] == 127 : zero(ip.data(), 15) && ip[15] == 1;
}
bool Endpoint::is_multicast() const noexcept {
    return is_v4() ? ip[12] >> 4 == 14 : ip[0] == 0xff;
}
bool Endpoint::is_broadcast() const noexcept {
    // 127.255.255.255 is that of the loopback interface, as on Linux.
    return is_v4() && (ip[12] == 255 || ip[12] == 127) && ip[13] == 255 && ip[14] == 255 &&
           ip[15] == 255;
}

std::size_t TupleHash::operator()(const Tuple& tuple) const noexcept {
    std::uint64_t parts[4];
    std::memcpy(parts, tuple.from.ip.data(), 16);
    std::memcpy(parts + 2, tuple.to.ip.data(), 16);
    std::uint64_t state = std::uint64_t(tuple.from.port) << 16 | tuple.to.port;
    std::uint64_t hash = 0;
    for (const std::uint64_t part : parts) {
        state ^= part;
        hash ^= split_mix(state);
    }
    return static_cast<std::size_t>(hash);
}

} // namespace weft::sim
