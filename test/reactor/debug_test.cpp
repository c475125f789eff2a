#include "support/kernels.hpp"

#include <cstdlib>
#include <sstream>
#include <thread>

using namespace std::chrono_literals;
using namespace weft::test;
using weft::UsageError;

namespace {

weft::LoopOptions debugging() {
    weft::LoopOptions options;
    options.debug = true;
    options.slow_callback = 2ms;
    return options;
}

/// What `call()` throws on another thread, "" for nothing.
template<class F>
std::string refusal_elsewhere(F call) {
    std::string text;
    std::thread([&] {
        try {
            call();
        } catch (const UsageError& error) {
            text = error.what();
        }
    }).join();
    return text;
}

/// Passes 3 ms in a callback: at once under the simulator.
void dawdle(TestLoop& loop) {
    if (loop.simulated()) {
        loop.sim().advance(3ms);
    } else {
        const auto until = loop.kernel.now() + 3ms;
        while (loop.kernel.now() < until) {
        }
    }
}

std::string text_of(std::thread::id id) {
    std::ostringstream text;
    text << id;
    return text.str();
}

} // namespace

TEST_CASE("The environment or the option turn debug mode on") {
    WEFT_TEST_KERNEL(all_kernels);
    const auto debug = [&](std::optional<bool> option) {
        weft::LoopOptions options;
        options.debug = option;
        TestLoop loop(kernel_kind, std::move(options));
        return loop->debug();
    };
    const char* before = std::getenv("WEFT_DEBUG");
    const std::string saved = before ? before : "";
    unsetenv("WEFT_DEBUG");
    CHECK(!debug({}));
    CHECK(debug(true));
    for (const char* off : {"", "0"}) {
        setenv("WEFT_DEBUG", off, 1);
        CHECK(!debug({}));
    }
    setenv("WEFT_DEBUG", "1", 1);
    CHECK(debug({}));
    CHECK(!debug(false));
    if (before) {
        setenv("WEFT_DEBUG", saved.c_str(), 1);
    } else {
        unsetenv("WEFT_DEBUG");
    }
}

TEST_CASE("Debug mode refuses calls from a foreign thread and names both [s11] [F32]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind, debugging());
    weft::Promise<int> promise(loop);
    auto future = promise.future();
    std::vector<std::string> refusals;
    std::string from;
    loop->call_soon([&] {
        refusals.push_back(refusal_elsewhere([&] {
            from = text_of(std::this_thread::get_id());
            loop->call_soon([] {});
        }));
        refusals.push_back(refusal_elsewhere([&] { (void)loop->call_later(1s, [] {}); }));
        refusals.push_back(refusal_elsewhere([&] { (void)loop->watch(0); }));
        refusals.push_back(refusal_elsewhere([&] { (void)loop->on_signal(2, [] {}); }));
        refusals.push_back(refusal_elsewhere([&] { loop->run_in_executor([] {}); }));
        refusals.push_back(refusal_elsewhere([&] { promise.set_value(1); }));
        refusals.push_back(refusal_elsewhere([&] { future.cancel(); }));
        refusals.push_back(
            refusal_elsewhere([&] { future.add_done_callback([](const auto&) {}); }));
        refusals.push_back(refusal_elsewhere([&] { loop->run(); }));
    });
    loop->run_once();
    REQUIRE(refusals.size() == 9);
    for (const auto& text : refusals)
        CHECK(text != "");
    CHECK_THAT(refusals[0], Catch::StartsWith("call_soon"));
    CHECK_THAT(refusals[0], Catch::Contains(from));
    CHECK_THAT(refusals[0], Catch::Contains(text_of(std::this_thread::get_id())));
    CHECK_THAT(refusals[0], Catch::Contains("post()"));
    CHECK(!future.done());
    CHECK(loop->stats().jobs == 0);
    CHECK(loop->stats().timers == 0);
}

TEST_CASE("A loop that does not run may be set up on one thread and run on another [s11]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind, debugging());
    bool ran = false;
    loop->call_soon([&] {
        ran = true;
        loop->stop();
    });
    CHECK(refusal_elsewhere([&] { loop->run(); }) == "");
    CHECK(ran);
    loop->call_soon([&] { ran = false; }); // and this one's again
    loop->run_once();
    CHECK(!ran);
}

