// A model of kqueue(2) for Linux, for tests alone: a queue is an epoll set, whose descriptor it is,
// with an eventfd for EVFILT_USER and a timerfd for EVFILT_TIMER. Kept as it is on the BSDs: a
// registration is of a descriptor and a filter, and ends when that number is closed; both filters
// of a descriptor are reported as events of their own; EV_RECEIPT; EV_CLEAR; the end of file; a
// child of fork(2) has no queues. Not kept: EV_CLEAR is the same for both filters of a descriptor,
// and what happens to one reports the other, too, if its condition is true.

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <map>
#include <memory>
#include <mutex>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <utility>

namespace {

using Kevent = struct kevent;

constexpr std::uint64_t user_mark = ~std::uint64_t(0), timer_mark = user_mark - 1;

int fail(int error) {
    errno = error;
    return -1;
}

int plain_close(int fd) {
    return static_cast<int>(syscall(SYS_close, fd));
}

/// A filter of one descriptor.
struct Knote {
    bool there = false;
    bool enabled = true;
    bool ends_only = false; ///< a low-water mark above all there can be
    bool clear = false;
    void* udata = nullptr;
    bool active() const { return there && enabled; }
};

struct Descriptor {
    Knote read, write;
    bool in_epoll = false;
    bool both = false; ///< filters, and it is counted as such

    Knote& of(short filter) { return filter == EVFILT_READ ? read : write; }
    std::uint32_t mask() const {
        std::uint32_t bits = 0;
        if (read.active() && !read.ends_only) bits |= EPOLLIN | EPOLLRDHUP | EPOLLPRI;
        if (write.active() && !write.ends_only) bits |= EPOLLOUT;
        if ((read.active() && read.clear) || (write.active() && write.clear)) bits |= EPOLLET;
        return bits;
    }
};

struct Queue {
    explicit Queue(int fd) : epoll(fd) {}
    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;
    ~Queue() {
        if (user >= 0) plain_close(user);
        if (timer >= 0) plain_close(timer);
    }

