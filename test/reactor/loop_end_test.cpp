#include "support/heap.hpp"
#include "support/kernels.hpp"

#include <weft/reactor/loop_core.hpp>

#include <atomic>
#include <functional>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>

using namespace std::chrono_literals;
using namespace weft::test;
using weft::Errc;
using weft::Loop;
using weft::Promise;

namespace {

/// A source that counts what it is told and does as a transport does: it ends through finish_later.
struct Counted final : weft::detail::Source {
    explicit Counted(Loop& l) : loop(l), token(weft::detail::core_of(l).sources().add(*this)) {}
    void on_ready(std::uint32_t) override { ++events; }
    void on_flush() override {
        ++flushes;
        if (flush) flush();
    }
    void on_finish() override {
        ++finishes;
        weft::detail::core_of(loop).remove_source(token);
        if (finish) finish();
    }
    void on_loop_closing() override {
        if (!closing) weft::detail::core_of(loop).finish_later(*this);
        closing = true;
    }
    Loop& loop;
    weft::Token token;
    bool closing = false;
    int events = 0, flushes = 0, finishes = 0;
    std::function<void()> flush, finish;
};

} // namespace

TEST_CASE("Closing a loop with everything alive ends each thing once and leaks nothing [F34]") {
    WEFT_TEST_KERNEL(waking_kernels);
    auto capture = std::make_shared<int>(0);
    const auto count = [&](const char*) { return [capture] { ++*capture; }; };
    weft::Timer timer, repeating;
    weft::Watch watch;
    weft::SignalWatch signal;
    weft::Future<void> job, promised;
    std::optional<Counted> source;
    {
        TestLoop loop(kernel_kind);
        SocketPair pair(loop.kernel);
        timer = loop->call_later(1h, count("timer"));
        repeating = loop->call_every(1h, count("timer"));
        loop->call_later(1h, count("detached")).detach();
        loop->call_soon(count("callback"));
        loop->post(count("post"));
        std::thread([&, remote = loop->remote()] {
            (void)remote->post(count("foreign post"), {});
        }).join();
        watch = loop->watch(pair.near).value();
        watch.on_readable(count("watch"));
        watch.on_writable(count("watch"));
        signal = loop->on_signal(10, count("signal")).value();
        loop->on_wake(count("hook"));
        Promise<void> promise(loop);
        promised = promise.future();
        promised.add_done_callback([capture](const auto&) { ++*capture; });
        job = loop->run_in_executor([capture] {});
        job.add_done_callback([capture](const auto&) { ++*capture; });
        loop->call_later(2h, [kept = std::move(promise)] {}).detach();
        source.emplace(loop);
        weft::detail::core_of(*loop).again(source->token, weft::ready::readable);
        weft::detail::core_of(*loop).flush_later(*source);
        const auto hooks = *capture; // the hook's calls
        pair.close_near();
        pair.close_far();
        loop->close();
        CHECK(*capture == hooks);
        const auto stats = loop->stats();
        CHECK(stats.sources + stats.timers + stats.signals + stats.callbacks + stats.jobs == 0);
    }
    CHECK(capture.use_count() == 1);
    CHECK(source->finishes == 1);
    CHECK(source->events == 0);
    CHECK(promised.error_code() == Errc::aborted);
    CHECK(job.error_code() == Errc::aborted);
}

TEST_CASE("What the last callbacks and destructors start is ended as well [F34]") {
    WEFT_TEST_KERNEL(waking_kernels);
    std::optional<Counted> first, second;
    weft::Future<int> job, promised;
    std::optional<Promise<int>> promise;
    bool ran = false;
    {
        TestLoop loop(kernel_kind);
        first.emplace(loop);
        first->finish = [&] {
            second.emplace(loop);
            loop->call_soon([&] { ran = true; });
            loop->call_later(0s, [&] { ran = true; }).detach();
            (void)loop->post([&] { ran = true; });
            promise.emplace(loop);
            promised = promise->future();
            try {
                job = loop->run_in_executor([] { return 1; });
                // nothing is started that would have to be waited for
            } catch (const weft::UsageError&) {
            }
        };
        loop->close();
    }
    CHECK(first->finishes == 1);
    CHECK(second->finishes == 1);
    CHECK(!ran);
    CHECK(!job.valid());
    CHECK(promised.error_code() == Errc::aborted);
}

