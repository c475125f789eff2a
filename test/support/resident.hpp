#pragma once

#include "instrumented.hpp"

#include <weft/reactor/sim/faulty_kernel.hpp>

#include <cstddef>
#include <fstream>
#include <string>

namespace weft::test {

/// Bytes of memory that this process holds of the system, page tables included.
inline std::size_t resident_memory() {
    std::ifstream status("/proc/self/status");
    std::size_t bytes = 0;
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("VmRSS:") || line.starts_with("VmPTE:"))
            bytes += 1024 * std::stoul(line.substr(6));
    return bytes;
}

/// The system's kernel with a clock that can be put forward, for what happens when time has passed
/// and nothing else has.
class ForwardKernel final : public sim::FaultyKernel {
public:
    explicit ForwardKernel(std::unique_ptr<Kernel> inner) noexcept
        : FaultyKernel(std::move(inner)) {}
    TimePoint now() noexcept override { return FaultyKernel::now() + ahead_; }
    Sys wait(std::span<Event> events, TimePoint deadline) noexcept override {
        const bool never = deadline == TimePoint::max();
        return FaultyKernel::wait(
            events, never ? deadline : std::max(deadline, TimePoint() + ahead_) - ahead_);
    }
    void put_forward(Duration by) noexcept { ahead_ += by; }

private:
    Duration ahead_{};
};

} // namespace weft::test
