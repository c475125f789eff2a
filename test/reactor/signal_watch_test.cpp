#include "support/kernels.hpp"

#include <csignal>
#include <thread>
#include <unistd.h>

using namespace std::chrono_literals;
using namespace weft::test;
using weft::SignalWatch;

namespace {

/// Makes signal `number` happen, to the process or to the simulated one.
void send_signal(TestLoop& loop, int number) {
    if (loop.simulated()) {
        loop.sim().deliver_signal(number);
    } else {
        kill(getpid(), number);
    }
}

const void* handler_of(int number) {
    struct sigaction action {};
    sigaction(number, nullptr, &action);
    return reinterpret_cast<const void*>(action.sa_handler);
}

} // namespace

TEST_CASE("Every watch of a signal is called in the loop, and only of that signal [s116]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    std::vector<int> order;
    auto first = loop->on_signal(SIGUSR1, [&] { order.push_back(1); }).value();
    auto second = loop->on_signal(SIGUSR1, [&] { order.push_back(2); }).value();
    auto other = loop->on_signal(SIGUSR2, [&] { order.push_back(3); }).value();
    CHECK(loop->stats().signals == 3);
    send_signal(loop, SIGUSR1);
    CHECK(order.empty());
    CHECK(loop->run_once() == 2);
    CHECK(order == std::vector{1, 2});
    first.cancel();
    first.cancel();
    CHECK(!first.active());
    send_signal(loop, SIGUSR1);
    send_signal(loop, SIGUSR2);
    loop->run_once();
    CHECK(order == std::vector{1, 2, 2, 3});
}

TEST_CASE("What can not be caught is refused [s116]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    for (const int number : {SIGKILL, SIGSTOP, 0, -1, 65, 1000}) {
        const auto refused = loop->on_signal(number, [] {});
        REQUIRE(!refused.ok());
        CHECK(refused.error().code == std::errc::invalid_argument);
        CHECK_THAT(refused.error().message(), Catch::Contains("signal " + std::to_string(number)));
    }
    CHECK(loop->stats().signals == 0);
}

TEST_CASE("The last watch to end restores the previous disposition, over any number of loops "
          "[s116] [F30]") {
    WEFT_TEST_KERNEL(real_kernels);
    const void* before = handler_of(SIGUSR1);
    std::signal(SIGUSR1, SIG_IGN);
    {
        TestLoop other(kernel_kind), loop(kernel_kind);
        auto first = loop->on_signal(SIGUSR1, [] {}).value();
        auto second = loop->on_signal(SIGUSR1, [] {}).value();
        auto third = other->on_signal(SIGUSR1, [] {}).value();
        CHECK(handler_of(SIGUSR1) != reinterpret_cast<const void*>(SIG_IGN));
        first.cancel();
        second.cancel();
        CHECK(handler_of(SIGUSR1) != reinterpret_cast<const void*>(SIG_IGN));
        third.cancel();
        CHECK(handler_of(SIGUSR1) == reinterpret_cast<const void*>(SIG_IGN));
        auto left = loop->on_signal(SIGUSR1, [] {}).value();
        loop->close();
        CHECK(handler_of(SIGUSR1) == reinterpret_cast<const void*>(SIG_IGN));
    }
    std::signal(SIGUSR1, SIG_DFL);
    CHECK(handler_of(SIGUSR1) == before);
}

TEST_CASE("A signal wakes a loop that sleeps [s116] [F8]") {
    WEFT_TEST_KERNEL(waking_kernels);
    TestLoop loop(kernel_kind);
    int seen = 0;
    auto watch = loop->on_signal(SIGUSR1,
                                 [&] {
                                     ++seen;
                                     loop->stop();
                                 })
                     .value();
    for (int i = 1; i <= 20; ++i) {
        std::thread thread([&] { send_signal(loop, SIGUSR1); });
        loop->run();
        thread.join();
        CHECK(seen == i);
    }
}

TEST_CASE("Of a storm of signals at least one comes after the last [F30]") {
    WEFT_TEST_KERNEL(waking_kernels);
    TestLoop loop(kernel_kind);
    constexpr int count = 2000;
    std::atomic<int> sent{0};
    int last_seen = 0;
    auto watch = loop->on_signal(SIGUSR1,
                                 [&] {
                                     last_seen = sent.load();
                                     if (last_seen == count) loop->stop();
                                 })
                     .value();
    std::thread thread([&] {
        for (int i = 0; i < count; ++i) {
            sent.fetch_add(1);
            send_signal(loop, SIGUSR1);
        }
    });
    loop->run();
    thread.join();
    CHECK(last_seen == count);
}

TEST_CASE("A signal's callback may end its own watch and others that are due [s116] [F7]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    auto capture = std::make_shared<int>(0);
    std::optional<SignalWatch> first, second, third;
    first =
        loop->on_signal(SIGUSR1,
                        [&, capture] {
                            second.reset();
                            first.reset();
                            ++*capture;
                            third =
                                loop->on_signal(SIGUSR1, [capture] { *capture += 100; }).value();
                        })
            .value();
    second = loop->on_signal(SIGUSR1, [capture] { *capture += 10; }).value();
    send_signal(loop, SIGUSR1);
    loop->run_once();
    CHECK(*capture == 1);
    send_signal(loop, SIGUSR1);
    loop->run_once();
    CHECK(*capture == 101);
    third.reset();
    CHECK(capture.use_count() == 1);
}

TEST_CASE("What a signal's callback throws does not keep the others from theirs [s7] [F28]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    int seen = 0;
    auto first = loop->on_signal(SIGUSR1, [] { throw std::runtime_error("one"); }).value();
    auto second = loop->on_signal(SIGUSR1, [] { throw weft::FatalError("two"); }).value();
    auto third = loop->on_signal(SIGUSR1, [&] { ++seen; }).value();
    send_signal(loop, SIGUSR1);
    CHECK_THROWS_WITH(loop->run(), "two");
    CHECK(loop.unhandled == std::vector<std::string>{"a signal's callback: one"});
    CHECK(seen == 0);
    loop->run_once(true); // what was left is not forgotten, and not waited for
    CHECK(seen == 1);
}

TEST_CASE("A signal watch may outlive its loop, its callback does not [F34]") {
    WEFT_TEST_KERNEL(all_kernels);
    auto capture = std::make_shared<int>();
    SignalWatch watch;
    {
        TestLoop loop(kernel_kind);
        watch = loop->on_signal(SIGUSR1, [capture] {}).value();
    }
    CHECK(capture.use_count() == 1);
    watch.cancel();
}
