// A program with servers, connections, datagrams, timers, watches, signals, an executor and
// coroutines that forks at any point. The child closes what it has, ends, executes another program,
// abandons the loop or has one of its own; the parent's bytes, files, peers and answers are as if
// there had been no child.

#include "connection_model.hpp"

#include <weft/coro/coro.hpp>
#include <weft/reactor/log.hpp>
#include <weft/reactor/loop_core.hpp>
#include <weft/transports/connect/connect.hpp>
#include <weft/transports/datagram/udp.hpp>
#include <weft/transports/server/server.hpp>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

namespace {

struct World;

/// Echoes.
class EchoProtocol final : public Protocol {
public:
    explicit EchoProtocol(World& world) : w_(world) {}
    void connection_made(Transport& transport) override { transport_ = &transport; }
    void data_received(Bytes data) override;
    void connection_lost(std::error_code) override { transport_ = nullptr; }

private:
    World& w_;
    Transport* transport_ = nullptr;
};

/// Sends, and compares what comes back.
struct Client {
    World* world;
    Transport* transport = nullptr;
    Future<TransportRef> connecting;
    std::uint64_t sent = 0, received = 0;
    bool closed = false, lost = false;
};

class ClientProtocol final : public Protocol {
public:
    explicit ClientProtocol(Client& client) : c_(client) {}
    void connection_made(Transport& transport) override { c_.transport = &transport; }
    void data_received(Bytes data) override;
    bool eof_received() override {
        RANDOM_CHECK(false, "the end of a stream that only a child can have ended");
        return false;
    }
    void connection_lost(std::error_code reason) override;

private:
    Client& c_;
};

class Echo final : public DatagramProtocol {
public:
    explicit Echo(World& world) : w_(world) {}
    void datagram_received(const Datagram& datagram) override;

private:
    World& w_;
};

constexpr std::size_t most_children = 4;

struct World {
    explicit World(Round& used, LoopOptions options)
        : round(used), random(used.random), parent(::getpid()), loop(std::move(options)) {}
    ~World() { ::rmdir(folder.c_str()); }

    Round& round;
    Random& random;
    const pid_t parent;
    Loop loop;
    std::string folder, path;
    Server tcp, unix_server;
    std::deque<Client> clients;
    DatagramRef here, there;
    std::size_t datagrams_sent = 0, datagrams_received = 0;
    int watched[2] = {-1, -1};
    Watch watch;
    std::size_t poked = 0, seen = 0;
    SignalWatch signal;
    int raised = 0, told = 0;
    Timer timer;
    std::size_t ticks = 0;
    std::vector<std::pair<Future<int>, int>> jobs;
    std::vector<coro::Task<void>> tasks;
    std::vector<pid_t> children;
    bool in_callback = false, ending = false, is_child = false;
    int forks_wanted = 0; ///< by callbacks and coroutines to come
    std::optional<coro::Stream> stream;
    std::uint64_t stream_sent = 0, stream_received = 0;

