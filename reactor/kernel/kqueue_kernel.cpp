#include "kqueue_calls.hpp"
#include "posix_kernel.hpp"
#include "posix_syscall.hpp"

#include <algorithm>
#include <array>
#include <climits>
#include <fcntl.h>
#include <sys/stat.h>

// Some facts about kqueue
//
// What is registered. A registration (a "knote") is of one descriptor and one filter: reading and
// writing are two, and are reported as two events, which `wait` puts together again. It hangs on
// the descriptor's number and ends when that number is closed, whatever duplicates are left. So no
// event ever comes for a number that is somebody else's by now. What is kept here beside it may be
// stale, though: enabling a knote that is gone gives ENOENT, and so it is found out. Files are
// taken, and always ready; they are refused here as other kernels do.
//
// Changes. kevent(2) takes a list of them. One that fails is reported as an event with EV_ERROR, if
// there is room for events, and else ends the call with the later ones not looked at. With
// EV_RECEIPT each change is answered, by EV_ERROR with 0 for success, and nothing else is reported
// by that call. Adding what is there already changes its limits and its `udata`, but not whether it
// is EV_CLEAR; so `modify` deletes and adds.
//
// Level and edge. A filter reports for as long as its condition is true. With EV_CLEAR it reports
// once, and again when something happens to the descriptor: the edges of `Interest::edge`.
//
// A read ends at the mark of urgent data and leaves what came behind it, of which no edge tells.
// The filter counts it, though (`data`): a read that took neither all of that nor all it had room
// for is followed by another look, as if the registration were new.
//
// End of file. EV_EOF on the filter that reads: the peer sends no more, or the connection is gone;
// bytes may be left, `data` of them. EV_EOF on the one that writes: this side can send no more, for
// having shut it or for the loss of the connection; of a pipe, that nobody reads it. `fflags` then
// has the socket's pending error, which nobody has taken yet. There is no event for errors alone:
// of `Interest::none`, both filters are asked for more bytes than there can be (NOTE_LOWAT), which
// leaves the end and errors. The pending error of a datagram socket makes it readable, with nothing
// to read; so is one that has an empty datagram, for which a look at the error is no harm.
//
// Time. The timeout of kevent is a timespec, and relative. Some systems refuse one of more than
// 10^8 seconds. EVFILT_TIMER counts milliseconds where NOTE_NSECONDS is not known.
//
// NetBSD has EV_RECEIPT, NOTE_NSECONDS and EVFILT_USER from version 10 on.
//
// Waking. EVFILT_USER is triggered by a system call, which may be made on any thread and in signal
// handlers. OpenBSD had none for long: there it is a pipe.
//
// Embedding. A queue is a descriptor that can be polled and be registered in another queue. What a
// host is given is a second queue whose one member is the first, as with epoll, and for the same
// reasons: the member is disabled while the loop runs, and enabling it is an event if there is
// something. A queue that was emptied by other means than `wait` may still look readable, once.
//
// fork(2). A child has no queues: their numbers are free there, and may be somebody else's.

namespace weft {
namespace detail {
namespace {

// Events that one wait can return. With more than that ready the next wait goes on.
constexpr std::size_t max_events = 512;
constexpr time_t longest_wait = 24 * 3600; // the wait is repeated if it ends too early

class KqueueKernel final : public PosixKernel {
public:
    KqueueKernel() {
        Sys done = make_queue(queue_);
        if (done.ok()) done = waker_.attach(queue_.get());
        if (!done.ok()) throw std::system_error(done.code(), "kqueue kernel: kqueue");
    }
    ~KqueueKernel() override {
        stop_signals();
        if (witness_.forked()) disown();
    }

    std::string_view name() const noexcept override { return "kqueue"; }

    Sys add(int fd, Token token, Interest interest) noexcept override;
    Sys modify(int fd, Token token, Interest interest) noexcept override;
    Sys remove(int fd) noexcept override;
    Sys wait(std::span<Event> events, TimePoint deadline) noexcept override;
    void wake() noexcept override;
    Sys pollable_fd() noexcept override;
    void announce(bool on) noexcept override;
    bool announces() const noexcept override { return static_cast<bool>(outer_); }
    Sys arm(TimePoint deadline) noexcept override;
    Sys reset() noexcept override;
    Sys recv(int fd, void* data, std::size_t size) noexcept override;
    void close(int fd, bool reset) noexcept override {
        if (Entry* entry = find(fd)) *entry = {};
        PosixKernel::close(fd, reset);
    }

private:
    struct Entry {
        Token token = 0;
        std::int64_t unread = 0; ///< what the filter counted, less what was received since
        std::uint32_t place = 0; ///< of its event among those of this wait, from 1; 0 for none
        Interest interest = Interest::none;
        Interest possible = Interest::both; ///< a pipe's end has one direction
        bool registered = false;
        bool is_socket = false;
        bool is_datagram = false;
        bool read_ended = false; ///< EV_EOF was seen on the filter
        bool write_ended = false;

