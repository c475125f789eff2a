#include "posix_kernel.hpp"
#include "posix_syscall.hpp"
#include "system.hpp"
#include "wake_pipe.hpp"

#include <algorithm>
#include <fcntl.h>
#include <sys/stat.h>

// Some facts about poll
//
// poll(2) keeps nothing between calls: it is handed every descriptor each time and answers with
// what is true now. So registrations live here, in an array in the order that the call wants, and
// the cost of a wait grows with their number.
//
// It knows no edges. An edge-triggered registration is imitated by not asking again for what was
// reported
// (`armed` holds what is still asked for) until the owner has met the end of it: a receive or send
// through this kernel that returned EAGAIN or less than it was offered asks for that bit again. Who
// keeps to the contract of edges, going on until EAGAIN, cannot tell the difference, and a reader
// that has paused costs no wake-ups. Of a descriptor that is read or written by other means no
// second event comes until `modify`.
//
// POLLERR, POLLHUP and POLLNVAL are reported whether asked for or not, and stay. A registration
// that has nothing new to say is therefore hidden from the call (a negative number is skipped)
// until it is modified or one of its calls asks for a bit again. POLLNVAL says that the descriptor
// was closed behind our back; it is forgotten, as epoll does. Where the number has been used again
// in the meantime, the file behind it is another one by device and inode, and adding it replaces
// the old registration.
//
// poll(2) counts milliseconds; ppoll(2), which POSIX has since 2024, nanoseconds.
//
// Waking is done by a byte in a pipe, which every wait that sees it drains.

namespace weft {
namespace detail {
namespace {

#ifdef POLLRDHUP
constexpr short peer_hangup = POLLRDHUP;
#else
constexpr short peer_hangup = 0; // the end of the stream shows as readable there
#endif
constexpr short always = POLLERR | POLLHUP;

short poll_mask_of(Interest interest) noexcept {
    short mask = 0;
    if (has(interest, Interest::read)) mask |= POLLIN | peer_hangup;
    if (has(interest, Interest::write)) mask |= POLLOUT;
    if (interest == Interest::stream) mask |= POLLPRI;
    return mask;
}

std::uint32_t ready_of(short bits) noexcept {
    std::uint32_t ready = 0;
    if ((bits & POLLIN) != 0) ready |= ready::readable;
    if ((bits & POLLOUT) != 0) ready |= ready::writable;
    if ((bits & POLLPRI) != 0) ready |= ready::priority;
    if ((bits & POLLERR) != 0) ready |= ready::error;
    if ((bits & POLLHUP) != 0) ready |= ready::hangup;
    if (peer_hangup != 0 && (bits & peer_hangup) != 0) ready |= ready::read_hangup;
    return ready;
}

class PollKernel final : public PosixKernel {
public:
    PollKernel() {
        const Sys pipe = WakePipe::make(pipe_);
        if (!pipe.ok()) throw std::system_error(pipe.code(), "poll kernel: pipe");
        polled_.reserve(64);
        entries_.reserve(64);
        clear();
    }
    ~PollKernel() override { stop_signals(); }

    std::string_view name() const noexcept override { return "poll"; }

    Sys add(int fd, Token token, Interest interest) noexcept override;
    Sys modify(int fd, Token token, Interest interest) noexcept override;
    Sys remove(int fd) noexcept override;
    Sys wait(std::span<Event> events, TimePoint deadline) noexcept override;
    void wake() noexcept override;
    Sys pollable_fd() noexcept override { return Sys::fail(ENOTSUP); }
    Sys arm(TimePoint) noexcept override { return Sys::fail(ENOTSUP); }
    Sys reset() noexcept override;

    // The calls after which an edge-triggered registration asks again.
    Sys recv(int fd, void* data, std::size_t size) noexcept override {
        return after_read(fd, PosixKernel::recv(fd, data, size), size);
    }
    Sys recv_batch(int fd, std::span<DatagramSlot> slots) noexcept override {
        return after_read(fd, PosixKernel::recv_batch(fd, slots), slots.size());
    }
    Sys accept(int fd, Address& peer) noexcept override {
        return after_read(fd, PosixKernel::accept(fd, peer), 0);
    }
    Sys send(int fd, const void* data, std::size_t size) noexcept override {
        return after_write(fd, PosixKernel::send(fd, data, size), size);
    }
    Sys sendv(int fd, const iovec* pieces, std::size_t count) noexcept override;
    Sys send_file(int fd, int file, std::uint64_t offset, std::size_t size) noexcept override {
        return after_write(fd, PosixKernel::send_file(fd, file, offset, size), size);
    }
    Sys send_batch(int fd, std::span<const OutDatagram> datagrams) noexcept override {
        return after_write(fd, PosixKernel::send_batch(fd, datagrams), datagrams.size());
    }
    Sys connect(int fd, const Address& address) noexcept override {
        const Sys result = PosixKernel::connect(fd, address);
        ask_again(fd, POLLIN | POLLOUT | peer_hangup | always);
        return result;
    }
    Sys recv_error(int fd, Address& to) noexcept override {
        const Sys result = PosixKernel::recv_error(fd, to);
        ask_again(fd, POLLERR);
        return result;
    }
    void close(int fd, bool reset) noexcept override {
        (void)forget(fd);
        PosixKernel::close(fd, reset);
    }

private:
    struct Entry {
        Token token = 0;
        dev_t device = 0;
        ino_t inode = 0;
        int fd = -1;
        short interest = 0; ///< the poll bits that were asked for
        short armed = 0;    ///< those not reported since; and `always`, if edge
        bool edge = false;
    };

