// Services on weft that are of use to benchmarks and tests alone: an echo that computes for some
// messages, that guards its connections with an idle timeout, or that wastes what bench/guard is
// to notice.

#include <weft/protocols/framed_protocol.hpp>
#include <weft/transports/server.hpp>
#include <weft/transports/udp.hpp>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

struct Options {
    std::uint16_t port = 8007;
    double idle_timeout = 0; ///< seconds; 0: none
    bool hog = false;
    bool udp = false;
    bool sink = false;
    std::string speak; ///< empty: an echo
    std::string waste;
};

class Echo final : public weft::Protocol {
public:
    explicit Echo(const Options& options)
        : options_(options), allocates_(options.waste == "allocation"),
          calls_(options.waste == "syscall") {}

    void connection_made(weft::Transport& transport) override {
        transport_ = &transport;
        if (options_.idle_timeout > 0)
            transport.set_idle_timeout(
                weft::to_duration(std::chrono::duration<double>(options_.idle_timeout)));
    }
    void data_received(weft::Bytes data) override {
        if (options_.hog && char(data[0]) == '!') compute();
        if (allocates_) kept_.reset(new char[64]);
        if (calls_) ::syscall(SYS_getppid);
        transport_->write(data);
    }
    void pause_writing() override { transport_->pause_reading(); }
    void resume_writing() override { transport_->resume_reading(); }

private:
    static void compute() {
        const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(1);
        while (std::chrono::steady_clock::now() < end) {
        }
    }

    const Options& options_;
    const bool allocates_;
    const bool calls_;
    weft::Transport* transport_ = nullptr;
    std::unique_ptr<char[]> kept_;
};

/// Redis' PING, and HTTP as far as a fixed answer needs it: requests end with an empty line.
class Answer final : public weft::FramedProtocol<weft::LineFramer> {
public:
    explicit Answer(bool http)
        : FramedProtocol(weft::LineFramer(weft::LineEnd::crlf)), http_(http) {}

    void message_received(weft::Bytes line) override {
        if (!http_)
            transport().write(weft::bytes_of("+PONG\r\n"));
        else if (line.empty())
            transport().write(weft::bytes_of("HTTP/1.1 200 OK\r\n"
                                             "Server: weft\r\n"
                                             "Content-Type: text/plain\r\n"
                                             "Content-Length: 5\r\n"
                                             "Connection: keep-alive\r\n\r\nhello"));
    }
    void pause_writing() override { transport().pause_reading(); }
    void resume_writing() override { transport().resume_reading(); }

private:
    const bool http_;
};

class DatagramEcho final : public weft::DatagramProtocol {
public:
    explicit DatagramEcho(bool sink) : sink_(sink) {}
    void datagram_received(const weft::Datagram& datagram) override {
        if (sink_ && char(datagram.data[0]) != '?') return;
        datagram.transport.send_to(datagram.data, datagram.from);
    }

private:
    const bool sink_;
};

} // namespace

int main(int argc, char** argv) try {
    CLI::App app("An echo service on weft with what benchmarks need beyond `weft echo`");
    Options options;
    app.add_option("--port", options.port, "port on 127.0.0.1")->capture_default_str();
    app.add_option("--idle-timeout", options.idle_timeout, "seconds; each message starts it over");
    app.add_flag("--hog", options.hog, "compute for a millisecond when a message begins with '!'");
    app.add_flag("--udp", options.udp, "echo datagrams");
    app.add_flag("--sink", options.sink, "answer only the datagrams that begin with '?'");
    app.add_option("--speak", options.speak, "answer PING or HTTP requests instead of an echo")
        ->check(CLI::IsMember({"ping", "http"}));
    app.add_option("--waste", options.waste, "something more for every message")
        ->check(CLI::IsMember({"allocation", "syscall"}));
    CLI11_PARSE(app, argc, argv);
    weft::Loop loop;
    const std::string address = "127.0.0.1:" + std::to_string(options.port);
    if (options.udp) {
        auto endpoint =
            weft::udp::bind(loop, address, std::make_unique<DatagramEcho>(options.sink));
        if (!endpoint) throw std::runtime_error(endpoint.error().message());
        loop.run();
    }
    auto server = weft::tcp::listen(loop, address, [&]() -> std::unique_ptr<weft::Protocol> {
        if (options.speak.empty()) return std::make_unique<Echo>(options);
        return std::make_unique<Answer>(options.speak == "http");
    });
    if (!server) throw std::runtime_error(server.error().message());
    loop.run();
} catch (const std::exception& error) {
    std::fprintf(stderr, "bench-services: %s\n", error.what());
    return 1;
}
