#include "stream_support.hpp"
#include "support/heap.hpp"

#include <array>

using namespace weft;
using namespace weft::test;
using coro::Stream;
using sim::Call;

namespace {

void echo_lines(Stream& peer) {
    while (const auto line = peer.read_line())
        peer.write_all({*line, "\n"});
}

void echo_bytes(Stream& peer) {
    std::array<std::byte, 2048> buffer;
    while (const auto size = peer.read_some(buffer))
        peer.write(Bytes(buffer).first(size));
}

/// Requests on a warm TCP connection between two coroutines of one loop: what `count` of them cost.
void check_cost(const KernelKind& kind, void (*serve)(Stream&), const std::string& request) {
    run_on_faulty(kind, [&](sim::FaultyKernel& kernel) {
        auto [near, far] = tcp_streams();
        auto service = coro::spawn([&] { serve(far); });
        const auto exchange = [&, &client = near] {
            std::array<std::byte, 4096> answer;
            client.write(request);
            std::size_t got = 0;
            while (got < request.size())
                got += client.read_some(answer);
        };
        for (int i = 0; i < 10; ++i)
            exchange();
        kernel.reset_counts();
        const AllocationCount allocations;
        for (int i = 0; i < 100; ++i)
            exchange();
        const std::size_t allocated = allocations.count();
        // One each on either side.
        CHECK(kernel.calls(Call::recv) == 200);
        CHECK(kernel.calls(Call::send) == 200);
        for (const Call call : {Call::sendv, Call::add, Call::modify, Call::remove, Call::wake})
            CHECK(kernel.calls(call) == 0);
        // The simulated network and poll(2) do work of their own for an event.
        if (kind.name != std::string_view("sim")) CHECK(allocated == 0);
        near.write_eof();
        service.join();
    });
}

} // namespace

TEST_CASE("A request costs one receive, one send and no allocation", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    check_cost(kernel_kind, &echo_bytes, numbers(64));
}

TEST_CASE("Sixteen lines at once are answered line by line with one send", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    std::string batch;
    for (int i = 0; i < 16; ++i)
        batch += "line number " + std::to_string(i) + "\n";
    check_cost(kernel_kind, &echo_lines, batch);
}

TEST_CASE("A connection is registered once, and waiting for input asks for nothing", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on_faulty(kernel_kind, [](sim::FaultyKernel& kernel) {
        kernel.reset_counts();
        auto [near, far] = tcp_streams();
        std::array<std::byte, 64> buffer;
        CHECK_THROWS_AS(far.read_some(buffer, 0ms), coro::TimeoutError);
        CHECK_THROWS_AS(far.read_line(0ms), coro::TimeoutError);
        CHECK(kernel.calls(Call::recv) == 0);
        CHECK(kernel.calls(Call::add) == 3); // the listener, and both ends
    });
}

TEST_CASE("A coroutine that never has to wait does not come in between those that events resume",
          "[coro]") {
    run_on(simulated_kernels().front(), [] {
        constexpr std::size_t readers = 8;
        std::vector<std::pair<coro::Stream, coro::Stream>> pairs;
        for (std::size_t i = 0; i < readers; ++i)
            pairs.push_back(coro::stream_pair());
        std::size_t done = 0; // by the busy one
        std::vector<std::size_t> seen;
        coro::task_group([&](coro::TaskGroup& group) {
            for (auto& [near, far] : pairs)
                (void)group.spawn([&, &stream = far] {
                    CHECK(stream.read().text() == "x");
                    seen.push_back(done);
                });
            settle();
            (void)group.spawn([&] {
                coro::Event set;
                set.set();
                for (; seen.size() < readers; ++done)
                    set.wait();
            });
            settle();
            for (auto& [near, far] : pairs)
                near.write("x");
        });
        REQUIRE(seen.size() == readers);
        CHECK(seen.front() > 0);
        CHECK(seen.back() == seen.front());
    });
}

TEST_CASE("A stream that waits for a line holds no buffer", "[coro]") {
    WEFT_TEST_KERNEL(real_kernels);
    run_unshuffled_on(kernel_kind, [] {
        // More than the spare buffers that are kept.
        std::vector<std::pair<Stream, Stream>> pairs;
        for (int i = 0; i < 100; ++i)
            pairs.push_back(coro::stream_pair());
        std::vector<coro::Task<void>> tasks;
        for (auto& [near, far] : pairs)
            tasks.push_back(coro::spawn([&stream = far] {
                while (stream.read_line()) {
                }
            }));
        settle();
        const std::size_t before = heap().live_bytes;
        for (int round = 0; round < 3; ++round) {
            for (auto& [near, far] : pairs)
                near.write("a line\n");
            settle();
        }
        const std::size_t after = heap().live_bytes;
        CHECK(after < before + 100 * 16 * 1024 / 2);
        for (auto& [near, far] : pairs)
            near.write_eof();
        for (auto& task : tasks)
            task.join();
    });
}
