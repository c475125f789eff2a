// Answers each line with its length, and says good-bye to "quit": lines 127.0.0.1:8008

#include <weft/protocols/codecs/framed_protocol.hpp>
#include <weft/transports/server/server.hpp>

#include <csignal>
#include <cstdio>
#include <string>

struct Counter final : weft::LineProtocol {
    void line_received(std::string_view line) override {
        if (line == "quit") {
            write_line("good-bye");
            transport().close();
        } else {
            write_line(std::to_string(line.size()));
        }
    }
    // The framing's error names what is wrong: "lines: longer than 65536 bytes".
    void framing_error(const weft::Error& error) override {
        write_line(error.message());
        transport().close();
    }
};

int main(int argc, char** argv) try {
    weft::Loop loop;
    auto server = weft::tcp::listen(loop, argc > 1 ? argv[1] : "127.0.0.1:8008", [] {
                      return std::make_unique<Counter>();
                  }).value();
    auto terminate = loop.on_signal(SIGTERM, [&] { loop.stop(); }).value();
    std::printf("listening on %s\n", server.addresses().front().to_string().c_str());
    std::fflush(stdout);
    loop.run();
} catch (const std::exception& error) {
    std::fprintf(stderr, "lines: %s\n", error.what());
    return 1;
}
