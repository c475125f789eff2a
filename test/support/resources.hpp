#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <string>

namespace weft {
class Loop;
}

namespace weft::test {

/// What a process holds of the system, for comparison before and after.
struct Resources {
    std::map<int, std::string> descriptors; ///< what /proc/self/fd says of each
    std::size_t threads = 0;
    std::array<const void*, 65> handlers{}; ///< the disposition of each signal
    std::string mask;                       ///< the signals that this thread blocks

    static Resources now();
    /// What this one has in excess of `before`, or what changed, in words; empty if they are alike.
    /// Threads that were joined may take a moment to disappear; they are waited for.
    std::string difference_from(const Resources& before) const;
};

/// The open descriptors alone.
std::map<int, std::string> open_descriptors();

/// Fails the test at the end of a scope that leaves descriptors, threads, signal handlers or
/// blocked signals behind, or something alive in the loop if there is one. Declare it before what
/// it guards.
class ResourceGuard {
public:
    explicit ResourceGuard(const Loop* loop = nullptr);
    ~ResourceGuard();
    ResourceGuard(const ResourceGuard&) = delete;
    ResourceGuard& operator=(const ResourceGuard&) = delete;

private:
    const Loop* loop_;
    Resources before_;
};

} // namespace weft::test
