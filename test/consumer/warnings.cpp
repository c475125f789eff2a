// A user's program that is compiled with all warnings as errors: options by name, and callables of
// every size and kind.

#include <weft/coro/coro.hpp>
#include <weft/protocols/codecs/framed_protocol.hpp>
#include <weft/reactor/sim/sim_kernel.hpp>
#include <weft/reactor/thread_pool.hpp>
#include <weft/transports/connect/connect.hpp>
#include <weft/transports/datagram/udp.hpp>
#include <weft/transports/pipe/pipe.hpp>
#include <weft/transports/server/server.hpp>

#include <cstdio>

namespace coro = weft::coro;
using namespace std::chrono_literals;

void listens(weft::ListenOptions);
void connects(weft::ConnectOptions);
void binds(const weft::UdpOptions&);
void makes(weft::LoopOptions);
void serves(coro::ServeOptions);
void runs(coro::RunOptions);
void reports(const weft::Unhandled&);

void options() {
    listens({.backlog = 5});
    connects({.timeout = 1s});
    binds({.reuse_port = true});
    makes({.debug = true});
    serves({.started = [](auto&) {}});
    serves({.listen = {.max_connections = 5}});
    runs({.handle_interrupt = false});
    reports({.message = "something"});
}

struct Padded {
    long a;
    char b;
    int c;
};

int callables() {
    weft::Loop loop;
    int count = 0;
    char letter = 'x';
    const Padded padded{1, 2, 3};
    (void)loop.post([] { std::puts("posted"); });
    loop.call_soon([] {});
    loop.call_soon([padded] { std::putchar(padded.b); });
    const auto once = loop.call_later(1h, [] {});
    const auto other = loop.call_later(1h, [&count] { ++count; });
    const auto often = loop.call_every(1h, [letter, &count] { count += letter; });
    loop.on_unhandled([](const weft::Unhandled&) {});
    loop.on_wake([] {});
    const auto signal = loop.on_signal(15, [&] { loop.stop(); });
    auto future =
        loop.run_in_executor([letter] { return int(letter); }).then([](int n) { return n; });
    future.add_done_callback([](auto) {});
    weft::ThreadPool pool;
    (void)pool.submit([] {});
    weft::Function<void()> function([letter] { std::putchar(letter); }), assigned;
    assigned = std::move(function);
    assigned();
    loop.run_once();
    return count;
}

void coroutines() {
    coro::run([] {
        auto task = coro::spawn([] { coro::sleep(1ms); });
        auto remote = coro::start(coro::this_loop().remote(), [] { return 1; });
        remote.cancel();
        const auto value = coro::with_timeout(1s, [] { return 1; });
        coro::task_group(
            [&](coro::TaskGroup& group) { (void)group.spawn([value] { (void)value; }); });
        coro::Queue<int> queue(5);
        queue.put(1);
        (void)queue.get();
        (void)coro::gather([] { return 1; }, [] { return 2; });
        task.join();
    });
}
