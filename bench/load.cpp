// The client of the comparisons. It works in lock step: a round sends `depth` messages on every
// connection, then collects all the replies, so that the server finds the same number of events at
// every wake-up, whichever server it is, and a fast one is not charged for being early.

#include "sockets.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>
#include <poll.h>
#include <string>
#include <unistd.h>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

struct Options {
    std::uint16_t port = 8007;
    std::size_t connections = 64;
    std::size_t size = 64;
    std::size_t depth = 1;
    double seconds = 1;
    double warmup = 0.2;
    std::uint64_t rounds = 0;
    bool udp = false;
    bool sink = false;
    std::string ask;        ///< what to send instead of messages that come back
    std::size_t answer = 0; ///< bytes of the answer to it, each time
    bool reconnect = false;
    bool steps = false;
    bool turns = false;
};

/// Connections from one source address: below the 28,232 local ports that Linux hands out by
/// default.
constexpr std::size_t per_source = 20'000;

class Load {
public:
    explicit Load(const Options& options)
        : options_(options), burst_(options.size * options.depth),
          answer_(options.ask.empty() ? burst_ : options.answer * options.depth), send_(burst_, 0),
          receive_(answer_ + 1, 0), sent_(options.connections, burst_),
          checked_(!options.ask.empty()) {
        for (std::size_t i = 0; i < burst_; ++i)
            send_[i] = !options.ask.empty()          ? options.ask[i % options.size]
                       : (i + 1) % options.size == 0 ? '\n'
                                                     : static_cast<char>('a' + i % 26);
        if (!options.reconnect) open_all();
    }

    /// Runs rounds until `rounds` are done, or for `seconds` when `rounds` is 0. Returns the
    /// requests.
    std::uint64_t run(std::uint64_t rounds, double seconds) {
        auto end = Clock::now() + std::chrono::duration<double>(seconds);
        std::uint64_t done = 0;
        while (rounds ? done < rounds : Clock::now() < end) {
            one_round();
            ++done;
        }
        return done * options_.connections * options_.depth;
    }

    /// Throws if a reply came that nobody asked for.
    void check_silence() {
        for (int fd : fds_) {
            ssize_t size = ::recv(fd, receive_.data(), receive_.size(), MSG_DONTWAIT);
            if (size >= 0 || errno != EAGAIN) fail(fd, "data or an end after the last reply");
        }
    }

private:
    void open_all() {
        for (std::size_t i = 0; i < options_.connections; ++i)
            fds_.push_back(open_one());
    }

    int open_one() {
        int type = options_.udp ? SOCK_DGRAM : SOCK_STREAM;
        int fd = bench::check(::socket(AF_INET, type | SOCK_CLOEXEC, 0), "socket");
        int on = 1;
        if (options_.udp) {
            timeval patience{2, 0}; // a lost datagram must end the run, not hang it
            ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        } else {
            ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        }
        // The port is chosen in connect(), among those free for this pair of addresses.
        ::setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + opened_++ / per_source % 65'000);
        auto* generic = reinterpret_cast<sockaddr*>(&address);
        bench::check(::bind(fd, generic, sizeof address), "bind");
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(options_.port);
        bench::check(::connect(fd, generic, sizeof address), "connect");
        return fd;
    }

    void one_round() {
        if (options_.reconnect) open_all();
        for (std::size_t i = 0; i < fds_.size(); ++i) {
            if (!checked_) sign(i);
            options_.udp ? send_datagrams(fds_[i]) : void(sent_[i] = transmit(fds_[i], 0));
        }
        for (std::size_t i = 0; i < fds_.size(); ++i) {
            if (!checked_) sign(i);
            options_.udp ? receive_datagrams(fds_[i]) : receive_stream(fds_[i], sent_[i]);
            const std::size_t from = options_.sink ? burst_ - options_.size : 0;
            if (!checked_ && send_.compare(from, burst_ - from, receive_, from, burst_ - from) != 0)
                fail(fds_[i], "a reply with other bytes than were sent");
        }
        checked_ = true;
        if (options_.reconnect) close_all();
    }

    /// Makes the messages of connection `i` its own, so that replies to the wrong peer are seen.
    void sign(std::size_t i) {
        std::string name = std::to_string(1'000'000 + i); // of one length for all
        for (std::size_t at = 0; at < burst_; at += options_.size)
            name.copy(&send_[at], std::min(name.size(), options_.size - 1));
        if (options_.sink) send_[burst_ - options_.size] = '?';
    }

    /// Sends from `offset` on, without waiting; returns how many bytes of the burst are out now.
    std::size_t transmit(int fd, std::size_t offset) {
        ssize_t sent =
            ::send(fd, send_.data() + offset, burst_ - offset, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) bench::check(-1, "send");
        return offset + std::max<ssize_t>(sent, 0);
    }

