#include "stream_support.hpp"

#include <weft/reactor/loop_core.hpp>
#include <weft/reactor/sim/faulty_kernel.hpp>

#include <cstdlib>
#include <fcntl.h>
#include <unistd.h>

using namespace weft;
using namespace weft::test;

namespace {

/// An open file with `content`, without a name.
class File {
public:
    explicit File(std::string_view content) {
        char path[] = "/tmp/weft-send-file-XXXXXX";
        fd_ = ::mkstemp(path);
        REQUIRE(fd_ >= 0);
        ::unlink(path);
        REQUIRE(::write(fd_, content.data(), content.size()) ==
                static_cast<ssize_t>(content.size()));
    }
    ~File() { ::close(fd_); }
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    int fd() const noexcept { return fd_; }

private:
    int fd_ = -1;
};

} // namespace

TEST_CASE("A file is sent from an offset, in its place among the writes [s93]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    const std::string content = pattern(3'000'000);
    const File file(content);
    Future<std::uint64_t> whole, part, none, beyond;
    world.loop->call_soon([&] {
        Transport& transport = world.transport();
        transport.write("before ");
        whole = transport.send_file(file.fd());
        transport.write(" between ");
        part = transport.send_file(file.fd(), 1000, 10);
        none = transport.send_file(file.fd(), 5, 0);
        beyond = transport.send_file(file.fd(), content.size() + 1);
        transport.write(" after");
        transport.close();
    });
    peer.receive_all(world.loop);
    CHECK(peer.error == 0);
    CHECK(
        (peer.received == "before " + content + " between " + content.substr(1000, 10) + " after"));
    CHECK(whole.result() == content.size());
    CHECK(part.result() == 10);
    CHECK(none.result() == 0);
    CHECK(beyond.result() == 0);
    world.settle();
    CHECK(world.last().events == "made lost");
    CHECK(world.last().reason == std::error_code());
}

TEST_CASE("Writes inside a callback come before the file that follows them [s93]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    const File file("file");
    world.prepare = [&](Journal& journal) {
        journal.hooks["data_received"] = [&](Transport& transport) {
            transport.write("one ");
            (void)transport.send_file(file.fd());
            transport.write(" two");
            transport.write_eof();
        };
    };
    world.listen();
    RawPeer peer = world.connect();
    peer.send("go");
    peer.receive_all(world.loop);
    CHECK(peer.received == "one file two");
    CHECK(world.last().events == "made data");
}

TEST_CASE("A file that the kernel can not send is read and written [s93]") {
    WEFT_TEST_KERNEL(real_kernels);
    World world([&]() -> std::unique_ptr<Kernel> {
        return std::make_unique<sim::FaultyKernel>(kernel_kind.make());
    });
    auto& kernel = dynamic_cast<sim::FaultyKernel&>(weft::detail::core_of(*world.loop).kernel());
    world.listen();
    RawPeer peer = world.connect();
    const std::string content = pattern(100'000);
    const File file(content);
    kernel.fail(sim::Call::send_file, EINVAL, 1, SIZE_MAX);
    auto future = world.transport().send_file(file.fd());
    world.transport().close();
    peer.receive_all(world.loop);
    CHECK((peer.received == content));
    CHECK(future.result() == content.size());
    CHECK(kernel.calls(sim::Call::send_file) == 1);
}

TEST_CASE("A device is sent up to the count, a pipe is refused and the connection stays [s93]") {
    WEFT_TEST_KERNEL(real_kernels);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    const int zero = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    auto zeroes = world.transport().send_file(zero, 0, 50'000);
    auto pipe = world.transport().send_file(ends[0]);
    auto closed = world.transport().send_file(-1);
    world.transport().write("!");
    world.transport().close();
    peer.receive_all(world.loop);
    CHECK((peer.received == std::string(50'000, '\0') + "!"));
    CHECK(zeroes.result() == 50'000);
    CHECK(pipe.error_code() == std::errc::invalid_seek);
    CHECK(closed.error_code() == std::errc::bad_file_descriptor);
    for (int fd : {zero, ends[0], ends[1]})
        ::close(fd);
}

TEST_CASE("A peer that goes away midway ends the file's future with the connection's error [s93]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    const File file(pattern(20'000'000));
    auto future = world.transport().send_file(file.fd());
    world.until([&] {
        peer.receive(10'000);
        return !peer.received.empty();
    });
    CHECK(!future.done());
    peer.reset();
    world.until([&] { return world.last().lost; });
    CHECK(future.error_code() == world.last().reason);
    CHECK(world.last().reason);
    CHECK(world.loop.unhandled.empty());
}

TEST_CASE("Aborting drops a file, and one that comes after the end is refused [s93]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    const File file(pattern(20'000'000));
    auto future = world.transport().send_file(file.fd());
    world.loop->run_once();
    world.transport().abort();
    CHECK(world.transport().send_file(file.fd()).error_code() == Errc::aborted);
    world.settle();
    CHECK(future.error_code() == Errc::aborted);
    CHECK(world.last().events == "made lost");

    RawPeer other = world.connect();
    world.transport().write_eof();
    CHECK_THROWS_AS(world.transport().send_file(file.fd()), UsageError);
}

TEST_CASE("Cancelling a file's future aborts the connection, and the file is left alone from then "
          "on [s93]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    world.listen();
    RawPeer peer = world.connect();
    const bool begun = GENERATE(false, true);
    std::string secret(1000, 's');
    Future<std::uint64_t> future;
    {
        const File file(pattern(20'000'000));
        future = world.transport().send_file(file.fd());
        if (begun) world.loop->run_once();
        CHECK(future.cancel());
        CHECK(world.transport().is_closing());
    }
    const File other(secret); // has the number of the one before
    world.until([&] { return world.last().lost; });
    CHECK(world.last().reason == Errc::aborted);
    peer.receive_all(world.loop);
    CHECK(peer.received.find(secret) == std::string::npos);
}

TEST_CASE("A long file leaves the other connections their turn [s93] [F19]") {
    LoopOptions options;
    options.reads_per_turn = 1;
    World world(simulated_kernels().front(), std::move(options));
    world.listen();
    RawPeer peer = world.connect();
    const File file(pattern(200'000));
    auto future = world.transport().send_file(file.fd());
    int turns = 0;
    auto other = world.loop->call_every(Duration(0), [&] { ++turns; });
    world.until([&] {
        peer.receive();
        return future.done();
    });
    // One part of at most 16 KiB a turn.
    CHECK(turns >= 12);
}

TEST_CASE("A pair in memory sends files too [s93]") {
    TestLoop loop(real_kernels().front());
    auto first = std::make_shared<Journal>();
    auto second = std::make_shared<Journal>();
    auto pair =
        connected_pair(loop, std::make_unique<Recorder>(first), std::make_unique<Recorder>(second));
    const std::string content = pattern(300'000);
    const File file(content);
    until(loop, [&] { return first->made; });
    auto future = first->transport->send_file(file.fd());
    first->transport->close();
    until(loop, [&] { return second->lost; });
    CHECK((second->received == content));
    CHECK(future.result() == content.size());
}
