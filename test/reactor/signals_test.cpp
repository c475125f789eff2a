#include "kernel_support.hpp"

#include <atomic>
#include <csignal>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace kernel_test;

namespace {

std::uint64_t bit(int number) {
    return std::uint64_t(1) << (number - 1);
}

std::atomic<int> handled{0};
void count_signal(int) {
    ++handled;
}

/// Installs `count_signal` for a signal and checks at the end that it is back in place.
struct Previous {
    int number;
    struct sigaction before {};

    explicit Previous(int signal) : number(signal) {
        handled = 0;
        struct sigaction action {};
        action.sa_handler = count_signal;
        sigaction(number, &action, &before);
    }
    ~Previous() {
        struct sigaction restored {};
        sigaction(number, &before, &restored);
        CHECK(restored.sa_handler == count_signal);
    }
};

} // namespace

TEST_CASE("A watched signal wakes the kernel and is taken once [s116]") {
    Fixture kernel(every_kernel());
    const Previous previous(SIGUSR1);
    CHECK(kernel->take_signals() == 0);
    REQUIRE(kernel->watch_signal(SIGUSR1).ok());
    REQUIRE(kernel->watch_signal(SIGUSR2).ok());
    raise(SIGUSR1);
    CHECK(look(*kernel, 1, never) == 0);
    CHECK(kernel->take_signals() == bit(SIGUSR1));
    CHECK(kernel->take_signals() == 0);
    const pthread_t waiter = pthread_self();
    std::thread sender([&] { pthread_kill(waiter, SIGUSR2); });
    CHECK(look(*kernel, 1, never) == 0);
    CHECK(kernel->take_signals() == bit(SIGUSR2));
    sender.join();
    CHECK(handled == 0);
    REQUIRE(kernel->unwatch_signal(SIGUSR1).ok());
    raise(SIGUSR1);
    CHECK(handled == 1);
    CHECK(kernel->take_signals() == 0);
}

TEST_CASE("Several kernels may watch one signal, and the last restores the disposition [F30]") {
    const Previous previous(SIGUSR1);
    Fixture first(every_kernel());
    Fixture second(every_kernel());
    REQUIRE(first->watch_signal(SIGUSR1).ok());
    REQUIRE(first->watch_signal(SIGUSR1).ok());
    REQUIRE(second->watch_signal(SIGUSR1).ok());
    raise(SIGUSR1);
    CHECK(first->take_signals() == bit(SIGUSR1));
    CHECK(second->take_signals() == bit(SIGUSR1));
    REQUIRE(first->unwatch_signal(SIGUSR1).ok());
    CHECK(first->unwatch_signal(SIGUSR1).error() == ENOENT);
    raise(SIGUSR1);
    CHECK(first->take_signals() == 0);
    CHECK(second->take_signals() == bit(SIGUSR1));
    CHECK(handled == 0);
    second.kernel.reset(); // its destructor unwatches
    raise(SIGUSR1);
    CHECK(handled == 1);
}

TEST_CASE("A handler that was installed over ours is left in place") {
    struct sigaction before {
    }, current{};
    sigaction(SIGUSR1, nullptr, &before);
    Fixture kernel(every_kernel());
    REQUIRE(kernel->watch_signal(SIGUSR1).ok());
    struct sigaction action {};
    action.sa_handler = count_signal;
    sigaction(SIGUSR1, &action, nullptr);
    REQUIRE(kernel->unwatch_signal(SIGUSR1).ok());
    sigaction(SIGUSR1, &before, &current);
    CHECK(current.sa_handler == count_signal);
}

TEST_CASE("Signals that can not be caught are refused [s116]") {
    Fixture kernel(every_kernel());
    for (const int number : {SIGKILL, SIGSTOP, 0, -1, 65, 32}) {
        CHECK(kernel->watch_signal(number).error() == EINVAL);
        CHECK(!kernel->unwatch_signal(number).ok());
    }
    const int last = SIGRTMAX;
    REQUIRE(kernel->watch_signal(last).ok());
    raise(last);
    CHECK(kernel->take_signals() == bit(last));
}

TEST_CASE("A storm of signals is delivered at least once after the last [F30]") {
    Fixture kernel(every_kernel());
    REQUIRE(kernel->watch_signal(SIGUSR1).ok());
    const pid_t self = getpid();
    for (int i = 0; i < 100; ++i)
        kill(self, SIGUSR1);
    CHECK(look(*kernel, 1, never) == 0);
    CHECK(kernel->take_signals() == bit(SIGUSR1));

    // Blocked, all hundred merge into one that is delivered when they are let in.
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    for (int i = 0; i < 100; ++i)
        pthread_kill(pthread_self(), SIGUSR1);
    CHECK(kernel->take_signals() == 0);
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
    CHECK(kernel->take_signals() == bit(SIGUSR1));
}

TEST_CASE("Handlers leave errno alone") {
    Fixture kernel(every_kernel());
    REQUIRE(kernel->watch_signal(SIGUSR1).ok());
    errno = EDOM;
    // Enough to fill a pipe of 64 KiB, so that waking fails inside.
    for (int i = 0; i < 70'000; ++i)
        kernel->wake();
    raise(SIGUSR1);
    CHECK(errno == EDOM);
    CHECK(look(*kernel, 1, never) == 0);
    const TimePoint deadline = kernel->now() + 1ms;
    CHECK(look(*kernel, 1, deadline) == 0);
    CHECK(kernel->now() >= deadline); // all of it was one wake-up
}

TEST_CASE("Kernels may stop watching while handlers run on other threads [s116] [F30]") {
    const auto before = open_descriptors();
    const auto maker = every_kernel();
    // Keeps the signal from its default, which ends the process, between two rounds.
    const Previous previous(SIGUSR1);
    std::atomic<bool> stop{false};
    std::thread target([&] {
        while (!stop)
            std::this_thread::yield();
    });
    std::thread sender([&, victim = target.native_handle()] {
        while (!stop)
            pthread_kill(victim, SIGUSR1);
    });
    for (int i = 0; i < 50; ++i) {
        const auto kernel = maker();
        REQUIRE(kernel->watch_signal(SIGUSR1).ok());
        CHECK(look(*kernel, 1, never) == 0);
        CHECK(kernel->take_signals() == bit(SIGUSR1));
        if (i % 2 == 0) REQUIRE(kernel->unwatch_signal(SIGUSR1).ok());
    }
    stop = true;
    sender.join();
    target.join();
    CHECK(open_descriptors() == before);
}

TEST_CASE("A forked child gets its own signals after reset, and the parent none of them [F31]") {
    Fixture kernel(every_kernel());
    REQUIRE(kernel->watch_signal(SIGUSR1).ok());
    const pid_t child = fork();
    if (child == 0) {
        raise(SIGUSR1); // before reset: kept, but nobody is woken
        if (!kernel->reset().ok()) _exit(1);
        if (kernel->take_signals() != bit(SIGUSR1)) _exit(2);
        raise(SIGUSR1);
        std::array<Event, 1> events;
        if (!kernel->wait(events, never).ok()) _exit(3);
        if (kernel->take_signals() != bit(SIGUSR1)) _exit(4);
        if (!kernel->unwatch_signal(SIGUSR1).ok()) _exit(5);
        kernel.kernel.reset();
        _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(kernel->take_signals() == 0);
    const TimePoint deadline = kernel->now() + 1ms;
    CHECK(look(*kernel, 1, deadline) == 0);
    CHECK(kernel->now() >= deadline);
}
