#include <weft/reactor/address.hpp>

#include <algorithm>
#include <arpa/inet.h>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <net/if.h>
#include <netinet/in.h>
#include <optional>
#include <sys/socket.h>
#include <sys/un.h>

namespace weft {
namespace {

static_assert(sizeof(sockaddr_un) <= Address::max_size &&
              sizeof(sockaddr_in6) <= Address::max_size);

constexpr std::string_view unix_prefix = "unix:";
constexpr std::size_t path_offset = offsetof(sockaddr_un, sun_path);
// A path may fill sun_path (unix(7)); a system that insists on a terminator refuses it in bind(2).
constexpr std::size_t max_path = sizeof(sockaddr_un::sun_path);

template<class T>
T load(const Address& address) noexcept {
    T out{};
    static_assert(sizeof out <= Address::capacity);
    std::memcpy(&out, address.data(), sizeof out);
    return out;
}

template<class T>
Address store(const T& in, std::size_t size = sizeof(T)) noexcept {
    Address out;
    std::memcpy(out.data(), &in, size);
    out.set_size(static_cast<std::uint32_t>(size));
    return out;
}

Error bad(std::string_view text, std::string_view why) {
    return {Errc::bad_address, "address \"" + std::string(text) + "\" (" + std::string(why) + ")"};
}

bool parse_port(std::string_view text, std::uint16_t& port) noexcept {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

} // namespace

Address Address::ipv4(std::array<std::uint8_t, 4> ip, std::uint16_t port) noexcept {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    std::memcpy(&in.sin_addr, ip.data(), ip.size());
    return store(in);
}

Address Address::ipv6(const std::array<std::uint8_t, 16>& ip, std::uint16_t port,
                      std::uint32_t scope) noexcept {
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(port);
    in.sin6_scope_id = scope;
    std::memcpy(&in.sin6_addr, ip.data(), ip.size());
    return store(in);
}

Address Address::any_ipv4(std::uint16_t port) noexcept {
    return ipv4({0, 0, 0, 0}, port);
}
Address Address::any_ipv6(std::uint16_t port) noexcept {
    return ipv6({}, port);
}
Address Address::loopback_ipv4(std::uint16_t port) noexcept {
    return ipv4({127, 0, 0, 1}, port);
}
Address Address::loopback_ipv6(std::uint16_t port) noexcept {
    return ipv6({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, port);
}

bool Address::names_unix(std::string_view text) noexcept {
    return text.starts_with(unix_prefix) || text.starts_with('@') || text.find('/') != text.npos;
}

Result<Address> Address::unix_path(std::string_view path) {
    if (path.starts_with(unix_prefix)) path.remove_prefix(unix_prefix.size());
    if (path.empty()) return bad("unix:", "the path is empty");
    if (path.size() > max_path) {
        return Error{errno_code(ENAMETOOLONG),
                     "address \"unix:" + std::string(path) + "\" (" + std::to_string(path.size()) +
                         " bytes, at most " + std::to_string(max_path) + ")"};
    }
    sockaddr_un un{};
    un.sun_family = AF_UNIX;
    const bool abstract = path.front() == '@';
    if (!abstract && path.find('\0') != path.npos) return bad(path, "the path holds a NUL byte");
    std::memcpy(un.sun_path, path.data(), path.size());
    if (abstract) un.sun_path[0] = '\0';
    // An abstract name is all of its bytes; a path ends with its terminator (unix(7)).
    return store(un, std::min(path_offset + path.size() + (abstract ? 0 : 1), sizeof un));
}

Result<Address> Address::parse(std::string_view text) {
    if (names_unix(text)) return unix_path(text);
    if (text.find('\0') != text.npos) return bad(text, "it holds a NUL byte");
    const auto colon = text.rfind(':');
    if (colon == text.npos) return bad(text, "no port; write HOST:PORT, [IPv6]:PORT or unix:PATH");
    std::string_view host = text.substr(0, colon);
    std::uint16_t port = 0;
    if (!parse_port(text.substr(colon + 1), port)) return bad(text, "the port is not 0 to 65535");
    if (host.empty() || host == "*") return any_ipv6(port);
    const bool brackets = host.front() == '[' && host.back() == ']' && host.size() > 2;
    if (!brackets) {
        if (host.find(':') != host.npos)
            return bad(text, "write an IPv6 address in brackets: [::1]:80");
        in_addr ip;
        if (inet_pton(AF_INET, std::string(host).c_str(), &ip) != 1)
            return bad(text, "not a numeric IP address");
        sockaddr_in in{};
        in.sin_family = AF_INET;
        in.sin_port = htons(port);
        in.sin_addr = ip;
        return store(in);
    }
    host = host.substr(1, host.size() - 2);
    std::uint32_t scope = 0;
    if (const auto percent = host.find('%'); percent != host.npos) {
        const std::string zone(host.substr(percent + 1));
        const auto [end, error] = std::from_chars(zone.data(), zone.data() + zone.size(), scope);
        if (error != std::errc() || end != zone.data() + zone.size())
            scope = if_nametoindex(zone.c_str());
        if (scope == 0) return bad(text, "no interface \"" + zone + "\"");
        host = host.substr(0, percent);
    }
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(port);
    in.sin6_scope_id = scope;
    if (inet_pton(AF_INET6, std::string(host).c_str(), &in.sin6_addr) != 1)
        return bad(text, "not an IPv6 address");
    return store(in);
}

Address::Family Address::family() const noexcept {
    if (size_ < sizeof(sa_family_t)) return Family::none;
    switch (data()->sa_family) {
    case AF_INET:
        return Family::ipv4;
    case AF_INET6:
        return Family::ipv6;
    case AF_UNIX:
        return Family::unix_socket;
    default:
        return Family::none;
    }
}

std::uint16_t Address::port() const noexcept {
    // sin_port and sin6_port lie at the same place.
    static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));
    return is_ip() ? ntohs(load<sockaddr_in>(*this).sin_port) : 0;
}

void Address::set_port(std::uint16_t port) noexcept {
    if (!is_ip()) return;
    const auto value = htons(port);
    std::memcpy(bytes_.data() + offsetof(sockaddr_in, sin_port), &value, sizeof value);
}

std::string Address::host() const {
    char text[INET6_ADDRSTRLEN] = {};
    if (family() == Family::ipv4) {
        const auto in = load<sockaddr_in>(*this);
        inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
    } else if (family() == Family::ipv6) {
        const auto in = load<sockaddr_in6>(*this);
        inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof text);
        if (in.sin6_scope_id != 0)
            return std::string(text) + "%" + std::to_string(in.sin6_scope_id);
    }
    return text;
}