    int epoll; ///< its number, the latest if there are duplicates
    int user = -1, timer = -1;
    bool user_there = false, timer_there = false;
    int doubles = 0; ///< descriptors with both filters
    std::map<int, Descriptor> descriptors;
};

// Never destroyed: descriptors are closed until the very end.
std::mutex& guard() {
    static auto* mutex = new std::mutex;
    return *mutex;
}
/// By number: duplicates share one.
std::map<int, std::shared_ptr<Queue>>& queues() {
    static auto* all = new std::map<int, std::shared_ptr<Queue>>;
    return *all;
}
// The eventfd of a queue's number, for signal handlers, which take no lock.
std::array<std::atomic<int>, 65536> triggers{};

/// A child has none of them.
void leave_behind() {
    for (auto& [fd, queue] : queues()) {
        triggers[static_cast<std::size_t>(fd)] = 0;
        plain_close(fd);
    }
    queues().clear();
    guard().unlock();
}

/// The model's own descriptors are none of those that a program without 0, 1 and 2 gets first.
int raised(int fd) {
    if (fd < 0 || fd > 2) return fd;
    const int moved = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    plain_close(fd);
    return moved;
}

int control(int epoll, int operation, int fd, std::uint32_t mask, std::uint64_t mark) {
    epoll_event event{};
    event.events = mask;
    event.data.u64 = mark;
    return epoll_ctl(epoll, operation, fd, &event) == 0 ? 0 : errno;
}

/// Tells epoll what the knotes of a descriptor want now.
int refresh(Queue& queue, int fd, Descriptor& descriptor) {
    const bool wanted = descriptor.read.active() || descriptor.write.active();
    const bool both = descriptor.read.there && descriptor.write.there;
    queue.doubles += both - std::exchange(descriptor.both, both);
    const auto mark = static_cast<std::uint64_t>(fd);
    int error = 0;
    if (wanted && descriptor.in_epoll)
        error = control(queue.epoll, EPOLL_CTL_MOD, fd, descriptor.mask(), mark);
    else if (wanted)
        error = control(queue.epoll, EPOLL_CTL_ADD, fd, descriptor.mask(), mark);
    else if (descriptor.in_epoll)
        error = control(queue.epoll, EPOLL_CTL_DEL, fd, 0, 0);
    if (error == 0) descriptor.in_epoll = wanted;
    return error;
}

int change_descriptor(Queue& queue, const Kevent& change) {
    const int fd = static_cast<int>(change.ident);
    if (fcntl(fd, F_GETFD) < 0) return EBADF;
    Descriptor& descriptor = queue.descriptors[fd];
    Knote& knote = descriptor.of(change.filter);
    if ((change.flags & EV_ADD) == 0 && !knote.there) return ENOENT;
    const Knote before = knote;
    if ((change.flags & EV_ADD) != 0) {
        if (!knote.there) knote = {.there = true, .clear = (change.flags & EV_CLEAR) != 0};
        knote.ends_only = (change.fflags & NOTE_LOWAT) != 0;
        knote.udata = change.udata;
    }
    if ((change.flags & EV_ENABLE) != 0) knote.enabled = true;
    if ((change.flags & EV_DISABLE) != 0) knote.enabled = false;
    if ((change.flags & EV_DELETE) != 0) knote = {};
    const int error = refresh(queue, fd, descriptor);
    if (error != 0) {
        knote = before;
        (void)refresh(queue, fd, descriptor);
    }
    if (!descriptor.read.there && !descriptor.write.there) queue.descriptors.erase(fd);
    return error;
}

int change_timer(Queue& queue, const Kevent& change) {
    if ((change.flags & EV_ADD) == 0 && !queue.timer_there) return ENOENT;
    itimerspec when{};
    if ((change.flags & EV_ADD) != 0) {
        if (queue.timer < 0) {
            queue.timer = raised(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
            if (queue.timer < 0) return errno;
            control(queue.epoll, EPOLL_CTL_ADD, queue.timer, EPOLLIN | EPOLLET, timer_mark);
        }
        when.it_value.tv_sec = change.data / 1'000'000'000;
        when.it_value.tv_nsec = change.data % 1'000'000'000;
    }
    queue.timer_there = (change.flags & EV_ADD) != 0;
    timerfd_settime(queue.timer, 0, &when, nullptr);
    return 0;
}

int change_user(Queue& queue, const Kevent& change) {
    if ((change.flags & EV_ADD) == 0) return queue.user_there ? 0 : ENOENT;
    if (queue.user < 0) {
        queue.user = raised(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
        if (queue.user < 0) return errno;
        control(queue.epoll, EPOLL_CTL_ADD, queue.user, EPOLLIN | EPOLLET, user_mark);
        triggers[static_cast<std::size_t>(queue.epoll)] = queue.user;
    }
    queue.user_there = true;
    return 0;
}

int change_one(Queue& queue, const Kevent& change) {
    switch (change.filter) {
    case EVFILT_READ:
    case EVFILT_WRITE:
        return change_descriptor(queue, change);
    case EVFILT_TIMER:
        return change_timer(queue, change);
    case EVFILT_USER:
        return change_user(queue, change);
    default:
        return EINVAL;
    }
}

/// The bytes that can be read, or the connections that can be accepted.
std::int64_t readable_bytes(int fd) {
    int bytes = 0;
    return ioctl(fd, FIONREAD, &bytes) == 0 ? bytes : 1;
}

/// Where events are stored.
struct Room {
    Kevent* next;
    Kevent* end;
    void put(const Kevent& event) {
        if (next != end) *next++ = event;
    }
};

/// The events of one descriptor's bits.
void tell(int fd, Descriptor& descriptor, std::uint32_t bits, Room& out) {
    // The pending error can only be had by taking it, which is not the model's to do.
    const unsigned error = (bits & EPOLLERR) != 0 ? EIO : 0;
    int type = 0;
    socklen_t size = sizeof type;
    const bool datagrams =
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_DGRAM;
    const bool gone = (bits & EPOLLHUP) != 0 || (!datagrams && (bits & EPOLLERR) != 0);
    const auto put = [&](short filter, const Knote& knote, bool end) {
        Kevent event{};
        event.ident = static_cast<std::uintptr_t>(fd);
        event.filter = filter;
        event.flags =
            static_cast<unsigned short>((end ? EV_EOF : 0) | (knote.clear ? EV_CLEAR : 0));
        event.fflags = end ? error : 0;
        // FIONREAD counts up to the mark of urgent data, and a BSD what is behind it as well.
        event.data = filter == EVFILT_READ ? readable_bytes(fd) + ((bits & EPOLLPRI) != 0) : 1;
        event.udata = knote.udata;
        out.put(event);
    };
    const bool read_end = (bits & EPOLLRDHUP) != 0 || gone;
    if (descriptor.read.active() && (read_end || (bits & (EPOLLIN | EPOLLERR)) != 0))
        put(EVFILT_READ, descriptor.read, read_end);
    const bool write_end = gone;
    if (descriptor.write.active() && (write_end || (bits & EPOLLOUT) != 0))
        put(EVFILT_WRITE, descriptor.write, write_end);
}

Queue* find_queue(int fd) {
    const auto found = queues().find(fd);
    return found == queues().end() ? nullptr : found->second.get();
}

/// The number is about to be closed: its queue lives on under those of its duplicates.
void forget_queue(int fd) {
    const auto found = queues().find(fd);
    if (found == queues().end()) return;
    const auto queue = found->second;
    const pid_t self = getpid();
    for (int other = 0; other < 1024; ++other)
        if (other != fd && syscall(SYS_kcmp, self, self, KCMP_FILE, fd, other) == 0) {
            queues()[other] = queue;
            queue->epoll = other;
            triggers[static_cast<std::size_t>(other)] = queue->user;
        }
    queues().erase(fd);
    triggers[static_cast<std::size_t>(fd)] = 0;
}

/// The answers to changes, as many as there is room for; the error of one that found none.
int make_changes(Queue& queue, const Kevent* changes, int count, Kevent* events, int room,
                 int& answered) {
    for (int i = 0; i < count; ++i) {
        const Kevent change = changes[i];
        const int error = change_one(queue, change);
        if (error == 0 && (change.flags & EV_RECEIPT) == 0) continue;
        if (answered == room) return error;
        events[answered] = change;
        events[answered].flags |= EV_ERROR;
        events[answered++].data = error;
    }
    return 0;
}

/// What a wait found, under the lock.
int report(Queue& queue, const epoll_event* found, int count, Kevent* events, int room) {
    Room out{events, events + room};
    for (int i = 0; i < count; ++i) {
        const std::uint64_t mark = found[i].data.u64;
        if (mark == user_mark) {
            out.put({0, EVFILT_USER, EV_CLEAR, 0, 0, nullptr});
        } else if (mark == timer_mark) {
            if (std::exchange(queue.timer_there, false))
                out.put({0, EVFILT_TIMER, EV_ONESHOT, 0, 1, nullptr});
        } else if (const auto fd = queue.descriptors.find(static_cast<int>(mark));
                   fd != queue.descriptors.end()) {
            tell(fd->first, fd->second, found[i].events, out);
        }
    }
    return static_cast<int>(out.next - events);
}

} // namespace

int kqueue() {
    static const int prepared =
        pthread_atfork([] { guard().lock(); }, [] { guard().unlock(); }, &leave_behind);
    if (prepared != 0) std::abort();
    const int fd = epoll_create1(0);
    if (fd < 0) return -1;
    const std::lock_guard lock(guard());
    queues()[fd] = std::make_shared<Queue>(fd);
    return fd;
}

int kevent(int fd, const Kevent* changes, int change_count, Kevent* events, int event_count,
           const timespec* timeout) {
    // Triggering is the one thing that is done on other threads and in signal handlers.
    if (change_count == 1 && (changes[0].fflags & NOTE_TRIGGER) != 0 &&
        changes[0].filter == EVFILT_USER) {
        const std::uint64_t one = 1;
        const int user = triggers[static_cast<std::size_t>(fd)];
        return user > 0 && write(user, &one, sizeof one) < 0 ? -1 : 0;
    }
    int answered = 0, room = event_count;
    {
        const std::lock_guard lock(guard());
        Queue* queue = find_queue(fd);
        if (!queue) return fail(EBADF);
        const int error =
            make_changes(*queue, changes, change_count, events, event_count, answered);
        if (error != 0) return fail(error);
        if (queue->doubles > 0) room = event_count / 2; // each of those may become two
    }
    if (answered > 0 || event_count == 0) return answered;
    std::array<epoll_event, 512> found;
    room = std::clamp(room, 1, static_cast<int>(found.size()));
    const int count = epoll_pwait2(fd, found.data(), room, timeout, nullptr);
    if (count < 0) return -1;
    const std::lock_guard lock(guard());
    Queue* queue = find_queue(fd);
    return queue ? report(*queue, found.data(), count, events, event_count) : 0;
}

/// In place of libc's: a number that is closed is in no queue any more, and a queue's own helpers
/// go with it.
extern "C" int close(int fd) {
    {
        const std::lock_guard lock(guard());
        for (auto& [number, queue] : queues()) {
            const auto found = queue->descriptors.find(fd);
            if (found == queue->descriptors.end()) continue;
            if (found->second.in_epoll) control(number, EPOLL_CTL_DEL, fd, 0, 0);
            queue->doubles -= found->second.both;
            queue->descriptors.erase(found);
        }
        forget_queue(fd);
    }
    return plain_close(fd) == 0 ? 0 : -1;
}
