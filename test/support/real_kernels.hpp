#pragma once

#include <weft/reactor/kernel/kernel.hpp>

#include <vector>

namespace weft::test {

/// The kernels that talk to the system: those that the library was built with, and kqueue's where
/// its model is linked.
std::vector<KernelMaker> real_kernel_makers();

/// Those of them that have a descriptor for other loops to poll.
std::vector<KernelMaker> pollable_kernel_makers();

} // namespace weft::test
