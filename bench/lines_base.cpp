// The denominator of the pipelining comparison: an epoll loop written by hand that answers every
// line with the same line, and gathers: all complete lines of one receive leave with one send. Each
// answer is copied on its own, as a server must whose answers are not its questions.

#include "sockets.hpp"

#include <CLI/CLI.hpp>
#include <cstring>
#include <string>
#include <unistd.h>
#include <vector>

namespace {

struct Connection {
    std::string partial; ///< the beginning of a line whose end has not come
    std::string backlog; ///< answers the socket did not take
};

/// `Edge`: registered once, edge-triggered, instead of level-triggered.
template<bool Edge>
class LineServer {
public:
    explicit LineServer(std::uint16_t port)
        : listener_(bench::open_server(SOCK_STREAM, port)),
          epoll_(bench::check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")) {
        bench::control(epoll_, EPOLL_CTL_ADD, listener_, EPOLLIN);
        answers_.reserve(2 * bench::buffer_size);
    }

    [[noreturn]] void run() {
        epoll_event events[bench::harvest];
        for (;;) {
            int count = ::epoll_wait(epoll_, events, bench::harvest, -1);
            for (int i = 0; i < count; ++i) {
                if (events[i].data.fd == listener_)
                    accept_all();
                else
                    on_event(events[i].data.fd, events[i].events);
            }
        }
    }

private:
    static constexpr std::uint32_t hangup = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
    static constexpr std::uint32_t interest =
        Edge ? EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET : EPOLLIN;

    void accept_all() {
        for (int fd; (fd = bench::accept_one(listener_)) >= 0;) {
            if (connections_.size() <= static_cast<std::size_t>(fd)) connections_.resize(fd + 1);
            bench::control(epoll_, EPOLL_CTL_ADD, fd, interest);
        }
    }

    void on_event(int fd, std::uint32_t events) {
        Connection& connection = connections_[fd];
        if (!connection.backlog.empty()) {
            if (!transmit(fd, connection.backlog)) return;
            if (!Edge) bench::control(epoll_, EPOLL_CTL_MOD, fd, interest);
        } else if (!(events & (EPOLLIN | hangup))) {
            return;
        }
        for (;;) {
            ssize_t size = ::recv(fd, buffer_, sizeof buffer_, 0);
            if (size <= 0) {
                if (size == 0 || errno != EAGAIN) drop(fd);
                return;
            }
            answer(connection, buffer_, buffer_ + size);
            if (!answers_.empty() && !transmit(fd, answers_)) {
                connection.backlog = answers_;
                if (!Edge && !answers_.empty()) bench::control(epoll_, EPOLL_CTL_MOD, fd, EPOLLOUT);
                answers_.clear();
                return;
            }
            if (!Edge || (size < ssize_t{sizeof buffer_} && !(events & hangup))) return;
        }
    }

    /// Appends the answer to every line that ends in [data, end); keeps the rest for the next
    /// receive.
    void answer(Connection& connection, const char* data, const char* end) {
        while (data != end) {
            auto* newline = static_cast<const char*>(std::memchr(data, '\n', end - data));
            if (!newline) break;
            if (!connection.partial.empty()) {
                answers_ += connection.partial;
                connection.partial.clear();
            }
            answers_.append(data, newline + 1);
            data = newline + 1;
        }
        if (data != end) connection.partial.append(data, end);
    }

    /// Sends `bytes` and removes what went out. False when the socket is full or the connection
    /// gone.
    bool transmit(int fd, std::string& bytes) {
        ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) {
            bytes.clear();
            drop(fd);
            return false;
        }
        if (sent == static_cast<ssize_t>(bytes.size()))
            bytes.clear();
        else if (sent > 0)
            bytes.erase(0, sent);
        return bytes.empty();
    }

    void drop(int fd) {
        connections_[fd] = {};
        ::close(fd);
    }

    int listener_;
    int epoll_;
    std::vector<Connection> connections_; ///< by descriptor
    std::string answers_;
    char buffer_[bench::buffer_size];
};

template<bool Edge>
[[noreturn]] void serve(std::uint16_t port) {
    static LineServer<Edge> server(port);
    server.run();
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app("A TCP server on epoll, written by hand, that answers each line with itself");
    std::uint16_t port = 8007;
    std::string trigger = "level";
    app.add_option("--port", port, "port on 127.0.0.1")->capture_default_str();
    app.add_option("--trigger", trigger, "how epoll reports")
        ->check(CLI::IsMember({"level", "edge"}))
        ->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    try {
        trigger == "edge" ? serve<true>(port) : serve<false>(port);
    } catch (const std::system_error& error) {
        std::cerr << "bench-lines-base: port " << port << ": " << error.what() << '\n';
        return 1;
    }
}
