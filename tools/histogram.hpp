#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace weft::tools {

/// Counts values, such as nanoseconds, in buckets that grow with them: below 256 each value has its
/// own, above that a bucket is at most 1/128 of its values wide, so that no percentile is off by
/// more than 0.8 %. The memory does not depend on what is counted: 57 KiB. A value type without
/// allocations.
class Histogram {
    // Values of up to 8 bits count as they are. Longer ones are known by their 8 leading bits, of
    // which the first is always set: 128 buckets per length, for the lengths 9 to 64.
    static constexpr int exact_bits = 8;
    static constexpr std::size_t per_length = 1U << (exact_bits - 1);
    static constexpr std::size_t bucket_count = 2 * per_length + (64 - exact_bits) * per_length;

public:
    void add(std::uint64_t value) noexcept {
        ++counts_[index_of(value)];
        ++total_;
        if (value > max_) max_ = value;
        if (value < min_) min_ = value;
    }

    std::uint64_t total() const noexcept { return total_; }
    /// The smallest and the largest value, exactly; 0 if there is none.
    std::uint64_t min() const noexcept { return total_ != 0 ? min_ : 0; }
    std::uint64_t max() const noexcept { return max_; }

    /// The least value that at least `fraction` of the values do not exceed, rounded up to the end
    /// of its bucket but never above `max()`; 0 if there is none.
    std::uint64_t percentile(double fraction) const noexcept {
        const double exact = fraction * static_cast<double>(total_);
        auto rank = static_cast<std::uint64_t>(exact);
        if (static_cast<double>(rank) < exact) ++rank;
        if (rank == 0) rank = 1;
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < bucket_count; ++i) {
            seen += counts_[i];
            if (seen >= rank) return last_of(i) < max_ ? last_of(i) : max_;
        }
        return max_;
    }

    /// How many values lie in buckets that begin in [from, to).
    std::uint64_t between(std::uint64_t from, std::uint64_t to) const noexcept {
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i < bucket_count; ++i) {
            if (first_of(i) >= from && first_of(i) < to) sum += counts_[i];
        }
        return sum;
    }

private:
    static std::size_t index_of(std::uint64_t value) noexcept {
        const int length = std::bit_width(value);
        if (length <= exact_bits) return value;
        const int shift = length - exact_bits;
        return static_cast<std::size_t>(shift) * per_length + (value >> shift);
    }
    static std::uint64_t first_of(std::size_t index) noexcept {
        if (index < 2 * per_length) return index;
        const std::size_t shift = index / per_length - 1;
        return static_cast<std::uint64_t>(index - shift * per_length) << shift;
    }
    static std::uint64_t last_of(std::size_t index) noexcept {
        if (index < 2 * per_length) return index;
        return first_of(index) + (std::uint64_t{1} << (index / per_length - 1)) - 1;
    }

    std::array<std::uint64_t, bucket_count> counts_{};
    std::uint64_t total_ = 0;
    std::uint64_t max_ = 0;
    std::uint64_t min_ = UINT64_MAX;
};

} // namespace weft::tools
