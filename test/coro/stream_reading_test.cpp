#include "stream_support.hpp"
#include "support/heap.hpp"

#include <array>

using namespace weft;
using namespace weft::test;
using coro::Stream;

TEST_CASE("read_some gives what has come, then nothing at the end, over and over", "[s95][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        std::array<std::byte, 64> buffer;
        CHECK(far.read_some(MutableBytes()) == 0);
        near.write("hello");
        near.flush();
        CHECK(text_of(Bytes(buffer).first(far.read_some(buffer))) == "hello");
        CHECK_FALSE(far.at_end());
        near.write_eof();
        for (int i = 0; i < 3; ++i)
            CHECK(far.read_some(buffer) == 0);
        CHECK(far.at_end());
        CHECK(far.is_open());
    });
}

TEST_CASE("read_exactly puts together what came in pieces", "[s95][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        const std::string text = numbers(300'000);
        auto writer = coro::spawn([&] {
            for (std::size_t at = 0; at < text.size(); at += 7'777) {
                near.write(std::string_view(text).substr(at, 7'777));
                coro::yield();
            }
        });
        CHECK(far.read_exactly(0).empty());
        CHECK(far.read_exactly(1) == text.substr(0, 1));
        std::array<std::byte, 999> buffer;
        far.read_exactly(buffer);
        CHECK(text_of(buffer) == text.substr(1, 999));
        CHECK(far.read_exactly(text.size() - 1000) == text.substr(1000));
        writer.join();
    });
}

TEST_CASE("read_exactly that meets the end throws what there was", "[s95][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        near.write("short");
        near.write_eof();
        std::string partial;
        CHECK(contains(text_thrown<coro::IncompleteRead>([&] {
                           try {
                               (void)far.read_exactly(10);
                           } catch (const coro::IncompleteRead& end) {
                               partial = end.partial;
                               CHECK(end.code() == Errc::incomplete);
                               throw;
                           }
                       }),
                       "10 bytes were asked for and the stream ended after 5"));
        CHECK(partial == "short");
        CHECK(far.at_end());
    });
}

TEST_CASE("read_to_end gives everything, and with a bound keeps what is more", "[s95][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        const std::string text = numbers(200'000);
        auto writer = coro::spawn([&] {
            near.write(text);
            near.write_eof();
        });
        CHECK_THROWS_AS(far.read_to_end(1000), coro::LimitOverrun);
        CHECK_THROWS_AS(far.read_to_end(1000), coro::LimitOverrun);
        CHECK(far.read_to_end() == text);
        CHECK(far.read_to_end().empty());
        writer.join();
    });
}

TEST_CASE("read_until finds a separator wherever the stream was cut", "[s96][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        const std::string text = "one\r\ntwo\r\r\nthree\r\n\r\nlast";
        auto writer = coro::spawn([&] {
            for (const char& byte : text) {
                near.write(std::string_view(&byte, 1));
                settle(2);
            }
            near.write_eof();
        });
        CHECK(far.read_until("\r\n") == "one\r\n");
        CHECK(far.read_until("\r\n") == "two\r\r\n");
        CHECK(far.read_until({"\r\n\r\n", "nothing"}) == "three\r\n\r\n");
        CHECK_THROWS_AS(far.read_until(""), UsageError);
        CHECK_THROWS_AS(far.read_until({}), UsageError);
        try {
            (void)far.read_until("\r\n");
            CHECK(false);
        } catch (const coro::IncompleteRead& end) {
            CHECK(end.partial == "last");
        }
        writer.join();
    });
}

TEST_CASE("Of several separators the one that ends first counts", "[s96][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto [near, far] = coro::stream_pair();
        near.write("a;b--c,d\r\ne\nabcdef");
        CHECK(far.read_until({",", ";"}) == "a;");
        CHECK(far.read_until({",", "--"}) == "b--");
        CHECK(far.read_until({";", ","}) == "c,");
        CHECK(far.read_until({"\n", "\r\n"}) == "d\r\n");
        CHECK(far.read_until({"\r\n", "\n"}) == "e\n");
        CHECK(far.read_until({"abcdef", "bcd"}) == "abcd");
        CHECK(far.read_exactly(2) == "ef");
    });
}

