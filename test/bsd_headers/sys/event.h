#pragma once
#pragma GCC system_header

#include <cstdint>
#include <ctime>
#include <sys/types.h>

#if defined(__NetBSD__)
struct kevent {
    std::uintptr_t ident;
    std::uint32_t filter;
    std::uint32_t flags;
    std::uint32_t fflags;
    std::int64_t data;
    void* udata;
    std::uint64_t ext[4];
};
#define EVFILT_READ 0u
#define EVFILT_WRITE 1u
#define EVFILT_TIMER 6u
#define EVFILT_USER 8u
#else
struct kevent {
    std::uintptr_t ident;
    short filter;
    unsigned short flags;
    unsigned fflags;
#ifdef __APPLE__
    std::intptr_t data;
#else
    std::int64_t data;
#endif
    void* udata;
#ifdef __FreeBSD__
    std::uint64_t ext[4];
#endif
};
#define EVFILT_READ (-1)
#define EVFILT_WRITE (-2)
#define EVFILT_TIMER (-7)
#if defined(__FreeBSD__)
#define EVFILT_USER (-11)
#elif defined(__APPLE__)
#define EVFILT_USER (-10)
#endif
#endif

#define EV_ADD 0x0001
#define EV_DELETE 0x0002
#define EV_ENABLE 0x0004
#define EV_DISABLE 0x0008
#define EV_ONESHOT 0x0010
#define EV_CLEAR 0x0020
#define EV_RECEIPT 0x0040
#define EV_ERROR 0x4000
#define EV_EOF 0x8000

#define NOTE_LOWAT 0x00000001
#ifdef EVFILT_USER
#define NOTE_TRIGGER 0x01000000
#endif
#ifndef __OpenBSD__
#define NOTE_NSECONDS 0x00000004
#endif

#ifdef __NetBSD__
static inline void EV_SET(struct kevent* event, std::uintptr_t ident, std::uint32_t filter,
                          std::uint32_t flags, std::uint32_t fflags, std::int64_t data,
                          void* udata) {
    event->ident = ident;
    event->filter = filter;
    event->flags = flags;
    event->fflags = fflags;
    event->data = data;
    event->udata = udata;
}
#else
#define EV_SET(event, a, b, c, d, e, f)                                                            \
    do {                                                                                           \
        struct kevent* set = (event);                                                              \
        set->ident = (a);                                                                          \
        set->filter = (b);                                                                         \
        set->flags = (c);                                                                          \
        set->fflags = (d);                                                                         \
        set->data = (e);                                                                           \
        set->udata = (f);                                                                          \
    } while (0)
#endif

extern "C" {
int kqueue(void);
#ifdef __NetBSD__
int kevent(int, const struct kevent*, size_t, struct kevent*, size_t, const timespec*);
#else
int kevent(int, const struct kevent*, int, struct kevent*, int, const timespec*);
#endif
}
