// The client of the fairness workload: connections that send small messages by plan and note how
// long each answer takes, beside one that floods and one whose messages take the server a
// millisecond. One thread that never sleeps, on a processor of its own. An answer's time is the one
// that the kernel notes when the server sends it, so that what this client does meanwhile, the
// flood above all, is not taken for the server's doing.

#include "sockets.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <ctime>
#include <deque>
#include <linux/net_tstamp.h>
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
/// bytes, of which the server finds as many as it takes
constexpr std::size_t flood_in_flight = 4 << 20;
/// of them that are received between two looks at the others
constexpr std::size_t slice = 256 * 1024;
constexpr auto hog_pause = std::chrono::milliseconds(10);

using Nanoseconds = std::int64_t;

Nanoseconds of(const timespec& time) {
    return 1'000'000'000 * time.tv_sec + time.tv_nsec;
}

/// By the clock that the kernel's notes are of.
Nanoseconds now() {
    timespec time;
    ::clock_gettime(CLOCK_REALTIME, &time);
    return of(time);
}

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
    if (got == 0 || (got < 0 && errno != EAGAIN))
        throw std::runtime_error("a connection was closed");
    return got < 0 ? 0 : static_cast<std::size_t>(got);
}

/// Receives what is there, and when it came, 0 if the kernel does not say; 0 bytes if nothing is.
std::size_t take_with_time(int fd, char* into, std::size_t size, Nanoseconds& came) {
    alignas(cmsghdr) char control[256];
    iovec part{into, size};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    ssize_t got = ::recvmsg(fd, &message, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN))
        throw std::runtime_error("a connection was closed");
    if (got < 0) return 0;
    came = 0;
    for (cmsghdr* note = CMSG_FIRSTHDR(&message); note; note = CMSG_NXTHDR(&message, note))
        if (note->cmsg_level == SOL_SOCKET && note->cmsg_type == SCM_TIMESTAMPING)
            came = of(*reinterpret_cast<const timespec*>(CMSG_DATA(note)));
    return static_cast<std::size_t>(got);
}

std::size_t give(int fd, const char* from, std::size_t size) {
    ssize_t gave = ::send(fd, from, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (gave < 0 && errno != EAGAIN) bench::check(-1, "send");
    return gave < 0 ? 0 : static_cast<std::size_t>(gave);
}

/// One that waits: messages that are out, oldest first, and bytes of the first answer so far.
struct Waiter {
    int fd;
    std::deque<Nanoseconds> sent;
    std::size_t received = 0;
};

class Client {
public:
    explicit Client(const Options& options)
        : options_(options), data_(flood_in_flight, 'x'), message_(message_size, 'a'),
          epoll_(bench::check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")) {
        for (std::size_t i = 0; i < options.connections; ++i) {
            waiters_.push_back({open_connection(options.port), {}, 0});
            int notes = SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
            bench::check(
                ::setsockopt(waiters_[i].fd, SOL_SOCKET, SO_TIMESTAMPING, &notes, sizeof notes),
                "setsockopt SO_TIMESTAMPING");
            epoll_event event{};
            event.events = EPOLLIN;
            event.data.u64 = i;
            bench::check(::epoll_ctl(epoll_, EPOLL_CTL_ADD, waiters_[i].fd, &event), "epoll_ctl");
        }
        if (options.flood) flood_ = open_connection(options.port);
        if (options.hog) hog_ = open_connection(options.port);
        next_ = next_hog_ = Clock::now();
    }

    /// Whether the kernel noted when answers came.
    bool run(double seconds) {
        waits_.clear();
        unnoted_ = 0;
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
        // One that still waits has waited for so long at least.
        for (const Waiter& waiter : waiters_)
            for (auto sent : waiter.sent)
                note(sent, now());
        return 100 * unnoted_ <= waits_.size();
    }

    void print() {
        std::sort(waits_.begin(), waits_.end());
        if (waits_.empty()) throw std::runtime_error("nothing was answered");
        if (100 * unnoted_ > waits_.size())
            throw std::runtime_error("the kernel does not note when data came");
        auto at = [&](double share) {
            return waits_[std::min(waits_.size() - 1,
                                   static_cast<std::size_t>(share * waits_.size()))];
        };
        std::printf(
            "{\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p99.9\": %.1f, \"messages\": %zu, "
            "\"bulk_per_second\": %.0f}\n",
            at(0.5), at(0.9), at(0.99), at(0.999), waits_.size(),
            static_cast<double>(bulk_) / took_);
    }

private:
    void note(Nanoseconds sent, Nanoseconds came) {
        waits_.push_back(static_cast<double>(came - sent) / 1000);
    }

    void send_what_is_due() {
        const auto pause = std::chrono::duration_cast<Clock::duration>(Seconds(1 / options_.rate));
        for (auto time = Clock::now(); next_ <= time; next_ += pause) {
            Waiter& waiter = waiters_[turn_++ % waiters_.size()];
            waiter.sent.push_back(now());
            if (give(waiter.fd, message_.data(), message_size) != message_size)
                throw std::runtime_error("a small message did not fit");
        }
    }

    void collect() {
        epoll_event events[64];
        const int count = ::epoll_wait(epoll_, events, 64, 0);
        char bytes[4096];
        for (int i = 0; i < count; ++i) {
            Waiter& waiter = waiters_[events[i].data.u64];
            Nanoseconds came = 0;
            waiter.received += take_with_time(waiter.fd, bytes, sizeof bytes, came);
            if (!came) {
                came = now();
                ++unnoted_;
            }
            for (; waiter.received >= message_size; waiter.received -= message_size) {
                note(waiter.sent.front(), came);
                waiter.sent.pop_front();
            }
        }
    }

    void flood() {
        if (in_flight_ < flood_in_flight)
            in_flight_ += give(flood_, data_.data(), flood_in_flight - in_flight_);
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
    std::size_t unnoted_ = 0;
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
    app.add_flag("--flood", options.flood, "one more connection that keeps 4 MiB in flight");
    app.add_flag("--hog", options.hog,
                 "one more that sends a message that begins with '!' a hundred times a second");
    CLI11_PARSE(app, argc, argv);
    try {
        Client client(options);
        // A worker of the kernel's begins with the notes, and needs a processor for that.
        for (int attempt = 0; attempt < 10 && !client.run(options.warmup); ++attempt)
            ::usleep(50'000);
        client.run(options.seconds);
        client.print();
    } catch (const std::exception& error) {
        std::cerr << "bench-waits: 127.0.0.1:" << options.port << ": " << error.what() << '\n';
        return 1;
    }
}
