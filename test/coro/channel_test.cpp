#include "sync_support.hpp"

#include <algorithm>
#include <memory>

using namespace weft;
using namespace weft::test;

TEST_CASE("a channel without capacity hands an item from a sender to a receiver", "[s79][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::Channel<int> channel;
        auto sender = coro::spawn([&] {
            for (int i = 0; i < 3; ++i) {
                channel.send(i);
                trace("sent" + std::to_string(i));
            }
            channel.close();
        });
        coro::wait_all_blocked();
        CHECK(trace.text.empty());
        for (const int item : channel)
            trace(std::to_string(item));
        sender.wait();
    });
    CHECK(trace.text.find("0") == 0);
    CHECK(trace.text.find("sent2") != std::string::npos);
}

TEST_CASE("a channel holds as many items as its capacity before its sender waits", "[s79][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Channel<int> channel(2);
        int sent = 0;
        auto sender = coro::spawn([&] {
            for (; sent < 5; ++sent)
                channel.send(sent);
        });
        coro::wait_all_blocked();
        CHECK(sent == 2);
        CHECK(channel.size() == 2);
        for (int i = 0; i < 5; ++i)
            CHECK(channel.receive() == i);
        sender.wait();
    });
}

TEST_CASE("after closing a channel its items are received, then it has ended, and sending fails",
          "[s81][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Channel<int> channel(2);
        channel.send(1);
        channel.send(2);
        auto sender = coro::spawn([&] { CHECK_THROWS_AS(channel.send(3), std::system_error); });
        coro::wait_all_blocked();
        channel.close();
        channel.close();
        sender.wait();
        CHECK_FALSE(sender.exception());
        CHECK_THROWS_AS(channel.send(4), std::system_error);
        CHECK(channel.try_send(4) == Errc::closed);
        std::vector<int> items;
        for (const int item : channel)
            items.push_back(item);
        CHECK(items == std::vector{1, 2});
        CHECK_FALSE(channel.receive());
        CHECK(channel.try_receive().error().code == Errc::closed);
    });
}

TEST_CASE("sending and receiving without waiting tell by a code why it was in vain",
          "[s80][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Channel<std::unique_ptr<int>> channel;
        auto item = std::make_unique<int>(1);
        CHECK(channel.try_send(std::move(item)) == Errc::queue_full);
        CHECK(item);
        CHECK(channel.try_receive().error().code == std::errc::resource_unavailable_try_again);
        auto receiver = coro::spawn([&] { return *channel.receive().value(); });
        coro::wait_all_blocked();
        coro::this_loop().call_soon([&] { CHECK_FALSE(channel.try_send(std::move(item))); });
        CHECK(receiver.join() == 1);
        auto sender = coro::spawn([&] { channel.send(std::make_unique<int>(2)); });
        coro::wait_all_blocked();
        CHECK(**channel.try_receive() == 2);
        sender.wait();
    });
}

TEST_CASE("a deadline ends sending and receiving with nothing sent or received", "[s80][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Channel<int> channel;
        CHECK_THROWS_AS(channel.receive(1ms), coro::TimeoutError);
        CHECK(channel.try_send(1) == Errc::queue_full);
        CHECK_THROWS_AS(channel.send(1, 1ms), coro::TimeoutError);
        CHECK_FALSE(channel.try_receive());
    });
}

TEST_CASE("a channel that is destroyed tells those that wait", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto channel = std::make_unique<coro::Channel<int>>();
        coro::Channel<int> other;
        auto receiver = coro::spawn([&] { CHECK_THROWS_AS(channel->receive(), UsageError); });
        auto selecting = coro::spawn([&] {
            CHECK_THROWS_AS(
                coro::select(other.on_receive([](auto) {}), channel->on_receive([](auto) {})),
                UsageError);
        });
        coro::wait_all_blocked();
        channel.reset();
        for (auto* task : {&receiver, &selecting}) {
            task->wait();
            CHECK_FALSE(task->exception());
        }
        CHECK(other.try_send(1) == Errc::queue_full);
    });
}

