#include "sim_kernel_parts.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

namespace weft::sim {
namespace {

constexpr std::array<std::uint8_t, 12> mapped_prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool zero(const std::uint8_t* first, std::size_t count) noexcept {
    return std::all_of(first, first + count, [](std::uint8_t byte) { return byte == 0; });
}

std::uint64_t split_mix(std::uint64_t& state) noexcept {
    std::uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
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

void ByteRing::copy(std::size_t at, void* data, std::size_t size) const noexcept {
    if (size == 0) return;
    const std::size_t start = (head_ + at) & (capacity_ - 1);
    const std::size_t first = std::min(size, capacity_ - start);
    std::memcpy(data, data_.get() + start, first);
    std::memcpy(static_cast<std::byte*>(data) + first, data_.get(), size - first);
}

void ByteRing::push(const void* data, std::size_t size) {
    if (size == 0) return;
    if (size_ + size > capacity_) {
        std::size_t capacity = std::max<std::size_t>(capacity_, 256);
        while (capacity < size_ + size)
            capacity *= 2;
        std::unique_ptr<std::byte[]> grown(new std::byte[capacity]);
        copy(0, grown.get(), size_);
        data_ = std::move(grown);
        capacity_ = capacity;
        head_ = 0;
    }
    const std::size_t start = (head_ + size_) & (capacity_ - 1);
    const std::size_t first = std::min(size, capacity_ - start);
    std::memcpy(data_.get() + start, data, first);
    std::memcpy(data_.get(), static_cast<const std::byte*>(data) + first, size - first);
    size_ += size;
}

void ByteRing::pop(void* data, std::size_t size) noexcept {
    copy(0, data, size);
    head_ = capacity_ ? (head_ + size) & (capacity_ - 1) : 0;
    size_ -= size;
    shed();
}

void ByteRing::truncate(std::size_t size) noexcept {
    size_ = std::min(size_, size);
    shed();
}

void ByteRing::shed() noexcept {
    // A connection that is idle after a burst keeps at most this much memory.
    constexpr std::size_t keep = 4096;
    if (size_ == 0 && capacity_ > keep) {
        data_.reset();
        capacity_ = head_ = 0;
    }
}

bool Socket::is_stream() const noexcept {
    return type == SOCK_STREAM;
}
bool Socket::is_datagram() const noexcept {
    return type == SOCK_DGRAM;
}
bool Socket::is_unix() const noexcept {
    return family == AF_UNIX;
}

int Socket::option(int level, int name, int fallback) const noexcept {
    for (const Option& each : options) {
        if (each.level != level || each.name != name) continue;
        int value = 0;
        std::memcpy(&value, each.value.data(), std::min(sizeof value, each.value.size()));
        return value;
    }
    return fallback;
}

Random::Random(std::uint64_t seed) noexcept {
    for (std::uint64_t& word : state_)
        word = split_mix(seed);
}

std::uint64_t Random::next() noexcept {
    const auto rotate = [](std::uint64_t x, int by) { return (x << by) | (x >> (64 - by)); };
    const std::uint64_t result = rotate(state_[1] * 5, 7) * 9;
    const std::uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = rotate(state_[3], 45);
    return result;
}

std::uint64_t Random::below(std::uint64_t limit) noexcept {
    // The bias of the remainder is below 2^-30 for any latency or size that a test asks for.
    return limit == 0 ? 0 : next() % limit;
}

bool Random::chance(double probability) noexcept {
    if (probability <= 0) return false; // and draws nothing: other tests' runs stay as they were
    return static_cast<double>(next() >> 11) * 0x1.0p-53 < probability;
}

} // namespace weft::sim
