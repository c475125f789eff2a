#pragma once

#include <weft/reactor/result.hpp>

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

struct sockaddr;

namespace weft {

/// A socket address: IPv4, IPv6 or a Unix path. A value without any resource: it holds the kernel's own
/// bytes (`sockaddr_in`, `sockaddr_in6`, `sockaddr_un`; ip(7), ipv6(7), unix(7)).
class Address {
public:
    enum class Family : std::uint8_t { none, ipv4, ipv6, unix_socket };

    /// The longest address of the three: `sockaddr_un`.
    static constexpr std::size_t capacity = 112;

    Address() noexcept = default;

    /// Reads "1.2.3.4:80", "[::1]:80", "[fe80::1%eth0]:80", ":80" and "*:80" (any address, IPv6 with IPv4
    /// mapped), "unix:/path" and "unix:@abstract". Names are not looked up.
    static Result<Address> parse(std::string_view text);
    static Result<Address> unix_path(std::string_view path); ///< "@name" is abstract; at most 107 bytes
    static Address ipv4(std::array<std::uint8_t, 4> ip, std::uint16_t port) noexcept;
    static Address ipv6(const std::array<std::uint8_t, 16>& ip, std::uint16_t port,
                        std::uint32_t scope = 0) noexcept;
    static Address any_ipv4(std::uint16_t port) noexcept;
    static Address any_ipv6(std::uint16_t port) noexcept;
    static Address loopback_ipv4(std::uint16_t port) noexcept;
    static Address loopback_ipv6(std::uint16_t port) noexcept;

    Family family() const noexcept;
    bool is_ip() const noexcept { return family() == Family::ipv4 || family() == Family::ipv6; }
    bool empty() const noexcept { return size_ == 0; }
    /// Host byte order; 0 when the family has no ports.
    std::uint16_t port() const noexcept;
    void set_port(std::uint16_t port) noexcept;
    /// The IP without the port, "1.2.3.4" or "fe80::1%2"; empty for Unix addresses.
    std::string host() const;
    /// The path, "@name" for an abstract one; empty for IP addresses and unnamed sockets.
    std::string path() const;
    bool is_abstract() const noexcept;
    bool is_any() const noexcept;
    bool is_loopback() const noexcept;
    bool is_multicast() const noexcept;
    /// In the form that `parse` reads.
    std::string to_string() const;

    /// The kernel's form, for system calls.
    const sockaddr* data() const noexcept { return reinterpret_cast<const sockaddr*>(bytes_.data()); }
    sockaddr* data() noexcept { return reinterpret_cast<sockaddr*>(bytes_.data()); }
    std::uint32_t size() const noexcept { return size_; }
    void set_size(std::uint32_t size) noexcept { size_ = size < capacity ? size : capacity; }

    friend bool operator==(const Address& a, const Address& b) noexcept;
    friend std::strong_ordering operator<=>(const Address& a, const Address& b) noexcept;

private:
    alignas(8) std::array<std::byte, capacity> bytes_{};
    std::uint32_t size_ = 0;
};

/// Who is at the other end of a Unix socket (SO_PEERCRED).
struct Credentials {
    std::int64_t pid = -1; ///< -1 where the system does not tell
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
};

} // namespace weft
