#include "linux_syscall.hpp"
#include "posix_kernel.hpp"

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
//   TCP socket before connect, after socket(2)  OUT HUP
//   connection refused                          IN OUT ERR HUP RDHUP (SO_ERROR has the reason)
//   the peer shut its sending side              IN RDHUP             (and OUT while there is room)
//   both sides shut                             IN OUT HUP RDHUP
//   reset                                       IN OUT ERR HUP RDHUP
//   the peer of a Unix stream closed            IN OUT HUP RDHUP
//   the last writer of a pipe is gone           HUP                  (IN only while bytes are left)
//   the last reader of a pipe is gone           OUT ERR
// Bytes that came before any of these can still be read. ERR and HUP cannot be masked: a
// level-triggered registration with an empty mask would report them over and over. `Interest::none`
// is therefore registered edge-triggered, and reports them once.
//
// Time. epoll_wait(2) counts milliseconds, epoll_pwait2(2) (Linux 5.11) nanoseconds; both are
// relative, and a signal handler ends them with EINTR whatever SA_RESTART says. Milliseconds are
// rounded up, since rounding down would wake a timer's loop early, over and over, for the last one.
//
// Waking. An eventfd that is registered edge-triggered reports each write, read or not, so it is
// never read and a wake-up costs one call.
//
// Embedding. An epoll descriptor can itself be polled: it is readable while the ready list holds
// something true. A foreign loop can wait for it; for deadlines it needs a timerfd in the set. What
// it is given is a second set whose one member is the first. That set stays the same file when the
// first one is made anew, for a host's epoll set refers to files and not to numbers. Its member's
// mask is cleared while the loop runs, so that a host that polls meanwhile is not woken for what
// nobody can handle then. And setting the mask again is an event for those who watch the outer set
// edge-triggered, if the inner one holds anything at that time: but only if the member has left the
// outer's ready list, which it does when it is looked at and found to be quiet.
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
    // 24 days; the wait is repeated if it ends too early
    constexpr long longest = INT_MAX / 1000 - 1;
    if (timeout->tv_sec > longest) return longest * 1000;
    return static_cast<int>(timeout->tv_sec * 1000 + (timeout->tv_nsec + 999'999) / 1'000'000);
}

/// Takes a descriptor over, or throws what prevented it.
OwnedFd made(int fd, const char* call) {
    fd = above_standard(fd);
    if (fd < 0) throw std::system_error(errno_code(errno), std::string("epoll kernel: ") + call);
    return OwnedFd(fd);
}

class EpollKernel final : public PosixKernel {
public:
    EpollKernel()
        : epoll_(made(epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
          wake_(made(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd")) {
        const Sys added = add_to(epoll_.get(), wake_.get(), EPOLLIN | EPOLLET, wake_token);
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
        not_inherited(fd);
        return checked_control(EPOLL_CTL_ADD, fd, mask_of(interest), token);
    }
    Sys modify(int fd, Token token, Interest interest) noexcept override {
        return checked_control(EPOLL_CTL_MOD, fd, mask_of(interest), token);
    }
    Sys remove(int fd) noexcept override { return checked_control(EPOLL_CTL_DEL, fd, 0, 0); }

    Sys wait(std::span<Event> events, TimePoint deadline) noexcept override;
    void wake() noexcept override;
    Sys pollable_fd() noexcept override;
    void announce(bool on) noexcept override;
    bool announces() const noexcept override { return static_cast<bool>(outer_); }
    Sys arm(TimePoint deadline) noexcept override;
    Sys reset() noexcept override;

private:
    static Sys add_to(int epoll, int fd, std::uint32_t mask, Token token) noexcept {
        return control(epoll, EPOLL_CTL_ADD, fd, mask, token);
    }
    static Sys control(int epoll, int operation, int fd, std::uint32_t mask, Token token) noexcept {
        epoll_event event{};
        event.events = mask;
        event.data.u64 = token;
        return from_libc(epoll_ctl(epoll, operation, fd, &event));
    }
    Sys checked_control(int operation, int fd, std::uint32_t mask, Token token) noexcept {
        if (witness_.forked()) return Sys::fail(EOWNERDEAD);
        return control(epoll_.get(), operation, fd, mask, token);
    }
    Sys wait_once(int count, const timespec* timeout) noexcept {
        if (timeout && precise_ && (timeout->tv_sec | timeout->tv_nsec) != 0)
            return direct_epoll_pwait2(epoll_.get(), batch_.data(), count, timeout);
        return direct_epoll_pwait(epoll_.get(), batch_.data(), count, milliseconds(timeout));
    }
    std::uint32_t mask_of_outer() const noexcept { return announced_ ? std::uint32_t{EPOLLIN} : 0; }
    Sys make_timer(int epoll, OwnedFd& into) const noexcept;
    Sys make_outer(int epoll, OwnedFd& into) const noexcept;

    OwnedFd epoll_;
    OwnedFd wake_;
    OwnedFd timer_; ///< made by the first `arm`
    OwnedFd outer_; ///< made by `pollable_fd`
    bool announced_ = false;
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

Sys EpollKernel::make_timer(int epoll, OwnedFd& into) const noexcept {
    OwnedFd timer(above_standard(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)));
    if (!timer) return Sys::fail(errno);
    const Sys added = add_to(epoll, timer.get(), EPOLLIN | EPOLLET, timer_token);
    if (added.ok()) into = std::move(timer);
    return added;
}

Sys EpollKernel::make_outer(int epoll, OwnedFd& into) const noexcept {
    OwnedFd outer(above_standard(epoll_create1(EPOLL_CLOEXEC)));
    if (!outer) return Sys::fail(errno);
    const Sys added = add_to(outer.get(), epoll, mask_of_outer(), 0);
    if (added.ok()) into = std::move(outer);
    return added;
}

// Whoever embeds the loop hears of missing descriptors now, and not when the first timer is set.
Sys EpollKernel::pollable_fd() noexcept {
    if (!timer_ && !witness_.forked())
        if (const Sys made = make_timer(epoll_.get(), timer_); !made.ok()) return made;
    if (!outer_ && !witness_.forked())
        if (const Sys made = make_outer(epoll_.get(), outer_); !made.ok()) return made;
    return Sys(outer_.get());
}

void EpollKernel::announce(bool on) noexcept {
    if (!outer_ || announced_ == on || witness_.forked()) return;
    announced_ = on;
    epoll_event event{};
    event.events = mask_of_outer();
    epoll_ctl(outer_.get(), EPOLL_CTL_MOD, epoll_.get(), &event);
    // The look that takes the member off the list.
    if (!on) (void)direct_epoll_pwait(outer_.get(), &event, 1, 0);
}

Sys EpollKernel::arm(TimePoint deadline) noexcept {
    if (witness_.forked()) return Sys::fail(EOWNERDEAD);
    if (!timer_) {
        if (deadline == TimePoint::max()) return Sys(0);
        if (const Sys made = make_timer(epoll_.get(), timer_); !made.ok()) return made;
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
    OwnedFd epoll(above_standard(epoll_create1(EPOLL_CLOEXEC)));
    if (!epoll) return Sys::fail(errno);
    // In a child all of them belong to the parent; otherwise they stay, for other threads may be
    // writing to the one, and a host may be watching the other.
    OwnedFd wake_up(child ? above_standard(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) : -1);
    if (child && !wake_up) return Sys::fail(errno);
    const int wake_fd = child ? wake_up.get() : wake_.get();
    Sys done = add_to(epoll.get(), wake_fd, EPOLLIN | EPOLLET, wake_token);
    OwnedFd timer;
    if (done.ok() && timer_)
        done = child ? make_timer(epoll.get(), timer)
                     : add_to(epoll.get(), timer_.get(), EPOLLIN | EPOLLET, timer_token);
    OwnedFd outer;
    if (done.ok() && outer_)
        done = child ? make_outer(epoll.get(), outer)
                     : add_to(outer_.get(), epoll.get(), mask_of_outer(), 0);
    // The number that `pollable_fd` told stays what it is.
    if (done.ok() && outer) done = from_libc(dup3(outer.get(), outer_.get(), O_CLOEXEC));
    if (!done.ok()) return done;
    if (child) {
        wake_ = std::move(wake_up);
        timer_ = std::move(timer);
        witness_.renew();
    } else if (outer_) {
        // Not only closed: a forked child may have the old set, which would then go on in this one.
        epoll_event event{};
        epoll_ctl(outer_.get(), EPOLL_CTL_DEL, epoll_.get(), &event);
    }
    epoll_ = std::move(epoll);
    return Sys(0);
}

} // namespace
} // namespace detail

std::unique_ptr<Kernel> make_epoll_kernel() {
    return std::make_unique<detail::EpollKernel>();
}

} // namespace weft
