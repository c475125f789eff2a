#include "stream_support.hpp"

#include <array>

using namespace weft;
using namespace weft::test;
using coro::Stream;

namespace {

/// `serve` at a free port in a task of its own.
struct Service {
    explicit Service(coro::StreamHandler handler, Duration grace = Duration(0)) {
        task = coro::spawn([this, grace, handler = std::move(handler)]() mutable {
            coro::ServeOptions options;
            options.grace = grace;
            options.started = [this](const std::vector<Address>& addresses) {
                address = addresses.front().to_string();
            };
            coro::serve("127.0.0.1:0", std::move(handler), std::move(options));
        });
        while (address.empty())
            coro::yield();
    }
    void end() {
        task.cancel();
        task.wait();
        CHECK(task.cancelled());
    }
    std::string address;
    coro::Task<void> task;
};

void echo(Stream& peer) {
    std::array<std::byte, 1024> buffer;
    while (auto n = peer.read_some(buffer))
        peer.write(Bytes(buffer).first(n));
}

} // namespace

TEST_CASE("serve handles each connection in a coroutine of its own", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        Service service(&echo);
        std::vector<Stream> clients;
        for (int i = 0; i < 30; ++i)
            clients.push_back(coro::connect(service.address));
        for (int round = 0; round < 3; ++round)
            for (Stream& client : clients)
                client.write("hello");
        for (Stream& client : clients)
            CHECK(client.read_exactly(15) == "hellohellohello");
        clients.front().write_eof();
        CHECK(clients.front().read_to_end().empty());
        service.end();
        CHECK_THROWS_AS(coro::connect(service.address), std::system_error);
    });
}

TEST_CASE("A handler that throws ends its own connection and is reported", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        UnhandledLog unhandled;
        Service service([](Stream& peer) {
            if (peer.read_line() == "throw") throw std::runtime_error("as asked");
            peer.write("fine\n");
        });
        Stream bad = coro::connect(service.address);
        bad.write("throw\n");
        CHECK_THROWS_AS(bad.read_to_end(), std::system_error);
        Stream good = coro::connect(service.address);
        good.write("x\n");
        CHECK(good.read_to_end() == "fine\n");
        REQUIRE(unhandled.texts.size() == 1);
        CHECK(contains(unhandled.texts[0], "the handler of the connection with 127.0.0.1:"));
        CHECK(contains(unhandled.texts[0], "as asked"));
        // That a peer goes away is no news.
        Stream rude = coro::connect(service.address);
        settle();
        rude.abort();
        settle();
        CHECK(unhandled.texts.size() == 1);
        service.end();
    });
}

TEST_CASE("A handler may release its stream and throw", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        UnhandledLog unhandled;
        struct Nothing final : Protocol {};
        Service service([](Stream& peer) {
            (void)peer.release(std::make_unique<Nothing>());
            throw std::runtime_error("afterwards");
        });
        Stream client = coro::connect(service.address);
        settle();
        CHECK(unhandled.texts.size() == 1);
        client.close();
        service.end();
    });
}

TEST_CASE("An address that can not be listened on is an error by its name", "[s99][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        Service service(&echo);
        const std::string text =
            text_thrown<std::system_error>([&] { coro::serve(service.address, &echo); });
        CHECK(contains(text, service.address));
        CHECK_THROWS_AS(coro::Listener(service.address), std::system_error);
        CHECK_THROWS_AS(coro::Listener("nonsense"), std::system_error);
        service.end();
    });
}

TEST_CASE("serve that is cancelled gives its handlers the grace, and no more", "[s101][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        Trace trace;
        Service service(
            [&](Stream& peer) {
                const auto line = peer.read_line();
                try {
                    if (line == "short") coro::sleep(1s);
                    if (line == "long") coro::sleep(1h);
                    peer.write("done\n");
                    trace(std::string(*line));
                } catch (const Cancelled&) {
                    trace("cancelled");
                    throw;
                }
            },
            10s);
        Stream quick = coro::connect(service.address);
        Stream slow = coro::connect(service.address);
        quick.write("short\n");
        quick.flush();
        slow.write("long\n");
        settle();
        const TimePoint begin = coro::this_loop().now();
        service.end();
        CHECK(coro::this_loop().now() - begin == 10s);
        CHECK(trace.text == "short cancelled");
        CHECK(quick.read_to_end() == "done\n");
        CHECK_THROWS_AS(slow.read_to_end(), std::system_error);
    });
}