        /// Both directions have ended.
        bool is_gone() const noexcept { return is_socket && read_ended && write_ended; }
        bool wants(Interest direction) const noexcept {
            return has(interest, direction) && has(possible, direction);
        }
        /// Only of errors and the end is there something to tell.
        bool ends_only() const noexcept {
            return !wants(Interest::read) && !wants(Interest::write);
        }
        bool reads() const noexcept {
            return ends_only() ? has(possible, Interest::read) : wants(Interest::read);
        }
        bool writes() const noexcept {
            return ends_only() ? has(possible, Interest::write) : wants(Interest::write);
        }
    };

    Entry* find(int fd) noexcept {
        const auto place = static_cast<std::size_t>(fd);
        if (fd < 0 || place >= entries_.size() || !entries_[place].registered) return nullptr;
        return &entries_[place];
    }
    Sys set_filters(int fd, const Entry& entry) noexcept;
    Sys clear_filters(int fd, const Entry& entry) noexcept;
    bool is_stale(int fd, const Entry& entry) noexcept;
    std::uint32_t ready_of(Entry& entry, const Change& event) noexcept;
    std::size_t collect(std::size_t count, std::span<Event> events, bool& woken) noexcept;
    Sys make_outer(OwnedFd& into) const noexcept;
    unsigned member_flag() const noexcept { return announced_ ? EV_ENABLE : EV_DISABLE; }
    /// The numbers are not this process's.
    void disown() noexcept {
        (void)queue_.release();
        (void)outer_.release();
    }

