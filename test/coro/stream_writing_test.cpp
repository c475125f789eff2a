#include "stream_support.hpp"

#include <array>
#include <cstdio>

using namespace weft;
using namespace weft::test;
using coro::Stream;

namespace {

/// Writes until it has to wait: the task that waits.
coro::Task<void> blocked_writer(Stream& stream, std::string_view piece) {
    auto writer = coro::spawn([&stream, piece] {
        for (;;)
            stream.write(piece);
    });
    for (int i = 0; i < 100'000 && stream.transport()->write_buffer_size() <= 64 * 1024; ++i)
        coro::yield();
    settle();
    CHECK_FALSE(writer.done());
    return writer;
}

} // namespace

TEST_CASE("Writes arrive complete and in order, however long and however many", "[F16][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        const std::string text = numbers(3'000'000);
        auto writer = coro::spawn([&] {
            std::size_t at = 0;
            for (std::size_t size = 1; at < text.size(); size = size * 3 + 1) {
                const std::string_view piece = std::string_view(text).substr(at, size);
                near.write(piece);
                near.write("");
                at += piece.size();
            }
            near.write_eof();
        });
        CHECK(far.read_to_end() == text);
        writer.join();
    });
}

TEST_CASE("A peer that does not read stops the writer, and memory stays bounded",
          "[F18][s90][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        const std::string piece = numbers(100'000);
        std::size_t written = 0;
        auto writer = coro::spawn([&] {
            for (int i = 0; i < 200; ++i) {
                near.write(piece);
                written += piece.size();
            }
            near.write_eof();
        });
        for (int i = 0; i < 2000; ++i)
            coro::yield();
        CHECK_FALSE(writer.done());
        CHECK(near.transport()->write_buffer_size() <= 64 * 1024 + piece.size());
        std::size_t got = 0;
        std::vector<std::byte> buffer(50'000);
        while (const std::size_t size = far.read_some(buffer)) {
            const std::size_t at = got % piece.size();
            const std::size_t part = std::min(size, piece.size() - at);
            if (text_of(Bytes(buffer).first(part)) != std::string_view(piece).substr(at, part)) {
                CHECK(got == SIZE_MAX); // what came is not what was sent
                break;
            }
            got += size;
        }
        writer.join();
        CHECK(got == written);
        CHECK(got == 200 * piece.size());
    });
}

TEST_CASE("write_eof ends one direction, and the other goes on", "[F12][s88][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        near.write("question");
        near.write_eof();
        near.write_eof();
        CHECK_THROWS_AS(near.write("more"), UsageError);
        CHECK(far.read_to_end() == "question");
        near.drain();
        far.write("answer");
        CHECK(near.read_exactly(6) == "answer");
        far.write("more of it");
        far.close();
        CHECK(near.read_to_end() == "more of it");
    });
}

TEST_CASE("write_all sends pieces as one, few or many, with empty ones between", "[F16][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        near.write_all({"a", "", "bc", ""});
        near.write_all({"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b", "c", "d", "e",
                        "f", "g", "h"});
        CHECK(far.read_exactly(21) == "abc0123456789abcdefgh");
        const std::string large = numbers(70'000);
        std::vector<Bytes> pieces;
        std::string wanted;
        for (int i = 0; i < 150; ++i) {
            pieces.push_back(bytes_of(std::string_view(large).substr(i * 10, 1 + i * 20)));
            wanted += text_of(pieces.back());
        }
        pieces.push_back(bytes_of(std::string_view(large)));
        wanted += large;
        auto writer = coro::spawn([&] {
            near.write("first ");
            near.write_all(std::span<const Bytes>(pieces));
            near.write(" last");
        });
        CHECK(far.read_exactly(wanted.size() + 11) == "first " + wanted + " last");
        writer.join();
    });
}

TEST_CASE("What was written leaves when the coroutine suspends on anything", "[coro]") {
    on_every_link([](Stream& near, Stream& far) {
        near.write("one ");
        near.write("piece");
        coro::sleep(0ms);
        settle();
        CHECK(text_of(far.peek(1)) == "one piece");
        far.skip(9);
        near.write("flushed");
        near.flush();
        std::array<std::byte, 16> buffer;
        CHECK(text_of(Bytes(buffer).first(far.read_some(buffer))) == "flushed");
    });
}

TEST_CASE("A cancelled write has sent nothing of its data", "[s68][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        const std::string piece = numbers(10'000);
        std::size_t written = 0;
        auto writer = coro::spawn([&] {
            for (;;) {
                near.write(piece);
                written += piece.size();
            }
        });
        for (int i = 0; i < 2000; ++i)
            coro::yield();
        writer.cancel();
        writer.wait();
        CHECK(writer.cancelled());
        // A layer takes something once, though nobody reads from it.
        for (int refused = 0; refused < 3;) {
            try {
                near.write(piece, 0ms);
                written += piece.size();
                refused = 0;
            } catch (const coro::TimeoutError&) {
                ++refused;
            }
        }
        CHECK_THROWS_AS(near.write("late", 0ms), coro::TimeoutError);
        CHECK_THROWS_AS(near.write_all({"too", "late"}, 0ms), coro::TimeoutError);
        CHECK_THROWS_AS(near.drain(0ms), coro::TimeoutError);
        auto reader = coro::spawn([&] { return far.read_to_end(); });
        near.write("end");
        near.write_eof();
        const std::string got = reader.join();
        CHECK(got.size() == written + 3);
        CHECK(got.ends_with("end"));
    });
}