TEST_CASE("An embedded loop belongs to the thread that steps it, also between steps [s11]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind, debugging());
    loop->step();
    CHECK_THAT(refusal_elsewhere([&] { loop->call_soon([] {}); }), Catch::Contains("post()"));
    CHECK(refusal_elsewhere([&] { (void)loop->post([] {}); }) == "");
    CHECK(refusal_elsewhere([&] { (void)loop->step(); }) == ""); // it may move
    CHECK_THROWS_AS(loop->call_soon([] {}), UsageError);
    loop->step();
    loop->call_soon([] {});
    loop->step();
}

TEST_CASE("Slow callbacks are reported with the place that scheduled them [s11]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind, debugging());
    SocketPair pair(loop.kernel);
    LogCapture log;
    const auto here = std::source_location::current();
    auto timer = loop->call_later(0s, [&] { dawdle(loop); });
    loop->call_soon([&] { dawdle(loop); });
    loop->post([&] { dawdle(loop); });
    auto watch = loop->watch(pair.near).value();
    weft::Promise<int> promise(loop);
    promise.future().add_done_callback([&](const auto&) { dawdle(loop); });
    watch.on_writable([&] {
        watch.stop_writing();
        dawdle(loop);
        promise.set_value(1);
    });
    loop->run_once();
    loop->run_once();
    loop->run_once();
    const auto messages = log.taken();
    CHECK(messages.size() == 5);
    std::vector<unsigned> lines;
    for (unsigned line = 1; line <= 6; ++line) {
        const std::string place = "debug_test.cpp:" + std::to_string(here.line() + line);
        for (const auto& message : messages) {
            if (message.ends_with(place + ")")) {
                lines.push_back(line);
                CHECK_THAT(message, Catch::Contains(" took 3 ms (scheduled at ") ||
                                        Catch::Contains(" took "));
            }
        }
    }
    CHECK(lines == std::vector<unsigned>{1, 2, 3, 4, 6});
}

TEST_CASE("Quick callbacks and other modes report nothing [s11]") {
    WEFT_TEST_KERNEL(all_kernels);
    LogCapture log;
    {
        TestLoop loop(kernel_kind, debugging());
        loop->call_soon([] {});
        loop->run_once();
    }
    {
        TestLoop loop(kernel_kind);
        auto timer = loop->call_later(1h, [] {});
        loop->call_soon([&] { dawdle(loop); });
        loop->run_once();
        loop->close();
    }
    CHECK(log.text() == "");
}

TEST_CASE("Handles still held when the loop closes are reported with the place that made them "
          "[s11] [F34]") {
    WEFT_TEST_KERNEL(all_kernels);
    LogCapture log;
    weft::Timer timer, fired;
    weft::SignalWatch signal;
    std::source_location here;
    {
        TestLoop loop(kernel_kind, debugging());
        SocketPair pair(loop.kernel);
        here = std::source_location::current();
        timer = loop->call_later(1h, [] {});
        signal = loop->on_signal(10, [] {}).value();
        auto watch = loop->watch(pair.near).value();
        loop->call_later(1h, [] {}).detach(); // nobody holds it: no mistake
        fired = loop->call_later(0s, [] {});
        loop->run_once();
        pair.close_near();
        pair.close_far();
        loop->close();
    }
    const auto place = [&](unsigned line) {
        return "debug_test.cpp:" + std::to_string(here.line() + line);
    };
    const auto messages = log.taken();
    REQUIRE(messages.size() == 3);
    std::string all;
    for (const auto& message : messages)
        all += message + "\n";
    CHECK_THAT(all, Catch::Contains("Timer set at ") && Catch::Contains(place(1)));
    CHECK_THAT(all, Catch::Contains("SignalWatch of signal 10") && Catch::Contains(place(2)));
    CHECK_THAT(all, Catch::Contains("Watch of descriptor ") && Catch::Contains(place(3)));
}
