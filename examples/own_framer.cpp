// A framing of one's own: own_framer 127.0.0.1:8012. Records are a type, a length of three bytes
// and so much content; "+" adds up the bytes of its content, and any other is sent back.

#include <weft/protocols/codecs/framed_protocol.hpp>
#include <weft/transports/server/server.hpp>

#include <csignal>
#include <cstdio>
#include <numeric>

struct Record {
    char type;
    std::string_view content;
};

class RecordFramer {
public:
    weft::Scan scan(weft::Bytes bytes, std::size_t) const noexcept {
        if (bytes.size() < header) return weft::Scan::more(header);
        const auto digit = [&](std::size_t i) { return std::to_integer<std::size_t>(bytes[i]); };
        const std::size_t size = digit(1) << 16 | digit(2) << 8 | digit(3);
        if (size > max_message()) return weft::Scan::too_long(size);
        if (bytes.size() < header + size) return weft::Scan::more(header + size);
        return weft::Scan::frame(0, header + size, header + size);
    }
    /// What `message_received` gets.
    Record message(weft::Bytes frame) const noexcept {
        return {weft::text_of(frame)[0], weft::text_of(frame.subspan(header))};
    }
    std::size_t max_message() const noexcept { return 1 << 20; }
    std::size_t max_frame() const noexcept { return header + max_message(); }
    std::string_view name() const noexcept { return "records"; }

private:
    static constexpr std::size_t header = 4;
};

struct Connection final : weft::FramedProtocol<RecordFramer> {
    void message_received(Record record) override {
        if (record.type != '+') return send(record);
        const unsigned sum = std::accumulate(record.content.begin(), record.content.end(), 0U);
        const std::string text = std::to_string(sum);
        send({'=', text});
    }
    void send(Record record) {
        const std::size_t size = record.content.size();
        const char header[]{record.type, static_cast<char>(size >> 16),
                            static_cast<char>(size >> 8), static_cast<char>(size)};
        const weft::Bytes pieces[]{weft::bytes_of({header, sizeof header}),
                                   weft::bytes_of(record.content)};
        transport().write_all(pieces);
    }
    void pause_writing() override { transport().pause_reading(); }
    void resume_writing() override { transport().resume_reading(); }
};

int main(int argc, char** argv) try {
    weft::Loop loop;
    auto server = weft::tcp::listen(loop, argc > 1 ? argv[1] : "127.0.0.1:8012", [] {
                      return std::make_unique<Connection>();
                  }).value();
    auto terminate = loop.on_signal(SIGTERM, [&] { loop.stop(); }).value();
    std::printf("listening on %s\n", server.addresses().front().to_string().c_str());
    std::fflush(stdout);
    loop.run();
} catch (const std::exception& error) {
    std::fprintf(stderr, "own_framer: %s\n", error.what());
    return 1;
}
