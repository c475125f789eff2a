#include "stream_support.hpp"

#include <filesystem>
#include <fstream>
#include <unistd.h>

using namespace weft;
using namespace weft::test;

namespace {

/// A server on Unix sockets, and a folder for their files that is gone at the end.
struct UnixWorld : World {
    explicit UnixWorld(const KernelKind& kind)
        : World(kind), simulated(loop.kernel.name() == "sim") {
        if (simulated) return;
        std::string name = "/tmp/weft-test-XXXXXX";
        REQUIRE(mkdtemp(name.data()) != nullptr);
        folder = name;
    }
    ~UnixWorld() {
        server.close();
        if (!simulated) std::filesystem::remove_all(folder);
    }
    std::string path(const std::string& name = "socket") const { return folder + "/" + name; }
    Address address(const std::string& at) { return *Address::unix_path(at); }
    Result<Server> try_listen(const std::string& at, ListenOptions options = {}) {
        return unix_socket::listen(loop, at, factory(), std::move(options));
    }
    void listen_at(const std::string& at) {
        auto listening = try_listen(at);
        INFO((listening.ok() ? std::string() : listening.error().message()));
        REQUIRE(listening.ok());
        server = std::move(*listening);
    }
    /// A bare socket bound to `at`.
    int bind(const std::string& at, int type = SOCK_STREAM) {
        const Sys made = loop.kernel.socket(AF_UNIX, type, 0);
        REQUIRE(made.ok());
        REQUIRE(loop.kernel.bind(made.fd(), address(at)).error() == 0);
        return made.fd();
    }
    FileInfo look(const std::string& at) { return loop.kernel.look_at(at); }
    void make_file(const std::string& at) {
        if (simulated) {
            REQUIRE(dynamic_cast<sim::SimKernel&>(loop.kernel).create_file(at));
        } else {
            std::ofstream(at) << "precious";
        }
    }

    bool simulated;
    std::string folder = "/run";
};

} // namespace

TEST_CASE(
    "A Unix server listens on a path, names its peers, and removes the path at the end [s103] "
    "[F48]") {
    WEFT_TEST_KERNEL(all_kernels);
    UnixWorld world(kernel_kind);
    world.listen_at(world.path());
    CHECK(world.server.addresses().at(0).to_string() == "unix:" + world.path());
    CHECK(world.look(world.path()).is_socket);
    RawPeer peer = world.connect();
    CHECK(world.transport().local_address().path() == world.path());
    CHECK(world.transport().peer_address().path().empty());
    const auto credentials = world.transport().peer_credentials();
    REQUIRE(credentials);
    CHECK(credentials->pid == (world.simulated ? 1000 : getpid()));
    CHECK(credentials->uid == (world.simulated ? 1000 : getuid()));
    peer.send("hello");
    world.until([&] { return world.last().received == "hello"; });
    peer.finish_sending();
    world.until([&] { return world.last().lost; });
    CHECK(world.last().events == "made data eof lost");
    CHECK(!world.last().reason);
    world.server.close();
    CHECK(!world.look(world.path()).is_socket);
}

TEST_CASE("A socket file that nobody listens on is replaced [s103] [F48]") {
    WEFT_TEST_KERNEL(all_kernels);
    UnixWorld world(kernel_kind);
    world.loop.kernel.close(world.bind(world.path()));
    CHECK(world.look(world.path()).is_socket);
    world.listen_at(world.path());
    RawPeer peer = world.connect();
    peer.send("hello");
    world.until([&] { return world.last().received == "hello"; });
}

TEST_CASE("A socket that answers keeps its path [s103] [F48]") {
    WEFT_TEST_KERNEL(all_kernels);
    UnixWorld world(kernel_kind);
    world.listen_at(world.path());
    const FileInfo before = world.look(world.path());
    auto second = world.try_listen(world.path());
    REQUIRE(!second.ok());
    CHECK(second.error().code == std::errc::address_in_use);
    CHECK(second.error().message() ==
          "listen on unix:" + world.path() + ": " + errno_code(EADDRINUSE).message());
    CHECK(world.look(world.path()) == before);
    RawPeer peer = world.connect();
    // One whose queue is full answers as well, and so does one of another type.
    const std::string other = world.path("datagrams");
    const int datagrams = world.bind(other, SOCK_DGRAM);
    CHECK(world.try_listen(other).error().code == std::errc::address_in_use);
    CHECK(world.look(other).is_socket);
    world.loop.kernel.close(datagrams);
    CHECK(world.loop.kernel.unlink(other).ok());
}

