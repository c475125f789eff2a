#pragma once
#pragma GCC system_header

// What kqueue(2) of the BSDs declares, as far as weft uses it, for the model beside this file.

#include <cstdint>
#include <ctime>

struct kevent {
    std::uintptr_t ident;
    short filter;
    unsigned short flags;
    unsigned fflags;
    std::int64_t data;
    void* udata;
};

inline constexpr short EVFILT_READ = -1;
inline constexpr short EVFILT_WRITE = -2;
inline constexpr short EVFILT_TIMER = -7;
#define EVFILT_USER (-11)

inline constexpr unsigned short EV_ADD = 0x0001;
inline constexpr unsigned short EV_DELETE = 0x0002;
inline constexpr unsigned short EV_ENABLE = 0x0004;
inline constexpr unsigned short EV_DISABLE = 0x0008;
inline constexpr unsigned short EV_ONESHOT = 0x0010;
inline constexpr unsigned short EV_CLEAR = 0x0020;
inline constexpr unsigned short EV_RECEIPT = 0x0040;
inline constexpr unsigned short EV_ERROR = 0x4000;
inline constexpr unsigned short EV_EOF = 0x8000;

inline constexpr unsigned NOTE_LOWAT = 0x00000001;
inline constexpr unsigned NOTE_TRIGGER = 0x01000000;
#define NOTE_NSECONDS 0x00000008U

inline void EV_SET(struct kevent* event, std::uintptr_t ident, short filter, unsigned short flags,
                   unsigned fflags, std::int64_t data, void* udata) {
    *event = {ident, filter, flags, fflags, data, udata};
}

int kqueue();
int kevent(int queue, const struct kevent* changes, int change_count, struct kevent* events,
           int event_count, const timespec* timeout);
