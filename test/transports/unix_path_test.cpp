// Paths of Unix servers: several that start at once, folders that change, texts, and processes that
// fork.

#include "connect_support.hpp"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace weft;
using namespace weft::test;

namespace {

struct Folder {
    Folder() { REQUIRE(mkdtemp(name.data()) != nullptr); }
    ~Folder() { std::filesystem::remove_all(name); }
    std::string path(const std::string& file) const { return name + "/" + file; }
    std::string name = "/tmp/weft-test-XXXXXX";
};

ProtocolFactory nothing() {
    return [] { return std::make_unique<Protocol>(); };
}

/// Runs `body` in a child, which must answer 0.
template<class F>
void in_forked_child(F body) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ::alarm(20);
        int answer = 99;
        try {
            answer = body();
        } catch (...) {
        }
        ::_exit(answer);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

bool accepts(const std::string& path) {
    const Address address = Address::unix_path(path).value();
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool connected = ::connect(fd, address.data(), address.size()) == 0;
    ::close(fd);
    return connected;
}

} // namespace

TEST_CASE("Of servers that start on one path at the same moment one has it [s103] [s122]") {
    WEFT_TEST_KERNEL(real_kernels);
    const Folder folder;
    const std::string path = folder.path("socket");
    struct Shared {
        pthread_barrier_t start;    // for the servers
        pthread_barrier_t over;     // for all: each has it or was refused
        pthread_barrier_t may_stop; // for the test and the one that has it
        std::atomic<int> listening, refused;
    };
    constexpr int processes = 3;
    auto* shared = static_cast<Shared*>(
        mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    REQUIRE(shared != MAP_FAILED);
    pthread_barrierattr_t attributes;
    pthread_barrierattr_init(&attributes);
    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    for (int round = 0; round < 20; ++round) {
        new (shared) Shared{};
        pthread_barrier_init(&shared->start, &attributes, processes);
        pthread_barrier_init(&shared->over, &attributes, processes + 1);
        pthread_barrier_init(&shared->may_stop, &attributes, 2);
        if (round % 2 == 1) { // a file that was left behind is in the way
            const Address address = Address::unix_path(path).value();
            const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
            REQUIRE(::bind(fd, address.data(), address.size()) == 0);
            ::close(fd);
        }
        pid_t children[processes];
        for (pid_t& child : children) {
            child = ::fork();
            REQUIRE(child >= 0);
            if (child != 0) continue;
            ::alarm(60);
            Loop loop;
            pthread_barrier_wait(&shared->start);
            auto server = unix_socket::listen(loop, path, nothing());
            if (server.ok())
                shared->listening = ::getpid();
            else if (server.error().code == std::errc::address_in_use)
                ++shared->refused;
            pthread_barrier_wait(&shared->over);
            if (server.ok()) pthread_barrier_wait(&shared->may_stop);
            ::_exit(server.ok() ? 1 : 0);
        }
        pthread_barrier_wait(&shared->over);
        // Those that were refused leave first, and may not take the file along.
        const pid_t owner = shared->listening;
        REQUIRE(std::count(children, children + processes, owner) == 1);
        REQUIRE(shared->refused == processes - 1);
        const auto ends_with = [](pid_t child, int status) {
            int got = -1;
            REQUIRE(::waitpid(child, &got, 0) == child);
            CHECK(got == status << 8);
        };
        for (const pid_t child : children)
            if (child != owner) ends_with(child, 0);
        CHECK(accepts(path));
        pthread_barrier_wait(&shared->may_stop);
        ends_with(owner, 1);
        ::unlink(path.c_str());
    }
    munmap(shared, sizeof(Shared));
}

TEST_CASE("A relative path is removed also when the program has changed its folder [s103]") {
    WEFT_TEST_KERNEL(real_kernels);
    const Folder folder;
    in_forked_child([&] {
        if (::chdir(folder.name.c_str()) != 0) return 1;
        LoopOptions options;
        options.kernel = kernel_kind.make();
        Loop loop(std::move(options));
        auto server = unix_socket::listen(loop, "socket", nothing());
        if (!server.ok() || !std::filesystem::exists("socket")) return 2;
        if (::chdir("/") != 0) return 3;
        server->close();
        return std::filesystem::exists(folder.path("socket")) ? 4 : 0;
    });
}

TEST_CASE("A server's text leads to it again, whatever kind it is [s99]") {
    WEFT_TEST_KERNEL(real_kernels);
    const Folder folder;
    TestLoop loop(kernel_kind);
    for (const std::string& text : {folder.path("a"), "unix:" + folder.path("b"),
                                    std::string("@weft-test-") + folder.name.substr(5),
                                    std::string("127.0.0.1:0"), std::string("localhost:0")}) {
        INFO(text);
        Server server = listen(loop, text, nothing()).value();
        for (const Address& address : server.addresses()) {
            auto by_text = connect(loop, address.to_string(), std::make_unique<Protocol>());
            CHECK(loop->run_until(by_text).get() != nullptr);
            auto by_address = connect(loop, address, std::make_unique<Protocol>());
            CHECK(loop->run_until(by_address).get() != nullptr);
        }
        server.abort_clients();
        loop->run_once();
    }
    CHECK_FALSE(std::filesystem::exists("unix:"));
}

TEST_CASE("Both loopback addresses of a port that the system chose have the same one [s101]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    std::vector<Server> servers;
    for (int i = 0; i < 20; ++i) {
        servers.push_back(tcp::listen(loop, "localhost:0", nothing()).value());
        for (const Address& address : servers.back().addresses())
            CHECK(address.port() == servers.back().port());
    }
}

TEST_CASE("A host and a port lead to TCP alone, whatever they say [s99]") {
    WEFT_TEST_KERNEL(real_kernels);
    const Folder folder;
    TestLoop loop(kernel_kind);
    Server secret = unix_socket::listen(loop, folder.path("secret"), nothing()).value();
    Server open = tcp::listen(loop, "127.0.0.1:0", nothing()).value();
    Server six = tcp::listen(loop, "[::1]:0", nothing()).value();
    for (const std::string& host :
         {folder.path("secret"), "unix:" + folder.path("secret"), std::string("@secret"),
          std::string(), std::string("*"), std::string("127.0.0.1:80"), std::string("[::1"),
          std::string("a/b")}) {
        INFO(host);
        auto refused = tcp::connect(loop, host, open.port(), std::make_unique<Protocol>());
        CHECK_THROWS_AS(loop->run_until(refused), std::system_error);
    }
    for (const char* host : {"127.0.0.1", "localhost"})
        CHECK(loop->run_until(tcp::connect(loop, host, open.port(), std::make_unique<Protocol>()))
                  .get());
    for (const char* host : {"::1", "[::1]"})
        CHECK(loop->run_until(tcp::connect(loop, host, six.port(), std::make_unique<Protocol>()))
                  .get());
    loop->run_once();
    CHECK(secret.counters().accepted == 0);
    open.abort_clients();
    six.abort_clients();
    loop->run_once();
}

TEST_CASE("Connecting from an address of the other family works where it can be mapped [s99]") {
    WEFT_TEST_KERNEL(all_kernels);
    TestLoop loop(kernel_kind);
    Server server = tcp::listen(loop, "127.0.0.1:0", nothing()).value();
    const Address to = server.addresses().front();
    for (const char* local : {"[::]:0", "[::ffff:127.0.0.1]:0", "127.0.0.1:0"}) {
        ConnectOptions options;
        options.local_address = Address::parse(local).value();
        CHECK(loop->run_until(connect(loop, to, std::make_unique<Protocol>(), options)).get());
    }
    ConnectOptions options;
    options.local_address = Address::parse("[::1]:0").value();
    CHECK_THROWS_WITH(loop->run_until(connect(loop, to, std::make_unique<Protocol>(), options)),
                      Catch::Contains("[::1]:0"));
    server.abort_clients();
    loop->run_once();
}

// --- Processes that fork ---

TEST_CASE("A child that lets go of its copy leaves the parent its socket file [s123]") {
    WEFT_TEST_KERNEL(real_kernels);
    const bool goes_on = GENERATE(false, true);
    INFO((goes_on ? "after_fork was called" : "after_fork was not called"));
    const Folder folder;
    const std::string path = folder.path("socket");
    TestLoop loop(kernel_kind);
    Server server = unix_socket::listen(loop, path, nothing()).value();
    in_forked_child([&] {
        if (goes_on && !loop->after_fork().ok()) return 1;
        server.close();
        loop->close();
        return 0;
    });
    CHECK(accepts(path));
    server.close();
    CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("A child that does what it likes with its copies does not disturb connections [s123]") {
    WEFT_TEST_KERNEL(real_kernels);
    enum { closes_loop, aborts, closes, writes, ends, closes_loop_after_fork };
    const int action = GENERATE(range(0, 6));
    INFO("action " << action);
    TestLoop loop(kernel_kind);
    struct Seen : Protocol {
        void connection_made(Transport& t) override { transport = &t; }
        Transport* transport = nullptr;
    };
    Seen* seen = nullptr;
    Server server = tcp::listen(loop, "127.0.0.1:0", [&] {
                        auto made = std::make_unique<Seen>();
                        seen = made.get();
                        return made;
                    }).value();
    const int peer = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const Address to = server.addresses().front();
    REQUIRE(::connect(peer, to.data(), to.size()) == 0);
    while (seen == nullptr || seen->transport == nullptr)
        loop->run_once();
    REQUIRE(::send(peer, "unread", 6, 0) == 6);
    in_forked_child([&] {
        switch (action) {
        case aborts:
            seen->transport->abort();
            break;
        case closes:
            seen->transport->close();
            break;
        case writes:
            seen->transport->write("from the child");
            if (seen->transport->write_error() != Errc::forked) return 2;
            break;
        case ends:
            seen->transport->write_eof();
            break;
        case closes_loop_after_fork:
            if (!loop->after_fork().ok()) return 1;
            break;
        }
        loop->close();
        return 0;
    });
    linger option{};
    socklen_t size = sizeof option;
    REQUIRE(::getsockopt(seen->transport->fd(), SOL_SOCKET, SO_LINGER, &option, &size) == 0);
    CHECK(option.l_onoff == 0);
    seen->transport->write("answer");
    seen->transport->close();
    char piece[64];
    std::string all;
    while (loop->stats().sources > 1)
        loop->run_once();
    for (ssize_t got; (got = ::recv(peer, piece, sizeof piece, 0)) > 0;)
        all.append(piece, static_cast<std::size_t>(got));
    CHECK(all == "answer");
    ::close(peer);
}
