#include "connect_support.hpp"

#include <weft/transports/pipe/pipe.hpp>

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <termios.h>

// Pipes and terminals, which only the real kernels have.

using namespace weft;
using namespace weft::test;

namespace {

struct Fd {
    explicit Fd(int number = -1) noexcept : fd(number) {}
    Fd(Fd&& other) noexcept : fd(std::exchange(other.fd, -1)) {}
    ~Fd() { close(); }
    void close() {
        if (fd >= 0) ::close(fd);
        fd = -1;
    }
    int release() noexcept { return std::exchange(fd, -1); }
    void write(std::string_view text) {
        REQUIRE(::write(fd, text.data(), text.size()) == ssize_t(text.size()));
    }
    /// What is there now.
    std::string read() {
        std::string all;
        char buffer[4096];
        pollfd state{fd, POLLIN, 0};
        while (::poll(&state, 1, 0) > 0 && (state.revents & POLLIN)) {
            const ssize_t got = ::read(fd, buffer, sizeof buffer);
            if (got <= 0) break;
            all.append(buffer, static_cast<std::size_t>(got));
        }
        return all;
    }
    /// Whether nobody has the other end of this pipe any more.
    bool hung_up() const {
        pollfd state{fd, POLLIN, 0};
        return ::poll(&state, 1, 0) > 0 && (state.revents & POLLHUP);
    }
    int fd;
};

struct Pipe {
    Pipe() {
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        reader.fd = ends[0];
        writer.fd = ends[1];
    }
    Fd reader, writer;
};

/// A terminal in raw mode: what is written on one side arrives unchanged on the other.
struct Terminal {
    Terminal() : master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
        REQUIRE(master.fd >= 0);
        REQUIRE(::grantpt(master.fd) == 0);
        REQUIRE(::unlockpt(master.fd) == 0);
        char name[64];
        REQUIRE(::ptsname_r(master.fd, name, sizeof name) == 0);
        slave.fd = ::open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
        REQUIRE(slave.fd >= 0);
        termios mode;
        REQUIRE(::tcgetattr(slave.fd, &mode) == 0);
        ::cfmakeraw(&mode);
        REQUIRE(::tcsetattr(slave.fd, TCSANOW, &mode) == 0);
    }
    Fd master, slave;
};

/// The disposition of SIGPIPE is the default while this exists: a raised one would end the test
/// program.
struct DefaultSigpipe {
    DefaultSigpipe() : before(std::signal(SIGPIPE, SIG_DFL)) {}
    ~DefaultSigpipe() { std::signal(SIGPIPE, before); }
    void (*before)(int);
};

} // namespace

TEST_CASE("A read pipe delivers what is written and then the end of the stream [s105]") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    Pipe pipe;
    pipe.writer.write("before ");
    Side side;
    side->keep_open = true; // there is nothing to keep open: a pipe has one direction
    auto ref = adopt_read_pipe(loop, pipe.reader.release(), side.protocol());
    REQUIRE(ref.ok());
    CHECK(side->events.empty());
    until(loop, [&] { return side->received == "before "; });
    CHECK(side.transport().fd() >= 0);
    CHECK(side.transport().peer_address().empty());
    CHECK(side.transport().local_address().empty());
    CHECK_THROWS_AS(side.transport().write("x"), UsageError);
    pipe.writer.write("after");
    until(loop, [&] { return side->received == "before after"; });
    CHECK_FALSE(side.transport().is_closing());
    pipe.writer.close();
    until(loop, [&] { return side->lost; });
    CHECK(side->events == "made data eof lost");
    CHECK_FALSE(side->reason);
    CHECK(ref->get() == nullptr);
}

TEST_CASE("A read pipe whose writer is gone already ends, after what it left behind [s105] [F11]") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    Pipe pipe;
    const bool left = GENERATE(true, false);
    if (left) pipe.writer.write("last words");
    pipe.writer.close();
    Side side;
    REQUIRE(adopt_read_pipe(loop, pipe.reader.release(), side.protocol()).ok());
    until(loop, [&] { return side->lost; });
    CHECK(side->events == (left ? "made data eof lost" : "made eof lost"));
    CHECK(side->received == (left ? "last words" : ""));
}