    void start();
    void connect();
    void act();
    void maybe_fork(const char* where);
    void fork();
    [[noreturn]] void child(std::uint64_t kind);
    void reap(bool all);
    void finish();
    void talk();
    template<class Done>
    void until(const char* what, Done done);
};

void EchoProtocol::data_received(Bytes data) {
    w_.in_callback = true;
    if (w_.random.one_in(2)) w_.maybe_fork("data_received");
    transport_->write(data);
    if (w_.random.one_in(2)) w_.maybe_fork("data_received, with something written");
    w_.in_callback = false;
}

void ClientProtocol::data_received(Bytes data) {
    while (!data.empty()) {
        const std::size_t some = std::min(data.size(), Content::longest);
        RANDOM_CHECK(std::memcmp(data.data(), Content::get().at(c_.received, some).data(), some) ==
                         0,
                     "other bytes than were sent, after " << c_.received);
        c_.received += some;
        data = data.subspan(some);
    }
    RANDOM_CHECK(c_.received <= c_.sent, "more bytes than were sent");
}

void ClientProtocol::connection_lost(std::error_code reason) {
    if (c_.world->is_child) return;
    RANDOM_CHECK(c_.closed && !reason, "a connection is lost: " << reason.message());
    c_.lost = true;
    c_.transport = nullptr;
}

void Echo::datagram_received(const Datagram& datagram) {
    w_.in_callback = true;
    ++w_.datagrams_received;
    w_.maybe_fork("datagram_received");
    w_.in_callback = false;
    RANDOM_EQUAL(datagram.data.size(), 100u);
    RANDOM_CHECK(std::memcmp(datagram.data.data(), Content::get().at(0, 100).data(), 100) == 0);
}

// --- The child ---

bool refused(const std::function<void()>& call) {
    try {
        call();
    } catch (const std::system_error& error) {
        return error.code() == Errc::forked;
    }
    return false;
}

/// A child's own loop, with connections and files of its own.
void use_another_loop(World& world) {
    LoopOptions options;
    options.kernel = make_real_kernel(world.round.kernel());
    options.executor_threads = 1;
    Loop loop(std::move(options));
    const std::string path = world.folder + "/child-" + std::to_string(::getpid());
    std::size_t echoed = 0;
    auto echo = [] {
        struct Back final : Protocol {
            void connection_made(Transport& t) override { transport = &t; }
            void data_received(Bytes data) override { transport->write(data); }
            Transport* transport = nullptr;
        };
        return std::make_unique<Back>();
    };
    struct Ask final : Protocol {
        Ask(Loop& l, std::size_t& e) : loop(l), echoed(e) {}
        void connection_made(Transport& transport) override { transport.write("of the child"); }
        void data_received(Bytes data) override {
            echoed += data.size();
            if (echoed == 12) loop.stop();
        }
        Loop& loop;
        std::size_t& echoed;
    };
    auto server = unix_socket::listen(loop, path, echo);
    RANDOM_CHECK(server.ok(), server.error().message());
    auto asking = unix_socket::connect(loop, path, std::make_unique<Ask>(loop, echoed));
    loop.run();
    RANDOM_EQUAL(echoed, 12u);
    RANDOM_EQUAL(loop.run_until(loop.run_in_executor([] { return 5; })), 5);
    auto timer = loop.call_later(1us, [&] { loop.stop(); });
    loop.run();
    loop.close();
    RANDOM_CHECK(::access(path.c_str(), F_OK) != 0, "the child's own socket file is still there");
}

void World::child(std::uint64_t kind) {
    ::alarm(30);
    switch (kind) {
    case 0:
        break;
    case 1: // what it has, one by one
        tcp.close();
        unix_server.close();
        watch.cancel();
        signal.cancel();
        timer.cancel();
        for (Client& client : clients) {
            if (client.transport == nullptr) continue;
            if (random.one_in(3)) client.transport->write("of a child");
            if (random.one_in(3)) {
                client.transport->abort();
            } else if (random.one_in(2)) {
                client.transport->write_eof();
            } else {
                client.transport->close();
            }
        }
        if (stream) stream->abort();
        if (auto* endpoint = here.get()) endpoint->close();
        break;
    case 2: // all at once
        if (!in_callback && Loop::current() == nullptr) loop.close();
        break;
    case 3: {
        const char* const arguments[] = {"/bin/true", nullptr};
        const char* const environment[] = {nullptr};
        ::execve(arguments[0], const_cast<char**>(arguments), const_cast<char**>(environment));
        ::_exit(3);
    }
    case 4: // refused, all of it
        if (in_callback || Loop::current() != nullptr) break;
        RANDOM_CHECK(refused([&] { loop.run_once(); }));
        RANDOM_CHECK(refused([&] { (void)loop.step(); }));
        RANDOM_CHECK(loop.watch(watched[1]).error().code == Errc::forked);
        break;
    case 5: // it leaves the parent's alone and has its own
        if (!in_callback && Loop::current() == nullptr) use_another_loop(*this);
        break;
    case 6: // the same, closing the parent's first
        if (in_callback || Loop::current() != nullptr) break;
        loop.close();
        use_another_loop(*this);
        break;
    case 7: // takes it over, and ends it
        if (in_callback || Loop::current() != nullptr) break;
        RANDOM_CHECK(loop.after_fork().ok());
        if (random.one_in(2)) {
            tcp.close();
            unix_server.close();
            for (Client& client : clients)
                if (client.transport != nullptr) client.transport->abort();
        }
        loop.close();
        break;
    default:
        if (!in_callback && Loop::current() == nullptr && random.one_in(4)) {
            loop.close();
            std::exit(0);
        }
    }
    ::_exit(0);
}

// --- The parent ---

void World::fork() {
    reap(false);
    while (children.size() >= most_children)
        reap(true);
    const std::uint64_t kind = random.below(9);
    round.operation("fork, for a child of kind %", static_cast<std::int64_t>(kind));
    // The child has chances of its own, and so has not the parent's.
    Random chances = random.split();
    std::fflush(nullptr);
    const pid_t made = ::fork();
    RANDOM_CHECK(made >= 0, "fork: error " << errno);
    if (made == 0) {
        random = chances;
        is_child = true;
        child(kind);
    }
    children.push_back(made);
    if (random.one_in(2)) reap(true);
}

void World::maybe_fork(const char* where) {
    if (forks_wanted == 0 || ending) return;
    --forks_wanted;
    round.note(where);
    fork();
}

void World::reap(bool all) {
    std::erase_if(children, [&](pid_t child) {
        int status = 0;
        const pid_t ended = ::waitpid(child, &status, all ? 0 : WNOHANG);
        if (ended == 0) return false;
        RANDOM_CHECK(ended == child, "waitpid: error " << errno);
        RANDOM_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0,
                     "a child has ended with " << status);
        return true;
    });
}

