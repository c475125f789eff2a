// Calls that are refused, and what must be as before then.

#include "support/kernels.hpp"

#include <weft/reactor/loop_core.hpp>
#include <weft/reactor/sim/faulty_kernel.hpp>

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace std::chrono_literals;
using namespace weft::test;
using weft::Errc;
using weft::sim::Call;
using weft::sim::FaultyKernel;

namespace {

/// A loop over a kernel whose calls can be made to fail.
struct FaultyLoop {
    explicit FaultyLoop(const KernelKind& kind)
        : loop([&] {
              weft::LoopOptions options;
              auto made = std::make_unique<FaultyKernel>(kind.make());
              faulty = made.get();
              options.kernel = std::move(made);
              return options;
          }()) {
        loop.on_unhandled(
            [this](const weft::Unhandled& what) { unhandled.push_back(TestLoop::text_of(what)); });
    }
    FaultyKernel* faulty = nullptr;
    std::vector<std::string> unhandled;
    weft::Loop loop;
};

} // namespace

TEST_CASE("A second watch of a descriptor is refused, and the first goes on [s122]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    SocketPair pair(loop.kernel);
    auto first = loop->watch(pair.near).value();
    int called = 0;
    first.on_readable([&] {
        ++called;
        pair.receive();
    });
    for (int i = 1; i <= 3; ++i) {
        const auto second = loop->watch(pair.near);
        CHECK(second.error().code == std::errc::file_exists);
        CHECK(second.error().message() == "watch descriptor " + std::to_string(pair.near) + ": " +
                                              std::generic_category().message(EEXIST));
        CHECK(loop->stats().sources == 1);
        pair.send("x");
        loop->run_once();
        CHECK(called == i);
    }
}

TEST_CASE("A watch that the kernel refuses leaves nothing behind, and one that is made again works "
          "[s122]") {
    WEFT_TEST_KERNEL(all_kernels);
    FaultyLoop world(kernel_kind);
    weft::Loop& loop = world.loop;
    SocketPair pair(*world.faulty);
    world.faulty->fail(Call::add, ENOMEM);
    world.faulty->reset_counts();
    CHECK(loop.watch(pair.near).error().code == std::errc::not_enough_memory);
    CHECK(world.faulty->calls(Call::remove) == 0);
    CHECK(loop.stats().sources == 0);
    auto watch = loop.watch(pair.near).value();
    int called = 0;
    watch.on_readable([&] {
        ++called;
        pair.receive();
    });
    pair.send("x");
    loop.run_once();
    CHECK(called == 1);
    // What can not be asked for is said, and what was asked for before goes on.
    world.faulty->fail(Call::modify, ENOMEM);
    watch.on_writable([&] { FAIL("nobody was asked"); });
    REQUIRE(world.unhandled.size() == 1);
    CHECK(watch.stop_writing());
    pair.send("x");
    loop.run_once();
    CHECK(called == 2);
}

TEST_CASE("A signal that can not be watched leaves its other watches alone [s122] [s116]") {
    WEFT_TEST_KERNEL(waking_kernels);
    FaultyLoop world(kernel_kind);
    weft::Loop& loop = world.loop;
    world.faulty->fail(Call::watch_signal, ENOMEM);
    world.faulty->reset_counts();
    CHECK(loop.on_signal(SIGUSR1, [] {}).error().code == std::errc::not_enough_memory);
    CHECK(world.faulty->calls(Call::unwatch_signal) == 0);
    CHECK(loop.stats().signals == 0);
    CHECK(loop.on_signal(0, [] {}).error().code == std::errc::invalid_argument);
    CHECK(loop.on_signal(65, [] {}).error().code == std::errc::invalid_argument);
    auto watch = loop.on_signal(SIGUSR1, [&] { loop.stop(); }).value();
    loop.post([&] {
        if (auto* simulated = dynamic_cast<weft::sim::SimKernel*>(&world.faulty->inner())) {
            simulated->deliver_signal(SIGUSR1);
        } else {
            kill(getpid(), SIGUSR1);
        }
    });
    loop.run();
}

TEST_CASE("Events of the loop's own for what is gone are no stale ones of the kernel's [F5]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    LogCapture log;
    struct Short final : weft::detail::Source {
        void on_ready(std::uint32_t) override { FAIL("it was removed"); }
        void on_loop_closing() override {}
    } source;
    SocketPair one(loop.kernel), two(loop.kernel);
    for (int i = 0; i < 250; ++i) {
        const auto token = weft::detail::core_of(*loop).sources().add(source);
        weft::detail::core_of(*loop).again(token, 0);
        weft::detail::core_of(*loop).remove_source(token);
        // And one of two whose events come together ends the other.
        auto first = loop->watch(one.near).value(), second = loop->watch(two.near).value();
        first.on_writable([&] { second.cancel(); });
        second.on_writable([&] { first.cancel(); });
        loop->run_once();
    }
    CHECK(log.text().find("rebuilt") == std::string::npos);
    CHECK(loop->stats().stale_events <= 250);
}

TEST_CASE("No descriptor of a loop is 0, 1 or 2 when a program begins without those") {
    WEFT_TEST_KERNEL(real_kernels);
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);
        for (int fd = 0; fd < 3; ++fd)
            close(fd);
        const auto free = [] {
            for (int fd = 0; fd < 3; ++fd)
                if (fcntl(fd, F_GETFD) >= 0) return false;
            return true;
        };
        int answer = 0;
        {
            weft::LoopOptions options;
            options.kernel = kernel_kind.make();
            weft::Loop loop(std::move(options));
            if (!free()) answer = 1;
            weft::Kernel& kernel = weft::detail::core_of(loop).kernel();
            if (const auto fd = loop.pollable_fd(); fd.ok() && *fd < 3) answer = 2;
            if (!free()) answer = 3;
            int pair[2];
            if (!kernel.socketpair(1, pair).ok() || pair[0] < 3 || pair[1] < 3) answer = 4;
            if (const auto made = kernel.socket(2, 1, 0); !made.ok() || made.fd() < 3) answer = 5;
            if (const auto made = kernel.open_reserve(); !made.ok() || made.fd() < 3) answer = 6;
            const weft::Address name =
                weft::Address::unix_path("@weft-0-" + std::to_string(getpid())).value();
            const auto listener = kernel.socket(1, 1, 0), client = kernel.socket(1, 1, 0);
            weft::Address peer;
            if (!kernel.bind(listener.fd(), name).ok() || !kernel.listen(listener.fd(), 1).ok() ||
                !kernel.connect(client.fd(), name).ok() ||
                kernel.accept(listener.fd(), peer).fd() < 3)
                answer = 7;
            if (!kernel.reset().ok() || !free()) answer = 8;
            if (fcntl(pair[0], F_GETFD) != FD_CLOEXEC) answer = 9;
        }
        _exit(answer);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
}
