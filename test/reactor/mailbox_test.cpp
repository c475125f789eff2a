#include "support/heap.hpp"
#include "support/kernels.hpp"

#include <atomic>
#include <thread>

using namespace std::chrono_literals;
using namespace weft::test;
using weft::Errc;
using weft::Loop;

namespace {

template<class F>
void in_threads(int count, F body) {
    std::vector<std::thread> threads;
    for (int i = 0; i < count; ++i)
        threads.emplace_back([&body, i] { body(i); });
    for (auto& thread : threads)
        thread.join();
}

/// A message that knows what became of it: it counts its runs and its destruction, moved-from
/// copies apart.
struct Message {
    std::atomic<int>* ran;
    std::atomic<int>* destroyed;
    Message(std::atomic<int>& r, std::atomic<int>& d) noexcept : ran(&r), destroyed(&d) {}
    Message(Message&& other) noexcept
        : ran(other.ran), destroyed(std::exchange(other.destroyed, nullptr)) {}
    Message& operator=(Message&&) = delete;
    ~Message() {
        if (destroyed) destroyed->fetch_add(1, std::memory_order_relaxed);
    }
    void operator()() const { ran->fetch_add(1, std::memory_order_relaxed); }
};

} // namespace

TEST_CASE("post from another thread wakes a loop that sleeps [s5]") {
    WEFT_TEST_KERNEL(waking_kernels);
    TestLoop loop(kernel_kind);
    const auto own = std::this_thread::get_id();
    for (int i = 0; i < 50; ++i) {
        std::thread::id ran_on;
        std::error_code error = Errc::aborted;
        std::thread thread([&, remote = loop->remote()] {
            error = remote->post(
                [&] {
                    ran_on = std::this_thread::get_id();
                    loop->stop();
                },
                {});
        });
        loop->run();
        thread.join();
        CHECK(!error);
        CHECK(ran_on == own);
    }
}

TEST_CASE("Every post of every thread runs once, those of one thread in order [s5] [F32]") {
    WEFT_TEST_KERNEL(waking_kernels);
    TestLoop loop(kernel_kind);
    constexpr int producers = 4;
    constexpr int each = 25'000;
    std::vector<int> next(producers, 0);
    bool in_order = true;
    int left = producers * each;
    std::thread all([&, remote = loop->remote()] {
        in_threads(producers, [&](int id) {
            for (int i = 0; i < each; ++i) {
                (void)remote->post(
                    [&, id, i] {
                        in_order = in_order && next[static_cast<std::size_t>(id)]++ == i;
                        if (--left == 0) loop->stop();
                    },
                    {});
            }
        });
    });
    loop->run();
    all.join();
    CHECK(in_order);
    CHECK(next == std::vector<int>(producers, each));
}

TEST_CASE("A million posts in a storm around close run or are destroyed, each exactly once [s5] "
          "[F32] [F34]") {
    WEFT_TEST_KERNEL(waking_kernels);
    constexpr int producers = 4;
    constexpr int each = 250'000;
    std::atomic<int> ran{0}, destroyed{0}, refused{0};
    const auto before = heap().live_bytes;
    {
        std::optional<TestLoop> loop(std::in_place, kernel_kind);
        auto remote = (*loop)->remote();
        std::thread all([&, remote] {
            in_threads(producers, [&, remote](int) {
                for (int i = 0; i < each; ++i)
                    if (remote->post(Message(ran, destroyed), {}))
                        refused.fetch_add(1, std::memory_order_relaxed);
            });
        });
        while (ran.load() < producers * each / 4)
            (*loop)->run_once(true);
        loop.reset();
        all.join();
        CHECK(remote->post([] {}, {}) == Errc::closed);
    }
    CHECK(destroyed.load() == producers * each);
    CHECK(ran.load() >= producers * each / 4);
    CHECK(ran.load() + refused.load() <= producers * each);
    CHECK(heap().live_bytes <= before + 4096);
}

TEST_CASE(
    "A post left behind at the close keeps nothing alive, not even the queue it is in [F32]") {
    WEFT_TEST_KERNEL(waking_kernels);
    // Messages that refer to futures of the loop refer to its mailbox: one left in it would be a
    // cycle.
    for (int round = 0; round < 200; ++round) {
        TestLoop loop(kernel_kind);
        weft::Promise<int> promise(loop);
        std::atomic<bool> go{false};
        std::thread thread([&go, future = promise.future()]() mutable {
            while (!go.load()) {
            }
            for (int i = 0; i < 20; ++i)
                if (future.cancel_from_any_thread()) break;
            future = {};
        });
        go.store(true);
        loop->close();
        thread.join();
    }
}

TEST_CASE("Threads that post without pause do not keep a turn from ending [F25]") {
    WEFT_TEST_KERNEL(waking_kernels);
    TestLoop loop(kernel_kind);
    std::atomic<bool> enough{false};
    std::thread thread([&, remote = loop->remote()] {
        while (!enough.load(std::memory_order_relaxed))
            (void)remote->post([] {}, {});
    });
    int ticks = 0;
    auto timer = loop->call_every(0s, [&] {
        if (++ticks == 50) loop->stop();
    });
    loop->run();
    enough.store(true);
    thread.join();
    CHECK(ticks == 50);
}

TEST_CASE("A captured destructor may post while its loop closes [F34]") {
    WEFT_TEST_KERNEL(all_kernels);
    std::error_code late = Errc::aborted;
    bool ran = false;
    auto inner = std::make_shared<int>();
    {
        TestLoop loop(kernel_kind);
        struct AtEnd {
            Loop* loop;
            std::error_code* late;
            bool* ran;
            std::shared_ptr<int> inner;
            AtEnd(Loop& l, std::error_code& e, bool& r, std::shared_ptr<int> i)
                : loop(&l), late(&e), ran(&r), inner(std::move(i)) {}
            AtEnd(AtEnd&& other) noexcept
                : loop(std::exchange(other.loop, nullptr)), late(other.late), ran(other.ran),
                  inner(std::move(other.inner)) {}
            AtEnd& operator=(AtEnd&&) = delete;
            ~AtEnd() {
                if (!loop) return;
                *late = loop->post([r = ran, i = inner] { *r = true; });
                loop->call_soon([r = ran, i = inner] { *r = true; });
                loop->call_later(0s, [r = ran, i = inner] { *r = true; }).detach();
            }
            void operator()() const {}
        };
        loop->call_soon(AtEnd(loop, late, ran, inner));
        loop->post(AtEnd(loop, late, ran, inner));
        loop->call_later(1h, AtEnd(loop, late, ran, inner)).detach();
    }
    CHECK(!ran);
    CHECK(inner.use_count() == 1);
}
