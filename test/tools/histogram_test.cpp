#include "../../tools/histogram.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <random>

using weft::tools::Histogram;

TEST_CASE("An empty histogram answers 0 to everything") {
    const Histogram histogram;
    CHECK(histogram.total() == 0);
    CHECK(histogram.min() == 0);
    CHECK(histogram.max() == 0);
    CHECK(histogram.percentile(0.5) == 0);
    CHECK(histogram.between(0, UINT64_MAX) == 0);
}

TEST_CASE("Values below 256 are counted exactly") {
    Histogram histogram;
    for (std::uint64_t value = 0; value < 256; ++value)
        histogram.add(value);
    CHECK(histogram.percentile(0) == 0);
    for (std::uint64_t value = 1; value < 256; ++value) {
        CHECK(histogram.percentile(static_cast<double>(value + 1) / 256) == value);
        CHECK(histogram.between(value, value + 1) == 1);
    }
}

TEST_CASE("A percentile of one value is that value, at any length") {
    for (int bits = 0; bits < 64; ++bits) {
        for (std::uint64_t value : {std::uint64_t{1} << bits, (std::uint64_t{2} << bits) - 1}) {
            Histogram histogram;
            histogram.add(value);
            CHECK(histogram.percentile(0.5) == value);
            CHECK(histogram.min() == value);
            CHECK(histogram.max() == value);
            CHECK(histogram.between(0, UINT64_MAX) == 1);
        }
    }
}

TEST_CASE("Percentiles are at most 1/128 above the exact ones and never below") {
    std::mt19937_64 random(1);
    std::lognormal_distribution<double> spread(11,
                                               2); // around 60 us in nanoseconds, with a long tail
    Histogram histogram;
    std::vector<std::uint64_t> values;
    for (int i = 0; i < 20'000; ++i) {
        values.push_back(static_cast<std::uint64_t>(spread(random)));
        histogram.add(values.back());
    }
    std::ranges::sort(values);
    for (double fraction : {0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0}) {
        const auto rank = static_cast<std::size_t>(std::ceil(fraction * 20'000));
        const std::uint64_t exact = values[rank - 1];
        const std::uint64_t found = histogram.percentile(fraction);
        CHECK(found >= exact);
        CHECK(static_cast<double>(found) <= static_cast<double>(exact) * (1 + 1.0 / 128));
    }
    CHECK(histogram.percentile(1) == values.back());
}

TEST_CASE("Ranges that follow each other count every value once") {
    std::mt19937_64 random(2);
    Histogram histogram;
    for (int i = 0; i < 10'000; ++i)
        histogram.add(random() >> (random() % 64));
    std::uint64_t sum = 0, from = 0;
    for (std::uint64_t to : {1ULL, 255ULL, 256ULL, 1000ULL, 123'456ULL, 1ULL << 40, ~0ULL}) {
        sum += histogram.between(from, to);
        from = to;
    }
    CHECK(sum == histogram.total());
}
