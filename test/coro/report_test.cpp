#include "stream_support.hpp"

#include <array>

using namespace weft;
using namespace weft::test;

namespace {

/// What an exception of `call` says, "" if it throws none.
template<class F>
std::string thrown_by(F&& call) {
    try {
        call();
        return "";
    } catch (const std::exception& error) {
        return error.what();
    }
}

} // namespace

// What coroutines tell the log, and how often.

TEST_CASE("a loop that is closed reports what had not ended once for each place that spawned it",
          "[s130][F34][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    const ResourceGuard guard;
    LogCapture log;
    std::vector<std::string> unhandled;
    {
        LoopOptions options;
        options.kernel = kernel_kind.make();
        Loop loop(std::move(options));
        for (int i = 0; i < 300; ++i)
            coro::spawn(loop, [] { coro::sleep_forever(); }).detach();
        coro::spawn(loop, [] { coro::sleep_forever(); }, {.name = "alone"}).detach();
        loop.run_once();
        loop.on_unhandled(
            [&](const Unhandled& what) { unhandled.push_back(TestLoop::text_of(what)); });
    }
    REQUIRE(unhandled.size() == 2);
    CHECK_THAT(unhandled[0], Catch::Contains("nor had 299 more that were spawned there"));
    CHECK_THAT(unhandled[1], Catch::Contains("'alone'") && !Catch::Contains("nor had"));
    CHECK(log.taken().empty());
}

TEST_CASE("run tells a few of the tasks that main has left, and how many more there were",
          "[s118][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    LogCapture log;
    run_on(kernel_kind, [] {
        for (int i = 0; i < 300; ++i)
            coro::spawn(coro::this_loop(), [] { coro::sleep_forever(); }).detach();
        coro::yield();
    });
    const auto lines = log.taken();
    REQUIRE(lines.size() == 11);
    CHECK(lines.back() == "290 more like the last of these were suppressed");
}

TEST_CASE("clients that are idle or go away in the middle are no errors of the service", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    LogCapture log;
    run_on(kernel_kind, [&] {
        UnhandledLog unhandled;
        std::string address;
        auto service = coro::spawn([&] {
            coro::ServeOptions options;
            options.started = [&](const std::vector<Address>& addresses) {
                address = addresses.front().to_string();
            };
            const auto handler = [](coro::Stream& peer) {
                std::array<std::byte, 4> buffer;
                peer.read_exactly(buffer, 50ms);
                coro::with_timeout(50ms, [&] { peer.read_exactly(buffer); });
            };
            coro::serve("127.0.0.1:0", handler, std::move(options));
        });
        while (address.empty())
            coro::yield();
        for (const char* text : {"", "ab", "abcd"}) {
            auto client = coro::connect(address);
            client.write(text);
            try {
                (void)client.read_to_end(); // until it is ended
            } catch (const std::system_error&) {
            }
        }
        {
            auto client = coro::connect(address);
            client.write("ab");
            client.write_eof();
            try {
                (void)client.read_to_end();
            } catch (const std::system_error&) {
            }
        }
        CHECK(unhandled.texts.empty());
        service.cancel();
        service.wait();
    });
    // An idle one is worth a line, though no error.
    const auto lines = log.taken();
    CHECK(lines.size() == 4);
    for (const auto& line : lines)
        CHECK_THAT(line, !Catch::Contains("handler"));
}

TEST_CASE("what says that the time is up speaks of no connection", "[coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        coro::Queue<int> queue;
        try {
            (void)queue.get(1ms);
            FAIL("no time is up");
        } catch (const coro::TimeoutError& error) {
            CHECK(error.code() == std::errc::timed_out);
            const std::system_error copy = error;
            CHECK(copy.code() == std::errc::timed_out);
            CHECK(error.what() == std::string("Queue::get: the time is up"));
        }
        CHECK(thrown_by([] { coro::with_timeout(1ms, [] { coro::sleep_forever(); }); }) ==
              "with_timeout: the time is up");
    });
}

TEST_CASE("a caught cancellation is reported in one sentence", "[coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    LogCapture log;
    run_on(kernel_kind, [] {
        auto task = coro::spawn([] {
            for (int i = 0; i < 3; ++i) {
                try {
                    coro::sleep_forever();
                } catch (...) {
                }
            }
        });
        coro::CancelScope scope;
        coro::yield();
        (void)scope.run([&] {
            auto inner = coro::spawn([] {
                for (int i = 0; i < 3; ++i) {
                    try {
                        coro::sleep_forever();
                    } catch (...) {
                    }
                }
            });
            scope.cancel();
            inner.wait();
        });
        task.cancel();
        task.wait();
    });
    const std::string text = log.text();
    CHECK_THAT(text, Catch::Contains("a catch (...) must throw it on (scheduled at "));
    CHECK_THAT(text, !Catch::Contains("no exception"));
}

TEST_CASE("texts of what ran out of time or was closed say what happened", "[s80][coro]") {
    run_on(simulated_kernels().front(), [] {
        coro::Queue<int> queue;
        CHECK(thrown_by([&] { (void)queue.get(5ms); }) == "Queue::get: the time is up");
        CHECK(thrown_by([] { coro::with_timeout(1ms, [] { coro::sleep(1s); }); }) ==
              "with_timeout: the time is up");
        coro::Channel<int> channel;
        auto closing = coro::spawn([&] {
            coro::sleep(1ms);
            channel.close();
            queue.close();
        });
        auto getting = coro::spawn([&] { return thrown_by([&] { (void)queue.get(); }); });
        CHECK(thrown_by([&] { channel.send(1); }) == "Channel::send: closed while it waited");
        CHECK(getting.join() == "Queue::get: closed while it waited");
        CHECK(thrown_by([&] { channel.send(1); }) == "Channel::send: already closed");
        try {
            queue.get();
        } catch (const std::system_error& error) {
            CHECK(error.code() == Errc::closed);
        }
    });
}
