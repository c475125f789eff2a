#include "coro_support.hpp"
#include "support/child.hpp"

#include <atomic>
#include <csignal>
#include <fstream>
#include <new>
#include <sched.h>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

using namespace weft;
using namespace weft::test;

namespace {

/// Seen by forked children too.
std::atomic<bool>* shared_flag() {
    void* const page = ::mmap(nullptr, sizeof(std::atomic<bool>), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) throw std::bad_alloc();
    return new (page) std::atomic<bool>(false);
}

/// Whether the process waits in a system call: the third word of its stat is S, the second its
/// name.
bool is_asleep(pid_t process) {
    std::ifstream file("/proc/" + std::to_string(process) + "/stat");
    std::string text;
    std::getline(file, text);
    const std::size_t end = text.rfind(") ");
    return end != text.npos && text.compare(end + 2, 1, "S") == 0;
}

} // namespace

TEST_CASE("an interrupt cancels main, which may clean up and return", "[s118][coro]") {
    const ChildEnd end = in_child([] {
        coro::run([] {
            try {
                std::raise(SIGINT);
                coro::sleep_forever();
            } catch (const Cancelled&) {
            }
        });
        return 7;
    });
    CHECK(end.exited_with(7));
}

TEST_CASE("a main that is ended by an interrupt ends the process by it, unwound", "[s118][coro]") {
    int pipe[2];
    REQUIRE(::pipe(pipe) == 0);
    const ChildEnd end = in_child([&] {
        struct Says {
            int fd;
            ~Says() { (void)!::write(fd, "u", 1); }
        };
        coro::run([&] {
            const Says says{pipe[1]};
            std::raise(SIGINT);
            coro::sleep_forever();
        });
        return 7;
    });
    ::close(pipe[1]);
    char got = 0;
    CHECK(::read(pipe[0], &got, 1) == 1);
    ::close(pipe[0]);
    CHECK(got == 'u');
    CHECK(end.died_of(SIGINT));
}

TEST_CASE("a second interrupt ends the process at once", "[s118][coro]") {
    const ChildEnd end = in_child([] {
        coro::run([] {
            try {
                std::raise(SIGINT);
                coro::sleep_forever();
            } catch (const Cancelled&) {
                coro::shield([] {
                    std::raise(SIGINT);
                    coro::sleep(1h);
                });
            }
        });
        return 7;
    });
    CHECK(end.died_of(SIGINT));
}

TEST_CASE("a second interrupt ends a program whose coroutine does not give way", "[s118][coro]") {
    const auto stage = GENERATE(0, 1);
    const ChildEnd end = in_child([&] {
        coro::run([&] {
            const pid_t self = ::getpid();
            const auto spin = [] {
                for (volatile bool on = true; on;) {
                }
            };
            std::thread([self, stage] {
                if (stage == 1) return;
                for (;;) { // as a key that is held down does
                    ::kill(self, SIGINT);
                    std::this_thread::yield();
                }
            }).detach();
            if (stage == 0) return spin(); // it has not heard of the first
            try {
                std::raise(SIGINT);
                coro::sleep(1h);
            } catch (const Cancelled&) {
                std::raise(SIGINT);
                spin();
            }
        });
        return 0;
    });
    CHECK(end.died_of(SIGINT));
}

TEST_CASE("a program that watches for interrupts itself gets them alone", "[s118][coro]") {
    const ChildEnd end = in_child([] {
        int seen = 0;
        coro::run([&] {
            coro::Event came;
            auto watch = coro::this_loop().on_signal(SIGINT, [&] {
                ++seen;
                came.set();
            });
            for (int i = 0; i < 3; ++i) {
                came.clear();
                std::raise(SIGINT);
                came.wait();
            }
        });
        return seen;
    });
    CHECK(end.exited_with(3));
}

TEST_CASE("a program that sleeps for ever waits for its interrupt and is no deadlock",
          "[s118][coro]") {
    const ChildEnd end = in_child([] {
        const pid_t self = ::getpid();
        std::atomic<bool>* const ready = shared_flag();
        if (::fork() == 0) { // the signal comes when nothing is left to do
            while (::getppid() == self && !(*ready && is_asleep(self)))
                ::sched_yield();
            if (::getppid() == self) ::kill(self, SIGINT);
            ::_exit(0);
        }
        bool cancelled = false;
        try {
            coro::run([&] {
                try {
                    *ready = true;
                    coro::sleep_forever();
                } catch (const Cancelled&) {
                    cancelled = true;
                }
            });
        } catch (const std::system_error&) {
            return 2;
        }
        return cancelled ? 3 : 4;
    });
    CHECK(end.exited_with(3));
}

TEST_CASE("debug mode has nothing to say about the library's own watch", "[s118][coro]") {
    const ChildEnd end = in_child([] {
        coro::RunOptions options;
        options.loop.debug = true;
        coro::run([] { coro::sleep(1ms); }, std::move(options));
        return 0;
    });
    CHECK(end.exited_with(0));
    CHECK(end.errors == "");
}
