#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#pragma GCC visibility push(default)

namespace weft::coro::detail {

/// How the end of a stack is guarded.
enum class Guard : std::uint8_t {
    automatic, ///< the best that the system has
    marker,  ///< MADV_GUARD_INSTALL (Linux 6.13): a page that faults, without a mapping of its own
    protect, ///< mprotect(2): two mappings per stack, so as many as vm.max_map_count allows; then
             ///< `canary`
    canary,  ///< a pattern that is looked at when the stack is given back
};

/// A stack that is in use: the block at its top end is what the pool gave out.
struct Stack {
    std::byte* bottom = nullptr; ///< lowest usable byte, above the guard
    std::byte* top = nullptr;    ///< one past the highest; a multiple of 64
    std::uint16_t size_class = 0;
    bool has_canary = false; ///< in its lowest bytes, for want of a guard page
    std::size_t usable() const noexcept { return static_cast<std::size_t>(top - bottom); }
};

/// Stacks carved out of few big mappings. A stack costs the pages that were touched; one that is
/// given back keeps them for the next, last in, first out, until it is trimmed.
/// For one thread.
class StackPool {
public:
    explicit StackPool(Guard guard = Guard::automatic);
    /// Guards stacks this way instead. To be called before the first is taken.
    void set_guard(Guard guard);
    /// Gives all memory back. No stack may be in use.
    ~StackPool();
    StackPool(const StackPool&) = delete;
    StackPool& operator=(const StackPool&) = delete;

    /// A stack of `size` bytes, rounded up to a power of two, 16 KiB at least, and a guard below
    /// it. Throws `std::system_error` if the system has no memory for it; then nothing has changed.
    Stack take(std::size_t size) {
        const std::size_t index = class_of(size);
        if (index >= class_count || classes_[index].idle.empty()) [[unlikely]]
            return take_new(size);
        Class& size_class = classes_[index];
        const Stack stack = size_class.idle.back();
        size_class.idle.pop_back();
        size_class.least_idle = std::min(size_class.least_idle, size_class.idle.size());
        ++size_class.in_use;
        return stack;
    }
    /// The stack is not used any more, but by the caller, which may run on it until it next
    /// switches. True if so many lie idle now that `trim_some` should be called when they have had
    /// their time.
    bool give_back(const Stack& stack) noexcept {
        Class& size_class = classes_[stack.size_class];
        size_class.idle.push_back(stack); // there is room for all there are
        --size_class.in_use;
        return size_class.with_pages() > 2 * kept(size_class);
    }
    /// Whether its canary, if it has one, is whole; else the stack below it was overwritten, too.
    static bool intact(const Stack& stack) noexcept {
        return !stack.has_canary || canary_whole(stack);
    }

    /// What is left for `trim_some` to do.
    enum class Left : std::uint8_t {
        nothing,
        more,  ///< to trim
        later, ///< so many lie idle that it should look again when they have had their time
    };
    /// Drops the pages of some of the idle stacks that nobody has needed since it had last dropped
    /// all of those, but for a few, and for as many as are in use.
    Left trim_some() noexcept;
    /// Drops the pages of idle stacks, all but `keep` per size.
    void trim(std::size_t keep) noexcept;

    struct Stats {
        std::size_t in_use = 0;
        std::size_t idle = 0;     ///< given back, with their pages
        std::size_t trimmed = 0;  ///< given back, without
        std::size_t mappings = 0; ///< that the pool made
        std::size_t reserved = 0; ///< bytes of address space
        std::size_t guards_by_protection = 0;
    };
    Stats stats() const noexcept;
    Guard guard() const noexcept { return guard_; }

    /// Whether `address` lies in the guard of one of this pool's stacks, and of which: its top,
    /// else null. Async-signal-safe on the pool's thread.
    std::byte* guarded_top(const void* address) const noexcept;

    static std::size_t rounded(std::size_t size) noexcept;
    /// Bytes of a canary, where there is one.
    static constexpr std::size_t canary_size = 64;

private:
    struct Slab {
        std::byte* memory = nullptr;
        std::size_t stacks = 0;
        std::size_t carved = 0;
    };
    struct Class {
        std::size_t stack_size = 0;
        std::vector<Slab> slabs;
        std::vector<Stack> idle; // the one that was used last at the end; with room for all
        // so many of them, from the beginning, have lost their pages; or `least_idle` of them
        std::size_t trimmed = 0;
        std::size_t least_idle = 0; // that there were since somebody last looked
        std::size_t in_use = 0;
        std::size_t with_pages() const noexcept {
            return idle.size() - std::min(trimmed, least_idle);
        }
    };
    static constexpr std::size_t smallest_shift = 14;
    // Idle stacks below this number are never trimmed: with two touched pages each they are half a
    // MiB.
    static constexpr std::size_t always_kept = 64;
    static constexpr std::size_t class_count = 34 - smallest_shift; // up to 8 GiB

    static std::size_t class_of(std::size_t size) noexcept {
        const std::size_t pieces = (std::max<std::size_t>(size, 1) - 1) >> smallest_shift;
        return static_cast<std::size_t>(std::bit_width(pieces));
    }
    static std::size_t kept(const Class& size_class) noexcept {
        return std::max(always_kept, size_class.in_use);
    }
    /// From one stack of a slab to the next.
    std::size_t stride(const Class& size_class) const noexcept {
        return size_class.stack_size + page_size_;
    }
    Stack take_new(std::size_t size);
    Stack carve(Class& size_class, std::uint16_t index);
    void add_slab(Class& size_class);
    void install_guard(std::byte* at);
    static bool canary_whole(const Stack& stack) noexcept;
    static void look_at(Class& size_class) noexcept;
    void trim(Class& size_class, std::size_t keep, std::size_t most) noexcept;

    Guard guard_;
    std::size_t page_size_;
    std::size_t protect_budget_ = 0;
    std::size_t protected_ = 0;
    bool warned_ = false;
    Class classes_[class_count];
};

} // namespace weft::coro::detail

#pragma GCC visibility pop
