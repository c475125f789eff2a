#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace weft::test {

/// Random numbers from a seed, the same with every compiler and library (SplitMix64; Steele, Lea,
/// Flood 2014).
class Random {
public:
    explicit Random(std::uint64_t seed) noexcept : state_(seed) {}

    std::uint64_t next() noexcept {
        std::uint64_t x = state_ += 0x9e3779b97f4a7c15u;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        return x ^ (x >> 31);
    }
    /// From [0, bound); `bound` is above 0.
    std::uint64_t below(std::uint64_t bound) noexcept { return next() % bound; }
    /// From [least, most].
    std::int64_t between(std::int64_t least, std::int64_t most) noexcept {
        return least +
               static_cast<std::int64_t>(below(static_cast<std::uint64_t>(most - least) + 1));
    }
    /// Once in `count` times.
    bool one_in(std::uint64_t count) noexcept { return below(count) == 0; }
    /// A size from [0, most], small ones as likely as large ones: lengths, delays, counts.
    std::size_t size(std::size_t most) noexcept {
        std::size_t bits = 1;
        while (bits < 63 && (std::size_t{1} << bits) <= most)
            ++bits;
        const std::size_t bound = std::size_t{1} << below(bits + 1);
        const std::size_t drawn = below(bound);
        return drawn <= most ? drawn : below(most + 1);
    }
    template<class T>
    auto& pick(T&& from) noexcept {
        return from[below(std::size(from))];
    }
    /// One that goes its own way: what either draws later does not depend on the other.
    Random split() noexcept { return Random(next() ^ 0xd1b54a32d192ed03u); }

    // For the algorithms of the standard library; std::shuffle and the distributions differ between
    // libraries.
    using result_type = std::uint64_t;
    static constexpr result_type min() noexcept { return 0; }
    static constexpr result_type max() noexcept { return UINT64_MAX; }
    result_type operator()() noexcept { return next(); }

private:
    std::uint64_t state_;
};

} // namespace weft::test
