#pragma once

#include <weft/reactor/result.hpp>

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#pragma GCC visibility push(default)

struct sockaddr;

namespace weft {

/// A socket address: IPv4, IPv6 or a Unix path. A value without any resource: it holds the kernel's
/// own bytes (`sockaddr_in`, `sockaddr_in6`, `sockaddr_un`; ip(7), ipv6(7), unix(7)).
class Address {
public:
    enum class Family : std::uint8_t { none, ipv4, ipv6, unix_socket };

    /// Room for the longest address of the three, `sockaddr_un`, and for the terminator that Linux
    /// tells of behind a path that leaves none.
    static constexpr std::size_t capacity = 112;
    /// The longest that an address gets: `sizeof(sockaddr_un)` of Linux.
    static constexpr std::uint32_t max_size = 110;

    Address() noexcept = default;

    /// Reads "1.2.3.4:80", "[::1]:80", "[fe80::1%eth0]:80", ":80" and "*:80" (any address, IPv6
    /// with IPv4 mapped), and Unix addresses: "unix:/path", "unix:@abstract", and without "unix:"
    /// what begins with "@" or has a slash in it. Names are not looked up.
    static Result<Address> parse(std::string_view text);
    /// Whether `parse` takes the text for a Unix address. Text of strangers may say so, too: give
    /// what must lead to TCP alone to functions that take nothing else (`tcp::connect`).
    static bool names_unix(std::string_view text) noexcept;
    /// A path, or "@name" for an abstract one, with or without "unix:" before it; at most 108
    /// bytes, 107 where paths need a terminator. A file whose name begins with "@" or "unix:" is
    /// written with "./" before it.
    static Result<Address> unix_path(std::string_view path);
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
    // Of an IPv4-mapped IPv6 address ("::ffff:127.0.0.1", as IPv6 sockets show their IPv4 peers)
    // these tell what is true of the IPv4 address.
    bool is_any() const noexcept;
    bool is_loopback() const noexcept;
    bool is_multicast() const noexcept;
    /// Whether it is an IPv4-mapped IPv6 address.
    bool is_mapped() const noexcept;
    /// The IPv4 address that a mapped one stands for, any other unchanged: for comparing, for lists
    /// of peers that may come in.
    Address unmapped() const noexcept;
    /// The IPv6 form of an IPv4 address, any other unchanged.
    Address mapped() const noexcept;
    /// In the form that `parse` reads; an unnamed Unix socket has none, and gives "unix:".
    std::string to_string() const;

    /// The kernel's form, for system calls.
    const sockaddr* data() const noexcept {
        return reinterpret_cast<const sockaddr*>(bytes_.data());
    }
    sockaddr* data() noexcept { return reinterpret_cast<sockaddr*>(bytes_.data()); }
    std::uint32_t size() const noexcept { return size_; }
    void set_size(std::uint32_t size) noexcept { size_ = size < max_size ? size : max_size; }

    /// Equal bytes: a mapped address is not equal to the one it stands for.
    bool operator==(const Address& other) const noexcept;
    std::strong_ordering operator<=>(const Address& other) const noexcept;

private:
    alignas(8) std::array<std::byte, capacity> bytes_{};
    std::uint32_t size_ = 0;
};

/// The process at the other end of a Unix socket (SO_PEERCRED).
struct Credentials {
    std::int64_t pid = -1; ///< -1 where the system does not tell
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
};

} // namespace weft

#pragma GCC visibility pop
