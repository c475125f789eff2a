#pragma once

#include "posix_syscall.hpp"
#include "system.hpp"

namespace weft::detail {

/// Makes a call that writes without the SIGPIPE that no flag can suppress there: it is blocked for
/// this thread, and if the call raised it, taken away again before the mask is restored.
template<class Call>
Sys without_sigpipe(Call call) noexcept {
    sigset_t pipe_signal, before, pending;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    const Sys result = uninterrupted(call);
    if (result.error() == EPIPE && sigismember(&pending, SIGPIPE) == 0) take_pending(pipe_signal);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return result;
}

} // namespace weft::detail