    Entry* find(int fd) noexcept {
        const auto index = static_cast<std::size_t>(fd);
        if (fd < 0 || index >= places_.size() || places_[index] == 0) return nullptr;
        return &entries_[places_[index]];
    }
    Sys forget(int fd) noexcept;
    void set(Entry& entry, Token token, Interest interest) noexcept;
    void show(Entry& entry) noexcept;
    short news_of(Entry& entry, short bits) noexcept;
    void ask_again(int fd, short bits) noexcept;
    void clear() noexcept;
    Sys wait_once(const timespec* timeout) noexcept;
    std::size_t collect(std::span<Event> events) noexcept;

    Sys after_read(int fd, Sys result, std::size_t wanted) noexcept {
        // Not after 0 bytes: the end of the stream stays readable, and has been reported.
        if (result.would_block() || (result.ok() && result.count() != 0 && result.count() < wanted))
            ask_again(fd, POLLIN);
        return after_call(fd, result);
    }
    Sys after_write(int fd, Sys result, std::size_t wanted) noexcept {
        if (result.would_block() || (result.ok() && result.count() < wanted))
            ask_again(fd, POLLOUT);
        return after_call(fd, result);
    }
    Sys after_call(int fd, Sys result) noexcept {
        // The socket's pending error was handed out and is gone: the next one is news.
        if (!result.ok() && !result.would_block()) ask_again(fd, POLLERR);
        return result;
    }