TEST_CASE("Closing a read pipe tells its writer [s105]") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    Pipe pipe;
    Side side;
    REQUIRE(adopt_read_pipe(loop, pipe.reader.release(), side.protocol()).ok());
    until(loop, [&] { return side->made; });
    side.transport().close();
    CHECK(side->events == "made");
    until(loop, [&] { return side->lost; });
    pollfd state{pipe.writer.fd, POLLOUT, 0};
    REQUIRE(::poll(&state, 1, 0) == 1);
    CHECK((state.revents & POLLERR) != 0);
}

TEST_CASE("Pausing a read pipe holds back data and the end of the stream [s105]") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    Pipe pipe;
    Side side;
    side->hooks["made"] = [](Transport& t) { t.pause_reading(); };
    REQUIRE(adopt_read_pipe(loop, pipe.reader.release(), side.protocol()).ok());
    until(loop, [&] { return side->made; });
    pipe.writer.write("hello");
    pipe.writer.close();
    settle(loop);
    CHECK(side->events == "made");
    side.transport().resume_reading();
    until(loop, [&] { return side->lost; });
    CHECK(side->events == "made data eof lost");
}

TEST_CASE("A write pipe writes, and write_eof or close ends it once everything has left [s105]") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    Pipe pipe;
    REQUIRE(::fcntl(pipe.writer.fd, F_SETPIPE_SZ, 4096) == 4096);
    const bool by_eof = GENERATE(true, false);
    Side side;
    REQUIRE(adopt_write_pipe(loop, pipe.writer.release(), side.protocol()).ok());
    until(loop, [&] { return side->made; });
    const std::string text = pattern(10'000);
    side.transport().write(text);
    if (by_eof) {
        side.transport().write_eof();
        CHECK_THROWS_AS(side.transport().write("x"), UsageError);
    } else {
        side.transport().close();
    }
    settle(loop);
    CHECK(side->events == "made");
    std::string got;
    until(loop, [&] {
        got += pipe.reader.read();
        return side->lost;
    });
    got += pipe.reader.read();
    CHECK(got == text);
    CHECK(side->events == "made lost");
    CHECK_FALSE(side->reason);
    CHECK(pipe.reader.hung_up());
}

