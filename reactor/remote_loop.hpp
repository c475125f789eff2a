#pragma once

#include <weft/reactor/mailbox.hpp>

#include <memory>
#include <source_location>
#include <system_error>
#include <utility>

#pragma GCC visibility push(default)

namespace weft {

/// A loop as other threads may know it: copy it, keep it, use it from any thread, also when the
/// loop is closed or gone. `Loop::remote()` makes one. `coro::start` starts tasks through it. Two
/// are equal if they are the same loop's.
class RemoteLoop {
public:
    /// While the loop lives.
    explicit RemoteLoop(const Loop& loop) noexcept;
    explicit RemoteLoop(std::shared_ptr<detail::Mailbox> mailbox) noexcept
        : mailbox_(std::move(mailbox)) {}
    // A copy in place of a move: there is no handle without a loop.
    RemoteLoop(const RemoteLoop&) noexcept = default;
    RemoteLoop& operator=(const RemoteLoop&) noexcept = default;

    /// Runs `function` in the loop; from any thread, also the loop's, never before returning. Calls
    /// of one thread keep their order. `Errc::closed` from the begin of the loop's `close` on:
    /// `function` is then destroyed by the calling thread. What was accepted and has not run by
    /// then is destroyed by the loop's.
    std::error_code post(Function<void()> function,
                         std::source_location location = std::source_location::current()) const {
        return mailbox_->post(std::move(function), location);
    }
    /// Whether the loop is closed, or being closed. True is for ever; false may be over before it
    /// is looked at.
    bool closed() const noexcept { return !mailbox_->open(); }

    /// `remote()->post(...)` is `remote().post(...)`.
    const RemoteLoop* operator->() const noexcept { return this; }
    friend bool operator==(const RemoteLoop&, const RemoteLoop&) noexcept = default;

    /// For the library.
    const std::shared_ptr<detail::Mailbox>& mailbox() const noexcept { return mailbox_; }

private:
    std::shared_ptr<detail::Mailbox> mailbox_;
};

} // namespace weft

#pragma GCC visibility pop
