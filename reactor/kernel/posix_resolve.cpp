#include "posix_kernel.hpp"

#include <cerrno>
#include <cstring>
#include <netdb.h>

namespace weft::detail {
namespace {

class ResolverCategory final : public std::error_category {
public:
    const char* name() const noexcept override { return "resolver"; }
    std::string message(int value) const override { return gai_strerror(value); }
};

} // namespace

const std::error_category& resolver_category() noexcept {
    static const ResolverCategory category;
    return category;
}

std::error_code PosixKernel::resolve(const std::string& host, std::uint16_t port,
                                     std::vector<Address>& addresses) {
    addresses.clear();
    // getaddrinfo would look up what stands before the NUL, another name than the caller's checks
    // saw.
    if (host.empty() || host.find('\0') != host.npos) return {EAI_NONAME, resolver_category()};
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM; // otherwise every address comes once per socket type
    addrinfo* list = nullptr;
    errno = 0;
    const int outcome = getaddrinfo(host.c_str(), nullptr, &hints, &list);
    if (outcome == EAI_SYSTEM && errno != 0) return errno_code(errno);
    if (outcome != 0) return {outcome, resolver_category()};
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(list, freeaddrinfo);
    for (const addrinfo* entry = list; entry; entry = entry->ai_next) {
        if (entry->ai_addrlen > Address::capacity) continue;
        Address address;
        std::memcpy(address.data(), entry->ai_addr, entry->ai_addrlen);
        address.set_size(entry->ai_addrlen);
        address.set_port(port);
        if (address.is_ip()) addresses.push_back(address);
    }
    if (addresses.empty()) return {EAI_NONAME, resolver_category()};
    return {};
}

} // namespace weft::detail
