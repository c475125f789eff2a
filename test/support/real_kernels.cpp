#include "real_kernels.hpp"

namespace weft::test {

std::vector<KernelMaker> real_kernel_makers() {
    const auto built = available_kernels();
    std::vector<KernelMaker> makers(built.begin(), built.end());
#ifdef WEFT_KQUEUE_MODEL
    makers.push_back({"kqueue", &make_kqueue_kernel});
#endif
    return makers;
}

std::vector<KernelMaker> pollable_kernel_makers() {
    auto makers = real_kernel_makers();
    std::erase_if(makers, [](const KernelMaker& each) { return each.name == "poll"; });
    return makers;
}

} // namespace weft::test
