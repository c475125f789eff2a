// The client of the fairness workload: connections that send small messages by plan and note how
// long each answer takes, beside one that floods and one whose messages take the server a
// millisecond. One thread that never sleeps, on a processor of its own: what it measures is the
// server's doing, to within the few dozen microseconds that a slice of the flood takes here.

#include "sockets.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <deque>
#include <unistd.h>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

struct Options {
    std::uint16_t port = 8007;
    std::size_t connections = 32;
    double rate = 4000;
    double seconds = 2;
    double warmup = 0.3;
    bool flood = false;
    bool hog = false;
};

constexpr std::size_t message_size = 64;
constexpr std::size_t slice = 64 * 1024;          ///< of the flood, between two looks at the others
constexpr std::size_t flood_in_flight = 1 << 20;  ///< bytes
constexpr auto hog_pause = std::chrono::milliseconds(10);

int open_connection(std::uint16_t port) {
    int fd = bench::check(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bench::check(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), "connect");
    int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

/// Receives what is there; 0 if nothing is.
std::size_t take(int fd, char* into, std::size_t size) {
    ssize_t got = ::recv(fd, into, size, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) throw std::runtime_error("a connection was closed");
    return got < 0 ? 0 : static_cast<std::size_t>(got);
}

std::size_t give(int fd, const char* from, std::size_t size) {
    ssize_t gave = ::send(fd, from, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (gave < 0 && errno != EAGAIN) bench::check(-1, "send");
    return gave < 0 ? 0 : static_cast<std::size_t>(gave);
}

/// One that waits: messages that are out, oldest first, and bytes of the first answer so far.
struct Waiter {
    int fd;
    std::deque<Clock::time_point> sent;
    std::size_t received = 0;
};

class Client {
public:
    explicit Client(const Options& options)
        : options_(options), data_(slice, 'x'), message_(message_size, 'a'),
          epoll_(bench::check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")) {
        for (std::size_t i = 0; i < options.connections; ++i) {
            waiters_.push_back({open_connection(options.port), {}, 0});
            epoll_event event{};
            event.events = EPOLLIN;
            event.data.u64 = i;
            bench::check(::epoll_ctl(epoll_, EPOLL_CTL_ADD, waiters_[i].fd, &event), "epoll_ctl");
        }
        if (options.flood) flood_ = open_connection(options.port);
        if (options.hog) hog_ = open_connection(options.port);
        next_ = next_hog_ = Clock::now();
    }

    void run(double seconds) {
        waits_.clear();
        bulk_ = 0;
        began_ = Clock::now();
        const auto end = began_ + std::chrono::duration_cast<Clock::duration>(Seconds(seconds));
        while (Clock::now() < end) {
            send_what_is_due();
            collect();
            if (flood_ >= 0) flood();
            if (hog_ >= 0) hog();
        }
        took_ = Seconds(Clock::now() - began_).count();
        // Who still waits has waited for so long at least.
        for (const Waiter& waiter : waiters_)
            for (auto sent : waiter.sent)
                note(sent);
    }

    void print() {
        std::sort(waits_.begin(), waits_.end());
        if (waits_.empty()) throw std::runtime_error("nothing was answered");
        auto at = [&](double share) {
            return waits_[std::min(waits_.size() - 1, static_cast<std::size_t>(share * waits_.size()))];
        };
        std::printf("{\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p99.9\": %.1f, \"messages\": %zu, "
                    "\"bulk_per_second\": %.0f}\n",
                    at(0.5), at(0.9), at(0.99), at(0.999), waits_.size(),
                    static_cast<double>(bulk_) / took_);
    }

private:
    void note(Clock::time_point sent) {
        waits_.push_back(std::chrono::duration<double, std::micro>(Clock::now() - sent).count());
    }

    void send_what_is_due() {
        const auto pause = std::chrono::duration_cast<Clock::duration>(Seconds(1 / options_.rate));
        for (auto now = Clock::now(); next_ <= now; next_ += pause) {
            Waiter& waiter = waiters_[turn_++ % waiters_.size()];
            if (give(waiter.fd, message_.data(), message_size) != message_size)
                throw std::runtime_error("a small message did not fit");
            waiter.sent.push_back(Clock::now());
        }
    }

    void collect() {
        epoll_event events[64];
        const int count = ::epoll_wait(epoll_, events, 64, 0);
        char bytes[4096];
        for (int i = 0; i < count; ++i) {
            Waiter& waiter = waiters_[events[i].data.u64];
            waiter.received += take(waiter.fd, bytes, sizeof bytes);
            for (; waiter.received >= message_size; waiter.received -= message_size) {
                note(waiter.sent.front());
                waiter.sent.pop_front();
            }
        }
    }

    void flood() {
        if (in_flight_ < flood_in_flight)
            in_flight_ += give(flood_, data_.data(), std::min(slice, flood_in_flight - in_flight_));
        const std::size_t got = take(flood_, data_.data(), slice);
        in_flight_ -= got;
        bulk_ += got;
    }

    void hog() {
        if (hog_waits_) {
            hog_waits_ -= take(hog_, data_.data(), hog_waits_);
            data_[0] = 'x';
            if (!hog_waits_) next_hog_ = Clock::now() + hog_pause;
        } else if (Clock::now() >= next_hog_) {
            std::string message = "!" + std::string(message_size - 1, 'x');
            hog_waits_ = give(hog_, message.data(), message_size);
        }
    }

    const Options options_;
    std::string data_;
    std::string message_;
    int epoll_;
    int flood_ = -1;
    int hog_ = -1;
    std::vector<Waiter> waiters_;
    std::vector<double> waits_; ///< microseconds
    Clock::time_point next_, next_hog_, began_;
    std::size_t turn_ = 0;
    std::size_t in_flight_ = 0;
    std::size_t hog_waits_ = 0; ///< bytes of its answer that are to come
    std::uint64_t bulk_ = 0;
    double took_ = 0;
};

} // namespace

int main(int argc, char** argv) {
    Options options;
    CLI::App app("What connections wait beside one that floods and one whose messages take 1 ms");
    app.add_option("--port", options.port, "port on 127.0.0.1")->capture_default_str();
    app.add_option("--connections", options.connections, "that wait")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--rate", options.rate, "messages a second of all of them")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--seconds", options.seconds, "how long to measure")->capture_default_str();
    app.add_option("--warmup", options.warmup, "seconds before that")->capture_default_str();
    app.add_flag("--flood", options.flood, "one more connection that keeps a MiB in flight");
    app.add_flag("--hog", options.hog,
                 "one more that sends a message that begins with '!' a hundred times a second");
    CLI11_PARSE(app, argc, argv);
    try {
        Client client(options);
        client.run(options.warmup);
        client.run(options.seconds);
        client.print();
    } catch (const std::exception& error) {
        std::cerr << "bench-waits: 127.0.0.1:" << options.port << ": " << error.what() << '\n';
        return 1;
    }
}
