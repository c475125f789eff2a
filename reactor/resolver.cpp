#include "loop_core.hpp"

#include <weft/reactor/kernel/kernel.hpp>
#include <weft/reactor/resolver.hpp>

namespace weft {
namespace {

class KernelResolver final : public Resolver {
public:
    Future<std::vector<Address>> look_up(Loop& loop, const std::string& host,
                                         std::uint16_t port) override {
        return loop.run_in_executor([kernel = &detail::core_of(loop).kernel(), host, port] {
            std::vector<Address> addresses;
            if (const auto error = kernel->resolve(host, port, addresses))
                throw std::system_error(error);
            return addresses;
        });
    }
};

} // namespace

std::unique_ptr<Resolver> make_kernel_resolver() {
    return std::make_unique<KernelResolver>();
}

} // namespace weft
