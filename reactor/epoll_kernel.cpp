#include "posix_kernel.hpp"
#include "posix_syscall.hpp"

#include <algorithm>
#include <array>
#include <climits>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

// Some facts about epoll
//
// What is registered. A registration hangs on the open file description, under the number that the
// descriptor had when it was added. close(2) ends it only if no duplicate is left: after dup(2), or
// with a forked child that still has the file, events keep coming for a number that may be somebody
// else's by now, and EPOLL_CTL_DEL on the closed number gives EBADF. There is no way back but to
// make a new epoll set. Hence: whoever closes something that may have been duplicated removes it
// first; everything is close-on-exec; events carry a token with a generation, by which the loop
// knows stale ones; and `reset` makes a new set. Regular files and directories are always ready and
// refused with EPERM.
//
// Level and edge. A level-triggered registration is put back at the end of the ready list each time
// it is reported and looked at again by the next wait, so that it costs work for as long as the
// state lasts, and with more than fits into one call ready, all get their turn. An edge-triggered
// one (EPOLLET) is looked at when it is added, when it is modified, and when something happens to
// the file: new bytes, freed room, a shutdown, an error. Every such look reports all bits that are
// true then, old news included, so that it is a hint and no count. Bytes that are left unread are
// not reported again until more of them come. `Interest::edge` is for who keeps what was reported
// and goes on until EAGAIN: connected streams, with IN|OUT|RDHUP in one registration for their
// whole life. Pausing, resuming and waiting cost no call there. Listeners, datagram sockets, pipes,
// terminals and users' descriptors are level-triggered: their owners take a bounded amount per turn
// and rely on being told again.
//
// End of file. What is seen together on Linux, with IN|OUT|RDHUP asked for:
//     TCP socket before connect, after socket(2)     OUT HUP
//     connection refused                             IN OUT ERR HUP RDHUP   (SO_ERROR has the
//     reason) the peer shut its sending side                 IN RDHUP               (and OUT while
//     there is room) both sides shut                                IN OUT HUP RDHUP reset IN OUT
//     ERR HUP RDHUP the peer of a Unix stream closed               IN OUT HUP RDHUP the last writer
//     of a pipe is gone              HUP                    (IN only while bytes are left) the last
//     reader of a pipe is gone              OUT ERR
// Bytes that came before any of these can still be read. ERR and HUP can not be masked: a
// level-triggered registration with an empty mask would report them over and over. `Interest::none`
// is therefore registered edge-triggered, and reports them once.
//
// Time. epoll_wait(2) counts milliseconds, epoll_pwait2(2) (Linux 5.11) nanoseconds; both are
// relative, and a signal handler ends them with EINTR whatever SA_RESTART says. Milliseconds are
// rounded up, since rounding down would wake a timer's loop early, over and over, for the last one.
//
// Waking. An eventfd that is registered edge-triggered reports each write, read or not, so it is
// never read and a wake-up costs one call. The epoll descriptor can itself be polled: it is
// readable while the ready list holds something true. A foreign loop can wait for it; for deadlines
// it needs a timerfd in the set.
//
// fork(2). The child shares the set: what it adds or removes, it does to its parent. So it may do
// nothing before `reset`; closing its copies is harmless.

