#include "stream_support.hpp"

#include <weft/protocols/codecs/framed_protocol.hpp>
#include <weft/transports/pipe/pipe.hpp>

#include <array>
#include <sys/socket.h>

using namespace weft;
using namespace weft::test;
using coro::Stream;

namespace {

/// Answers "<n>" for a line of n bytes; gives the connection back to a coroutine at "stream".
struct Counter final : LineProtocol {
    explicit Counter(Function<void(Transport&)> leave) : leave_(std::move(leave)) {}
    void line_received(std::string_view line) override {
        if (line == "stream") return leave_(transport());
        write_line(std::to_string(line.size()));
    }
    Function<void(Transport&)> leave_;
};

} // namespace

TEST_CASE("A connection goes from a stream to a protocol and back without losing a byte",
          "[s92][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        // Everything is there before anybody looks at it.
        near.write("plain\nprotocol\none\nthree\nstream\nrest of it\nand the end");
        near.write_eof();
        settle();
        CHECK(far.read_line() == "plain");
        CHECK(far.read_line() == "protocol");
        Stream back;
        far.write("switching\n");
        (void)far.release(
            std::make_unique<Counter>([&](Transport& transport) { back = Stream(transport); }));
        CHECK(far.transport() == nullptr);
        while (back.transport() == nullptr)
            coro::yield();
        CHECK(back.read_line() == "rest of it");
        back.write("coroutine again\n");
        CHECK(back.read_to_end() == "and the end");
        back.close();
        CHECK(near.read_to_end() == "switching\n3\r\n5\r\ncoroutine again\n");
    });
}

TEST_CASE("Upgrades there and back answer every line, wherever the stream was cut", "[s92][coro]") {
    on_every_link([](Stream& near, Stream& far) {
        auto service = coro::spawn([&] {
            while (const auto line = far.read_line()) {
                if (line == "protocol") {
                    Stream back;
                    (void)far.release(std::make_unique<Counter>(
                        [&](Transport& transport) { back = Stream(transport); }));
                    while (back.transport() == nullptr)
                        coro::yield();
                    far = std::move(back);
                } else {
                    far.write_all({"<", *line, ">\n"});
                }
            }
            far.close();
        });
        const std::string script = "a\nprotocol\nbb\nccc\nstream\nd\nprotocol\neeee\nstream\nf\n";
        auto client = coro::spawn([&] {
            for (const char& byte : script) {
                near.write(std::string_view(&byte, 1));
                settle(1);
            }
            near.write_eof();
        });
        std::string answers;
        while (const auto line = near.read_line())
            answers += std::string(*line) + ' ';
        CHECK(answers == "<a> 2 3 <d> 4 <f> ");
    });
}

TEST_CASE("A protocol that takes over hears the end of the stream and of writing's pause",
          "[s92][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        struct Recorder final : Protocol {
            explicit Recorder(std::string& t) : text(t) {}
            void connection_made(Transport&) override { text += "made "; }
            void data_received(Bytes data) override { text += std::string(text_of(data)) + ' '; }
            bool eof_received() override { return (text += "eof ", false); }
            void pause_writing() override { text += "pause "; }
            void connection_lost(std::error_code) override { text += "lost"; }
            std::string& text;
        };
        auto [near, far] = coro::stream_pair();
        std::string heard;
        near.write("abc");
        near.write_eof();
        CHECK(text_of(far.peek(10)) == "abc"); // the end has been met
        for (int i = 0; i < 3; ++i)
            (void)far.transport()->write(numbers(100'000));
        (void)far.release(std::make_unique<Recorder>(heard));
        settle();
        CHECK(heard.starts_with("made pause abc eof"));
        CHECK(near.read_to_end() == numbers(100'000) + numbers(100'000) + numbers(100'000));
        settle();
        CHECK(heard == "made pause abc eof lost");
    });
}

TEST_CASE("stream_protocol serves callback servers by coroutines", "[coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        Loop& loop = coro::this_loop();
        auto handler = [](Stream& peer) {
            while (const auto line = peer.read_line())
                peer.write_all({"<", *line, ">\n"});
        };
        Server server =
            tcp::listen(loop, "127.0.0.1:0", coro::stream_protocol(loop, handler)).value();
        Stream client = coro::connect(server.addresses().front().to_string());
        client.write("a\nb\n");
        client.write_eof();
        CHECK(client.read_to_end() == "<a>\n<b>\n");
        // Draining closes what its handlers are waiting in.
        Stream idle = coro::connect(server.addresses().front().to_string());
        settle();
        CHECK(coro::await(server.drain(1h)) == 0);
        CHECK(idle.read_to_end().empty());
        settle();
        CHECK(coro::all_tasks().size() == 1);
    });
}

TEST_CASE("Any transport becomes a stream, pipes included", "[s105][coro]") {
    WEFT_TEST_KERNEL(real_kernels);
    run_on(kernel_kind, [] {
        int fds[2];
        REQUIRE(::pipe(fds) == 0);
        Stream reader = coro::adopt_read_pipe(fds[0]);
        Stream writer = coro::adopt_write_pipe(fds[1]);
        const std::string text = numbers(300'000);
        auto task = coro::spawn([&] {
            writer.write(text);
            writer.write_eof();
        });
        CHECK(reader.read_to_end() == text);
        task.join();
        CHECK_THROWS_AS(coro::adopt_read_pipe(-1), std::system_error);
        int pair[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
        Stream near = coro::adopt_connection(pair[0]);
        Stream far = coro::adopt_connection(pair[1]);
        near.write("across");
        CHECK(far.read_exactly(6) == "across");
    });
}