TEST_CASE("no item of a channel is lost or doubled, whichever is cancelled when",
          "[s68][s80][F41][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    const std::size_t capacity = GENERATE(0u, 2u);
    for (std::size_t victim = 0; victim < 4; ++victim)
        sweep(kernel_kind, 12, [&](std::size_t after) {
            coro::Channel<std::unique_ptr<int>> a(capacity);
            coro::Channel<std::unique_ptr<int>> b(capacity);
            std::vector<int> sent;
            std::vector<int> received;
            const auto take = [&](std::optional<std::unique_ptr<int>> item) {
                if (!item) return false;
                received.push_back(**item);
                return true;
            };
            std::vector<coro::Task<void>> tasks;
            for (int who = 0; who < 2; ++who) {
                tasks.push_back(coro::spawn([&, who] {
                    for (int i = 0; i < 5; ++i) {
                        const int item = who * 10 + i;
                        coro::select(
                            a.on_send(std::make_unique<int>(item), [&] { sent.push_back(item); }),
                            b.on_send(std::make_unique<int>(item), [&] { sent.push_back(item); }));
                    }
                }));
                tasks.push_back(coro::spawn([&, who] {
                    bool more = true;
                    while (more) {
                        if (who == 0)
                            more = take(a.receive());
                        else
                            coro::select(
                                a.on_receive([&](auto item) { more = take(std::move(item)); }),
                                b.on_receive([&](auto item) { more = take(std::move(item)); }));
                    }
                }));
            }
            turns(after);
            tasks[victim].cancel();
            coro::wait_all_blocked();
            a.close();
            b.close();
            for (auto& task : tasks) {
                task.wait();
                if (!task.cancelled()) (void)task.exception();
            }
            for (auto* channel : {&a, &b})
                while (auto item = channel->try_receive())
                    received.push_back(**item);
            std::sort(sent.begin(), sent.end());
            std::sort(received.begin(), received.end());
            CHECK(sent == received);
        });
}

TEST_CASE("a storm over channels loses and doubles nothing", "[s68][s80][F41][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    storm(kernel_kind, 30, [](auto random) {
        coro::Channel<int> a(random(2));
        coro::Channel<int> b(random(3));
        std::vector<int> sent;
        std::vector<int> received;
        std::vector<coro::Task<void>> tasks;
        const auto take = [&](std::optional<int> item) {
            if (item) received.push_back(*item);
        };
        for (int i = 0; i < 40; ++i) {
            const coro::Deadline deadline =
                random(3) == 0 ? coro::Deadline(std::chrono::microseconds(random(40)))
                               : coro::Deadline();
            tasks.push_back(coro::spawn([&, i, deadline] {
                turns(random(3));
                const auto done = [&] { sent.push_back(i); };
                switch (i % 4) {
                case 0:
                    coro::select(deadline, a.on_send(i, done), b.on_send(i, done));
                    break;
                case 1:
                    coro::select(deadline, a.on_receive(take), b.on_receive(take));
                    break;
                case 2:
                    coro::select(deadline, a.on_send(i, done), b.on_receive(take));
                    break;
                default:
                    take(b.receive(deadline));
                    break;
                }
            }));
        }
        for (int i = 0; i < 15; ++i) {
            turns(random(2));
            tasks[random(tasks.size())].cancel();
        }
        coro::wait_all_blocked();
        a.close();
        b.close();
        for (auto& task : tasks) {
            task.wait();
            if (!task.cancelled()) (void)task.exception();
        }
        for (auto* channel : {&a, &b})
            while (auto item = channel->try_receive())
                received.push_back(*item);
        std::sort(sent.begin(), sent.end());
        std::sort(received.begin(), received.end());
        CHECK(sent == received);
    });
}

TEST_CASE("channels and select allocate nothing", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_unshuffled_on(kernel_kind, [] {
        coro::Channel<int> there;
        coro::Channel<int> back;
        coro::Channel<int> never;
        auto other = coro::spawn([&] {
            bool more = true;
            while (more)
                coro::select(never.on_receive([](auto) {}),
                             there.on_receive([&](std::optional<int> item) {
                                 more = item.has_value();
                                 if (more) back.send(*item + 1);
                             }));
        });
        const auto rounds = [&] {
            int sum = 0;
            for (int i = 0; i < 100; ++i) {
                there.send(i);
                sum += *back.receive();
            }
            return sum;
        };
        rounds();
        const AllocationCount count;
        const int sum = rounds();
        const std::size_t allocations = count.count();
        CHECK(allocations == 0);
        CHECK(sum == 5050);
        there.close();
        other.wait();
    });
}
