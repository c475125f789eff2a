#pragma once

#include <weft/reactor/log.hpp>

#include <catch2/catch.hpp>
#include <csignal>
#include <cstdio>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace weft::test {

/// How a forked child ended, and what it wrote to standard error.
struct ChildEnd {
    int status = 0; ///< as waitpid tells
    std::string errors;

    bool exited_with(int code) const { return WIFEXITED(status) && WEXITSTATUS(status) == code; }
    bool died_of(int signal) const { return WIFSIGNALED(status) && WTERMSIG(status) == signal; }
};

/// Runs `body` in a forked child, which leaves with the status that it returns: nothing of the test
/// program runs in it twice. One that hangs is killed by its alarm clock. It leaves no core file.
template<class F>
ChildEnd in_child(F body) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    std::fflush(nullptr);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ::alarm(60);
        const rlimit none{0, 0};
        ::setrlimit(RLIMIT_CORE, &none);
        ::dup2(ends[1], STDERR_FILENO);
        for (const int number : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTERM, SIGINT})
            std::signal(number, SIG_DFL); // a sanitizer and Catch have handlers of their own
        set_log_sink([](LogLevel, std::string_view text) noexcept {
            std::fprintf(stderr, "%.*s\n", static_cast<int>(text.size()), text.data());
        });
        int answer = 99;
        try {
            answer = body();
        } catch (const std::exception& e) {
            std::fprintf(stderr, "%s\n", e.what());
        } catch (...) {
        }
        std::fflush(stderr);
        ::_exit(answer);
    }
    ::close(ends[1]);
    ChildEnd end;
    char piece[4096];
    for (ssize_t size; (size = ::read(ends[0], piece, sizeof piece)) > 0;)
        end.errors.append(piece, static_cast<std::size_t>(size));
    ::close(ends[0]);
    REQUIRE(::waitpid(child, &end.status, 0) == child);
    return end;
}

} // namespace weft::test
