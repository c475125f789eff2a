#include "random.hpp"

namespace weft::sim {

std::uint64_t split_mix(std::uint64_t& state) noexcept {
    std::uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

Random::Random(std::uint64_t seed) noexcept {
    for (std::uint64_t& word : state_)
        word = split_mix(seed);
}

std::uint64_t Random::next() noexcept {
    const auto rotate = [](std::uint64_t x, int by) { return (x << by) | (x >> (64 - by)); };
    const std::uint64_t result = rotate(state_[1] * 5, 7) * 9;
    const std::uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = rotate(state_[3], 45);
    return result;
}

std::uint64_t Random::below(std::uint64_t limit) noexcept {
    // The bias of the remainder is below 2^-30 for any latency or size that a test asks for.
    return limit == 0 ? 0 : next() % limit;
}

bool Random::chance(double probability) noexcept {
    if (probability <= 0) return false; // and draws nothing: other tests' runs stay as they were
    return static_cast<double>(next() >> 11) * 0x1.0p-53 < probability;
}

} // namespace weft::sim
