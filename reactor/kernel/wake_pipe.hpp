#pragma once

#include "posix_kernel.hpp"
#include "posix_syscall.hpp"
#include "system.hpp"

namespace weft::detail {

/// A pipe that wakes whoever waits for its reading end to be readable.
struct WakePipe {
    OwnedFd out; ///< waited for
    OwnedFd in;  ///< written by `fill`

    static Sys make(WakePipe& pipe) noexcept {
        int fds[2];
        if (const Sys made = make_pipe(fds); !made.ok()) return made;
        // The other is owned before either can fail to move.
        OwnedFd in(fds[1]);
        pipe.out = OwnedFd(above_standard(fds[0]));
        if (!pipe.out) return Sys::fail(errno);
        pipe.in = OwnedFd(above_standard(in.release()));
        return pipe.in ? Sys(0) : Sys::fail(errno);
    }
    /// Any thread, and signal handlers. A pipe that is full wakes as well.
    void fill() const noexcept {
        (void)uninterrupted([this] { return ::write(in.get(), "", 1); });
    }
    void drain() noexcept {
        char bytes[256];
        while (uninterrupted([&] { return ::read(out.get(), bytes, sizeof bytes); }).ok()) {
        }
    }
};

} // namespace weft::detail
