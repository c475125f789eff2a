#include "support/kernels.hpp"

#include <csignal>
#include <cstdlib>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace std::chrono_literals;
using namespace weft::test;
using weft::Errc;

namespace {

/// Runs `body` in a forked child, which must answer 0. The child leaves by _exit: nothing of the
/// test program runs in it twice. One that hangs is killed by its alarm clock.
template<class F>
int in_forked_child(F body) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        alarm(20);
        int answer = 99;
        try {
            answer = body();
        } catch (...) {
        }
        _exit(answer);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

template<class F>
bool forked_error(F call) {
    try {
        call();
    } catch (const std::system_error& error) {
        return error.code() == Errc::forked;
    }
    return false;
}

} // namespace

TEST_CASE(
    "In a forked child the loop refuses to run, and closing it leaves the parent's alone [F31]") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    SocketPair pair(loop.kernel);
    auto watch = std::make_optional(loop->watch(pair.near).value());
    int readable = 0;
    watch->on_readable([&] {
        ++readable;
        pair.receive();
    });
    auto signal = loop->on_signal(SIGUSR1, [&] { loop->stop(); }).value();
    CHECK(in_forked_child([&] {
              if (!forked_error([&] { loop->run(); })) return 1;
              if (!forked_error([&] { loop->run_once(); })) return 2;
              if (!forked_error([&] { (void)loop->step(); })) return 3;
              if (loop->watch(pair.far).error().code != Errc::forked) return 4;
              watch.reset();
              loop->close();
              return 0;
          }) == 0);
    pair.send("x");
    loop->run_once();
    CHECK(readable == 1);
    kill(getpid(), SIGUSR1);
    loop->run();
}

TEST_CASE("After after_fork a child runs the loop with what it watched, timers and posts [F31]") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    SocketPair pair(loop.kernel);
    auto watch = loop->watch(pair.near).value();
    int readable = 0, fired = 0;
    watch.on_readable([&] {
        ++readable;
        pair.receive();
    });
    auto timer = loop->call_later(1ms, [&] {
        ++fired;
        loop->stop();
    });
    CHECK(in_forked_child([&] {
              if (!loop->after_fork().ok()) return 1;
              pair.send("x");
              loop->run();
              if (readable != 1 || fired != 1) return 2;
              bool posted = false;
              std::thread thread([&, remote = loop->remote()] {
                  (void)remote->post(
                      [&] {
                          posted = true;
                          loop->stop();
                      },
                      {});
              });
              loop->run();
              thread.join();
              return posted ? 0 : 3;
          }) == 0);
    loop->run();
    CHECK(fired == 1);
    CHECK(readable == 0); // the child took the byte, not the parent's registration
    pair.send("x");
    loop->run_once();
    CHECK(readable == 1);
}

TEST_CASE(
    "A child of a loop with a busy executor neither hangs nor loses jobs of its own [F31] [F33]") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    std::atomic<bool> started{false}, go{false};
    auto job = loop->run_in_executor([&] {
        started = true;
        while (!go)
            std::this_thread::yield();
        return 1;
    });
    // A thread that is just starting may hold a lock of the sanitizers' allocator, which a child
    // would inherit.
    while (!started)
        std::this_thread::yield();
    CHECK(in_forked_child([&] {
              if (!loop->after_fork().ok()) return 1;
              if (job.error_code() != Errc::aborted) return 2;
              if (loop->stats().jobs != 0) return 3;
// to which a thread of the child that has the number of one of the parent's is an error
#if !defined(__SANITIZE_THREAD__)
              if (loop->run_until(loop->run_in_executor([] { return 7; })) != 7) return 4;
#endif
              loop->close();
              return 0;
          }) == 0);
    CHECK(in_forked_child([&] {
              loop->close(); // without after_fork: there are no threads to wait for
              return 0;
          }) == 0);
    go = true;
    CHECK(loop->run_until(job) == 1);
}

TEST_CASE("A loop destroyed inside its own callback says so and ends the program [F7]") {
    WEFT_TEST_KERNEL(real_kernels);
    ResourceGuard guard;
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        std::signal(SIGABRT, SIG_DFL);
        weft::set_log_sink([](weft::LogLevel, std::string_view text) noexcept {
            if (text.find("inside one of its own callbacks") == std::string_view::npos) _exit(1);
        });
        weft::LoopOptions options;
        options.kernel = kernel_kind.make();
        auto loop = std::make_unique<weft::Loop>(std::move(options));
        loop->call_soon([&] { loop.reset(); });
        loop->run();
        _exit(2);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGABRT);
}