    // Two arrays in the same order; the first place is the pipe's. `places_` finds an entry by
    // descriptor, 0 for none.
    std::vector<pollfd> polled_;
    std::vector<Entry> entries_;
    std::vector<std::uint32_t> places_;
    std::size_t next_ = 1; ///< where reporting goes on after a wait that had no room for all
    WakePipe pipe_;
};

void PollKernel::clear() noexcept {
    // The constructor made the room: nothing is allocated here.
    polled_.assign(1, pollfd{pipe_.out.get(), POLLIN, 0});
    entries_.assign(1, Entry{});
    places_.clear();
    next_ = 1;
}

/// Writes what an entry asks for into its pollfd.
void PollKernel::show(Entry& entry) noexcept {
    pollfd& poll = polled_[static_cast<std::size_t>(&entry - entries_.data())];
    poll.events = static_cast<short>(entry.armed & entry.interest);
    poll.fd = entry.armed != 0 ? entry.fd : ~entry.fd;
    poll.revents = 0;
}

void PollKernel::set(Entry& entry, Token token, Interest interest) noexcept {
    entry.token = token;
    entry.interest = poll_mask_of(interest);
    // With nothing asked for, errors and hang-ups are told once, or they would come for ever.
    entry.edge = entry.interest == 0 || has(interest, Interest::edge);
    entry.armed = static_cast<short>(entry.interest | always);
    show(entry);
}

Sys PollKernel::add(int fd, Token token, Interest interest) noexcept {
    if (witness_.forked()) return Sys::fail(EOWNERDEAD);
    struct stat info;
    if (::fstat(fd, &info) != 0) return Sys::fail(errno);
    not_inherited(fd);
    if (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode) || S_ISBLK(info.st_mode))
        return Sys::fail(EPERM);
    if (const Entry* old = find(fd)) {
        if (old->device == info.st_dev && old->inode == info.st_ino) return Sys::fail(EEXIST);
        (void)forget(fd);
    }
    try {
        if (places_.size() <= static_cast<std::size_t>(fd))
            places_.resize(static_cast<std::size_t>(fd) + 1);
        // Both before either grows, so that they stay of one length.
        if (entries_.size() == entries_.capacity()) entries_.reserve(entries_.size() * 2);
        if (polled_.size() == polled_.capacity()) polled_.reserve(polled_.size() * 2);
        entries_.push_back(Entry{});
        polled_.push_back(pollfd{});
    } catch (const std::bad_alloc&) {
        return Sys::fail(ENOMEM);
    }
    Entry& entry = entries_.back();
    entry.fd = fd;
    entry.device = info.st_dev;
    entry.inode = info.st_ino;
    places_[static_cast<std::size_t>(fd)] = static_cast<std::uint32_t>(entries_.size() - 1);
    set(entry, token, interest);
    return Sys(0);
}

Sys PollKernel::modify(int fd, Token token, Interest interest) noexcept {
    if (witness_.forked()) return Sys::fail(EOWNERDEAD);
    Entry* entry = find(fd);
    if (!entry) return Sys::fail(fcntl(fd, F_GETFD) < 0 ? EBADF : ENOENT);
    set(*entry, token, interest);
    return Sys(0);
}

Sys PollKernel::remove(int fd) noexcept {
    if (witness_.forked()) return Sys::fail(EOWNERDEAD);
    if (!find(fd)) return Sys::fail(fcntl(fd, F_GETFD) < 0 ? EBADF : ENOENT);
    return forget(fd);
}

Sys PollKernel::forget(int fd) noexcept {
    Entry* entry = find(fd);
    if (!entry) return Sys::fail(ENOENT);
    const auto place = static_cast<std::size_t>(entry - entries_.data());
    *entry = entries_.back();
    polled_[place] = polled_.back();
    places_[static_cast<std::size_t>(entry->fd)] = static_cast<std::uint32_t>(place);
    // after the line above: it may have been the last itself
    places_[static_cast<std::size_t>(fd)] = 0;
    entries_.pop_back();
    polled_.pop_back();
    return Sys(0);
}

void PollKernel::ask_again(int fd, short bits) noexcept {
    Entry* entry = find(fd);
    if (!entry || !entry->edge) return;
    entry->armed |= static_cast<short>(bits & (entry->interest | always));
    show(*entry);
}

Sys PollKernel::sendv(int fd, const iovec* pieces, std::size_t count) noexcept {
    const Sys sent = PosixKernel::sendv(fd, pieces, count);
    if (!sent.ok()) return after_write(fd, sent, 0);
    // A count beyond IOV_MAX ends early too; asking once too often is only a hint too many.
    std::size_t wanted = 0;
    for (std::size_t i = 0; i < count && wanted <= sent.count(); ++i)
        wanted += pieces[i].iov_len;
    return after_write(fd, sent, wanted);
}

/// What of `bits` is to be reported; a level-triggered entry has no past.
short PollKernel::news_of(Entry& entry, short bits) noexcept {
    if (!entry.edge) return bits;
    const short news = static_cast<short>(bits & entry.armed);
    // With nothing new, what stays true must not end the next wait: hidden, until asked again.
    entry.armed = news != 0 ? static_cast<short>(entry.armed & ~news) : short(0);
    if ((entry.armed & ~always) == 0 && (bits & always) != 0) entry.armed = 0;
    show(entry);
    return news;
}

Sys PollKernel::wait_once(const timespec* timeout) noexcept {
    return poll_once(polled_.data(), polled_.size(), timeout);
}

/// Turns the answers into events, beginning where the last wait had to stop.
std::size_t PollKernel::collect(std::span<Event> events) noexcept {
    std::size_t stored = 0;
    std::size_t place = next_ < entries_.size() ? next_ : 1;
    for (std::size_t seen = entries_.size() - 1; seen > 0 && stored < events.size(); --seen) {
        const short bits = std::exchange(polled_[place].revents, short(0));
        Entry& entry = entries_[place];
        if ((bits & POLLNVAL) != 0) {
            (void)forget(entry.fd); // the last entry has moved here and is looked at next
            if (place >= entries_.size()) place = 1;
            continue;
        }
        if (bits != 0) {
            if (const short news = news_of(entry, bits); news != 0)
                events[stored++] = {entry.token, ready_of(news)};
        }
        if (++place >= entries_.size()) place = 1;
    }
    next_ = place;
    return stored;
}

Sys PollKernel::wait(std::span<Event> events, TimePoint deadline) noexcept {
    if (witness_.forked()) return Sys::fail(EOWNERDEAD);
    timespec left{};
    const timespec* timeout = deadline == TimePoint::max() ? nullptr : &left;
    for (;;) {
        if (timeout && deadline != TimePoint::min()) left = time_left(deadline, now());
        const Sys got = wait_once(timeout);
        if (got.error() == EINTR) continue;
        if (!got.ok()) return got;
        const bool woken = polled_[0].revents != 0;
        if (woken) pipe_.drain();
        const std::size_t stored = got.count() > 0 ? collect(events) : 0;
        if (stored > 0 || woken || deadline == TimePoint::min()) return Sys(std::int64_t(stored));
        if (timeout && deadline <= now()) return Sys(0);
    }
}

void PollKernel::wake() noexcept {
    if (witness_.forked()) return; // the pipe is the parent's
    const int saved_errno = errno;
    pipe_.fill();
    errno = saved_errno;
}

Sys PollKernel::reset() noexcept {
    if (witness_.forked()) {
        WakePipe pipe;
        if (const Sys made = WakePipe::make(pipe); !made.ok()) return made;
        std::swap(pipe_, pipe);
        witness_.renew();
    }
    clear();
    return Sys(0);
}

} // namespace
} // namespace detail

std::unique_ptr<Kernel> make_poll_kernel() {
    return std::make_unique<detail::PollKernel>();
}

} // namespace weft
