#include "sync_support.hpp"

#include <algorithm>
#include <memory>

using namespace weft;
using namespace weft::test;

TEST_CASE("of several sends and receives a select lets exactly one take effect", "[s68][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Channel<int> a;
        coro::Channel<std::string> b;
        coro::Channel<int> c;
        int got = 0;
        std::string text;
        bool sent = false;
        const auto choose = [&] {
            return coro::select(
                a.on_receive([&](std::optional<int> item) { got = item.value(); }),
                b.on_receive([&](std::optional<std::string> item) { text = item.value(); }),
                c.on_send(3, [&] { sent = true; }));
        };
        auto task = coro::spawn(choose);
        coro::wait_all_blocked();
        CHECK_FALSE(b.try_send("b"));
        CHECK(a.try_send(1) == Errc::queue_full);
        CHECK_FALSE(c.try_receive());
        CHECK(task.join() == 1);
        CHECK(text == "b");
        task = coro::spawn(choose);
        coro::wait_all_blocked();
        CHECK(c.receive() == 3);
        CHECK_FALSE(a.try_send(1) == std::error_code());
        CHECK(task.join() == 2);
        CHECK(sent);
        auto sender = coro::spawn([&] { a.send(1); });
        coro::wait_all_blocked();
        CHECK(choose() == 0);
        CHECK(got == 1);
        sender.wait();
    });
}

TEST_CASE("two selects meet on one channel, and one does not meet itself", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Channel<int> channel;
        std::vector<int> received;
        const auto either = [&](int mine) {
            return coro::select(channel.on_send(mine),
                                channel.on_receive([&](auto item) { received.push_back(*item); }));
        };
        auto first = coro::spawn([&] { return either(1); });
        coro::wait_all_blocked();
        CHECK_FALSE(first.done());
        auto second = coro::spawn([&] { return either(2); });
        CHECK(first.join() + second.join() == 1);
        CHECK(received.size() == 1);
    });
}

TEST_CASE("a select gives each of the channels that are ready its share", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Channel<int> a(1);
        coro::Channel<int> b(1);
        coro::Channel<int> c(1);
        std::size_t chosen[3] = {};
        for (int i = 0; i < 600; ++i) {
            for (auto* channel : {&a, &b, &c})
                (void)channel->try_send(i);
            const auto ignore = [](std::optional<int>) {};
            ++chosen[coro::select(a.on_receive(ignore), b.on_receive(ignore),
                                  c.on_receive(ignore))];
        }
        for (const std::size_t count : chosen)
            CHECK(count > 100);
    });
}

TEST_CASE("a select has a deadline, and a form that does not wait", "[s80][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Channel<int> a;
        coro::Channel<int> b(1);
        int got = 0;
        const auto take = [&](std::optional<int> item) { got = *item; };
        CHECK_THROWS_AS(coro::select(1ms, a.on_receive(take), b.on_receive(take)),
                        coro::TimeoutError);
        CHECK_FALSE(coro::try_select(a.on_receive(take), b.on_receive(take), a.on_send(1)));
        CHECK(a.try_send(1) == Errc::queue_full);
        CHECK(coro::try_select(a.on_receive(take), b.on_send(5)) == 1);
        CHECK(coro::select(1h, a.on_receive(take), b.on_receive(take)) == 1);
        CHECK(got == 5);
    });
}

TEST_CASE(
    "a select over a channel that has ended receives nothing, and one over a send into it fails",
    "[s81][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    const bool closed_before = GENERATE(false, true);
    run_on(kernel_kind, [&] {
        coro::Channel<int> open;
        coro::Channel<int> source;
        coro::Channel<int> sink;
        bool ended = false;
        const auto take = [&](std::optional<int> item) { ended = !item; };
        const auto close = [&] {
            source.close();
            sink.close();
        };
        if (closed_before) close();
        auto receiving = coro::spawn(
            [&] { return coro::select(open.on_receive(take), source.on_receive(take)); });
        auto sending = coro::spawn([&] {
            CHECK_THROWS_AS(coro::select(open.on_receive(take), sink.on_send(1)),
                            std::system_error);
        });
        coro::wait_all_blocked();
        CHECK(receiving.done() == closed_before);
        close();
        CHECK(receiving.join() == 1);
        sending.wait();
        CHECK(ended);
        CHECK_FALSE(sending.exception());
    });
}

TEST_CASE("a handler of a select may wait, and what it throws passes", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Channel<int> channel(1);
        channel.send(1);
        CHECK_THROWS_AS(coro::select(channel.on_receive([](auto item) {
                            coro::sleep(1ms);
                            if (item) throw std::runtime_error("handler");
                        })),
                        std::runtime_error);
        CHECK(channel.size() == 0);
    });
}

TEST_CASE("a select that is cancelled leaves nothing in any channel", "[s68][s80][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Channel<int> a;
        coro::Channel<int> b;
        auto task = coro::spawn([&] { coro::select(a.on_receive([](auto) {}), b.on_send(1)); });
        coro::wait_all_blocked();
        task.cancel();
        CHECK(a.try_send(1) == Errc::queue_full);
        CHECK_FALSE(b.try_receive());
        task.wait();
        CHECK(task.cancelled());
    });
}

TEST_CASE("cases of a select are used again, and tell what they have not sent", "[s68][coro]") {
    run_on(simulated_kernels().front(), [] {
        coro::Channel<std::string> a, b;
        Trace trace;
        auto from_a = a.on_receive([&](auto item) { trace("a" + item.value_or("-")); });
        auto from_b = b.on_receive([&](auto item) { trace("b" + item.value_or("-")); });
        auto sender = coro::spawn([&] {
            b.send("1");
            coro::sleep(1ms);
            a.send("2");
            coro::sleep(1ms);
            b.send("3");
            a.close();
        });
        for (int i = 0; i < 4; ++i)
            (void)coro::select(from_a, from_b);
        CHECK(trace.text == "b1 a2 b3 a-");

        coro::Channel<std::string> one(1), other(0);
        auto to_one = one.on_send("x");
        auto to_other = other.on_send("y");
        CHECK(coro::select(to_one, to_other) == 0);
        CHECK(to_other.item() == "y");
        CHECK_THROWS_AS(coro::select(to_one, to_other), UsageError); // it has nothing left
        CHECK(other.size() == 0);
        to_one.set_item("z");
        auto receiver = coro::spawn([&] { return *other.receive(); });
        coro::yield();
        CHECK(coro::select(to_one, to_other) == 1);
        CHECK(receiver.join() == "y");
        CHECK(to_one.item() == "z");
        CHECK_THROWS_AS(coro::select(to_one, to_one), UsageError);
        coro::Channel<int> never;
        auto from_never = never.on_receive([](auto) {});
        auto selecting = begun([&] { (void)coro::select(from_never); });
        CHECK_THROWS_AS(coro::try_select(from_never), UsageError); // another one is in it
        selecting.cancel();
        CHECK_THROWS_AS(selecting.join(), Cancelled);
    });
}