namespace weft {
namespace detail {
namespace {

constexpr Token wake_token = ~Token(0);
constexpr Token timer_token = wake_token - 1;

// Events that one wait can return: 12 bytes each. With more than that ready the next wait goes on.
constexpr std::size_t max_events = 512;

static_assert(ready::readable == EPOLLIN && ready::writable == EPOLLOUT &&
              ready::error == EPOLLERR && ready::hangup == EPOLLHUP &&
              ready::read_hangup == EPOLLRDHUP && ready::priority == EPOLLPRI);

std::uint32_t mask_of(Interest interest) noexcept {
    std::uint32_t mask = 0;
    if (has(interest, Interest::read)) mask |= EPOLLIN | EPOLLRDHUP;
    if (has(interest, Interest::write)) mask |= EPOLLOUT;
    if (interest == Interest::stream) mask |= EPOLLPRI;
    if (mask == 0 || has(interest, Interest::edge)) mask |= EPOLLET;
    return mask;
}

int milliseconds(const timespec* timeout) noexcept {
    if (!timeout) return -1;
    constexpr long longest =
        INT_MAX / 1000 - 1; // 24 days; the wait is repeated if it ends too early
    if (timeout->tv_sec > longest) return longest * 1000;
    return static_cast<int>(timeout->tv_sec * 1000 + (timeout->tv_nsec + 999'999) / 1'000'000);
}

/// Takes a descriptor over, or throws what prevented it.
OwnedFd made(int fd, const char* call) {
    if (fd < 0) throw std::system_error(errno_code(errno), std::string("epoll kernel: ") + call);
    return OwnedFd(fd);
}

class EpollKernel final : public PosixKernel {
public:
    EpollKernel()
        : epoll_(made(epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
          wake_(made(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd")) {
        const Sys added = control(EPOLL_CTL_ADD, wake_.get(), EPOLLIN | EPOLLET, wake_token);
        if (!added.ok())
            throw std::system_error(added.code(), "epoll kernel: epoll_ctl of the eventfd");
        const timespec at_once{};
        // Missing before Linux 5.11 (ENOSYS), and forbidden by sandboxes that do not know it
        // (EPERM).
        const Sys probe = direct_epoll_pwait2(epoll_.get(), batch_.data(), 1, &at_once);
        precise_ = probe.ok() || probe.error() == EINTR;
    }

    ~EpollKernel() override { stop_signals(); }

    std::string_view name() const noexcept override { return "epoll"; }

    Sys add(int fd, Token token, Interest interest) noexcept override {
        return checked_control(EPOLL_CTL_ADD, fd, mask_of(interest), token);
    }
    Sys modify(int fd, Token token, Interest interest) noexcept override {
        return checked_control(EPOLL_CTL_MOD, fd, mask_of(interest), token);
    }
    Sys remove(int fd) noexcept override { return checked_control(EPOLL_CTL_DEL, fd, 0, 0); }

    Sys wait(std::span<Event> events, TimePoint deadline) noexcept override;
    void wake() noexcept override;
    Sys pollable_fd() noexcept override;
    Sys arm(TimePoint deadline) noexcept override;
    Sys reset() noexcept override;

private:
    Sys control(int operation, int fd, std::uint32_t mask, Token token) noexcept {
        epoll_event event{};
        event.events = mask;
        event.data.u64 = token;
        return from_libc(epoll_ctl(epoll_.get(), operation, fd, &event));
    }
    Sys checked_control(int operation, int fd, std::uint32_t mask, Token token) noexcept {
        if (witness_.forked()) return Sys::fail(EOWNERDEAD);
        return control(operation, fd, mask, token);
    }
    Sys wait_once(int count, const timespec* timeout) noexcept {
        if (timeout && precise_ && (timeout->tv_sec | timeout->tv_nsec) != 0)
            return direct_epoll_pwait2(epoll_.get(), batch_.data(), count, timeout);
        return direct_epoll_pwait(epoll_.get(), batch_.data(), count, milliseconds(timeout));
    }
    Sys make_timer() noexcept;

    OwnedFd epoll_;
    OwnedFd wake_;
    OwnedFd timer_; ///< made by the first `arm`
    bool precise_ = false;
    std::array<epoll_event, max_events> batch_;
};

Sys EpollKernel::wait(std::span<Event> events, TimePoint deadline) noexcept {
    if (witness_.forked()) return Sys::fail(EOWNERDEAD);
    const int room = static_cast<int>(std::min(events.size(), max_events));
    timespec left{};
    const timespec* timeout = deadline == TimePoint::max() ? nullptr : &left;
    for (;;) {
        if (timeout && deadline != TimePoint::min()) left = time_left(deadline, now());
        const Sys got = wait_once(room, timeout);
        if (got.error() == EINTR) continue;
        if (!got.ok()) return got;
        std::size_t stored = 0;
        bool woken = false;
        for (std::size_t i = 0; i < got.count(); ++i) {
            const epoll_event& event = batch_[i];
            if (event.data.u64 < timer_token) [[likely]] {
                events[stored++] = {event.data.u64, event.events};
            } else if (event.data.u64 == wake_token) {
                woken = true;
            }
        }
        if (stored > 0 || woken || deadline == TimePoint::min()) return Sys(std::int64_t(stored));
        // Rounding, or the timer of an earlier `arm`: the deadline itself decides.
        if (timeout && deadline <= now()) return Sys(0);
    }
}

void EpollKernel::wake() noexcept {
    if (witness_.forked()) return; // the eventfd is the parent's
    const std::uint64_t one = 1;
    const int saved_errno = errno;
    // EAGAIN would take 2^64 wake-ups, and is a wake-up as well.
    while (::write(wake_.get(), &one, sizeof one) < 0 && errno == EINTR) {
    }
    errno = saved_errno;
}

Sys EpollKernel::make_timer() noexcept {
    OwnedFd timer(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    if (!timer) return Sys::fail(errno);
    const Sys added = control(EPOLL_CTL_ADD, timer.get(), EPOLLIN | EPOLLET, timer_token);
    if (added.ok()) timer_ = std::move(timer);
    return added;
}

// Whoever embeds the loop hears of missing descriptors now, and not when the first timer is set.
Sys EpollKernel::pollable_fd() noexcept {
    if (!timer_ && !witness_.forked())
        if (const Sys made = make_timer(); !made.ok()) return made;
    return Sys(epoll_.get());
}

Sys EpollKernel::arm(TimePoint deadline) noexcept {
    if (witness_.forked()) return Sys::fail(EOWNERDEAD);
    if (!timer_) {
        if (deadline == TimePoint::max()) return Sys(0);
        if (const Sys made = make_timer(); !made.ok()) return made;
    }
    itimerspec when{}; // all zero calls it off
    if (deadline != TimePoint::max()) {
        // A time that has passed fires at once, but zero would not.
        const TimePoint first(std::chrono::nanoseconds(1));
        when.it_value = time_left(std::max(deadline, first), TimePoint());
    }
    return from_libc(timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &when, nullptr));
}

Sys EpollKernel::reset() noexcept {
    const bool child = witness_.forked();
    OwnedFd epoll(epoll_create1(EPOLL_CLOEXEC));
    if (!epoll) return Sys::fail(errno);
    // In a child both belong to the parent; otherwise they stay, for other threads may be writing
    // to them.
    OwnedFd wake_up(child ? eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) : -1);
    if (child && !wake_up) return Sys::fail(errno);
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    event.data.u64 = wake_token;
    const int wake_fd = child ? wake_up.get() : wake_.get();
    if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake_fd, &event) != 0) return Sys::fail(errno);
    event.data.u64 = timer_token;
    if (!child && timer_ && epoll_ctl(epoll.get(), EPOLL_CTL_ADD, timer_.get(), &event) != 0)
        return Sys::fail(errno);
    // The new set takes the old one's number, so that what `pollable_fd` told remains true.
    if (dup3(epoll.get(), epoll_.get(), O_CLOEXEC) < 0) return Sys::fail(errno);
    if (child) {
        timer_ = OwnedFd();
        wake_ = std::move(wake_up);
        witness_.renew();
    }
    return Sys(0);
}

} // namespace
} // namespace detail

std::unique_ptr<Kernel> make_epoll_kernel() {
    return std::make_unique<detail::EpollKernel>();
}

} // namespace weft
