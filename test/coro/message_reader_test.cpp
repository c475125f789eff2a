// Messages out of a stream by any framer: whole, cut, large, interrupted, wrong, and kept.

#include "stream_support.hpp"

#include <weft/protocols/codecs/body_framing.hpp>
#include <weft/protocols/codecs/length_framing.hpp>
#include <weft/protocols/codecs/line_framing.hpp>
#include <weft/reactor/loop_core.hpp>

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;
using coro::MessageReader;
using coro::Stream;

namespace {

/// Sends `text` in pieces of a size of their own, each of which leaves for itself.
void write_in_pieces(Stream& to, std::string_view text, std::size_t piece) {
    for (; !text.empty(); text.remove_prefix(std::min(piece, text.size()))) {
        to.write(text.substr(0, piece));
        to.flush();
    }
    to.write_eof();
}

template<WritingFramer F>
std::string framed(const F& framer, const std::vector<std::string>& messages) {
    struct {
        void write_all(std::span<const Bytes> pieces) {
            for (const Bytes piece : pieces)
                text += text_of(piece);
        }
        std::string text;
    } sink;
    for (const std::string& message : messages)
        write_message(sink, framer, bytes_of(message));
    return sink.text;
}

template<WritingFramer F>
void check_reads(Stream& near, Stream& far, const F& framer, const std::vector<std::string>& sent,
                 std::size_t piece) {
    const std::string all = framed(framer, sent);
    auto writer = coro::spawn([&] { write_in_pieces(near, all, piece); });
    MessageReader reader(far, framer);
    std::vector<std::string> got;
    while (const auto message = reader.read())
        got.emplace_back(text_of(*message));
    CHECK((got == sent));
    CHECK(far.at_end());
    CHECK_FALSE(reader.read()); // the end stays
    writer.join();
}

/// "put 3\r\nabc", or a line alone.
struct SizeOfPut {
    Body operator()(std::string_view head) const {
        if (!head.starts_with("put ")) return Body::none();
        return Body::of(std::stoul(std::string(head.substr(4))));
    }
};
using PutFramer = BodyFramer<LineFramer, SizeOfPut>;

} // namespace

TEST_CASE("Messages of every framing come out as they were written, however the stream is cut",
          "[s96][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        const std::size_t piece = GENERATE(1, 3, 1000, 70'001);
        const std::size_t most = piece < 1000 ? 200 : 300'000;
        std::vector<std::string> messages{"", "a", numbers(most), "", numbers(most / 3), "end"};
        SECTION("lines") {
            check_reads(near, far, LineFramer(LineEnd::lf, most), messages, piece);
        }
        SECTION("lengths") {
            check_reads(near, far, LengthFramer(4), messages, piece);
        }
        SECTION("varints") {
            check_reads(near, far, VarintFramer(), messages, piece);
        }
        SECTION("netstrings") {
            check_reads(near, far, NetstringFramer(), messages, piece);
        }
        SECTION("delimiters") {
            check_reads(near, far, DelimiterFramer("--", most), messages, piece);
        }
    });
}

TEST_CASE("A framer's own messages, and what comes behind one is left in the stream",
          "[s96][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        near.write("get\r\nput 5\r\nhe\r\noa line\nput 3\r\nabcrest");
        near.write_eof();
        MessageReader<PutFramer> reader(far);
        {
            const auto message = reader.read();
            REQUIRE(message);
            CHECK(message->head == "get");
            CHECK_FALSE(message->body);
        }
        {
            const auto message = reader.read();
            REQUIRE(message);
            CHECK(message->head == "put 5");
            REQUIRE(message->body);
            CHECK(text_of(*message->body) == "he\r\no");
        }
        CHECK(far.read_line() == "a line");
        CHECK(text_of(*reader.read()->body) == "abc");
        CHECK(far.read_exactly(4) == "rest");
        CHECK_FALSE(reader.read());
    });
}

TEST_CASE("The end between two messages is told from one inside", "[s96][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        near.write(framed(LengthFramer(4), {"whole", "it is cut"}).substr(0, 9 + 4 + 5));
        near.write_eof();
        MessageReader reader(far, LengthFramer(4));
        CHECK(text_of(*reader.read()) == "whole");
        for (int i = 0; i < 2; ++i) {
            try {
                (void)reader.read();
                FAIL("half a message was taken for one");
            } catch (const coro::IncompleteRead& error) {
                CHECK(error.code() == Errc::incomplete);
                CHECK(error.partial.substr(4) == "it is");
                CHECK(contains(error.what(), "9 bytes into a message that takes at least 13"));
            }
        }
    });
}

TEST_CASE("The end inside a large message that is received into its place is told, too",
          "[s96][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        auto writer = coro::spawn([&] {
            near.write(framed(LengthFramer(4), {numbers(500'000)}).substr(0, 400'000));
            near.write_eof();
        });
        MessageReader reader(far, LengthFramer(4));
        std::size_t had = 0;
        try {
            (void)reader.read();
        } catch (const coro::IncompleteRead& error) {
            had = error.partial.size();
        }
        CHECK(had == 400'000);
        writer.join();
    });
}