TEST_CASE("A record as long as the limit passes, a longer one is refused and kept", "[s96][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        far.set_limit(8);
        CHECK_THROWS_AS(far.set_limit(0), UsageError);
        near.write("1234567\n12345678\nx\n");
        CHECK(far.read_until("\n") == "1234567\n");
        for (int i = 0; i < 2; ++i) {
            CHECK_THROWS_AS(far.read_until("\n"), coro::LimitOverrun);
            CHECK_THROWS_AS(far.read_line(), coro::LimitOverrun);
        }
        far.set_limit(9);
        CHECK(far.read_line() == "12345678");
        CHECK(far.read_until("\n") == "x\n");
        // Without an end in sight it is refused as soon as it is sure.
        near.write("123456789");
        try {
            (void)far.read_line();
            CHECK(false);
        } catch (const coro::LimitOverrun& overrun) {
            CHECK(overrun.buffered == 9);
            CHECK(overrun.code() == Errc::too_long);
        }
        CHECK(far.read_exactly(9) == "123456789");
    });
}

TEST_CASE("read_line takes either end, and the last line needs none", "[s96][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        near.write("unix\ndos\r\n\n\r\nlast");
        near.write_eof();
        CHECK(far.read_line() == "unix");
        CHECK(far.read_line() == "dos");
        CHECK(far.read_line() == "");
        CHECK(far.read_line() == "");
        CHECK(far.read_line() == "last");
        CHECK_FALSE(far.read_line().has_value());
        CHECK_FALSE(far.read_line().has_value());
    });
}

TEST_CASE("Lines longer than the buffer are put together", "[s96][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        far.set_limit(200'000);
        const std::string longer = numbers(100'000);
        auto writer = coro::spawn([&] {
            for (int i = 0; i < 3; ++i)
                near.write_all({"short\n", longer, "\n"});
        });
        for (int i = 0; i < 3; ++i) {
            CHECK(far.read_line() == "short");
            CHECK(far.read_line() == longer);
        }
        writer.join();
    });
}

TEST_CASE("peek shows without taking, and skip takes what was shown", "[s95][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        near.write("GET /");
        CHECK(text_of(far.peek(3)).starts_with("GET"));
        CHECK(text_of(far.peek(5)) == "GET /");
        far.skip(4);
        CHECK_THROWS_AS(far.skip(2), UsageError);
        near.write_eof();
        CHECK(text_of(far.peek(10)) == "/");
        CHECK(far.read_to_end() == "/");
        CHECK(far.peek().empty());
    });
}

TEST_CASE("What came before a reset is read first, then every read throws its reason",
          "[s97][F11][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto [near, far] = coro::stream_pair();
        near.write("last\nwords");
        settle();
        CHECK(far.read_line() == "last"); // and the rest is in its buffer
        near.abort();
        settle();
        CHECK(far.read_exactly(5) == "words");
        std::array<std::byte, 8> buffer;
        for (int i = 0; i < 2; ++i) {
            CHECK(throws_code(std::errc::connection_reset, [&] { (void)far.read_some(buffer); }));
            CHECK(throws_code(std::errc::connection_reset, [&] { (void)far.read_line(); }));
            CHECK(throws_code(std::errc::connection_reset, [&] { (void)far.read_exactly(1); }));
            CHECK(throws_code(std::errc::connection_reset, [&] { (void)far.read_to_end(); }));
            CHECK(throws_code(std::errc::connection_reset, [&] { (void)far.peek(); }));
        }
        CHECK(far.read_some(MutableBytes()) == 0);
        CHECK_FALSE(far.is_open());
    });
}

TEST_CASE("A second reader is refused, and told which the first is", "[s97][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        auto first = coro::spawn([&] { return far.read_exactly(4); }, {.name = "the first"});
        coro::wait_all_blocked();
        std::array<std::byte, 8> buffer;
        const std::string text = text_thrown<UsageError>([&] { (void)far.read_some(buffer); });
        CHECK(contains(text, "read_some"));
        CHECK(contains(text, "'the first'"));
        CHECK_THROWS_AS(far.read_line(), UsageError);
        CHECK_THROWS_AS(far.peek(), UsageError);
        CHECK_THROWS_AS(far.skip(0), UsageError);
        CHECK_THROWS_AS(far.release(nullptr), UsageError);
        near.write("12");
        settle(); // a part has come, and it is still the first's
        CHECK_THROWS_AS(far.read_exactly(1), UsageError);
        near.write("34");
        CHECK(first.join() == "1234");
    });
}

namespace {

/// Reads that wait for more than "abc".
const std::vector<std::pair<const char*, void (*)(Stream&, coro::Deadline)>> waiting_reads = {
    {"read_exactly", [](Stream& s, coro::Deadline d) { (void)s.read_exactly(6, d); }},
    {"read_exactly into memory",
     [](Stream& s, coro::Deadline d) {
         std::array<std::byte, 6> memory;
         s.read_exactly(memory, d);
     }},
    {"read_until", [](Stream& s, coro::Deadline d) { (void)s.read_until("f", d); }},
    {"read_line", [](Stream& s, coro::Deadline d) { (void)s.read_line(d); }},
    {"read_to_end", [](Stream& s, coro::Deadline d) { (void)s.read_to_end(SIZE_MAX, d); }},
    {"peek", [](Stream& s, coro::Deadline d) { (void)s.peek(6, d); }},
};

} // namespace

