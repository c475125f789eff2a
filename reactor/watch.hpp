#pragma once

#include <weft/reactor/function.hpp>
#include <weft/reactor/timer_queue.hpp>

#include <memory>
#include <utility>

#pragma GCC visibility push(default)

namespace weft {

class Loop;
class Watch;
class SignalWatch;

namespace detail {
class LoopCore;
class WatchedFd;
class WatchedSignal;
struct WatchDeleter {
    void operator()(WatchedFd* watched) const noexcept;
    void operator()(WatchedSignal* watched) const noexcept;
};
} // namespace detail

/// A watched foreign descriptor, made by `Loop::watch`. Level-triggered: a callback comes again as
/// long as the descriptor stays ready. Destroying it ends the watch, now, also inside a callback;
/// the descriptor stays open. For the loop's thread; it may outlive the loop.
class Watch {
public:
    Watch() noexcept = default;

    /// Sets or replaces the callback for readability (data, end of stream, errors). An empty one
    /// ends that direction.
    void on_readable(Function<void()> function);
    /// Sets or replaces the callback for writability.
    void on_writable(Function<void()> function);
    /// Ends one direction; false if it was not watched.
    bool stop_reading();
    bool stop_writing();
    /// Ends the watch. Twice is fine.
    void cancel() noexcept { watched_.reset(); }
    bool active() const noexcept { return watched_ != nullptr; }
    int fd() const noexcept; ///< -1 once cancelled

private:
    friend class detail::LoopCore;
    explicit Watch(detail::WatchedFd* watched) noexcept : watched_(watched) {}
    std::unique_ptr<detail::WatchedFd, detail::WatchDeleter> watched_;
};

/// A watched signal, made by `Loop::on_signal`. Destroying it ends the watch, now, also inside its
/// callback.
class SignalWatch {
public:
    SignalWatch() noexcept = default;
    void cancel() noexcept { watched_.reset(); }
    bool active() const noexcept { return watched_ != nullptr; }

private:
    friend class detail::LoopCore;
    explicit SignalWatch(detail::WatchedSignal* watched) noexcept : watched_(watched) {}
    std::unique_ptr<detail::WatchedSignal, detail::WatchDeleter> watched_;
};

} // namespace weft

#pragma GCC visibility pop