TEST_CASE(
    "A FatalError in a last callback is reported, and the loop closes to the end [s7] [F34]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Counted first(loop), second(loop);
    first.finish = [&] {
        try {
            throw weft::FatalError("in connection_lost");
        } catch (...) {
            weft::detail::core_of(*loop).report_exception("connection_lost of a connection");
        }
    };
    loop->close();
    CHECK(loop->closed());
    CHECK(second.finishes == 1);
    CHECK(loop.unhandled ==
          std::vector<std::string>{"connection_lost of a connection: in connection_lost"});
}

TEST_CASE("A FatalError in the flush or the closing phase costs the other sources nothing [s7]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Counted first(loop), second(loop), third(loop);
    second.flush = [] { throw weft::FatalError("flush"); };
    second.finish = [] { throw weft::FatalError("finish"); };
    loop->call_soon([&] {
        for (Counted* each : {&first, &second, &third}) {
            weft::detail::core_of(*loop).flush_later(*each);
            weft::detail::core_of(*loop).finish_later(*each);
        }
    });
    CHECK_THROWS_WITH(loop->run_once(), "flush");
    CHECK(first.flushes == 1);
    CHECK(third.flushes == 0);
    CHECK_THROWS_WITH(loop->run_once(), "finish");
    CHECK(third.flushes == 1);
    CHECK(first.finishes == 1);
    CHECK(third.finishes == 0);
    loop->run_once();
    for (Counted* each : {&first, &second, &third}) {
        CHECK(each->flushes == 1);
        CHECK(each->finishes == 1);
    }
    CHECK(loop->stats().sources == 0);
}

TEST_CASE("Sources queued in the closing phase are finished in the next turn [F7]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Counted first(loop), second(loop);
    first.finish = [&] { weft::detail::core_of(*loop).finish_later(second); };
    weft::detail::core_of(*loop).finish_later(first);
    loop->run_once();
    CHECK(first.finishes == 1);
    CHECK(second.finishes == 0);
    loop->run_once();
    CHECK(second.finishes == 1);
}

TEST_CASE("A loop that can not be made throws what prevented it and leaves nothing [F2]") {
    WEFT_TEST_KERNEL(real_kernels);
    ResourceGuard guard;
    rlimit before{};
    REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
    std::vector<int> errors;
    // every number below the limit is in use, but for as many as there is room
    std::vector<int> fillers;
    const int limit = 64 + open_descriptors().rbegin()->first;
    rlimit few = before;
    few.rlim_cur = static_cast<rlim_t>(limit);
    REQUIRE(setrlimit(RLIMIT_NOFILE, &few) == 0);
    for (int fd = dup(2); fd >= 0; fd = dup(2))
        fillers.push_back(fd);
    for (int room = 0; room < 4; ++room) {
        try {
            weft::LoopOptions options;
            options.kernel = kernel_kind.make();
            Loop loop(std::move(options));
            loop.run_once();
            errors.push_back(0);
        } catch (const std::system_error& error) {
            errors.push_back(error.code().value());
        }
        close(fillers.back());
        fillers.pop_back();
    }
    for (const int fd : fillers)
        close(fd);
    REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(errors.front() == EMFILE);
    CHECK(errors.back() == 0);
    for (const int error : errors)
        CHECK((error == 0 || error == EMFILE));
}

TEST_CASE("Making and closing loops leaves memory flat") {
    WEFT_TEST_KERNEL(all_kernels);
    const auto once = [&] {
        weft::LoopOptions options;
        options.kernel = kernel_kind.make();
        Loop loop(std::move(options));
        auto timer = loop.call_later(0s, [] {});
        loop.call_soon([] {});
        loop.run_until_idle();
    };
    once();
    const auto before = heap().live_bytes;
    for (int i = 0; i < 50; ++i)
        once();
    CHECK(heap().live_bytes == before);
}
