#pragma once

#include <weft/reactor/kernel/kernel.hpp>

#include <atomic>

namespace weft::detail {

/// Where one kernel's signals gather. Sinks are taken from a process-wide list that only grows, so
/// that a handler may walk it at any moment; a released sink is used again by the next kernel.
class SignalSink {
public:
    /// A sink whose signals wake `kernel`; null without memory. Any thread.
    static SignalSink* acquire(Kernel& kernel) noexcept;
    /// Unwatches everything. When it returns no handler is using the kernel, on whatever thread.
    void release() noexcept;

    /// Watching a signal twice is watching it once.
    Sys watch(int number) noexcept;
    /// ENOENT: it was not watched.
    Sys unwatch(int number) noexcept;

    /// The signals since the last call: bit n-1 for signal n.
    std::uint64_t take() noexcept {
        if (pending_.load(std::memory_order_relaxed) == 0) return 0;
        return pending_.exchange(0, std::memory_order_acq_rel);
    }

private:
    SignalSink() = default;
    static void on_signal(int number) noexcept;
    static void wait_for_handlers() noexcept;
    Sys unwatch_locked(int number) noexcept;

    std::atomic<std::uint64_t> pending_{0};
    std::atomic<std::uint64_t> watched_{0};
    std::atomic<Kernel*> kernel_{nullptr}; ///< null: the sink is free
    SignalSink* next_ = nullptr;

    friend class SignalRegistry;
};

} // namespace weft::detail