    void receive_stream(int fd, std::size_t sent) {
        for (std::size_t received = 0; received < answer_;) {
            if (sent < burst_) {
                // The server may be waiting for this reader: send and receive as either becomes
                // possible.
                pollfd state{fd, POLLIN | POLLOUT, 0};
                bench::check(::poll(&state, 1, -1), "poll");
                if (state.revents & POLLOUT) sent = transmit(fd, sent);
                if (!(state.revents & ~POLLOUT)) continue;
            }
            ssize_t size = ::recv(fd, receive_.data() + received, receive_.size() - received, 0);
            if (size <= 0)
                fail(fd, size ? std::strerror(errno) : "the server closed the connection");
            received += size;
            if (received > answer_) fail(fd, "more bytes than were sent");
        }
    }

    void send_datagrams(int fd) {
        for (std::size_t at = 0; at < burst_; at += options_.size)
            bench::check(::send(fd, &send_[at], options_.size, 0), "send");
    }

    void receive_datagrams(int fd) {
        std::size_t at = options_.sink ? burst_ - options_.size : 0;
        for (; at < burst_; at += options_.size) {
            ssize_t size = ::recv(fd, &receive_[at], receive_.size() - at, 0);
            if (size < 0) fail(fd, errno == EAGAIN ? "a datagram was lost" : std::strerror(errno));
            if (size != static_cast<ssize_t>(options_.size)) fail(fd, "a datagram of another size");
        }
    }

    void close_all() {
        for (int fd : fds_)
            ::close(fd);
        fds_.clear();
    }

    [[noreturn]] void fail(int fd, const char* what) {
        auto position = std::find(fds_.begin(), fds_.end(), fd) - fds_.begin();
        throw std::runtime_error("connection " + std::to_string(position) + ": " + what);
    }

    const Options options_;
    const std::size_t burst_;  ///< bytes of a round that a connection sends
    const std::size_t answer_; ///< and takes
    std::string send_;
    std::string receive_;           ///< a byte longer than an answer, to see what comes too much
    std::vector<std::size_t> sent_; ///< bytes of this round's burst that are out, by connection
    std::vector<int> fds_;
    std::size_t opened_ = 0;
    bool checked_; ///< the first round compares contents, the others only lengths
};

/// With --steps: says how far the run is, and waits until its driver has taken the figures.
void step(const Options& options, const char* name) {
    if (!options.steps) return;
    std::cout << name << std::endl;
    std::string line;
    std::getline(std::cin, line);
}

void measure(Load& load, std::uint64_t rounds, double seconds) {
    auto start = Clock::now();
    std::uint64_t requests = load.run(rounds, seconds);
    std::chrono::duration<double> took = Clock::now() - start;
    load.check_silence();
    std::cout << "{\"requests\": " << requests << ", \"seconds\": " << took.count() << "}"
              << std::endl;
}

void run(const Options& options) {
    Load load(options);
    load.run(options.rounds ? 1 : 0, options.warmup);
    if (options.turns) {
        std::cout << "warm" << std::endl;
        for (double seconds; std::cin >> seconds;)
            measure(load, 0, seconds);
        return;
    }
    step(options, "warm");
    measure(load, options.rounds, options.seconds);
    step(options, "done");
}

} // namespace

int main(int argc, char** argv) {
    Options options;
    CLI::App app(
        "A lock-step client for echo servers: sends on all connections, then collects all replies");
    app.add_option("--port", options.port, "port on 127.0.0.1")->capture_default_str();
    app.add_option("--connections", options.connections, "connections")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--size", options.size, "bytes of a message, the last of them a newline")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--depth", options.depth, "messages in flight on each connection")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--seconds", options.seconds, "how long to measure")->capture_default_str();
    app.add_option("--warmup", options.warmup, "seconds of rounds before that")
        ->capture_default_str();
    app.add_option("--rounds", options.rounds,
                   "measure this many rounds instead, after a warm-up of one");
    app.add_flag("--udp", options.udp, "datagrams; keep connections times depth below 200");
    app.add_flag("--sink", options.sink,
                 "with --udp: ask for an answer to the last of `depth` only");
    app.add_flag("--reconnect", options.reconnect, "a new connection for each round");
    app.add_flag("--steps", options.steps,
                 "print `warm` and `done` and wait for a line on standard input after each");
    app.add_flag("--turns", options.turns,
                 "print `warm`, then measure for each number of seconds on standard input");
    CLI::Option* answer =
        app.add_option("--answer", options.answer, "with --ask: bytes of an answer");
    app.add_option_function<std::string>(
           "--ask",
           [&](const std::string& text) {
               options.ask = text + "\r\n";
               options.size = options.ask.size();
           },
           "send this line, ended by CR LF, instead of messages that come back; for HTTP add CR LF")
        ->needs(answer);
    app.add_option_function<std::string>(
           "--ask-file",
           [&](const std::string& path) {
               std::ifstream file(path, std::ios::binary);
               options.ask.assign(std::istreambuf_iterator<char>(file), {});
               options.size = options.ask.size();
               if (!options.size) throw CLI::ValidationError("--ask-file", "nothing in " + path);
           },
           "send what is in this file instead")
        ->needs(answer);
    CLI11_PARSE(app, argc, argv);
    try {
        run(options);
    } catch (const std::exception& error) {
        std::cerr << "bench-load: 127.0.0.1:" << options.port << ": " << error.what() << '\n';
        return 1;
    }
}
