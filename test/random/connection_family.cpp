#include "family.hpp"

#include <weft/transports/connect.hpp>

using namespace weft;
using namespace weft::test;

namespace {

char content(std::uint64_t position) { return static_cast<char>(position * 131 + (position >> 8)); }

struct Side : Protocol {
    explicit Side(Round& used) : round(used) {}
    void connection_made(Transport& made) override { transport = &made; }
    void data_received(Bytes data) override {
        round.note("% bytes arrive, at %", static_cast<std::int64_t>(data.size()), static_cast<std::int64_t>(received));
        for (const std::byte byte : data) RANDOM_EQUAL(static_cast<char>(byte), content(received++));
    }
    void write(std::size_t size) {
        round.operation("write of % bytes", static_cast<std::int64_t>(size));
        std::string text(size, '\0');
        for (char& c : text) c = content(sent++);
        transport->write(text);
    }
    Round& round;
    Transport* transport = nullptr;
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
};

void play(Round& round) {
    LoopOptions options;
    options.kernel = round.make_kernel();
    Loop loop(std::move(options));
    auto first = std::make_unique<Side>(round), second = std::make_unique<Side>(round);
    Side& a = *first;
    Side& b = *second;
    (void)connected_pair(loop, std::move(first), std::move(second));
    loop.run_once();
    const std::size_t count = 50 + round.random.below(50);
    for (std::size_t i = 0; i < count; ++i) {
        if (!round.random.one_in(3)) (round.random.one_in(2) ? a : b).write(round.random.size(100000));
        if (round.random.one_in(2)) loop.run_once();
    }
    for (int i = 0; i < 10000 && (a.received < b.sent || b.received < a.sent); ++i) loop.run_once();
    RANDOM_EQUAL(a.received, b.sent);
    RANDOM_EQUAL(b.received, a.sent);
}

const RegisterFamily family({"connection", "two ends of a stream, bytes compared", &play});

} // namespace
