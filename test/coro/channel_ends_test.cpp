// Channels whose ends count their owners.

#include "coro_support.hpp"

using namespace weft;
using namespace weft::test;

TEST_CASE("A channel is closed when the last of its senders has gone", "[s60][coro]") {
    run_on(simulated_kernels().front(), [] {
        int sum = 0;
        coro::task_group([&](coro::TaskGroup& group) {
            auto [sender, receiver] = coro::channel_ends<int>(2);
            for (int i = 1; i <= 3; ++i)
                group.spawn([sender = sender, i]() mutable {
                    for (int j = 0; j < 10; ++j)
                        sender.send(i);
                });
            sender.close();
            CHECK_FALSE(sender.valid());
            for (const int item : receiver)
                sum += item;
            CHECK_FALSE(receiver.receive());
        });
        CHECK(sum == 60);
    });
}

TEST_CASE("Without receivers nothing can be sent, and those that wait to send hear of it",
          "[s60][coro]") {
    run_on(simulated_kernels().front(), [] {
        auto [sender, receiver] = coro::channel_ends<int>();
        coro::Receiver<int> second = receiver;
        std::error_code code;
        auto waiting = coro::spawn([&, &sender = sender] {
            try {
                sender.send(1);
            } catch (const std::system_error& error) {
                code = error.code();
            }
        });
        turns(3);
        receiver.close();
        turns(3);
        CHECK_FALSE(waiting.done()); // there is another one
        second = {};
        waiting.join();
        CHECK(code == Errc::closed);
        CHECK(sender.try_send(2) == Errc::closed);
        CHECK_THROWS_AS(receiver.receive(), UsageError);
    });
}

TEST_CASE("An end may go while somebody waits through it", "[s60][coro]") {
    run_on(simulated_kernels().front(), [] {
        auto ends = coro::channel_ends<int>();
        auto receiver = std::make_unique<coro::Receiver<int>>(std::move(ends.second));
        auto waiting = coro::spawn([&] { return receiver->receive(); });
        turns(3);
        receiver.reset();
        CHECK_FALSE(waiting.join());
        CHECK(ends.first.try_send(1) == Errc::closed);
    });
}

TEST_CASE("Ends take part in a select, and moving one leaves its count", "[s68][coro]") {
    run_on(simulated_kernels().front(), [] {
        auto [sender, receiver] = coro::channel_ends<int>(1);
        coro::Sender<int> moved = std::move(sender);
        int got = 0;
        CHECK(coro::select(moved.on_send(7)) == 0);
        CHECK(coro::select(receiver.on_receive([&](std::optional<int> item) { got = *item; })) ==
              0);
        CHECK(got == 7);
        CHECK_FALSE(receiver.try_receive());
        moved = coro::Sender<int>();
        CHECK_FALSE(receiver.receive());
    });
}

TEST_CASE("The coroutines of an embedded loop are ended in good order", "[s69][coro]") {
    WEFT_TEST_KERNEL(real_kernels);
    const ResourceGuard guard;
    LoopOptions options;
    options.kernel = kernel_kind.make();
    Loop loop(std::move(options));
    coro::cancel_all(loop); // there are none
    bool cleaned = false;
    coro::spawn(loop, [&] {
        coro::finally([] { coro::sleep_forever(); },
                      [&] {
                          coro::sleep(1ms); // a clean-up that waits
                          cleaned = true;
                      });
    }).detach();
    const auto step = [&] { loop.run_once(); };
    for (int i = 0; i < 5; ++i)
        loop.call_soon([] {}), step();
    coro::cancel_all(loop);
    while (!coro::all_tasks(loop).empty())
        step();
    CHECK(cleaned);
    loop.close();
}