TEST_CASE("A cancelled read loses nothing", "[s97][s68][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        for (const auto& [name, read] : waiting_reads) {
            INFO(name);
            auto task = coro::spawn([&, call = read] { call(far, {}); });
            near.write("ab");
            settle();
            near.write("c");
            settle();
            CHECK_FALSE(task.done());
            task.cancel();
            task.wait();
            CHECK(task.cancelled());
            near.write("def");
            CHECK(far.read_exactly(6) == "abcdef");
        }
    });
}

TEST_CASE("A read whose deadline comes throws TimeoutError and loses nothing", "[s97][s68][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        std::array<std::byte, 4> buffer;
        CHECK(contains(text_thrown<coro::TimeoutError>([&] { (void)far.read_some(buffer, 0ms); }),
                       "read_some: no data"));
        near.write("abc");
        settle();
        for (const auto& [name, read] : waiting_reads) {
            INFO(name);
            CHECK_THROWS_AS(read(far, 0ms), coro::TimeoutError);
        }
        CHECK(coro::move_on_after(0ms, [&] { return far.read_exactly(4); }) == std::nullopt);
        near.write("d");
        // What has come is read although the deadline has passed.
        settle();
        CHECK(far.read_exactly(4, 0ms) == "abcd");
    });
}

TEST_CASE("A reader is told when its stream is closed or destroyed", "[coro]") {
    on_every_link([](Stream& near, Stream& far) {
        auto closed = coro::spawn([&] { (void)near.read_line(); });
        auto gone = std::make_unique<Stream>(std::move(far));
        auto destroyed = coro::spawn([stream = gone.get()] { (void)stream->read_exactly(5); });
        near.write("abc");
        coro::wait_all_blocked();
        near.close();
        gone.reset();
        CHECK(throws_code(Errc::closed, [&] { closed.join(); }));
        CHECK(throws_code(Errc::closed, [&] { destroyed.join(); }));
        CHECK(contains(text_thrown<UsageError>([&] { (void)near.read_line(); }), "was closed"));
        CHECK_FALSE(near.is_open());
    });
}

TEST_CASE("A stream may be destroyed between a reader's wake-up and its run", "[coro]") {
    on_every_link([](Stream& near, Stream& far) {
        auto stream = std::make_unique<Stream>(std::move(far));
        auto reader = coro::spawn([&] { return stream->read_exactly(3).size(); });
        settle();
        stream->close(); // wakes it
        stream.reset();
        CHECK(throws_code(Errc::closed, [&] { reader.join(); }));
        near.close();
    });
}

TEST_CASE("A stream and its reader may go together when an exception passes", "[s68][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        auto parent = coro::spawn([&] {
            Stream mine = std::move(far);
            auto child = coro::spawn([&] { (void)mine.read_exactly(10); });
            near.write("abc");
            settle();
            throw std::runtime_error("enough");
        });
        CHECK(text_thrown<std::runtime_error>([&] { parent.join(); }) == "enough");
    });
}

TEST_CASE("An empty stream says so", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        Stream none;
        CHECK_THROWS_AS(none.read_line(), UsageError);
        CHECK_THROWS_AS(none.write("x"), UsageError);
        CHECK_THROWS_AS(none.drain(), UsageError);
        CHECK_FALSE(none.is_open());
        CHECK_FALSE(none.at_end());
        none.close();
        none.abort();
        CHECK(none.transport() == nullptr);
    });
}

TEST_CASE("discard drops what comes, and tells where the stream ended", "[s95][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        const std::string text = numbers(300'000);
        auto writer = coro::spawn([&] {
            near.write(text);
            near.write_eof();
        });
        far.discard(0);
        far.discard(3);
        CHECK((far.read_exactly(5) == text.substr(3, 5)));
        far.discard(200'000);
        CHECK((far.read_exactly(5) == text.substr(200'008, 5)));
        CHECK_THROWS_AS(far.discard(std::uint64_t(1) << 40), coro::IncompleteRead);
        CHECK(far.at_end());
        writer.join();
    });
}

TEST_CASE("read_exactly at a clean end has nothing in hand, inside of what it wants a part",
          "[s95][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        near.write("12345678");
        near.write_eof();
        CHECK(far.read_exactly(3) == "123");
        const auto partial = [&](std::size_t size) {
            try {
                far.read_exactly(size);
                return std::string("read");
            } catch (const coro::IncompleteRead& error) {
                return error.partial;
            }
        };
        CHECK(partial(9) == "45678");
        CHECK(partial(1).empty());
    });
}
