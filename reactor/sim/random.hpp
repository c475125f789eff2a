#pragma once

#include <array>
#include <cstdint>

namespace weft::sim {

/// The next of a sequence that is well mixed whatever `state` was (Steele, Lea and Flood).
std::uint64_t split_mix(std::uint64_t& state) noexcept;

/// xoshiro256** (Blackman and Vigna), seeded by splitmix64: small, and the same everywhere, which
/// the standard's distributions are not.
class Random {
public:
    explicit Random(std::uint64_t seed) noexcept;
    std::uint64_t next() noexcept;
    std::uint64_t below(std::uint64_t limit) noexcept; // [0, limit), 0 for 0
    bool chance(double probability) noexcept;

private:
    std::array<std::uint64_t, 4> state_;
};

} // namespace weft::sim