TEST_CASE("The grace ends when the last handler does, or at a second cancel", "[s101][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        const auto handler = [](Stream& peer) {
            if (peer.read_line()) coro::sleep(2s);
        };
        for (const bool impatient : {false, true}) {
            Service service(handler, 1h);
            Stream client = coro::connect(service.address);
            client.write("x\n");
            settle();
            const TimePoint begin = coro::this_loop().now();
            service.task.cancel();
            settle();
            CHECK_FALSE(service.task.done());
            if (impatient) service.task.cancel();
            service.task.wait();
            CHECK(coro::this_loop().now() - begin == (impatient ? Duration(0) : Duration(2s)));
        }
        // And with a scope instead of a task.
        coro::move_on_after(3s, [&] {
            Service service(handler, 1h);
            coro::sleep_forever();
        });
        coro::CancelScope scope(1s);
        scope.run([&] { coro::serve("127.0.0.1:0", handler, {.grace = 1h}); });
        CHECK(scope.cancelled_caught());
    });
}

TEST_CASE("A listener hands out hundreds that came before anybody accepted", "[s100][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Listener listener("127.0.0.1:0");
        const std::string address = listener.addresses().front().to_string();
        std::vector<Stream> clients;
        for (int i = 0; i < 200; ++i) {
            clients.push_back(coro::connect(address));
            clients.back().write(std::to_string(i) + "\n");
        }
        settle();
        std::vector<bool> seen(200);
        for (int i = 0; i < 200; ++i) {
            Stream peer = listener.accept(1h);
            seen[static_cast<std::size_t>(std::stoi(std::string(peer.read_line().value())))] = true;
        }
        CHECK(std::find(seen.begin(), seen.end(), false) == seen.end());
    });
}

TEST_CASE("Those that accept are served in turn, and a cancelled one takes nothing",
          "[s68][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::Listener listener("127.0.0.1:0");
        CHECK_THROWS_AS(listener.accept(0ms), coro::TimeoutError);
        Trace trace;
        std::vector<coro::Task<void>> tasks;
        for (const char* name : {"a", "b", "c"}) {
            tasks.push_back(coro::spawn([&, name] {
                Stream peer = listener.accept();
                trace(name);
            }));
            coro::wait_all_blocked();
        }
        tasks[1].cancel();
        const std::string address = listener.addresses().front().to_string();
        Stream one = coro::connect(address);
        Stream two = coro::connect(address);
        tasks[0].wait();
        tasks[2].wait();
        CHECK(trace.text == "a c");
        auto last = coro::spawn([&] { (void)listener.accept(); });
        settle();
        listener.close();
        CHECK(throws_code(Errc::closed, [&] { last.join(); }));
        CHECK(throws_code(Errc::closed, [&] { (void)listener.accept(); }));
    });
}

TEST_CASE("connect names every address it tried", "[s99][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        std::string address;
        {
            coro::Listener listener("127.0.0.1:0");
            address = listener.addresses().front().to_string();
        }
        const std::string text =
            text_thrown<std::system_error>([&] { (void)coro::connect(address); });
        CHECK(contains(text, address));
        CHECK(throws_code(std::errc::connection_refused, [&] { (void)coro::connect(address); }));
        CHECK_THROWS_AS(coro::connect("nonsense"), std::system_error);
        CHECK_THROWS_AS(coro::connect("@weft-test-nobody-there"), std::system_error);
    });
}

TEST_CASE("A connect whose time is up or that is cancelled leaves nothing behind",
          "[s102][F22][coro]") {
    const ResourceGuard guard;
    auto kernel = std::make_unique<sim::SimKernel>();
    kernel->set_latency(1h, 1h);
    coro::RunOptions options;
    options.loop.kernel = std::move(kernel);
    options.handle_interrupt = false;
    options.report_overflow = false;
    coro::run(
        [] {
            coro::Listener listener("127.0.0.1:0");
            const std::string address = listener.addresses().front().to_string();
            const std::size_t sources = coro::this_loop().stats().sources;
            CHECK(contains(
                text_thrown<coro::TimeoutError>([&] { (void)coro::connect(address, {}, 1s); }),
                "connect to " + address));
            auto task = coro::spawn([&] { (void)coro::connect(address); });
            settle();
            task.cancel();
            task.wait();
            CHECK(task.cancelled());
            settle();
            CHECK(coro::this_loop().stats().sources == sources);
        },
        std::move(options));
}

