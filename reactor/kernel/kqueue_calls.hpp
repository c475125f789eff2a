#pragma once

#include "posix_kernel.hpp"
#include "posix_syscall.hpp"
#include "wake_pipe.hpp"

#include <sys/event.h>

// kevent(2) as `KqueueKernel` uses it; the facts are told there.

namespace weft::detail {

using Change = struct kevent;

// The types of some members differ between the systems.
inline Change change_of(int ident, int filter, unsigned flags, unsigned fflags = 0,
                        std::int64_t data = 0) noexcept {
    Change change{};
    EV_SET(&change, static_cast<std::uintptr_t>(ident),
           static_cast<decltype(Change::filter)>(filter),
           static_cast<decltype(Change::flags)>(flags), fflags,
           static_cast<decltype(Change::data)>(data), nullptr);
    return change;
}

/// Makes `count` changes of a queue; the first errno value that one was answered with, 0 for none.
inline int apply(int queue, Change* changes, int count) noexcept {
    for (int i = 0; i < count; ++i)
        changes[i].flags |= EV_RECEIPT;
    const timespec at_once{};
    const Sys got =
        uninterrupted([&] { return ::kevent(queue, changes, count, changes, count, &at_once); });
    if (!got.ok()) return got.error();
    for (std::size_t i = 0; i < got.count(); ++i)
        if ((changes[i].flags & EV_ERROR) != 0 && changes[i].data != 0)
            return static_cast<int>(changes[i].data);
    return 0;
}
inline int apply(int queue, Change change) noexcept {
    return apply(queue, &change, 1);
}

inline Sys make_queue(OwnedFd& into) noexcept {
    OwnedFd queue(above_standard(::kqueue()));
    if (!queue || ::fcntl(queue.get(), F_SETFD, FD_CLOEXEC) != 0) return Sys::fail(errno);
    into = std::move(queue);
    return Sys(0);
}

/// What ends a `wait` from elsewhere.
class Waker {
public:
    Sys attach(int queue) noexcept {
#ifdef EVFILT_USER
        queue_ = queue;
        return Sys::fail(apply(queue, change_of(ident, EVFILT_USER, EV_ADD | EV_CLEAR)));
#else
        if (const Sys made = WakePipe::make(pipe_); !made.ok()) return made;
        return Sys::fail(apply(queue, change_of(pipe_.out.get(), EVFILT_READ, EV_ADD | EV_CLEAR)));
#endif
    }
    /// Any thread, and signal handlers.
    void wake() const noexcept {
#ifdef EVFILT_USER
        Change trigger = change_of(ident, EVFILT_USER, 0, NOTE_TRIGGER);
        const timespec at_once{};
        (void)uninterrupted([&] { return ::kevent(queue_, &trigger, 1, nullptr, 0, &at_once); });
#else
        pipe_.fill();
#endif
    }
    /// Whether `event` is a wake-up, which is over then.
    bool is(const Change& event) noexcept {
#ifdef EVFILT_USER
        return event.filter == EVFILT_USER;
#else
        if (event.ident != static_cast<std::uintptr_t>(pipe_.out.get())) return false;
        pipe_.drain();
        return true;
#endif
    }

private:
#ifdef EVFILT_USER
    static constexpr int ident = 0;
    int queue_ = -1;
#else
    WakePipe pipe_;
#endif
};

} // namespace weft::detail