std::string Address::path() const {
    if (family() != Family::unix_socket || size_ <= path_offset) return {};
    const auto* name = reinterpret_cast<const char*>(bytes_.data()) + path_offset;
    const std::size_t length = std::min(size_ - path_offset, sizeof(sockaddr_un::sun_path));
    if (name[0] == '\0') return "@" + std::string(name + 1, length - 1);
    const std::string path(name, strnlen(name, length));
    return path.front() == '@' || path.starts_with(unix_prefix) ? "./" + path : path;
}

bool Address::is_abstract() const noexcept {
    return family() == Family::unix_socket && size_ > path_offset &&
           bytes_[path_offset] == std::byte{0};
}

namespace {

/// The IPv4 address, in host order, if it is one or stands for one.
std::optional<std::uint32_t> ipv4_of(const Address& address) noexcept {
    if (address.family() == Address::Family::ipv4)
        return ntohl(load<sockaddr_in>(address).sin_addr.s_addr);
    if (!address.is_mapped()) return {};
    const auto in = load<sockaddr_in6>(address);
    std::uint32_t ip;
    std::memcpy(&ip, in.sin6_addr.s6_addr + 12, sizeof ip);
    return ntohl(ip);
}

} // namespace

bool Address::is_mapped() const noexcept {
    if (family() != Family::ipv6) return false;
    const auto in = load<sockaddr_in6>(*this);
    return IN6_IS_ADDR_V4MAPPED(&in.sin6_addr);
}

Address Address::unmapped() const noexcept {
    if (!is_mapped()) return *this;
    const std::uint32_t ip = *ipv4_of(*this);
    const auto byte = [ip](int shift) { return static_cast<std::uint8_t>(ip >> shift); };
    return ipv4({byte(24), byte(16), byte(8), byte(0)}, port());
}

Address Address::mapped() const noexcept {
    if (family() != Family::ipv4) return *this;
    const auto in = load<sockaddr_in>(*this);
    std::array<std::uint8_t, 16> ip{};
    ip[10] = ip[11] = 0xff;
    std::memcpy(ip.data() + 12, &in.sin_addr, 4);
    return ipv6(ip, port());
}

bool Address::is_any() const noexcept {
    if (const auto ip = ipv4_of(*this)) return *ip == INADDR_ANY;
    if (family() != Family::ipv6) return false;
    const auto in = load<sockaddr_in6>(*this);
    return IN6_IS_ADDR_UNSPECIFIED(&in.sin6_addr);
}

bool Address::is_loopback() const noexcept {
    if (const auto ip = ipv4_of(*this)) return *ip >> 24 == 127;
    if (family() != Family::ipv6) return false;
    const auto in = load<sockaddr_in6>(*this);
    return IN6_IS_ADDR_LOOPBACK(&in.sin6_addr);
}

bool Address::is_multicast() const noexcept {
    if (const auto ip = ipv4_of(*this)) return *ip >> 28 == 14;
    if (family() != Family::ipv6) return false;
    const auto in = load<sockaddr_in6>(*this);
    return IN6_IS_ADDR_MULTICAST(&in.sin6_addr);
}

std::string Address::to_string() const {
    switch (family()) {
    case Family::ipv4:
        return host() + ":" + std::to_string(port());
    case Family::ipv6:
        return "[" + host() + "]:" + std::to_string(port());
    case Family::unix_socket:
        return "unix:" + path();
    case Family::none:
        break;
    }
    return "(none)";
}

namespace {
std::string_view raw(const Address& address) noexcept {
    return {reinterpret_cast<const char*>(address.data()), address.size()};
}
} // namespace

bool Address::operator==(const Address& other) const noexcept {
    return raw(*this) == raw(other);
}
std::strong_ordering Address::operator<=>(const Address& other) const noexcept {
    return raw(*this) <=> raw(other);
}

} // namespace weft