TEST_CASE("drain lets all go on that wait for it", "[s91][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        auto writer = blocked_writer(near, numbers(50'000));
        writer.cancel();
        writer.wait();
        int drained = 0;
        std::vector<coro::Task<void>> waiting;
        for (int i = 0; i < 3; ++i)
            waiting.push_back(coro::spawn([&] {
                near.drain();
                ++drained;
            }));
        settle();
        CHECK(drained == 0);
        std::vector<std::byte> buffer(100'000);
        while (drained < 3) {
            (void)far.read_some(buffer);
            settle(); // the last of it may let them go
        }
        CHECK(near.transport()->write_buffer_size() <= near.transport()->write_buffer_limits().low);
        near.drain();
    });
}

TEST_CASE("A writer that waits is told when the peer goes away", "[F14][s91][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        auto writer = blocked_writer(near, numbers(50'000));
        auto drainer = coro::spawn([&] { near.drain(); });
        settle();
        far.abort();
        CHECK_THROWS_AS(writer.join(), std::system_error);
        CHECK_THROWS_AS(drainer.join(), std::system_error);
        for (int i = 0; i < 2; ++i) {
            CHECK_THROWS_AS(near.write("x"), std::system_error);
            CHECK_THROWS_AS(near.drain(), std::system_error);
        }
        near.close();
        near.wait_closed();
    });
}

TEST_CASE("Writing into a connection that the peer has reset fails after a while, not never",
          "[F14][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        far.abort();
        settle();
        bool failed = false;
        for (int i = 0; i < 10 && !failed; ++i) {
            try {
                near.write("into the void");
                settle();
            } catch (const std::system_error& error) {
                failed = error.code() == std::errc::connection_reset ||
                         error.code() == std::errc::broken_pipe;
            }
        }
        CHECK(failed);
        near.close();
        near.wait_closed(1h);
    });
}

TEST_CASE("A writer that waits is told when its stream is closed or destroyed", "[coro]") {
    on_every_link([](Stream& near, Stream& far) {
        auto closed = blocked_writer(near, numbers(50'000));
        near.close();
        CHECK(throws_code(Errc::closed, [&] { closed.join(); }));
        CHECK_THROWS_AS(near.write("x"), UsageError);
        near.abort(); // what was written would wait for ever
        auto stream = std::make_unique<Stream>(std::move(far));
        auto waiting = coro::spawn([&] { stream->wait_closed(); });
        settle();
        stream.reset();
        waiting.join();
    });
}

TEST_CASE("wait_closed returns with unread data, and after an error", "[s98][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        near.write("nobody reads this");
        near.close();
        near.close();
        settle();
        far.close();
        far.wait_closed(1h);
        near.wait_closed(1h);
        CHECK(far.transport() == nullptr);
        CHECK(far.peer_address().empty());
        far.wait_closed();
    });
}

TEST_CASE("The end of the stream is met when the writer closes", "[s98][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        auto reader = coro::spawn([&] { return far.read_to_end(); });
        settle();
        near.write("bye");
        near.close();
        CHECK(reader.join() == "bye");
    });
}

TEST_CASE("send_file sends a file between writes", "[s93][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        const std::string content = numbers(500'000);
        std::FILE* file = std::tmpfile();
        REQUIRE(file != nullptr);
        CHECK(std::fwrite(content.data(), 1, content.size(), file) == content.size());
        std::fflush(file);
        auto writer = coro::spawn([&] {
            near.write("before ");
            const auto sent = near.send_file(::fileno(file), 10, 400'000);
            near.write(" after");
            near.write_eof();
            return sent;
        });
        CHECK(far.read_to_end() == "before " + content.substr(10, 400'000) + " after");
        CHECK(writer.join() == 400'000);
        std::fclose(file);
    });
}

TEST_CASE("A send_file that is cancelled aborts its connection", "[s93][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        std::FILE* file = std::tmpfile();
        REQUIRE(file != nullptr);
        const std::string content = numbers(4'000'000);
        CHECK(std::fwrite(content.data(), 1, content.size(), file) == content.size());
        std::fflush(file);
        auto sender = coro::spawn([&] { (void)near.send_file(::fileno(file)); });
        for (int i = 0; i < 100; ++i)
            coro::yield();
        CHECK_FALSE(sender.done());
        sender.cancel();
        sender.wait();
        std::fclose(file);
        CHECK(sender.cancelled());
        CHECK_FALSE(near.is_open());
        std::string got;
        try {
            got = far.read_to_end();
        } catch (const std::system_error&) { // Unix sockets know no reset
        }
        CHECK(got.size() < content.size());
    });
}
