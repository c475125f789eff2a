#include "kernel_support.hpp"

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <iostream>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace kernel_test;
namespace ready = weft::ready;

TEST_CASE(
    "In a forked child a kernel refuses to work until reset, and leaves the parent alone [F31]") {
    Fixture kernel(every_kernel());
    Pair pair = unix_pair(*kernel);
    REQUIRE(kernel->add(pair.near, 1, Interest::read).ok());
    const pid_t child = fork();
    if (child == 0) {
        // No assertions here: Catch's state is the parent's. The exit code says which step failed.
        std::array<Event, 4> events;
        if (kernel->wait(events, at_once).error() != EOWNERDEAD) _exit(1);
        if (kernel->add(pair.far, 2, Interest::read).error() != EOWNERDEAD) _exit(2);
        if (kernel->remove(pair.near).error() != EOWNERDEAD) _exit(3);
        kernel->wake();
        if (!kernel->reset().ok()) _exit(4);
        if (!kernel->add(pair.far, 2, Interest::write).ok()) _exit(5);
        const Sys got = kernel->wait(events, at_once);
        if (!got.ok() || got.count() != 1 || events[0].token != 2) _exit(6);
        if (!kernel->remove(pair.far).ok()) _exit(7);
        kernel->wake();
        if (const Sys woken = kernel->wait(events, never); !woken.ok() || woken.count() != 0)
            _exit(8);
        kernel.kernel.reset();
        _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    // No wake-up came over, the registration is there, and the eventfd or pipe works.
    const TimePoint deadline = kernel->now() + 1ms;
    CHECK(look(*kernel, 1, deadline) == 0);
    CHECK(kernel->now() >= deadline);
    put_text(*kernel, pair.far, "x");
    CHECK(look(*kernel, 1) == ready::readable);
}

TEST_CASE("Interrupting signals neither end a wait nor shorten it [F8]") {
    Fixture kernel(every_kernel());
    struct sigaction action {
    }, before{};
    static std::atomic<int> interruptions;
    interruptions = 0;
    action.sa_handler = [](int) { ++interruptions; };
    REQUIRE(sigaction(SIGUSR1, &action, &before) == 0);
    const pthread_t waiter = pthread_self();
    const TimePoint deadline = kernel->now() + 20ms;
    std::thread interrupter([&] {
        while (interruptions < 5) {
            pthread_kill(waiter, SIGUSR1);
            std::this_thread::yield();
        }
    });
    CHECK(look(*kernel, 1, deadline) == 0);
    CHECK(kernel->now() >= deadline);
    interrupter.join();
    CHECK(interruptions >= 5);
    REQUIRE(sigaction(SIGUSR1, &before, nullptr) == 0);
}

TEST_CASE("A signal handler may wake a kernel") {
    Fixture kernel(every_kernel());
    static Kernel* target;
    target = &*kernel;
    struct sigaction action {
    }, before{};
    action.sa_handler = [](int) { target->wake(); };
    REQUIRE(sigaction(SIGUSR1, &action, &before) == 0);
    raise(SIGUSR1);
    CHECK(look(*kernel, 1, never) == 0);
    const pthread_t waiter = pthread_self();
    std::thread interrupter([&] { pthread_kill(waiter, SIGUSR1); });
    CHECK(look(*kernel, 1, never) == 0);
    interrupter.join();
    REQUIRE(sigaction(SIGUSR1, &before, nullptr) == 0);
}

TEST_CASE("A kernel that can not be made throws the reason and leaves nothing open [F2]") {
    const auto maker = every_kernel();
    const auto before = open_descriptors();
    // UBSan looks at memory through a pipe and remembers the types it has seen: this one in time.
    const std::system_error seen(std::error_code{}, std::string("seen"));
    rlimit limit;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    const int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
    // Room for 0 and for 1 descriptor: both steps of making a kernel fail once.
    for (rlim_t room : {0, 1}) {
        const rlimit tight{static_cast<rlim_t>(lowest) + 1 + room, limit.rlim_max};
        REQUIRE(setrlimit(RLIMIT_NOFILE, &tight) == 0);
        std::exception_ptr thrown;
        try {
            maker();
        } catch (...) {
            thrown = std::current_exception(); // looked at when there are descriptors again
        }
        REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        REQUIRE(thrown);
        std::error_code code;
        std::string text;
        try {
            std::rethrow_exception(thrown);
        } catch (const std::system_error& error) {
            code = error.code();
            text = error.what();
        }
        CHECK(code == std::errc::too_many_files_open);
        CHECK_THAT(text, Catch::Matchers::Contains("kernel"));
    }
    close(lowest);
    CHECK(open_descriptors() == before);
}

TEST_CASE("WEFT_KERNEL chooses the kernel") {
    const auto name_for = [](const char* value) {
        setenv("WEFT_KERNEL", value, 1);
        return std::string(weft::make_default_kernel()->name());
    };
    const char* before = getenv("WEFT_KERNEL");
    const std::string saved = before ? before : "";
    CHECK(name_for("") == weft::available_kernels()[0].name);
    for (const auto& each : weft::available_kernels())
        CHECK(name_for(each.name.data()) == each.name);
    CHECK_THROWS_WITH(name_for("kpoll"), Catch::Matchers::Contains("kpoll"));
    CHECK_THROWS_AS(name_for("kpoll"), std::invalid_argument);
    setenv("WEFT_KERNEL", saved.c_str(), 1);
}

TEST_CASE("Where epoll_pwait2 is missing the deadline is kept all the same [F27]") {
    if (weft::available_kernels()[0].name != "epoll") {
        WARN("skipped: this build has no epoll kernel");
        return;
    }
    const int refusal = GENERATE(ENOSYS, EPERM); // older systems, and sandboxes that do not know it
    const pid_t child = fork();
    if (child == 0) {
        sock_filter code[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_pwait2, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(refusal)),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        const sock_fprog filter{std::size(code), code};
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) _exit(100);
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) _exit(100);
        std::array<Event, 4> events;
        const auto kernel = weft::available_kernels()[0].make();
        for (const auto delay : {1ns, 999'999ns, 1'000'001ns, 2'500'000ns}) {
            const TimePoint deadline = kernel->now() + delay;
            const Sys got = kernel->wait(events, deadline);
            if (!got.ok() || got.count() != 0) _exit(1);
            if (kernel->now() < deadline) _exit(2);
        }
        kernel->wake();
        if (const Sys got = kernel->wait(events, kernel->now() + 100'000h); got.error() != 0)
            _exit(3);
        _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 100) {
        WARN("skipped: no seccomp filters here");
        return;
    }
    CHECK(WEXITSTATUS(status) == 0);
}