TEST_CASE(
    "A read that is cancelled or runs out of time inside a message goes on with the next call",
    "[s68][s97][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        const std::string message = numbers(GENERATE(20, 300'000));
        const std::string all = framed(LengthFramer(4), {message, "next"});
        MessageReader reader(far, LengthFramer(4));
        std::string got;
        std::size_t sent = 0;
        for (const std::size_t upto :
             {std::size_t(2), std::size_t(9), all.size() / 2, all.size() - 9}) {
            auto writer = coro::spawn([&] {
                near.write(std::string_view(all).substr(sent, upto - sent));
                near.drain();
            });
            CHECK_THROWS_AS(reader.read(5ms), coro::TimeoutError);
            writer.join();
            sent = upto;
            auto waiting = coro::spawn([&] { (void)reader.read(); });
            settle();
            waiting.cancel();
            CHECK_THROWS_AS(waiting.join(), Cancelled);
        }
        near.write(std::string_view(all).substr(sent));
        CHECK((text_of(*reader.read()) == message));
        CHECK(text_of(*reader.read()) == "next");
    });
}

TEST_CASE("Bytes that are no message are an error with the size they announced, from then on",
          "[s96][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        near.write(framed(LengthFramer(4), {"fine", std::string(300, 'x')}));
        MessageReader reader(far, LengthFramer(4, ByteOrder::big, 200));
        CHECK(text_of(*reader.read()) == "fine");
        for (int i = 0; i < 2; ++i) {
            try {
                (void)reader.read();
                FAIL("a message above the limit was taken");
            } catch (const coro::FramingError& error) {
                CHECK(error.code() == Errc::too_long);
                CHECK(error.announced == 300);
                CHECK(contains(error.what(), "a message of 300 bytes, limit 200 bytes"));
            }
        }
        MessageReader other(near, NetstringFramer());
        far.write("x:y,");
        CHECK(throws_code(Errc::malformed, [&] { (void)other.read(); }));
    });
}

TEST_CASE("What is kept of a message stays as it was whatever is read after it", "[s96][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        const std::size_t size = GENERATE(1, 1000, 10'000, 50'000, 60'000, 200'000);
        const std::string message = numbers(size);
        auto writer = coro::spawn([&] {
            for (int i = 0; i < 20; ++i)
                near.write(framed(LengthFramer(4), {message + std::to_string(i)}));
            near.write_eof();
        });
        MessageReader reader(far, LengthFramer(4));
        std::vector<Buffer> kept;
        while (const auto found = reader.read()) {
            kept.push_back(reader.keep(found->subspan(1)));
            // What comes behind it may come into the same memory, at a place of its own.
            if (kept.size() % 7 == 0) (void)far.peek(far.peek().size() + 1);
        }
        REQUIRE(kept.size() == 20);
        for (int i = 0; i < 20; ++i)
            CHECK((kept[static_cast<std::size_t>(i)].text() ==
                   (message + std::to_string(i)).substr(1)));
        writer.join();
    });
}

TEST_CASE("A large message is kept without a copy", "[s96][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        const std::string message = numbers(GENERATE(40'000, 100'000, 1'000'000));
        auto writer = coro::spawn([&] { near.write(framed(LengthFramer(4), {message})); });
        MessageReader reader(far, LengthFramer(4));
        if (message.size() < 64 * 1024)
            (void)far.peek(message.size() + 4); // it has come in one piece
        const auto found = reader.read();
        REQUIRE(found);
        const Buffer kept = reader.keep(*found);
        CHECK(kept.data() == found->data());
        CHECK((kept.text() == message));
        writer.join();
    });
}

TEST_CASE("A reader that waits between two messages holds no memory", "[s96][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        MessageReader reader(far, LengthFramer(4));
        weft::detail::LoopCore& loop = weft::detail::core_of(coro::this_loop());
        (void)loop.receive_buffer().room(); // the loop's own, which layers receive into
        const std::size_t before = loop.blocks().out();
        for (const std::size_t size : {10, 300'000}) {
            auto writer =
                coro::spawn([&] { near.write(framed(LengthFramer(4), {numbers(size)})); });
            REQUIRE(reader.read());
            writer.join();
            auto waiting = coro::spawn([&] { (void)reader.read(); });
            settle();
            CHECK(loop.blocks().out() == before);
            CHECK(reader.partial().empty());
            waiting.cancel();
            CHECK_THROWS_AS(waiting.join(), Cancelled);
        }
    });
}

TEST_CASE("A batch of messages is answered with one send", "[s126][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on_faulty(kernel_kind, [](sim::FaultyKernel& kernel) {
        auto [near, far] = tcp_streams();
        auto server = coro::spawn([&far = far] {
            MessageReader requests(far, LineFramer());
            while (const auto request = requests.read()) {
                far.write(text_of(*request));
                far.write("\n");
            }
        });
        const auto sends = [&] {
            return kernel.calls(sim::Call::send) + kernel.calls(sim::Call::sendv);
        };
        std::string batch;
        for (int i = 0; i < 1000; ++i)
            batch += std::to_string(1000 + i) + "\n";
        for (int i = 0; i < 20; ++i) {
            settle();
            near.write(batch);
            near.flush();
            const std::uint64_t before = sends();
            CHECK((near.read_exactly(batch.size()) == batch));
            CHECK(sends() == before + 1);
        }
        near.write_eof();
        server.join();
    });
}

TEST_CASE("A handler that meets bytes that are no message ends its connection in order, unreported",
          "[s96][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        const UnhandledLog unhandled;
        coro::CancelScope serving;
        serving.run([&] {
            coro::serve("127.0.0.1:0",
                        [](Stream& peer) {
                            MessageReader requests(peer, NetstringFramer());
                            while (const auto request = requests.read())
                                peer.write(*request);
                        },
                        {.started = [&](const std::vector<Address>& addresses) {
                            coro::spawn([&serving, address = addresses.front()] {
                                Stream client = coro::connect(address);
                                client.write("2:ok,nonsense");
                                CHECK(client.read_to_end() == "ok"); // and no reset
                                serving.cancel();
                            }).detach();
                        }});
        });
        CHECK(unhandled.texts.empty());
    });
}
