// Services on weft that are of use to benchmarks and tests alone: an echo that computes for some
// messages, that guards its connections with an idle timeout, or that wastes what bench/guard is
// to notice.

#include "service.hpp"

#include <weft/protocols/codecs/framed_protocol.hpp>
#include <weft/transports/datagram/udp.hpp>
#include <weft/transports/server/server.hpp>

#include <cstdio>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

struct Options : bench::ServiceOptions {
    double idle_timeout = 0; ///< seconds; 0: none
    std::string speak;       ///< empty: an echo
    std::size_t length = 0;  ///< of an answer in HTTP, at least
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
                weft::Duration(std::chrono::duration<double>(options_.idle_timeout)));
    }
    void data_received(weft::Bytes data) override {
        if (options_.hog && char(data[0]) == '!') bench::compute();
        if (allocates_) kept_.reset(new char[64]);
        if (calls_) ::syscall(SYS_getppid);
        transport_->write(data);
    }
    void pause_writing() override { transport_->pause_reading(); }
    void resume_writing() override { transport_->resume_reading(); }

private:
    const Options& options_;
    const bool allocates_;
    const bool calls_;
    weft::Transport* transport_ = nullptr;
    std::unique_ptr<char[]> kept_;
};

/// HTTP as far as a fixed answer needs it: requests end with an empty line.
class Answer final : public weft::FramedProtocol<weft::LineFramer> {
public:
    explicit Answer(std::size_t length) : FramedProtocol(weft::LineFramer(weft::LineEnd::crlf)) {
        const std::size_t size = text_.size();
        if (size < length) text_.insert(text_.find("\r\nContent-Type"), length - size, '.');
    }

    void message_received(weft::Bytes line) override {
        if (line.empty()) transport().write(weft::bytes_of(text_));
    }
    void pause_writing() override { transport().pause_reading(); }
    void resume_writing() override { transport().resume_reading(); }

private:
    std::string text_ = "HTTP/1.1 200 OK\r\n"
                        "Server: weft\r\n"
                        "Content-Type: text/plain\r\n"
                        "Content-Length: 5\r\n"
                        "Connection: keep-alive\r\n\r\nhello";
};

class DatagramEcho final : public weft::DatagramProtocol {
public:
    explicit DatagramEcho(const Options& options) : options_(options) {}
    void datagram_received(const weft::Datagram& datagram) override {
        if (options_.wants(datagram.data)) datagram.transport.send_to(datagram.data, datagram.from);
    }

private:
    const Options& options_;
};

} // namespace

int main(int argc, char** argv) try {
    CLI::App app("An echo service on weft with what benchmarks need beyond `weft echo`");
    Options options;
    options.add_to(app);
    app.add_option("--idle-timeout", options.idle_timeout, "seconds; each message starts it over");
    app.add_option("--speak", options.speak, "answer HTTP requests instead of an echo")
        ->check(CLI::IsMember({"http"}));
    app.add_option("--length", options.length, "bytes of an answer in HTTP, at least");
    app.add_option("--waste", options.waste, "something more for every message")
        ->check(CLI::IsMember({"allocation", "syscall"}));
    CLI11_PARSE(app, argc, argv);
    weft::Loop loop(options.loop());
    if (options.udp) {
        auto endpoint =
            weft::udp::bind(loop, options.address(), std::make_unique<DatagramEcho>(options));
        if (!endpoint) throw std::runtime_error(endpoint.error().message());
        loop.run();
    }
    auto make = [&]() -> std::unique_ptr<weft::Protocol> {
        if (options.speak.empty()) return std::make_unique<Echo>(options);
        return std::make_unique<Answer>(options.length);
    };
    auto server = weft::tcp::listen(loop, options.address(), make);
    if (!server) throw std::runtime_error(server.error().message());
    loop.run();
} catch (const std::exception& error) {
    std::fprintf(stderr, "bench-services: %s\n", error.what());
    return 1;
}
