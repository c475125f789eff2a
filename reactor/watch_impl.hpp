#pragma once

#include <weft/reactor/kernel/kernel.hpp>
#include <weft/reactor/loop_core.hpp>
#include <weft/reactor/source.hpp>

#include <memory>
#include <source_location>

namespace weft::detail {

/// The loop's side of a `Watch`. Owned by the `Watch`; while one of its callbacks runs, its end is
/// put off.
class WatchedFd final : public Source {
public:
    WatchedFd(LoopCore& loop, int fd, std::source_location location);
    Sys start() noexcept;
    /// Ends the watch and destroys it, after the running callback if there is one.
    void dispose() noexcept;

    /// Sets one direction's callback; an empty one ends it.
    void set(Interest direction, Function<void()> function);
    /// Whether a direction has a callback.
    bool has(Interest direction) const noexcept { return slot(direction) != nullptr; }
    int fd() const noexcept { return fd_; }

    void on_ready(std::uint32_t ready) override;
    void on_loop_closing() override;
    Registration registration() const noexcept override { return {out_ ? -1 : fd_, registered_}; }

private:
    // Shared only so that a callback that replaces itself stays alive while it runs.
    using Callback = std::shared_ptr<Function<void()>>;
    Callback& slot(Interest direction) noexcept {
        return direction == Interest::read ? reader_ : writer_;
    }
    const Callback& slot(Interest direction) const noexcept {
        return direction == Interest::read ? reader_ : writer_;
    }
    void end() noexcept;
    /// Asks the kernel for what the callbacks want, after an event with the bits `ready`.
    void apply(std::uint32_t ready) noexcept;
    bool call(Interest direction);

    LoopCore* loop_; // null once the watch has ended
    int fd_;
    Token token_ = 0;
    Interest registered_ = Interest::none;
    bool out_ = true; // not in the kernel's set: not yet, or taken out, see on_ready
    bool busy_ = false;
    bool orphan_ = false;
    std::source_location location_;
    Callback reader_;
    Callback writer_;
};

/// The loop's side of a `SignalWatch`, in the loop's list of them.
class WatchedSignal final : public ListNode {
public:
    WatchedSignal(LoopCore& loop, int number, Function<void()> function,
                  std::source_location location);
    /// Calls the callback.
    void deliver();
    int number() const noexcept { return number_; }
    void dispose() noexcept;
    void end() noexcept;
    void on_loop_closing() noexcept;

    bool due = false; ///< it came and was not delivered to this watch yet

private:
    LoopCore* loop_;
    int number_;
    bool busy_ = false;
    bool orphan_ = false;
    std::source_location location_;
    Function<void()> function_;
};

} // namespace weft::detail