void World::start() {
    char name[] = "/tmp/weft-fork-XXXXXX";
    RANDOM_CHECK(::mkdtemp(name) != nullptr);
    folder = name;
    path = folder + "/socket";
    auto factory = [this] { return std::make_unique<EchoProtocol>(*this); };
    auto listening = tcp::listen(loop, "127.0.0.1:0", factory);
    RANDOM_CHECK(listening.ok());
    tcp = std::move(*listening);
    auto at_path = unix_socket::listen(loop, path, factory);
    RANDOM_CHECK(at_path.ok(), at_path.error().message());
    unix_server = std::move(*at_path);
    auto bound = udp::bind(loop, "127.0.0.1:0", std::make_unique<Echo>(*this));
    RANDOM_CHECK(bound.ok());
    here = *bound;
    auto connected = udp::connect(loop, here->local_address(), std::make_unique<Echo>(*this));
    RANDOM_CHECK(connected.ok());
    there = *connected;
    RANDOM_CHECK(weft::detail::core_of(loop).kernel().socketpair(SOCK_STREAM, watched).ok());
    watch = std::move(*loop.watch(watched[0]));
    watch.on_readable([this] {
        char bytes[64];
        const ssize_t got = ::read(watched[0], bytes, sizeof bytes);
        RANDOM_CHECK(got > 0);
        seen += static_cast<std::size_t>(got);
        in_callback = true;
        maybe_fork("a watch");
        in_callback = false;
    });
    signal = std::move(*loop.on_signal(SIGUSR1, [this] {
        told = raised;
        in_callback = true;
        maybe_fork("a signal's callback");
        in_callback = false;
    }));
    if (random.one_in(2)) tasks.push_back(coro::spawn(loop, [this] { talk(); }));
}

/// A coroutine that asks and reads the answers.
void World::talk() {
    stream.emplace(coro::connect(tcp.addresses().at(0).to_string()));
    while (!ending) {
        const std::size_t size = 1 + random.size(20000);
        stream->write(Content::get().at(stream_sent, size));
        stream_sent += size;
        if (random.one_in(2)) maybe_fork("a coroutine that has written");
        while (stream_received != stream_sent) {
            const Buffer data = stream->read();
            RANDOM_CHECK(!data.empty(), "the end of a stream that only a child can have ended");
            RANDOM_CHECK(std::memcmp(data.data(),
                                     Content::get().at(stream_received, data.size()).data(),
                                     data.size()) == 0,
                         "other bytes than were sent, after " << stream_received);
            stream_received += data.size();
        }
        if (random.one_in(2)) maybe_fork("a coroutine that has read");
        coro::sleep(std::chrono::microseconds(random.size(100)));
    }
    stream->close();
}

void World::connect() {
    if (clients.size() >= 8) return;
    round.operation("connect");
    Client& client = clients.emplace_back();
    client.world = this;
    const std::string to = random.one_in(2) ? path : tcp.addresses().at(0).to_string();
    client.connecting = weft::connect(loop, to, std::make_unique<ClientProtocol>(client));
}

