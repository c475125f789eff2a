// Streams that hand out and take buffers, and what goes wrong at the edges of reading and writing.

#include "stream_support.hpp"

#include <weft/coro/coro.hpp>
#include <weft/reactor/loop_core.hpp>

#include <sys/socket.h>

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;
using coro::Stream;

namespace {

std::string pattern_of(std::size_t size) {
    std::string text(size, '\0');
    for (std::size_t i = 0; i < size; ++i)
        text[i] = static_cast<char>((i * 2654435761u) >> 13);
    return text;
}

} // namespace

TEST_CASE("A stream's input is handed out as buffers and sent on, at every size of message") {
    WEFT_TEST_KERNEL(waking_kernels);
    const std::size_t size = GENERATE(1, 64, 4096, 65536, 300'000, 3 << 20);
    const ResourceGuard guard;
    coro::run(
        [&] {
            auto [near, far] = coro::stream_pair();
            const std::string sent = pattern_of(size);
            coro::task_group([&, &near = near, &far = far](coro::TaskGroup& group) {
                (void)group.spawn([&] {
                    while (Buffer data = far.read())
                        far.write(std::move(data));
                    far.write_eof();
                });
                (void)group.spawn([&] {
                    near.write(sent);
                    near.write_eof();
                });
                std::string got;
                while (Buffer data = near.read())
                    got += data.text();
                CHECK((got == sent));
                CHECK(!near.read()); // the end stays
            });
        },
        options_on(kernel_kind));
}

TEST_CASE("A buffer read after a line holds what came behind it") {
    coro::run([] {
        auto [near, far] = coro::stream_pair();
        near.write("line\nrest of it");
        CHECK(far.read_line() == "line");
        CHECK(far.read().text() == "rest of it");
        near.write("more");
        CHECK(far.read().text() == "more");
    });
}

TEST_CASE("A cancelled read of a buffer loses nothing [s68] [s97]") {
    WEFT_TEST_KERNEL(waking_kernels);
    coro::run(
        [] {
            auto [near, far] = coro::stream_pair();
            CHECK_THROWS_AS(far.read(10ms), coro::TimeoutError);
            auto reader = coro::spawn([&far = far] { return std::string(far.read().text()); });
            coro::yield();
            reader.cancel();
            near.write("data");
            CHECK_THROWS_AS(reader.join(), Cancelled);
            CHECK(far.read().text() == "data");
        },
        options_on(kernel_kind));
}

TEST_CASE("Small input is copied once many blocks are kept") {
    coro::run([] {
        auto [near, far] = coro::stream_pair();
        std::vector<Buffer> kept;
        for (int i = 0; i < 500; ++i) {
            near.write("x");
            near.flush();
            kept.push_back(far.read());
        }
        CHECK(weft::detail::core_of(coro::this_loop()).blocks().out() < 40);
    });
}

TEST_CASE("A buffer whose write is cancelled while it waits for room is still the caller's [s68]") {
    coro::run([] {
        auto [near, far] = coro::stream_pair();
        near.write(Buffer(pattern_of(1 << 20)));
        Buffer more(std::string(1000, 'm'));
        CHECK_THROWS_AS(near.write(std::move(more), 10ms), coro::TimeoutError);
        CHECK(more.size() == 1000);
        near.write_eof();
        CHECK(far.read_to_end().size() == 1 << 20);
    });
}

TEST_CASE("Long writes of several coroutines leave whole, one behind the other") {
    WEFT_TEST_KERNEL(waking_kernels);
    coro::run(
        [] {
            auto [near, far] = coro::stream_pair();
            constexpr std::size_t size = 900'000;
            std::string got;
            coro::task_group([&, &near = near, &far = far](coro::TaskGroup& group) {
                coro::task_group([&](coro::TaskGroup& writers) {
                    for (char c : {'a', 'b', 'c', 'd'})
                        (void)writers.spawn([&near, c] {
                            const std::string text(size, c);
                            near.write(text);
                            near.write("[short]");
                        });
                    (void)group.spawn([&] {
                        while (Buffer data = far.read())
                            got += data.text();
                    });
                });
                near.write_eof();
            });
            std::size_t at = 0;
            for (int whole = 0; whole < 4;) {
                if (got.compare(at, 7, "[short]") == 0) {
                    at += 7;
                    continue;
                }
                REQUIRE(at < got.size());
                CHECK(got.find_first_not_of(got[at], at) >= std::min(at + size, got.size()));
                at += size;
                ++whole;
            }
            CHECK(got.size() == 4 * (size + 7));
        },
        options_on(kernel_kind));
}

TEST_CASE("A long write that is cancelled half-way is whole at the other end [s68]") {
    WEFT_TEST_KERNEL(waking_kernels);
    const int how = GENERATE(0, 1, 2);
    coro::run(
        [how] {
            auto [near, far] = coro::stream_pair();
            const std::string expected = pattern_of(2'000'000);
            auto writer = coro::spawn([&near = near, &expected] {
                auto text = std::make_unique<std::string>(expected); // gone when it is cancelled
                near.write(*text);
            });
            while (near.transport()->write_buffer_size() == 0)
                coro::sleep(1ms);
            if (how == 0) writer.cancel();
            if (how == 1) near.close();
            if (how == 2) {
                Stream gone = std::move(near);
                (void)gone;
            }
            CHECK_THROWS(writer.join());
            if (how == 0) near.write_eof();
            std::string got;
            while (Buffer data = far.read())
                got += data.text();
            CHECK((got == expected));
        },
        options_on(kernel_kind));
}

TEST_CASE("A reset is seen by those that do not read: is_open and wait_closed [s98]") {
    WEFT_TEST_KERNEL(waking_kernels);
    coro::run(
        [] {
            coro::Listener listener("127.0.0.1:0");
            Stream near = coro::connect(listener.addresses().front().to_string());
            Stream far = listener.accept();
            near.write("unread");
            near.flush();
            auto waiter = coro::spawn([&far] { far.wait_closed(); });
            coro::sleep(1ms);
            CHECK(far.is_open());
            near.abort();
            waiter.join();
            CHECK(!far.is_open());
            CHECK(far.read().text() == "unread"); // what had come is still to be read
            CHECK_THROWS_AS(far.read(), std::system_error);
        },
        options_on(kernel_kind));
}

TEST_CASE("The last line tells whether it had its end [s96]") {
    coro::run([] {
        auto [near, far] = coro::stream_pair();
        near.write("whole\ncut");
        near.write_eof();
        CHECK(far.read_line() == "whole");
        CHECK(far.line_complete());
        CHECK(far.read_line() == "cut");
        CHECK(!far.line_complete());
        CHECK(!far.read_line());
    });
}

TEST_CASE("A separator that does not come is told with the bytes that did") {
    coro::run([] {
        auto [near, far] = coro::stream_pair();
        near.write("12345");
        near.write_eof();
        try {
            (void)far.read_until("\n");
            FAIL("it returned");
        } catch (const coro::IncompleteRead& end) {
            CHECK(end.partial == "12345");
            CHECK(std::string(end.what()).find("after 5 bytes") != std::string::npos);
        }
    });
}

TEST_CASE("Peers that fall silent or stop in the middle are closed in order, and not reported") {
    const int how = GENERATE(0, 1);
    std::vector<std::string> reports;
    coro::run([&] {
        coro::this_loop().on_unhandled(
            [&](const Unhandled& what) { reports.push_back(std::string(what.message)); });
        std::string address;
        coro::Event listening;
        auto server = coro::spawn([&] {
            coro::serve("127.0.0.1:0",
                        [how](Stream& peer) {
                            if (how == 0) (void)peer.read_line(20ms);
                            if (how == 1) (void)peer.read_exactly(100);
                        },
                        {.started = [&](const std::vector<Address>& at) {
                            address = at.front().to_string();
                            listening.set();
                        }});
        });
        listening.wait();
        Stream peer = coro::connect(address);
        if (how == 1) {
            peer.write("half");
            peer.write_eof();
        }
        CHECK(!peer.read()); // FIN, and no reset
        server.cancel();
        CHECK_THROWS_AS(server.join(), Cancelled);
    });
    CHECK(reports.empty());
}

TEST_CASE("A batch of answers leaves with one send however many batches came before [s126]") {
    const std::size_t batches = 1000;
    auto faulty = std::make_unique<sim::FaultyKernel>(std::make_unique<sim::SimKernel>());
    sim::FaultyKernel& kernel = *faulty;
    coro::RunOptions options;
    options.loop.kernel = std::move(faulty);
    coro::run(
        [&] {
            coro::Listener listener("127.0.0.1:0");
            Stream near = coro::connect(listener.addresses().front().to_string());
            Stream far = listener.accept();
            auto server = coro::spawn([&far] {
                while (auto line = far.read_line()) {
                    far.write(*line);
                    far.write("\n");
                }
            });
            std::string batch;
            for (int i = 0; i < 16; ++i)
                batch += "a line\n";
            const auto sends = [&] {
                return kernel.calls(sim::Call::send) + kernel.calls(sim::Call::sendv);
            };
            const std::size_t before = sends();
            for (std::size_t i = 0; i < batches; ++i) {
                near.write(batch);
                (void)near.read_exactly(batch.size());
            }
            CHECK(sends() - before == 2 * batches);
            near.write_eof();
            server.join();
        },
        std::move(options));
}
