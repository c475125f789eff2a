#include "stream_support.hpp"

using namespace weft;
using namespace weft::test;
using coro::Stream;

// Beside what the cases of streams check on every link, of which two have layers.

namespace {

/// Says a word to its peer, and opens when it has heard it from there.
class Handshake final : public LayeredTransport {
public:
    explicit Handshake(std::string word)
        : LayeredTransport(nullptr, Handles::input), word_(std::move(word)) {}

private:
    void begin() override { below().write(word_); }
    void received(Bytes data) override {
        heard_ += text_of(data);
        if (heard_.size() < word_.size()) return;
        const std::string rest = heard_.substr(word_.size());
        if (heard_.substr(0, word_.size()) != word_)
            return abort(make_error_code(std::errc::protocol_error));
        open();
        pass_input();
        below().unread(bytes_of(rest));
    }
    std::string word_;
    std::string heard_;
};

} // namespace

TEST_CASE("A stream goes on through a layer that is put on it, with what was not read yet") {
    on_every_link([](Stream& near, Stream& far) {
        near.write("line\nabc");
        CHECK(far.read_line() == "line");
        CHECK(text_of(far.peek(3)) == "abc");
        auto other = coro::spawn([&] {
            near.add_layer(std::make_unique<Handshake>("abc"));
            near.write("inside");
        });
        far.add_layer(std::make_unique<Handshake>("abc")); // what is there is its input
        CHECK(far.read_exactly(3) == "abc");               // of the other's handshake
        CHECK(far.read_exactly(6) == "inside");
        other.join();
        far.write("answer");
        CHECK(near.read_exactly(6) == "answer");
        CHECK(far.peer_address() == far.transport()->peer_address());
    });
}

TEST_CASE("A layer that cannot settle with its peer ends the stream with its reason") {
    coro::run([] {
        auto [near, far] = coro::stream_pair();
        far.write("whatever");
        CHECK(throws_code(std::errc::protocol_error,
                          [&] { near.add_layer(std::make_unique<Handshake>("abc")); }));
        CHECK(!near.is_open());
        near.wait_closed();
    });
}

TEST_CASE("A layer that does not open in time, or is cancelled, takes the connection with it") {
    coro::run([] {
        auto [near, far] = coro::stream_pair();
        CHECK_THROWS_AS(near.add_layer(std::make_unique<Handshake>("abc"), 1ms),
                        coro::TimeoutError);
        CHECK(!near.is_open());
        auto [left, right] = coro::stream_pair();
        auto task = coro::spawn([&] { left.add_layer(std::make_unique<Handshake>("abc")); });
        settle();
        task.cancel();
        CHECK_THROWS_AS(task.result(), Cancelled);
        CHECK(!left.is_open());
    });
}

TEST_CASE("Handlers are given streams over the layer of their server") {
    coro::run([] {
        coro::ServeHandle serving;
        auto server = coro::spawn([&] {
            coro::serve("127.0.0.1:0",
                        [](Stream& peer) {
                            while (const auto line = peer.read_line())
                                peer.write_all({*line, "!\n"});
                        },
                        {.listen = {.layer = layered<XorTransport>(5u)}, .handle = serving});
        });
        settle();
        Stream plain = coro::connect(serving.addresses().at(0));
        plain.add_layer(std::make_unique<XorTransport>(nullptr, 5u));
        plain.write("hello\n");
        CHECK(plain.read_line() == "hello!");
        plain.close();
        serving.close();
        server.join();
    });
}