void World::act() {
    Client* const client = clients.empty() ? nullptr : &random.pick(clients);
    const std::uint64_t what = random.below(100);
    if (what < 40) {
        if (client == nullptr || client->transport == nullptr || client->closed) return connect();
        const std::size_t size = 1 + random.size(random.one_in(10) ? 200000 : 2000);
        round.operation("send % bytes", static_cast<std::int64_t>(size));
        client->transport->write(Content::get().at(client->sent, size));
        client->sent += size;
    } else if (what < 45) {
        connect();
    } else if (what < 47) {
        if (client == nullptr || client->transport == nullptr || client->closed ||
            client->received != client->sent)
            return;
        round.operation("close");
        client->transport->close();
        client->closed = true;
    } else if (what < 57) {
        round.operation("a byte for the watch");
        RANDOM_CHECK(::write(watched[1], "x", 1) == 1);
        ++poked;
    } else if (what < 62) {
        round.operation("a signal");
        ++raised;
        ::kill(parent, SIGUSR1);
    } else if (what < 72) {
        round.operation("a timer");
        timer = loop.call_later(std::chrono::microseconds(random.size(200)), [this] {
            ++ticks;
            in_callback = true;
            maybe_fork("a timer");
            in_callback = false;
        });
    } else if (what < 80) {
        round.operation("a datagram");
        there->send(Content::get().at(0, 100));
        ++datagrams_sent;
    } else if (what < 84) {
        round.operation("a job");
        if (jobs.size() > 4) return;
        const int number = static_cast<int>(jobs.size());
        jobs.emplace_back(loop.run_in_executor([number] { return number; }), number);
    } else if (what < 88) {
        round.operation("a post");
        (void)loop.post([this] {
            in_callback = true;
            maybe_fork("a post");
            in_callback = false;
        });
    } else if (what < 92) {
        round.operation("reap");
        reap(random.one_in(2));
    } else if (what < 93) {
        fork();
    } else if (what < 94) {
        if (forks_wanted < 2) ++forks_wanted;
    }
}

template<class Done>
void World::until(const char* what, Done done) {
    round.operation(what);
    int idle = 0;
    while (!done()) {
        // A callback may hang on a child's copy of a descriptor: it does not go on for ever.
        const std::size_t ran = loop.run_once(false);
        idle = ran == 0 ? idle + 1 : 0;
        if (idle > 10) {
            auto tick = loop.call_later(1ms, [] {});
            loop.run_once(true);
        }
    }
}

void World::finish() {
    ending = true;
    until("everything arrives", [&] {
        for (Client& client : clients)
            if (!client.lost && (client.transport == nullptr || client.received != client.sent))
                return false;
        if (datagrams_received != datagrams_sent || seen != poked || told != raised) return false;
        for (auto& [job, number] : jobs)
            if (!job.done()) return false;
        return true;
    });
    for (auto& [job, number] : jobs)
        RANDOM_EQUAL(job.result(), number);
    struct stat file {};
    RANDOM_CHECK(::lstat(path.c_str(), &file) == 0 && S_ISSOCK(file.st_mode),
                 "the socket file is gone");
    for (Client& client : clients)
        if (client.transport != nullptr) {
            client.transport->close();
            client.closed = true;
        }
    while (!children.empty())
        reap(true);
    for (auto& task : tasks)
        until("the coroutine ends", [&] { return task.done(); });
    unix_server.close();
    tcp.close();
    RANDOM_CHECK(::access(path.c_str(), F_OK) != 0, "the parent has left its socket file");
    here->close();
    there->close();
    watch.cancel();
    signal.cancel();
    timer.cancel();
    until("nothing is left in the loop", [&] {
        const auto stats = loop.stats();
        return stats.sources == 0 && stats.timers == 0 && stats.signals == 0 && stats.jobs == 0;
    });
    for (const int fd : watched)
        ::close(fd);
}

void play(Round& round) {
    (void)Content::get();
    LoopOptions options;
    options.kernel = round.make_kernel();
    options.executor_threads = 1;
    World world(round, std::move(options));
    // A child that closes the loop ends coroutines with it, which is told.
    world.loop.on_unhandled(
        [&](const Unhandled& what) { RANDOM_CHECK(world.is_child, what.message); });
    world.start();
    const std::size_t count = 50 + round.random.size(500);
    for (std::size_t i = 0; i < count; ++i) {
        world.act();
        if (round.random.one_in(2)) world.loop.run_once();
    }
    world.finish();
}

const RegisterFamily family(
    {"fork", "a program that forks at any point, whose children close, end, execute and go on",
     &play, false, true});

} // namespace