    OwnedFd queue_;
    OwnedFd outer_; ///< made by `pollable_fd`
    Waker waker_;
    bool announced_ = false;
    bool armed_ = false;
    std::vector<Entry> entries_; ///< by descriptor
    std::array<Change, max_events> batch_;
};

Sys KqueueKernel::set_filters(int fd, const Entry& entry) noexcept {
    unsigned flags = EV_ADD;
    if (entry.ends_only() || has(entry.interest, Interest::edge)) flags |= EV_CLEAR;
    const unsigned limit = entry.ends_only() ? NOTE_LOWAT : 0;
    const int most = entry.ends_only() ? INT_MAX : 0;
    Change changes[2];
    int count = 0;
    if (entry.reads()) changes[count++] = change_of(fd, EVFILT_READ, flags, limit, most);
    if (entry.writes()) changes[count++] = change_of(fd, EVFILT_WRITE, flags, limit, most);
    const int error = apply(queue_.get(), changes, count);
    if (error == 0) return Sys(0);
    (void)clear_filters(fd, entry);
    return Sys::fail(error);
}

/// Deletes each, whether or not the other is there.
Sys KqueueKernel::clear_filters(int fd, const Entry& entry) noexcept {
    int error = 0;
    if (entry.reads()) error = apply(queue_.get(), change_of(fd, EVFILT_READ, EV_DELETE));
    if (entry.writes()) {
        const int second = apply(queue_.get(), change_of(fd, EVFILT_WRITE, EV_DELETE));
        if (error == 0) error = second;
    }
    return Sys::fail(error);
}

/// Whether the descriptor that was registered under this number was closed behind our back.
bool KqueueKernel::is_stale(int fd, const Entry& entry) noexcept {
    const int filter = entry.reads() ? EVFILT_READ : EVFILT_WRITE;
    return apply(queue_.get(), change_of(fd, filter, EV_ENABLE)) == ENOENT;
}

Sys KqueueKernel::add(int fd, Token token, Interest interest) noexcept {
    if (witness_.forked()) return Sys::fail(EOWNERDEAD);
    struct stat info;
    if (::fstat(fd, &info) != 0) return Sys::fail(errno);
    not_inherited(fd);
    if (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode) || S_ISBLK(info.st_mode))
        return Sys::fail(EPERM);
    if (const Entry* old = find(fd); old && !is_stale(fd, *old)) return Sys::fail(EEXIST);
    const auto place = static_cast<std::size_t>(fd);
    try {
        if (entries_.size() <= place) entries_.resize(place + 1);
    } catch (const std::bad_alloc&) {
        return Sys::fail(ENOMEM);
    }
    Entry entry;
    entry.token = token;
    entry.interest = interest;
    entry.is_socket = S_ISSOCK(info.st_mode);
    entry.is_datagram = entry.is_socket && kind_of(fd) == FileKind::datagram_socket;
    if (S_ISFIFO(info.st_mode)) {
        const int mode = ::fcntl(fd, F_GETFL) & O_ACCMODE;
        if (mode != O_RDWR) entry.possible = mode == O_RDONLY ? Interest::read : Interest::write;
    }
    const Sys set = set_filters(fd, entry);
    entry.registered = set.ok();
    entries_[place] = entry;
    return set;
}

Sys KqueueKernel::modify(int fd, Token token, Interest interest) noexcept {
    if (witness_.forked()) return Sys::fail(EOWNERDEAD);
    Entry* entry = find(fd);
    if (!entry) return Sys::fail(::fcntl(fd, F_GETFD) < 0 ? EBADF : ENOENT);
    entry->registered = false;
    if (const Sys cleared = clear_filters(fd, *entry); !cleared.ok()) return cleared;
    entry->token = token;
    entry->interest = interest;
    entry->read_ended = entry->write_ended = false;
    const Sys set = set_filters(fd, *entry);
    entry->registered = set.ok();
    return set;
}

Sys KqueueKernel::remove(int fd) noexcept {
    if (witness_.forked()) return Sys::fail(EOWNERDEAD);
    Entry* entry = find(fd);
    if (!entry) return Sys::fail(::fcntl(fd, F_GETFD) < 0 ? EBADF : ENOENT);
    return clear_filters(fd, std::exchange(*entry, Entry{}));
}

/// The bits of one filter's event.
std::uint32_t KqueueKernel::ready_of(Entry& entry, const Change& event) noexcept {
    const bool ended = (event.flags & EV_EOF) != 0;
    std::uint32_t ready = 0;
    if (event.filter == EVFILT_READ) {
        entry.read_ended = ended;
        entry.unread = event.data;
        if (!ended) {
            ready = ready::readable;
            if (entry.is_datagram && event.data == 0) ready |= ready::error;
        } else if (entry.is_socket) {
            ready = ready::readable | ready::read_hangup;
        } else { // a pipe without a writer, a terminal without its other side
            ready = ready::hangup | (event.data > 0 ? ready::readable : 0);
        }
    } else {
        entry.write_ended = ended;
        ready = ready::writable;
        if (ended && !entry.is_socket) ready |= ready::error; // a pipe without a reader
    }
    if (ended && event.fflags != 0) ready |= ready::error;
    if (!has(entry.interest, Interest::read)) ready &= ~(ready::readable | ready::read_hangup);
    if (!has(entry.interest, Interest::write)) ready &= ~ready::writable;
    return ready;
}

/// Turns what the queue answered into events, one for each descriptor.
std::size_t KqueueKernel::collect(std::size_t count, std::span<Event> events,
                                  bool& woken) noexcept {
    std::size_t stored = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const Change& answer = batch_[i];
        if (waker_.is(answer)) {
            woken = true;
            continue;
        }
        if (answer.filter != EVFILT_READ && answer.filter != EVFILT_WRITE) continue; // the timer
        Entry* entry = find(static_cast<int>(answer.ident));
        if (!entry) continue;
        const std::uint32_t ready = ready_of(*entry, answer);
        if (ready == 0 && !entry->is_gone()) continue;
        if (entry->place == 0) {
            events[stored] = {entry->token, 0};
            entry->place = static_cast<std::uint32_t>(++stored);
        }
        events[entry->place - 1].ready |= ready;
    }
    // What both filters say together is known when each has been seen.
    for (std::size_t i = 0; i < count; ++i) {
        Entry* entry = find(static_cast<int>(batch_[i].ident));
        if (!entry || entry->place == 0) continue;
        if (entry->is_gone()) events[entry->place - 1].ready |= ready::hangup;
        entry->place = 0;
    }
    return stored;
}

Sys KqueueKernel::recv(int fd, void* data, std::size_t size) noexcept {
    const Sys got = PosixKernel::recv(fd, data, size);
    Entry* entry = find(fd);
    if (!entry || entry->unread == 0) return got;
    const std::int64_t taken = got.ok() ? got.value() : 0;
    entry->unread = taken > 0 ? std::max<std::int64_t>(entry->unread - taken, 0) : 0;
    const bool is_short = static_cast<std::size_t>(taken) < size;
    if (entry->unread > 0 && is_short && has(entry->interest, Interest::edge))
        (void)apply(queue_.get(), change_of(fd, EVFILT_READ, EV_ADD | EV_CLEAR));
    return got;
}

Sys KqueueKernel::wait(std::span<Event> events, TimePoint deadline) noexcept {
    if (witness_.forked()) return Sys::fail(EOWNERDEAD);
    const int room = static_cast<int>(std::min(events.size(), max_events));
    timespec left{};
    const timespec* timeout = deadline == TimePoint::max() ? nullptr : &left;
    for (;;) {
        if (timeout && deadline != TimePoint::min()) {
            left = time_left(deadline, now());
            if (left.tv_sec > longest_wait) left = {longest_wait, 0};
        }
        const Sys got = from_libc(::kevent(queue_.get(), nullptr, 0, batch_.data(), room, timeout));
        if (got.error() == EINTR) continue;
        if (!got.ok()) return got;
        bool woken = false;
        const std::size_t stored = collect(got.count(), events, woken);
        if (stored > 0 || woken || deadline == TimePoint::min()) return Sys(std::int64_t(stored));
        // Rounding, or the timer of an earlier `arm`: the deadline itself decides.
        if (timeout && deadline <= now()) return Sys(0);
    }
}

void KqueueKernel::wake() noexcept {
    if (witness_.forked()) return; // the queue was the parent's
    const int saved_errno = errno;
    waker_.wake();
    errno = saved_errno;
}

Sys KqueueKernel::make_outer(OwnedFd& into) const noexcept {
    OwnedFd outer;
    if (const Sys made = make_queue(outer); !made.ok()) return made;
    const int error =
        apply(outer.get(), change_of(queue_.get(), EVFILT_READ, EV_ADD | EV_CLEAR | member_flag()));
    if (error == 0) into = std::move(outer);
    return Sys::fail(error);
}

Sys KqueueKernel::pollable_fd() noexcept {
    if (witness_.forked()) return Sys::fail(EOWNERDEAD);
    if (!outer_)
        if (const Sys made = make_outer(outer_); !made.ok()) return made;
    return Sys(outer_.get());
}

void KqueueKernel::announce(bool on) noexcept {
    if (!outer_ || announced_ == on || witness_.forked()) return;
    announced_ = on;
    (void)apply(outer_.get(), change_of(queue_.get(), EVFILT_READ, member_flag()));
    // The look that takes the member off the list of what is active.
    const timespec at_once{};
    Change event;
    if (!on) (void)::kevent(outer_.get(), nullptr, 0, &event, 1, &at_once);
}

Sys KqueueKernel::arm(TimePoint deadline) noexcept {
    if (witness_.forked()) return Sys::fail(EOWNERDEAD);
    constexpr int ident = 0;
    if (deadline == TimePoint::max()) {
        if (!std::exchange(armed_, false)) return Sys(0);
        const int error = apply(queue_.get(), change_of(ident, EVFILT_TIMER, EV_DELETE));
        return Sys::fail(error == ENOENT ? 0 : error); // it has fired
    }
    const timespec left = time_left(deadline, now());
    // A year at most; whoever is woken too early arms anew.
    const std::int64_t seconds = std::min<std::int64_t>(left.tv_sec, 365 * 24 * 3600);
#ifdef NOTE_NSECONDS
    constexpr unsigned unit = NOTE_NSECONDS;
    const std::int64_t length = seconds * 1'000'000'000 + left.tv_nsec;
#else
    constexpr unsigned unit = 0;
    const std::int64_t length = seconds * 1000 + (left.tv_nsec + 999'999) / 1'000'000;
#endif
    const Change timer = change_of(ident, EVFILT_TIMER, EV_ADD | EV_ONESHOT, unit,
                                   std::max<std::int64_t>(length, 1));
    const int error = apply(queue_.get(), timer);
    armed_ = armed_ || error == 0;
    return Sys::fail(error);
}

Sys KqueueKernel::reset() noexcept {
    if (!witness_.forked()) {
        // The queue stays: other threads may be waking it, and a host watching it.
        for (std::size_t fd = 0; fd < entries_.size(); ++fd)
            if (entries_[fd].registered) (void)clear_filters(static_cast<int>(fd), entries_[fd]);
        entries_.clear();
        return Sys(0);
    }
    OwnedFd queue, outer;
    if (const Sys made = make_queue(queue); !made.ok()) return made;
    Waker waker;
    if (const Sys attached = waker.attach(queue.get()); !attached.ok()) return attached;
    const int told = outer_ ? outer_.get() : -1;
    disown();
    queue_ = std::move(queue);
    waker_ = std::move(waker);
    armed_ = false;
    entries_.clear();
    witness_.renew();
    if (told < 0) return Sys(0);
    if (const Sys made = make_outer(outer); !made.ok()) return made;
    // The number that `pollable_fd` told stays what it is, unless it is somebody else's by now.
    const int same = ::fcntl(outer.get(), F_DUPFD_CLOEXEC, told);
    if (same == told)
        outer_ = OwnedFd(same);
    else if (same >= 0)
        ::close(same);
    if (!outer_) outer_ = std::move(outer);
    return Sys(0);
}

} // namespace
} // namespace detail

std::unique_ptr<Kernel> make_kqueue_kernel() {
    return std::make_unique<detail::KqueueKernel>();
}

} // namespace weft
