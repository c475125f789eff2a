#include "support/child.hpp"
#include "support/kernels.hpp"

#include <weft/reactor/loop_core.hpp>

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <thread>
#include <unistd.h>

using namespace std::chrono_literals;
using namespace weft::test;
using weft::LogLevel;

namespace {

// The sink of a program that sets none.
const weft::LogSink default_sink = [] {
    const auto found = weft::set_log_sink(nullptr);
    weft::set_log_sink(found);
    return found;
}();

void use_default_sink() {
    weft::set_log_sink(default_sink);
}

std::size_t count_of(const std::string& text, const std::string& what) {
    std::size_t count = 0;
    for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1))
        ++count;
    return count;
}

/// Fills a pipe that is standard error and that nobody reads.
int fill_standard_error() {
    int ends[2];
    if (pipe(ends) != 0) return -1;
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    const int own = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK);
    char zeros[4096] = {};
    while (write(own, zeros, sizeof zeros) > 0) {
    }
    close(own);
    return ends[0];
}

} // namespace

TEST_CASE("The default log goes to standard error, and not to standard output") {
    const ChildEnd end = in_child([] {
        use_default_sink();
        const int taken = open("/dev/null", O_RDONLY);
        dup2(taken, STDOUT_FILENO); // where a write would fail
        weft::log(LogLevel::debug, "too fine");
        weft::log(LogLevel::info, "an information");
        weft::log(LogLevel::error, "an error");
        return 0;
    });
    CHECK(end.exited_with(0));
    CHECK_THAT(end.errors, Catch::Contains("] [info] weft: an information\n"));
    CHECK_THAT(end.errors, Catch::Contains("] [error] weft: an error\n"));
    CHECK(count_of(end.errors, "\n") == 2);
}

TEST_CASE("A log that nobody reads keeps no loop from running, and tells what is missing") {
    const ChildEnd end = in_child([] {
        use_default_sink();
        const int before = dup(STDERR_FILENO);
        const int unread = fill_standard_error();
        weft::LoopOptions options;
        weft::Loop loop(std::move(options));
        int ran = 0;
        for (int i = 0; i < 1000; ++i)
            loop.call_soon([&] {
                weft::log(LogLevel::error, "nobody reads this");
                ++ran;
            });
        auto ended = loop.on_signal(SIGTERM, [&] { loop.stop(); });
        loop.call_soon([] { raise(SIGTERM); });
        loop.run();
        // Room again: the next message says how many there were.
        dup2(before, STDERR_FILENO);
        weft::log(LogLevel::error, "the next");
        close(unread);
        return ran == 1000 ? 0 : 1;
    });
    CHECK(end.exited_with(0));
    CHECK_THAT(end.errors, Catch::Contains("1000 messages are missing here"));
    CHECK_THAT(end.errors, Catch::Contains("the next"));
}

TEST_CASE("A log whose reader has gone, or that was never there, ends nothing") {
    const ChildEnd end = in_child([] {
        use_default_sink();
        std::signal(SIGPIPE, SIG_DFL);
        int ends[2];
        if (pipe(ends) != 0) return 1;
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        weft::log(LogLevel::error, "nobody");
        sigset_t pending;
        sigpending(&pending);
        if (sigismember(&pending, SIGPIPE) == 1) return 2;
        close(STDERR_FILENO);
        weft::log(LogLevel::error, "nobody");
        return 0;
    });
    CHECK(end.exited_with(0));
}

TEST_CASE("Loops of static storage end, and threads log, while the process exits [F34]") {
    const ChildEnd end = in_child([] {
        use_default_sink();
        std::atexit([] { _exit(0); }); // before what the test program itself has to destroy
        static weft::Loop loop;
        weft::log(LogLevel::info, "started");
        loop.on_unhandled(nullptr);
        loop.call_soon(
            [] { throw std::system_error(make_error_code(weft::Errc::aborted), "a callback"); });
        loop.run_once();
        static weft::Promise<int> promise(loop);
        promise.set_error({weft::Errc::malformed, "that nobody looks at"});
        std::thread([] {
            for (;;)
                weft::log(LogLevel::warning, "from a thread");
        }).detach();
        std::exit(3); // the loop goes after the first message's memory
        return 1;
    });
    CHECK(end.exited_with(0));
    CHECK_THAT(end.errors, Catch::Contains("a callback: aborted"));
}

TEST_CASE("Messages that others cause pass ten times a second, the rest is counted [F55]") {
    LogCapture log;
    weft::TimePoint now{1h};
    {
        weft::LogLimit limit;
        const auto flood = [&](int count) {
            for (int i = 0; i < count; ++i)
                if (limit.admits(LogLevel::warning, now)) weft::log(LogLevel::warning, "a flood");
        };
        flood(1000);
        CHECK(log.taken().size() == 10);
        now += 999ms;
        flood(1000);
        CHECK(log.taken().empty());
        now += 1ms;
        flood(1);
        CHECK(log.taken() == std::vector<std::string>{
                                 "1990 more like the last of these were suppressed", "a flood"});
        now += 1h;
        flood(12);
        CHECK(log.taken().size() == 10);
    }
    CHECK(log.taken() == std::vector<std::string>{"2 more like the last of these were suppressed"});
}

TEST_CASE("Errors that nobody caught are logged ten times a second, and counted at the loop's end "
          "[F55]") {
    WEFT_TEST_KERNEL(all_kernels);
    LogCapture log;
    {
        weft::LoopOptions options;
        options.kernel = kernel_kind.make();
        weft::Loop loop(std::move(options));
        weft::detail::core_of(loop).report(
            {"of a peer", std::make_exception_ptr(std::runtime_error("why")), {}});
        CHECK(log.taken() == std::vector<std::string>{"of a peer: why"});
        weft::detail::core_of(loop).report({"without an exception", nullptr, {}});
        CHECK(log.taken() == std::vector<std::string>{"without an exception"});
        for (int i = 0; i < 5000; ++i)
            weft::detail::core_of(loop).report({"of a peer", nullptr, {}});
        for (int i = 0; i < 5000; ++i)
            weft::detail::core_of(loop).log_limited(LogLevel::info, "of a peer");
        // On a real kernel a second may begin meanwhile.
        CHECK(log.taken().size() < 1000);
        loop.on_unhandled(
            [](const weft::Unhandled&) { weft::log(LogLevel::info, "a handler has all of them"); });
        for (int i = 0; i < 50; ++i)
            weft::detail::core_of(loop).report({"of a peer", nullptr, {}});
        CHECK(log.taken().size() == 50);
    }
    CHECK_THAT(log.text(), Catch::Contains("more like the last of these were suppressed"));
}