TEST_CASE("A large write goes on whenever the reader makes room, in order [s105] [F49]") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    Pipe pipe;
    const bool small = GENERATE(true, false);
    if (small) REQUIRE(::fcntl(pipe.writer.fd, F_SETPIPE_SZ, 4096) == 4096);
    Side side;
    REQUIRE(adopt_write_pipe(loop, pipe.writer.release(), side.protocol()).ok());
    until(loop, [&] { return side->made; });
    const std::string text = pattern(1'000'000);
    // Pieces small enough to be atomic (PIPE_BUF), and one that is cut.
    for (std::size_t at = 0; at < 50'000; at += 1000)
        side.transport().write(std::string_view(text).substr(at, 1000));
    side.transport().write(std::string_view(text).substr(50'000));
    CHECK(side->events == "made pause");
    CHECK(side.transport().write_buffer_size() > 900'000 - 65'536);
    std::string got;
    char buffer[1000];
    until(loop, [&] {
        // One read per turn: room for less than what waits.
        pollfd state{pipe.reader.fd, POLLIN, 0};
        if (::poll(&state, 1, 0) > 0)
            got.append(buffer, static_cast<std::size_t>(::read(pipe.reader.fd, buffer, 1000)));
        return got.size() == text.size();
    });
    CHECK(got == text);
    CHECK(side->events == "made pause resume");
    CHECK(side.transport().write_buffer_size() == 0);
}

TEST_CASE("An idle write pipe notices that its reader has gone [s105] [F49]") {
    WEFT_TEST_KERNEL(real_kernels);
    const auto when =
        GENERATE(as<std::string>(), "before", "before the announcement", "afterwards");
    INFO(when);
    DefaultSigpipe sigpipe;
    TestLoop loop(kernel_kind);
    Pipe pipe;
    if (when == "before") pipe.reader.close();
    Side side;
    REQUIRE(adopt_write_pipe(loop, pipe.writer.release(), side.protocol()).ok());
    if (when == "before the announcement") pipe.reader.close();
    until(loop, [&] { return side->made; });
    pipe.reader.close();
    until(loop, [&] { return side->lost; });
    CHECK(side->events == "made lost");
    CHECK(side->reason == std::errc::broken_pipe);
    CHECK(loop.unhandled.empty());
}

TEST_CASE("Writing to a pipe without a reader ends in EPIPE and raises no SIGPIPE [s105] [F15]") {
    WEFT_TEST_KERNEL(real_kernels);
    DefaultSigpipe sigpipe;
    TestLoop loop(kernel_kind);
    Pipe pipe;
    Side side;
    auto ref = adopt_write_pipe(loop, pipe.writer.release(), side.protocol()).value();
    const bool blocked = GENERATE(true, false);
    if (blocked) ref->write(std::string(200'000, 'x')); // more than fits: the rest waits
    until(loop, [&] { return side->made; });
    pipe.reader.close();
    ref->write("x");
    until(loop, [&] { return side->lost; });
    CHECK(side->reason == std::errc::broken_pipe);
    CHECK(loop.unhandled.empty());
    struct sigaction now {};
    REQUIRE(::sigaction(SIGPIPE, nullptr, &now) == 0);
    CHECK(now.sa_handler == SIG_DFL);
    sigset_t pending;
    REQUIRE(::sigpending(&pending) == 0);
    CHECK(::sigismember(&pending, SIGPIPE) == 0);
}

TEST_CASE("The far side of a terminal that goes away is the end of the stream, not an error [s105] "
          "[F49]") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    Terminal terminal;
    Side side;
    REQUIRE(adopt_read_pipe(loop, terminal.master.release(), side.protocol()).ok());
    terminal.slave.write("hello\n");
    until(loop, [&] { return side->received == "hello\n"; });
    terminal.slave.write("bye");
    terminal.slave.close();
    until(loop, [&] { return side->lost; });
    CHECK(side->received == "hello\nbye");
    CHECK(side->events == "made data eof lost");
    CHECK_FALSE(side->reason);
    CHECK(loop.unhandled.empty());
}

TEST_CASE(
    "A terminal is written to, and its writer notices that the far side has gone [s105] [F49]") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    Terminal terminal;
    Side side;
    REQUIRE(adopt_write_pipe(loop, terminal.master.release(), side.protocol()).ok());
    until(loop, [&] { return side->made; });
    const std::string text = pattern(100'000);
    side.transport().write(text);
    std::string got;
    until(loop, [&] {
        got += terminal.slave.read();
        return got.size() == text.size();
    });
    CHECK(got == text);
    settle(loop);
    CHECK_FALSE(side->lost);
    terminal.slave.close();
    until(loop, [&] { return side->lost; });
    CHECK(side->reason == std::errc::broken_pipe);
}

TEST_CASE("Both directions of one terminal are two transports over two descriptors [s105]") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    Terminal terminal;
    Fd second(::fcntl(terminal.master.fd, F_DUPFD_CLOEXEC, 0));
    Side reader, writer;
    REQUIRE(adopt_read_pipe(loop, terminal.master.release(), reader.protocol()).ok());
    REQUIRE(adopt_write_pipe(loop, second.release(), writer.protocol()).ok());
    until(loop, [&] { return reader->made && writer->made; });
    writer.transport().write("in");
    std::string got;
    until(loop, [&] {
        got += terminal.slave.read();
        return got == "in";
    });
    terminal.slave.write("out");
    until(loop, [&] { return reader->received == "out"; });
    terminal.slave.close();
    until(loop, [&] { return reader->lost && writer->lost; });
    CHECK(reader->events == "made data eof lost");
}

TEST_CASE("What can not be waited for is refused, named, and stays the caller's [s105] [F6]") {
    WEFT_TEST_KERNEL(real_kernels);
    const auto path = GENERATE(as<std::string>(), "/proc/self/exe", "/", "/dev/null");
    INFO(path);
    if (path == "/dev/null" && std::string_view(kernel_kind.name) == "poll") {
        WARN("left out: to poll(2) every device is always ready, and reading /dev/null is at its "
             "end at once");
        return;
    }
    TestLoop loop(kernel_kind);
    Fd file(::open(path.c_str(), (path == "/dev/null" ? O_RDWR : O_RDONLY) | O_CLOEXEC));
    REQUIRE(file.fd >= 0);
    for (const auto connect : {&adopt_read_pipe, &adopt_write_pipe}) {
        Side side;
        auto result = connect(loop, file.fd, side.protocol());
        REQUIRE_FALSE(result.ok());
        CHECK(result.error().code == Errc::not_an_event_fd);
        CHECK(result.error().context.find(std::to_string(file.fd)) != std::string::npos);
        CHECK(side->destroyed);
        CHECK(side->events.empty());
        CHECK(::fcntl(file.fd, F_GETFD) >= 0);
        CHECK(loop->stats().sources == 0);
    }
}

TEST_CASE("Misuse of pipes is named: no descriptor, no protocol, a descriptor that is taken [F6]") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    Pipe pipe;
    CHECK(adopt_read_pipe(loop, -1, Side().protocol()).error().code ==
          std::errc::bad_file_descriptor);
    CHECK(adopt_write_pipe(loop, 999999, Side().protocol()).error().code ==
          std::errc::bad_file_descriptor);
    CHECK_THROWS_AS(adopt_read_pipe(loop, pipe.reader.fd, nullptr), UsageError);
    const int fd = pipe.reader.fd;
    Side first, second;
    REQUIRE(adopt_read_pipe(loop, pipe.reader.release(), first.protocol()).ok());
    CHECK(adopt_read_pipe(loop, fd, second.protocol()).error().code == std::errc::file_exists);
    CHECK(second->destroyed);
    pipe.writer.write("hello");
    until(loop, [&] { return first->received == "hello"; });
}

TEST_CASE("Closing the loop ends pipes with aborted and closes their descriptors [F34]") {
    WEFT_TEST_KERNEL(real_kernels);
    Pipe in, out;
    Side reader, writer, unannounced;
    Pipe late;
    {
        TestLoop loop(kernel_kind);
        REQUIRE(adopt_read_pipe(loop, ::fcntl(in.reader.fd, F_DUPFD_CLOEXEC, 0), reader.protocol())
                    .ok());
        REQUIRE(
            adopt_write_pipe(loop, ::fcntl(out.writer.fd, F_DUPFD_CLOEXEC, 0), writer.protocol())
                .ok());
        until(loop, [&] { return reader->made && writer->made; });
        REQUIRE(adopt_read_pipe(loop, ::fcntl(late.reader.fd, F_DUPFD_CLOEXEC, 0),
                                unannounced.protocol())
                    .ok());
        loop->close();
    }
    CHECK(reader->events == "made lost");
    CHECK(reader->reason == Errc::aborted);
    CHECK(writer->events == "made lost");
    CHECK(writer->reason == Errc::aborted);
    CHECK(unannounced->events.empty());
    CHECK(unannounced->destroyed);
}

TEST_CASE("The wrong end of a pipe, and what is no stream, are refused by name [s105] [s122]") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    Pipe pipe;
    const auto read = [&](int fd) {
        return adopt_read_pipe(loop, fd, std::make_unique<Protocol>());
    };
    const auto write = [&](int fd) {
        return adopt_write_pipe(loop, fd, std::make_unique<Protocol>());
    };
    const auto wrong_reader = read(pipe.writer.fd);
    REQUIRE_FALSE(wrong_reader.ok());
    CHECK(wrong_reader.error().code == std::errc::bad_file_descriptor);
    CHECK_THAT(wrong_reader.error().message(), Catch::Contains("open for writing alone"));
    const auto wrong_writer = write(pipe.reader.fd);
    REQUIRE_FALSE(wrong_writer.ok());
    CHECK_THAT(wrong_writer.error().message(), Catch::Contains("open for reading alone"));
    const Fd datagrams(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    CHECK_FALSE(read(datagrams.fd).ok());
    CHECK_FALSE(write(datagrams.fd).ok());
    const Fd unconnected(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    CHECK_FALSE(read(unconnected.fd).ok());
    CHECK(loop->stats().sources == 0);
}
