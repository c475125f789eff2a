#pragma once

#include "posix_syscall.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

// Some facts about libc's wrappers
//
// recv(2), send(2) and epoll_wait(2) are cancellation points. In a process with more than one
// thread glibc 2.36 brackets each of them with two `lock cmpxchg` that switch asynchronous
// cancellation on and off. A loop never cancels its thread, so the three calls that every request
// makes are issued directly on the two architectures whose calling convention is written down here;
// everywhere else, and under sanitizers, which must see the call to know what was written, libc's
// wrappers do.

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define WEFT_LIBC_CALLS
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define WEFT_LIBC_CALLS
#endif
#endif
#if defined(__ILP32__) || !(defined(__x86_64__) || defined(__aarch64__))
#define WEFT_LIBC_CALLS
#endif

namespace weft::detail {

#ifdef WEFT_LIBC_CALLS

inline Sys direct_recv(int fd, void* data, std::size_t size, int flags) noexcept {
    return uninterrupted([&] { return ::recv(fd, data, size, flags); });
}
inline Sys direct_send(int fd, const void* data, std::size_t size, int flags) noexcept {
    return uninterrupted([&] { return ::send(fd, data, size, flags); });
}

/// Not retried: the timeout is relative, and the caller has to recompute it. A null timeout has no
/// end.
inline Sys direct_epoll_pwait2(int fd, epoll_event* events, int count,
                               const timespec* timeout) noexcept {
#ifdef SYS_epoll_pwait2
    return from_libc(
        ::syscall(SYS_epoll_pwait2, fd, events, count, timeout, nullptr, std::size_t(0)));
#else
    return Sys::fail(ENOSYS);
#endif
}
/// A timeout in milliseconds, -1 for none; the same otherwise. Without a timespec to fetch and a
/// clock to read it is a fifth cheaper, and as exact where the timeout is zero or has no end.
inline Sys direct_epoll_pwait(int fd, epoll_event* events, int count, int milliseconds) noexcept {
    return from_libc(::epoll_pwait(fd, events, count, milliseconds, nullptr));
}

#else

/// A system call with six arguments; returns what the kernel does, -errno included.
inline long direct_call(long number, long a, long b, long c, long d, long e, long f) noexcept {
#ifdef __x86_64__
    long result;
    register long r10 asm("r10") = d;
    register long r8 asm("r8") = e;
    register long r9 asm("r9") = f;
    asm volatile("syscall"
                 : "=a"(result)
                 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                 : "rcx", "r11", "memory");
    return result;
#else
    register long x8 asm("x8") = number;
    register long x0 asm("x0") = a;
    register long x1 asm("x1") = b;
    register long x2 asm("x2") = c;
    register long x3 asm("x3") = d;
    register long x4 asm("x4") = e;
    register long x5 asm("x5") = f;
    asm volatile("svc 0"
                 : "+r"(x0)
                 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                 : "memory");
    return x0;
#endif
}

// Not retried either: that is for the caller's slow path, so that the fast one stays free of a
// loop.
inline Sys direct_recv(int fd, void* data, std::size_t size, int flags) noexcept {
    return Sys(direct_call(SYS_recvfrom, fd, reinterpret_cast<long>(data), static_cast<long>(size),
                           flags, 0, 0));
}
inline Sys direct_send(int fd, const void* data, std::size_t size, int flags) noexcept {
    return Sys(direct_call(SYS_sendto, fd, reinterpret_cast<long>(data), static_cast<long>(size),
                           flags, 0, 0));
}

/// Not retried: the timeout is relative, and the caller has to recompute it. A null timeout has no
/// end.
inline Sys direct_epoll_pwait2(int fd, epoll_event* events, int count,
                               const timespec* timeout) noexcept {
#ifdef SYS_epoll_pwait2
    return Sys(direct_call(SYS_epoll_pwait2, fd, reinterpret_cast<long>(events), count,
                           reinterpret_cast<long>(timeout), 0, 0));
#else
    return Sys::fail(ENOSYS);
#endif
}

inline Sys direct_epoll_pwait(int fd, epoll_event* events, int count, int milliseconds) noexcept {
    return Sys(direct_call(SYS_epoll_pwait, fd, reinterpret_cast<long>(events), count, milliseconds,
                           0, 0));
}

#endif

} // namespace weft::detail

#undef WEFT_LIBC_CALLS
