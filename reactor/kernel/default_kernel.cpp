#include <weft/reactor/kernel/kernel.hpp>

#include <cstdlib>
#include <stdexcept>

namespace weft {

std::unique_ptr<Kernel> make_default_kernel() {
    const char* wanted = std::getenv("WEFT_KERNEL");
    const std::string_view name = wanted ? wanted : "";
    if (name.empty() || name == "epoll") return make_epoll_kernel();
    if (name == "poll") return make_poll_kernel();
    throw std::invalid_argument("WEFT_KERNEL=" + std::string(name) +
                                ": no such kernel, there are epoll and poll");
}

} // namespace weft
