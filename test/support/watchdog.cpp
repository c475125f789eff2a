#include "watchdog.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <dlfcn.h>
#include <execinfo.h>
#include <string_view>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
// There where a sanitizer is linked.
[[gnu::weak]] void __asan_init();
[[gnu::weak]] void __tsan_init();
}

namespace weft::test {
namespace {

bool armed_once = false;
timer_t timer;
Watchdog::Tell tell_more = nullptr;
Watchdog::Moved has_moved = nullptr;
std::chrono::seconds given{};

void set(std::chrono::seconds after) noexcept {
    itimerspec when{};
    when.it_value.tv_sec = after.count();
    timer_settime(timer, 0, &when, nullptr);
}

int signal_number() noexcept {
    return SIGRTMAX - 3;
}

void on_late(int) {
    if (has_moved != nullptr && has_moved()) return set(given);
    // Telling more might hang or crash.
    std::signal(SIGALRM, [](int) { ::_exit(stuck_status); });
    for (const int crash : {SIGSEGV, SIGBUS, SIGABRT})
        std::signal(crash, [](int) { ::_exit(stuck_status); });
    sigset_t all;
    sigfillset(&all);
    for (const int number : {SIGALRM, SIGSEGV, SIGBUS, SIGABRT})
        sigdelset(&all, number);
    sigprocmask(SIG_SETMASK, &all, nullptr);
    ::alarm(20);
    dprintf(STDERR_FILENO, "\nthis thread is here:\n");
    print_stack(STDERR_FILENO);
    if (tell_more != nullptr) tell_more(STDERR_FILENO);
    ::_exit(stuck_status);
}

bool install() noexcept {
    if (armed_once) return true;
    // A stack of its own: that of a coroutine is too short for it.
    static char room[256 * 1024];
    stack_t stack{};
    stack.ss_sp = room;
    stack.ss_size = sizeof room;
    stack_t present{};
    sigaltstack(nullptr, &present);
    if ((present.ss_flags & SS_DISABLE) != 0 || present.ss_size < stack.ss_size)
        sigaltstack(&stack, nullptr);
    void* warm[4];
    (void)backtrace(warm, 4); // loads what it needs now, and not in the handler
    struct sigaction action {};
    action.sa_handler = &on_late;
    action.sa_flags = SA_ONSTACK;
    if (sigaction(signal_number(), &action, nullptr) != 0) return false;
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = signal_number();
    event._sigev_un._tid = ::gettid();
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) return false;
    return armed_once = true;
}

// Names and lines of what lies in one file, asked of binutils; false if they are not there.
bool ask_addr2line(int fd, const char* file, char (*offsets)[20], int count) noexcept {
    const pid_t child = ::fork();
    if (child == 0) {
        ::dup2(fd, STDOUT_FILENO);
        char* arguments[48];
        int size = 0;
        const char* fixed[] = {"addr2line", "-Cfpse", file};
        for (const char* text : fixed)
            arguments[size++] = const_cast<char*>(text);
        for (int i = 0; i < count && size < 47; ++i)
            arguments[size++] = offsets[i];
        arguments[size] = nullptr;
        ::execvp("addr2line", arguments);
        ::_exit(127);
    }
    int status = 0;
    while (child > 0 && ::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

} // namespace

std::chrono::seconds Watchdog::scaled(std::chrono::seconds limit) noexcept {
    if (const char* said = std::getenv("WEFT_CASE_DEADLINE"); said != nullptr && *said != '\0')
        limit = std::chrono::seconds(std::max(0L, std::strtol(said, nullptr, 10)));
    const char* preloaded = std::getenv("LD_PRELOAD");
    if (preloaded != nullptr && std::strstr(preloaded, "vgpreload") != nullptr) return limit * 20;
    if (&__tsan_init != nullptr) return limit * 5;
    if (&__asan_init != nullptr) return limit * 3;
    return limit;
}

void Watchdog::arm(std::chrono::seconds limit, Tell tell, Moved moved) noexcept {
    const auto seconds = scaled(limit);
    if (seconds.count() == 0 || !install()) return;
    tell_more = tell;
    has_moved = moved;
    set(given = seconds);
}

void Watchdog::disarm() noexcept {
    if (armed_once) set({});
}

void print_stack(int fd) noexcept {
    void* frames[40];
    const int count = backtrace(frames, 40);
    char offsets[40][20];
    int asked = 0;
    Dl_info own{};
    dladdr(reinterpret_cast<void*>(&print_stack), &own);
    for (int i = 0; i < count; ++i) {
        Dl_info found{};
        // Of the libraries around the program nothing is told.
        if (dladdr(frames[i], &found) == 0 || found.dli_fbase != own.dli_fbase) continue;
        // The address after the call: one before it is inside.
        std::snprintf(offsets[asked++], sizeof offsets[0], "%#tx",
                      static_cast<char*>(frames[i]) - static_cast<char*>(found.dli_fbase) - 1);
    }
    // Not by the name that dladdr knows, which is what the program was called by.
    char path[512];
    const ssize_t length = ::readlink("/proc/self/exe", path, sizeof path - 1);
    if (length > 0) path[length] = '\0';
    if (asked == 0 || length <= 0 || !ask_addr2line(fd, path, offsets, asked))
        backtrace_symbols_fd(frames, count, fd);
}

} // namespace weft::test