TEST_CASE("A handle counts, pauses and ends a serve at several addresses", "[s99][s101][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        const std::string name = "@weft-handle-" + std::to_string(::getpid());
        coro::ServeHandle serving;
        CHECK(serving.addresses().empty());
        CHECK_FALSE(serving.listening());
        bool returned = false;
        auto task = coro::spawn([&, handle = serving] {
            coro::serve({"127.0.0.1:0", name}, &echo, {.grace = 1h, .handle = handle});
            returned = true;
        });
        settle();
        const auto addresses = serving.addresses();
        REQUIRE(addresses.size() == 2);
        CHECK(serving.listening());
        CHECK(serving.port() == addresses[0].port());
        CHECK(addresses[1].to_string() == "unix:" + name);

        std::vector<Stream> clients;
        for (const Address& address : addresses) {
            clients.push_back(coro::connect(address));
            clients.back().write("hello");
            CHECK(clients.back().read_exactly(5) == "hello");
        }
        CHECK(serving.connections() == 2);
        CHECK(serving.counters().accepted == 2);

        serving.pause_accepting();
        Stream early = coro::connect(addresses[0]); // the kernel takes it
        early.write("hello");
        CHECK_THROWS_AS(early.read_exactly(5, 5ms), coro::TimeoutError);
        CHECK(serving.connections() == 2);
        serving.resume_accepting();
        CHECK(early.read_exactly(5) == "hello");
        clients.push_back(std::move(early));

        serving.close();
        settle();
        CHECK_FALSE(serving.listening());
        CHECK_THROWS_AS(coro::connect(addresses[0]), std::system_error);
        CHECK_FALSE(returned); // the handlers have their grace
        for (Stream& client : clients) {
            client.write("bye");
            client.write_eof();
            CHECK(client.read_to_end() == "bye");
        }
        task.join();
        CHECK(returned);
        CHECK(serving.connections() == 0);
    });
}

TEST_CASE("A serve that was closed returns when the grace is over, or is cancelled",
          "[s101][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    const Duration grace = GENERATE(Duration(0), Duration(5ms), Duration::max());
    run_on(kernel_kind, [&] {
        coro::ServeHandle serving;
        auto task = coro::spawn([&] {
            coro::serve("127.0.0.1:0", [](Stream&) { coro::sleep_forever(); },
                        {.grace = grace, .handle = serving});
        });
        settle();
        Stream client = coro::connect(serving.addresses().front());
        settle();
        CHECK(serving.connections() == 1);
        serving.close();
        serving.close();
        if (grace == Duration::max()) {
            settle();
            CHECK_FALSE(task.done());
            task.cancel();
            task.wait();
            CHECK(task.cancelled());
        } else {
            task.join();
        }
        CHECK_THROWS_AS(client.read_to_end(), std::system_error);
        // closed before it began
        CHECK_NOTHROW(coro::serve("127.0.0.1:0", &echo, {.handle = serving}));
    });
}

TEST_CASE("A handle is one serve's at a time, and several addresses are all or none",
          "[s99][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::ServeHandle serving;
        coro::Listener taken("127.0.0.1:0");
        const std::string second = taken.addresses().front().to_string();
        CHECK_THROWS_AS(coro::serve({"127.0.0.1:0", second}, &echo, {.handle = serving}),
                        std::system_error);
        CHECK(serving.addresses().empty());
        auto task = coro::spawn([&] { coro::serve("127.0.0.1:0", &echo, {.handle = serving}); });
        settle();
        CHECK(text_thrown<UsageError>([&] {
                  coro::serve("127.0.0.1:0", &echo, {.handle = serving});
              }) == "serve: the handle is that of another serve");
        task.cancel();
        CHECK_THROWS_AS(task.join(), Cancelled);
        // Ended in the callback that tells that it listens.
        coro::serve(
            "127.0.0.1:0", &echo,
            {.started = [&](const std::vector<Address>&) { serving.close(); }, .handle = serving});
        CHECK_FALSE(serving.listening());
    });
}