TEST_CASE("A path that is no socket is left alone [s103] [F48]") {
    WEFT_TEST_KERNEL(all_kernels);
    UnixWorld world(kernel_kind);
    const std::string path = world.path("file");
    world.make_file(path);
    const FileInfo before = world.look(path);
    auto server = world.try_listen(path);
    REQUIRE(!server.ok());
    CHECK(server.error().code == std::errc::file_exists);
    CHECK(server.error().message() ==
          "listen on (the path is no socket) unix:" + path + ": " + errno_code(EEXIST).message());
    CHECK(world.look(path) == before);
}

TEST_CASE("At its end a server leaves a path alone that is somebody else's by then [s103] [F48]") {
    WEFT_TEST_KERNEL(all_kernels);
    UnixWorld world(kernel_kind);
    world.listen_at(world.path());
    REQUIRE(world.loop.kernel.unlink(world.path()).ok());
    const int other = world.bind(world.path());
    const FileInfo theirs = world.look(world.path());
    world.server.close();
    CHECK(world.look(world.path()) == theirs);
    world.loop.kernel.close(other);
    CHECK(world.loop.kernel.unlink(world.path()).ok());
}

TEST_CASE("Abstract names have no file [s103] [F48]") {
    WEFT_TEST_KERNEL(all_kernels);
    UnixWorld world(kernel_kind);
    const std::string name = "@weft-test-" + std::to_string(getpid());
    world.listen_at(name);
    CHECK(world.server.addresses().at(0).to_string() == "unix:" + name);
    CHECK(world.try_listen(name).error().code == std::errc::address_in_use);
    RawPeer peer = world.connect();
    peer.send("hello");
    world.until([&] { return world.last().received == "hello"; });
    world.server.close();
    world.listen_at(name);
}

TEST_CASE("A path that is too long or can not be bound is refused with its name [s103] [F48]") {
    WEFT_TEST_KERNEL(all_kernels);
    UnixWorld world(kernel_kind);
#ifdef __linux__
    constexpr std::size_t most = 108;
#else
    constexpr std::size_t most = 107;
#endif
    const std::string longest = world.path(std::string(most - world.path("").size(), 'x'));
    REQUIRE(longest.size() == most);
    world.listen_at(longest);
    CHECK(world.server.addresses().at(0).path() == longest);
    RawPeer peer = world.connect();
    auto too_long = world.try_listen(longest + "x");
    REQUIRE(!too_long.ok());
    CHECK_THAT(too_long.error().message(), Catch::Matchers::Contains(longest));
    if (!world.simulated) { // it knows no folders
        auto nowhere = world.try_listen("/nonexistent/socket");
        REQUIRE(!nowhere.ok());
        CHECK(nowhere.error().message() ==
              "listen on unix:/nonexistent/socket: " + errno_code(ENOENT).message());
    }
}

TEST_CASE("Listening that fails after binding takes the path with it [s103] [F48]") {
    WEFT_TEST_KERNEL(real_kernels);
    const sim::Call call = GENERATE(sim::Call::listen, sim::Call::add);
    FaultyWorld world(kernel_kind);
    const std::string path = "/tmp/weft-test-" + std::to_string(getpid()) + ".socket";
    world.faulty->fail(call, ENOBUFS);
    auto server = unix_socket::listen(world.loop, path, world.factory());
    REQUIRE(!server.ok());
    CHECK(server.error().code == errno_code(ENOBUFS));
    CHECK(!world.loop.kernel.look_at(path).is_socket);
}

TEST_CASE("A Unix connection that closes with input unread gets its last words through [F13]") {
    WEFT_TEST_KERNEL(all_kernels);
    UnixWorld world(kernel_kind);
    world.prepare = [](Journal& journal) {
        journal.hooks["made"] = [](Transport& t) { t.pause_reading(); };
    };
    world.listen_at(world.path());
    RawPeer peer = world.connect();
    peer.send("unread");
    world.settle();
    world.transport().write("early answer");
    world.transport().close();
    peer.receive_all(world.loop);
    CHECK(peer.received == "early answer");
    CHECK(peer.error == 0);
    peer.close();
    world.until([&] { return world.last().lost; });
}

TEST_CASE("A Unix peer that is gone shows in both directions at once [F10]") {
    WEFT_TEST_KERNEL(all_kernels);
    UnixWorld world(kernel_kind);
    world.prepare = [](Journal& journal) { journal.keep_open = true; };
    world.listen_at(world.path());
    RawPeer peer = world.connect();
    peer.send("last words");
    peer.close();
    world.until([&] { return world.last().count("eof") == 1; });
    CHECK(world.last().received == "last words");
    if (!world.last().lost) world.transport().write("too late");
    world.until([&] { return world.last().lost; });
    CHECK(world.last().reason == std::errc::broken_pipe);
    CHECK(world.loop.unhandled.empty());
}
