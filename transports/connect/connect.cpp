// What a user asks to connect to: texts, hosts and ports, addresses.

#include "connecting.hpp"
#include "socket_options.hpp"

#include <weft/transports/connect/connect.hpp>

#include <string>

namespace weft {
namespace detail {
namespace {

/// Text that came from anywhere, fit for an error's: `what()` ends at a NUL, and a line break would
/// feign another message in a log.
std::string printable(std::string_view text) {
    constexpr char digits[] = "0123456789abcdef";
    std::string result;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte != 0x7f) {
            result += c;
        } else {
            (((result += "\\x") += digits[byte >> 4]) += digits[byte & 15]);
        }
    }
    return result;
}

std::shared_ptr<Connecting> make(Loop& loop, std::string_view target,
                                 std::unique_ptr<Protocol> protocol,
                                 const ConnectOptions& options) {
    core_of(loop).check_usable("connect");
    if (!protocol) throw UsageError("connect to " + printable(target) + ": the protocol is null");
    check_not_negative("ConnectOptions: timeout", options.timeout);
    check_not_negative("ConnectOptions: attempt_delay", options.attempt_delay);
    check_keep_alive(options.keep_alive);
    check_option(options.socket >= -1, "ConnectOptions: socket", options.socket,
                 "must be a descriptor, or -1 for none");
    return std::make_shared<Connecting>(loop, printable(target), std::move(protocol), options);
}

/// "name:80" taken apart; an error unless there are both.
Result<std::pair<std::string, std::uint16_t>> split_name(std::string_view text) {
    const auto bad = [](const char* why) { return Error{Errc::bad_address, why}; };
    const auto colon = text.rfind(':');
    if (colon == text.npos) return bad("no port; write IP:PORT, [IPv6]:PORT or NAME:PORT");
    const std::string_view host = text.substr(0, colon);
    // The numeric parser knows what a port is.
    const auto port = Address::parse("*:" + std::string(text.substr(colon + 1)));
    if (!port.ok() || !port->is_ip()) return bad("the port is not 0 to 65535");
    if (host.find_first_not_of("0123456789.") == host.npos) return bad("not an IPv4 address");
    if (host.find_first_of("[]:") != host.npos) return bad("not an IPv6 address in brackets");
    // RFC 1035, 2.3.4: a name is at most 253 characters long, with a dot at the end 254.
    if (host.size() > 253U + host.ends_with('.'))
        return bad("the name is longer than 253 characters");
    if (host.find_first_of(std::string_view("/ \t\r\n\0", 6)) != host.npos)
        return bad("not a name");
    return std::pair(std::string(host), port->port());
}

} // namespace

std::optional<Address> local_for(const Address& local, const Address& peer) noexcept {
    if (!local.is_ip() || !peer.is_ip()) {
        if (local.family() == peer.family()) return local;
        return {};
    }
    const bool ipv4_peer = peer.family() == Address::Family::ipv4;
    if (ipv4_peer || peer.is_mapped()) {
        Address four = local.unmapped();
        if (four.family() != Address::Family::ipv4) {
            if (!local.is_any()) return {};
            four = Address::any_ipv4(local.port());
        }
        return ipv4_peer ? four : four.mapped();
    }
    if (local.unmapped().family() != Address::Family::ipv4) return local;
    if (!local.is_any()) return {};
    return Address::any_ipv6(local.port());
}

} // namespace detail

namespace tcp {

Future<TransportRef> connect(Loop& loop, std::string_view address,
                             std::unique_ptr<Protocol> protocol, const ConnectOptions& options) {
    auto connecting = detail::make(loop, address, std::move(protocol), options);
    auto future = connecting->begin();
    if (auto numeric = Address::parse(address); numeric.ok() && numeric->is_ip()) {
        connecting->try_addresses({*numeric});
        return future;
    }
    const auto name = detail::split_name(address);
    if (!name.ok()) {
        connecting->fail(name.error());
    } else if (name->first == "localhost") {
        // RFC 6761, 6.3: a name that means the loopback addresses, without a look-up.
        connecting->try_addresses(
            {Address::loopback_ipv6(name->second), Address::loopback_ipv4(name->second)});
    } else {
        connecting->look_up(name->first, name->second);
    }
    return future;
}

Future<TransportRef> connect(Loop& loop, std::string_view host, std::uint16_t port,
                             std::unique_ptr<Protocol> protocol, const ConnectOptions& options) {
    // Nothing of the text may be taken for another port, or for "any address".
    const bool ipv6 = host.find(':') != host.npos && !host.starts_with('[');
    const std::string text = ipv6 ? "[" + std::string(host) + "]" : std::string(host);
    if (host.empty() || host == "*") {
        auto connecting = detail::make(loop, text, std::move(protocol), options);
        auto future = connecting->begin();
        connecting->fail({Errc::bad_address, "no host"});
        return future;
    }
    return tcp::connect(loop, text + ":" + std::to_string(port), std::move(protocol), options);
}

Future<TransportRef> connect(Loop& loop, std::span<const Address> addresses,
                             std::unique_ptr<Protocol> protocol, const ConnectOptions& options) {
    std::string target;
    for (const Address& address : addresses)
        target += (target.empty() ? "" : ", ") + address.to_string();
    if (addresses.empty()) target = "nowhere";
    auto connecting = detail::make(loop, target, std::move(protocol), options);
    auto future = connecting->begin();
    connecting->try_addresses({addresses.begin(), addresses.end()});
    return future;
}

} // namespace tcp

namespace unix_socket {

Future<TransportRef> connect(Loop& loop, std::string_view path, std::unique_ptr<Protocol> protocol,
                             const ConnectOptions& options) {
    auto address = Address::unix_path(path);
    auto connecting =
        detail::make(loop, address.ok() ? address->to_string() : "unix:" + std::string(path),
                     std::move(protocol), options);
    auto future = connecting->begin();
    if (address.ok()) {
        connecting->try_addresses({*address});
    } else {
        connecting->fail({address.error().code, {}});
    }
    return future;
}

} // namespace unix_socket

Future<TransportRef> connect(Loop& loop, std::string_view address,
                             std::unique_ptr<Protocol> protocol, const ConnectOptions& options) {
    return Address::names_unix(address)
               ? unix_socket::connect(loop, address, std::move(protocol), options)
               : tcp::connect(loop, address, std::move(protocol), options);
}

Future<TransportRef> connect(Loop& loop, const Address& address, std::unique_ptr<Protocol> protocol,
                             const ConnectOptions& options) {
    auto connecting = detail::make(loop, address.to_string(), std::move(protocol), options);
    auto future = connecting->begin();
    if (address.family() == Address::Family::none) {
        connecting->fail({Errc::bad_address, {}});
    } else {
        connecting->try_addresses({address});
    }
    return future;
}

} // namespace weft
