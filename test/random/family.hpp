#pragma once

#include "random.hpp"

#include <weft/reactor/kernel/kernel.hpp>
#include <weft/reactor/sim/sim_kernel.hpp>

#include <memory>
#include <sstream>
#include <string>
#include <string_view>

namespace weft::test {

enum class KernelChoice : std::uint8_t { sim, epoll, poll };
std::string_view name_of(KernelChoice choice) noexcept;
/// Null: the library was built without it.
std::unique_ptr<Kernel> make_real_kernel(KernelChoice choice);

/// One world of a random program: made, used at random, and gone when the function returns. What it
/// does follows from the seed and the round's number alone, so that a failure in the millionth
/// round is repeated at once.
class Round {
public:
    Round(std::uint64_t seed, std::uint64_t number, KernelChoice kernel) noexcept
        : random(Random(seed ^ (number * 0xa0761d6478bd642fu)).split()), kernel_(kernel) {}

    Random random;

    KernelChoice kernel() const noexcept { return kernel_; }
    bool simulated() const noexcept { return kernel_ == KernelChoice::sim; }
    /// A kernel of this round's kind; a simulated one has `options`, and a seed of the round's.
    std::unique_ptr<Kernel> make_kernel(sim::SimOptions options = {});

    /// Counts an operation and writes it down: "write % bytes to %" with each % replaced by a
    /// number. `what` has to live as long as the program; nothing is formatted unless something
    /// fails. From any thread.
    void operation(const char* what, std::int64_t a = 0, std::int64_t b = 0,
                   std::int64_t c = 0) noexcept;
    /// Writes something down without counting it: what came of an operation.
    void note(const char* what, std::int64_t a = 0, std::int64_t b = 0,
              std::int64_t c = 0) noexcept;

private:
    KernelChoice kernel_;
};

/// A family of random programs. Its rounds are run until so many operations were done.
struct Family {
    const char* name;
    const char* summary;
    void (*round)(Round& round);
    bool on_simulated = true; ///< kernels that it makes sense on; rounds take turns on them
    bool on_real = true;
    const Family* next = nullptr;
};

/// Registers a family, at namespace scope: `const RegisterFamily family({"timers", "what it does",
/// &round});`
struct RegisterFamily {
    explicit RegisterFamily(Family family) noexcept;
    Family family_;
};

/// Prints the family, seed, round, operation, kernel, the last operations and the command that
/// repeats it, and ends the program. From any thread.
[[noreturn]] void random_failed(const char* file, int line, const std::string& text) noexcept;

/// Fails unless `condition` holds; what comes after it is printed with <<: `RANDOM_CHECK(a <= b, "a
/// " << a)`.
#define RANDOM_CHECK(condition, ...)                                                               \
    do {                                                                                           \
        if (!(condition)) [[unlikely]] {                                                           \
            std::ostringstream message_;                                                           \
            message_ << #condition __VA_OPT__(<< ": " << __VA_ARGS__);                             \
            ::weft::test::random_failed(__FILE__, __LINE__, message_.str());                       \
        }                                                                                          \
    } while (false)

/// Fails unless both are equal, and prints both.
#define RANDOM_EQUAL(found, wanted)                                                                \
    do {                                                                                           \
        const auto& found_ = (found);                                                              \
        const auto& wanted_ = (wanted);                                                            \
        if (!(found_ == wanted_)) [[unlikely]] {                                                   \
            std::ostringstream message_;                                                           \
            message_ << #found " is " << found_ << ", wanted " << wanted_ << " (" #wanted ")";     \
            ::weft::test::random_failed(__FILE__, __LINE__, message_.str());                       \
        }                                                                                          \
    } while (false)

} // namespace weft::test
