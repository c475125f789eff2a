// What the engine alone costs: requests, timers and callbacks over a kernel that is a script. No
// system call is made and no clock decides anything, so that the instructions of an operation are
// the same in every run; bench/guard counts them.

#include "figures.hpp"
#include "scripted_kernel.hpp"

#include <weft/protocols/codecs/framed_protocol.hpp>
#include <weft/transports/datagram/udp.hpp>
#include <weft/transports/server/server.hpp>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <stdexcept>

namespace {

constexpr int connections = 64;
constexpr int lines_in_flight = 16;
constexpr std::size_t message_size = 64;

class Echo final : public weft::Protocol {
public:
    void connection_made(weft::Transport& transport) override { transport_ = &transport; }
    void data_received(weft::Bytes data) override { transport_->write(data); }

private:
    weft::Transport* transport_ = nullptr;
};

/// Handles nothing: what each layer costs.
class Layer final : public weft::LayeredTransport {
public:
    explicit Layer(std::unique_ptr<weft::Protocol> above) : LayeredTransport(std::move(above)) {}
};

class LineEcho final : public weft::FramedProtocol<weft::LineFramer> {
public:
    LineEcho() : FramedProtocol(weft::LineFramer(weft::LineEnd::lf)) {}
    void message_received(weft::Bytes line) override { write_message(line); }
};

class DatagramEcho final : public weft::DatagramProtocol {
public:
    void datagram_received(const weft::Datagram& datagram) override {
        datagram.transport.send_to(datagram.data, datagram.from);
    }
};

/// A loop over a script of `peers` that send `message`.
struct World {
    World(std::string message, int peers) {
        auto made = std::make_unique<bench::ScriptedKernel>(std::move(message), peers);
        kernel = made.get();
        weft::LoopOptions options;
        options.kernel = std::move(made);
        options.debug = false;
        loop.emplace(std::move(options));
    }
    /// Runs until the script of `requests` is over; each turn serves one from every peer.
    void serve(std::uint64_t requests, int peers) {
        kernel->script(requests);
        for (std::uint64_t done = 0; done < requests; done += peers)
            loop->run_once();
    }

    bench::ScriptedKernel* kernel;
    std::optional<weft::Loop> loop;
};

std::string message() {
    return std::string(message_size - 1, 'x') + '\n';
}

/// A stream service; a request is a message of `bytes` on each connection.
template<class P>
void serve_streams(std::size_t count, std::string bytes, weft::LayerFactory layer = {}) {
    World world(std::move(bytes), connections);
    weft::ListenOptions options;
    options.layer = std::move(layer);
    auto server = weft::tcp::listen(
        *world.loop, "127.0.0.1:1", [] { return std::make_unique<P>(); }, options);
    if (!server) throw std::runtime_error(server.error().message());
    for (int i = 0; i < 4; ++i)
        world.loop->run_once(); // accepts
    world.serve(count, connections);
}

void echo(std::size_t count) {
    serve_streams<Echo>(count, message());
}

void layered_echo(std::size_t count) {
    serve_streams<Echo>(count, message(), weft::layered<Layer>());
}

void lines(std::size_t count) {
    std::string burst;
    for (int i = 0; i < lines_in_flight; ++i)
        burst += message();
    serve_streams<LineEcho>(count / lines_in_flight, burst);
}

void datagrams(std::size_t count) {
    World world(message(), 32);
    auto endpoint = weft::udp::bind(*world.loop, "127.0.0.1:1", std::make_unique<DatagramEcho>());
    if (!endpoint) throw std::runtime_error(endpoint.error().message());
    world.loop->run_once();
    world.serve(count, 32);
}

void require(bool condition) {
    if (!condition) throw std::runtime_error("not every callback ran once");
}

/// Timeouts between 10 and 60 s in no order, the same ones in every run.
weft::Duration some_timeout(std::size_t i) {
    return std::chrono::microseconds(10'000'000 + i * 7'919'113 % 50'000'000);
}

void add_and_cancel(std::size_t count) {
    World world({}, 0);
    std::vector<weft::Timer> others;
    for (std::size_t i = 0; i < 1000; ++i)
        others.push_back(world.loop->call_later(some_timeout(i), [] {}));
    for (std::size_t i = 0; i < count; ++i)
        weft::Timer timer = world.loop->call_later(some_timeout(i), [] {});
}

void add_and_fire(std::size_t count) {
    World world({}, 0);
    std::size_t ran = 0;
    for (std::size_t done = 0; done < count; done += 1000) {
        for (std::size_t i = 0; i < 1000; ++i)
            world.loop->call_later(some_timeout(i), [&] { ++ran; }).detach();
        world.loop->run_until_idle();
    }
    require(ran == count);
}

void call_soon(std::size_t count) {
    World world({}, 0);
    std::size_t ran = 0;
    for (std::size_t done = 0; done < count; done += 1000) {
        for (std::size_t i = 0; i < 1000; ++i)
            world.loop->call_soon([&] { ++ran; });
        world.loop->run_once();
    }
    require(ran == count);
}

void post(std::size_t count) {
    World world({}, 0);
    std::size_t ran = 0;
    for (std::size_t done = 0; done < count; done += 1000) {
        for (std::size_t i = 0; i < 1000; ++i)
            require(!world.loop->post([&] { ++ran; }));
        world.loop->run_once();
    }
    require(ran == count);
}

const std::map<std::string, void (*)(std::size_t)> operations{
    {"echo", echo},
    {"echo through a layer", layered_echo},
    {"line", lines},
    {"datagram", datagrams},
    {"timer, add and cancel", add_and_cancel},
    {"timer, add and fire", add_and_fire},
    {"call_soon", call_soon},
    {"post", post},
};

} // namespace

int main(int argc, char** argv) try {
    CLI::App app("What weft's engine costs without a kernel, in nanoseconds for one operation");
    std::string name;
    std::size_t count = 64'000;
    int repetitions = 15;
    bool json = false;
    bool compiler = false;
    app.add_option("--operation", name, "only do this one, and measure nothing")
        ->check(CLI::IsMember(operations));
    app.add_option("--count", count, "how often; a multiple of 64'000")->capture_default_str();
    app.add_option("--repetitions", repetitions, "the fastest of so many is reported")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_flag("--json", json, "print JSON instead of a table");
    app.add_flag("--compiler", compiler, "only print what this was compiled with");
    CLI11_PARSE(app, argc, argv);
    if (compiler) {
        std::puts(__VERSION__);
        return 0;
    }
    if (!name.empty()) {
        operations.at(name)(count);
        return 0;
    }
    // What a world costs to make is spread over many operations.
    constexpr std::size_t many = 640'000;
    bench::Figures figures(repetitions);
    for (const auto& [title, operation] : operations)
        figures.measure(title, many, CLOCK_THREAD_CPUTIME_ID, [&] { operation(many); });
    figures.print(json);
} catch (const std::exception& error) {
    std::fprintf(stderr, "bench-engine: %s\n", error.what());
    return 1;
}
