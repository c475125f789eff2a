#include "kernel_support.hpp"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <limits.h>
#include <netdb.h>
#include <sys/uio.h>
#include <unistd.h>

using namespace kernel_test;
using weft::FileKind;

namespace {

bool is_nonblocking(int fd) {
    return (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
}
bool is_close_on_exec(int fd) {
    return (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
}

/// A folder that goes with its contents.
struct Folder {
    std::string path;
    Folder() {
        char name[] = "/tmp/weft-kernel-XXXXXX";
        REQUIRE(mkdtemp(name));
        path = name;
    }
    ~Folder() { std::filesystem::remove_all(path); }
};

} // namespace

TEST_CASE("Every descriptor that a kernel makes is non-blocking and close-on-exec") {
    Fixture kernel(every_kernel());
    const Pair tcp = tcp_pair(*kernel);
    const Pair local = unix_pair(*kernel);
    for (int fd : {tcp.near, tcp.far, local.near, local.far}) {
        CHECK(is_nonblocking(fd));
        CHECK(is_close_on_exec(fd));
    }
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    const Pair adopted(*kernel, fds[0], fds[1]);
    REQUIRE(kernel->set_nonblocking(adopted.near).ok());
    CHECK(is_nonblocking(adopted.near));
    CHECK(is_close_on_exec(adopted.near));
    CHECK(kernel->set_nonblocking(-1).error() == EBADF);
    const int reserve = taken(kernel->open_reserve());
    CHECK(is_close_on_exec(reserve));
    kernel->close(reserve);
    if (kernel->pollable_fd().ok()) CHECK(is_close_on_exec(kernel->pollable_fd().fd()));
}

TEST_CASE("Addresses of both ends are told, and of the peer at accept") {
    Fixture kernel(every_kernel());
    Address listening, near_local, near_peer, accepted;
    const int listener = tcp_listener(*kernel, listening);
    CHECK(kernel->is_listening(listener));
    CHECK(kernel->accept(listener, accepted).would_block());
    CHECK(accepted.empty());
    const int near = taken(kernel->socket(AF_INET, SOCK_STREAM, 0));
    CHECK(!kernel->is_listening(near));
    CHECK(kernel->peer_address(near, near_peer).error() == ENOTCONN);
    (void)kernel->connect(near, listening);
    const int far = taken(kernel->accept(listener, accepted));
    REQUIRE(kernel->local_address(near, near_local).ok());
    REQUIRE(kernel->peer_address(near, near_peer).ok());
    CHECK(near_peer == listening);
    CHECK(accepted == near_local);
    for (int fd : {listener, near, far})
        kernel->close(fd);
}

TEST_CASE("Closing with reset makes the peer see a reset and not an end [F11]") {
    Fixture kernel(every_kernel());
    Pair gentle = tcp_pair(*kernel);
    gentle.close_near();
    CHECK(got_text(*kernel, gentle.far).empty());
    Pair hard = tcp_pair(*kernel);
    put_text(*kernel, hard.near, "dropped");
    hard.close_near(true);
    (void)got_text(*kernel, hard.far); // the bytes that had arrived may come first
    char byte;
    const Sys got = kernel->recv(hard.far, &byte, 1);
    CHECK((got.error() == ECONNRESET || (got.ok() && got.count() == 0)));
}

TEST_CASE("Writing to an end that nobody reads is EPIPE and no SIGPIPE, for sockets and pipes "
          "[F14] [F15]") {
    Fixture kernel(every_kernel());
    struct sigaction action {
    }, before{};
    static std::atomic<int> signals;
    signals = 0;
    action.sa_handler = [](int) { ++signals; };
    REQUIRE(sigaction(SIGPIPE, &action, &before) == 0);
    Pair local = unix_pair(*kernel);
    Pair pipe = pipe_pair(*kernel);
    std::swap(pipe.near, pipe.far);
    char text[] = "x";
    const iovec piece{text, 1};
    for (Pair* pair : {&local, &pipe}) {
        pair->close_far();
        CHECK(kernel->send(pair->near, text, 1).error() == EPIPE);
        CHECK(kernel->sendv(pair->near, &piece, 1).error() == EPIPE);
    }
    CHECK(signals == 0);
    sigset_t mask;
    REQUIRE(pthread_sigmask(SIG_BLOCK, nullptr, &mask) == 0);
    CHECK(sigismember(&mask, SIGPIPE) == 0);
    REQUIRE(sigaction(SIGPIPE, &before, nullptr) == 0);
}

TEST_CASE("Pieces are sent in order, empty ones and more than IOV_MAX included [F16]") {
    Fixture kernel(every_kernel());
    const bool use_pipe = GENERATE(false, true);
    Pair pair = use_pipe ? pipe_pair(*kernel) : unix_pair(*kernel);
    std::string text;
    for (int i = 0; i < 3000; ++i)
        text += static_cast<char>('a' + i % 26);
    std::vector<iovec> pieces;
    for (int i = 0; i < 2000; ++i)
        pieces.push_back({text.data(), 0}); // more empty ones than one call takes
    for (char& c : text)
        pieces.push_back({&c, 1});
    std::size_t sent = 0;
    std::size_t first = 0;
    while (sent < text.size()) {
        const Sys result = kernel->sendv(pair.far, pieces.data() + first, pieces.size() - first);
        REQUIRE(result.ok());
        REQUIRE(result.count() > 0);
        sent += result.count();
        first = 2000 + sent;
    }
    std::string received;
    while (received.size() < text.size())
        received += got_text(*kernel, pair.near, 4096);
    CHECK(received == text);
    CHECK(kernel->sendv(pair.far, pieces.data(), 2000).count() == 0);
}

TEST_CASE("No call blocks, even where somebody cleared O_NONBLOCK") {
    Fixture kernel(every_kernel());
    Pair pair = unix_pair(*kernel);
    REQUIRE(fcntl(pair.near, F_SETFL, 0) == 0);
    CHECK(got_text(*kernel, pair.near) == "(Resource temporarily unavailable)");
    const std::string block(1 << 20, 'x');
    Sys sent(0);
    do
        sent = kernel->send(pair.near, block.data(), block.size());
    while (sent.ok());
    CHECK(sent.would_block());
}

TEST_CASE("What a descriptor and a path refer to is told") {
    Fixture kernel(every_kernel());
    const Folder folder;
    const std::string path = folder.path + "/socket";
    const Pair stream = unix_pair(*kernel);
    const Pair datagrams = unix_pair(*kernel, SOCK_DGRAM);
    const Pair packets = unix_pair(*kernel, SOCK_SEQPACKET);
    const Pair pipe = pipe_pair(*kernel);
    CHECK(kernel->kind_of(stream.near) == FileKind::stream_socket);
    CHECK(kernel->kind_of(datagrams.near) == FileKind::datagram_socket);
    CHECK(kernel->kind_of(packets.near) == FileKind::other);
    CHECK(kernel->kind_of(pipe.near) == FileKind::pipe);
    CHECK(kernel->kind_of(-1) == FileKind::none);
    const int reserve = taken(kernel->open_reserve());
    CHECK(kernel->kind_of(reserve) == FileKind::character);
    kernel->close(reserve);

    CHECK(kernel->look_at(path).kind == FileKind::none);
    CHECK(kernel->look_at(folder.path).kind == FileKind::directory);
    CHECK(kernel->look_at("/proc/self/status").kind == FileKind::regular);
    const int fd = taken(kernel->socket(AF_UNIX, SOCK_STREAM, 0));
    REQUIRE(kernel->bind(fd, Address::unix_path(path).value()).ok());
    const auto info = kernel->look_at(path);
    CHECK(info.is_socket);
    CHECK(info == kernel->look_at(path));
    // Another socket in its place is told apart [F48].
    REQUIRE(kernel->unlink(path).ok());
    CHECK(kernel->unlink(path).error() == ENOENT);
    const int other = taken(kernel->socket(AF_UNIX, SOCK_STREAM, 0));
    REQUIRE(kernel->bind(other, Address::unix_path(path + "2").value()).ok());
    REQUIRE(symlink((path + "2").c_str(), path.c_str()) == 0);
    CHECK(!kernel->look_at(path).is_socket); // links are not followed
    CHECK(!(kernel->look_at(path) == info));
    kernel->close(fd);
    kernel->close(other);
}

TEST_CASE("A Unix peer's credentials are told, others have none [F48]") {
    Fixture kernel(every_kernel());
    const Pair local = unix_pair(*kernel);
    weft::Credentials credentials;
    REQUIRE(kernel->peer_credentials(local.near, credentials).ok());
    CHECK(credentials.pid == getpid());
    CHECK(credentials.uid == getuid());
    CHECK(credentials.gid == getgid());
    const Pair tcp = tcp_pair(*kernel);
    CHECK(!kernel->peer_credentials(tcp.near, credentials).ok());
}

TEST_CASE("Options are set and read, and those of other kinds of sockets refused") {
    Fixture kernel(every_kernel());
    const Pair pair = unix_pair(*kernel);
    REQUIRE(kernel->set_option(pair.near, SocketOption::send_buffer, 10'000).ok());
    // Linux doubles it for its own book-keeping (socket(7)).
    CHECK(kernel->get_option(pair.near, SocketOption::send_buffer).count() == 20'000);
    CHECK(kernel->set_option(pair.near, SocketOption::error, 0).error() == ENOPROTOOPT);
    CHECK(kernel->set_option(pair.near, SocketOption::no_delay, 1).error() == EOPNOTSUPP);
    CHECK(kernel->set_option(pair.near, SocketOption::hop_limit, 1).error() == EOPNOTSUPP);
    const Pair tcp = tcp_pair(*kernel);
    const Sys kind = kernel->set_option(tcp.near, SocketOption::join_segments, 1);
    CHECK(kind.error() == ENOPROTOOPT);
    for (const auto option :
         {SocketOption::no_delay, SocketOption::keep_alive, SocketOption::hop_limit}) {
        REQUIRE(kernel->set_option(tcp.near, option, 1).ok());
        CHECK(kernel->get_option(tcp.near, option).value() != 0);
    }
    for (const int family : {AF_INET, AF_INET6}) {
        const int udp = taken(kernel->socket(family, SOCK_DGRAM, 0));
        REQUIRE(kernel->set_option(udp, SocketOption::multicast_hop_limit, 200).ok());
        CHECK(kernel->get_option(udp, SocketOption::multicast_hop_limit).value() == 200);
        CHECK(kernel->get_option(udp, SocketOption::multicast_loop).value() == 1);
        kernel->close(udp);
    }
}

TEST_CASE("Names are resolved to addresses with the port, or to an error of the resolver") {
    Fixture kernel(every_kernel());
    std::vector<Address> found;
    REQUIRE(!kernel->resolve("127.0.0.1", 80, found));
    CHECK(found == std::vector{Address::loopback_ipv4(80)});
    REQUIRE(!kernel->resolve("::1", 443, found));
    CHECK(found == std::vector{Address::loopback_ipv6(443)});
    REQUIRE(!kernel->resolve("localhost", 1, found));
    CHECK(!found.empty());
    for (const Address& address : found) {
        CHECK(address.is_loopback());
        CHECK(address.port() == 1);
    }
    // A NUL must not hide the end of a name from code that checks it.
    for (const std::string& name : {std::string(), std::string("localhost\0.example.org", 22)}) {
        const std::error_code error = kernel->resolve(name, 80, found);
        CHECK(error.value() == EAI_NONAME);
        CHECK(error.category().name() == std::string_view("resolver"));
        CHECK(error.message() == gai_strerror(EAI_NONAME));
        CHECK(found.empty());
    }
    const std::error_code error = kernel->resolve("not a host name", 80, found);
    CHECK(error);
    CHECK(error.category().name() == std::string_view("resolver"));
}

TEST_CASE("Random numbers fill all that is asked for and differ") {
    Fixture kernel(every_kernel());
    std::array<std::byte, 1000> first{}, second{};
    kernel->random(first);
    kernel->random(second);
    CHECK(first != second);
    // A 32-byte part left zero by chance has probability 2^-256.
    for (std::size_t i = 0; i + 32 <= first.size(); i += 32)
        CHECK(
            std::any_of(&first[i], &first[i] + 32, [](std::byte b) { return b != std::byte{0}; }));
    kernel->random({});
}
