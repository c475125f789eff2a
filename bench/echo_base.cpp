// The denominator of the echo comparisons: an epoll loop written by hand, in four variants.
// Whatever a framework adds to this is its price. Level-triggered does one receive per event and
// changes its registration only when a send blocks; edge-triggered registers once for everything
// and takes a receive that did not fill the buffer as proof that nothing is left. For streams that
// are read in small pieces it can gather what it read, so that all of it leaves with one send.
// Nothing is copied: what the socket does not take stays where it was received, and the loop goes
// on with another block.

#include "sockets.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <string>
#include <unistd.h>
#include <vector>

namespace {

struct Options {
    std::size_t buffer = bench::buffer_size; ///< bytes of a receive, at most
    bool gather = false;                     ///< one send for all that was received in pieces
    bool hog = false;
};

constexpr std::size_t largest_buffer = 1024 * 1024;

/// Begins where a page does: the kernel's copies of large messages take 5 to 8 % longer to where
/// malloc puts them, 16 bytes behind.
constexpr std::size_t alignment = 4096;
struct Free {
    void operator()(char* block) const noexcept { std::free(block); }
};
using Block = std::unique_ptr<char[], Free>;

/// What a socket did not take: the end of a block.
struct Backlog {
    Block block;
    char* data = nullptr;
    std::size_t size = 0;
};

/// `Edge`: edge-triggered instead of level-triggered. `Generic`: read/write instead of recv/send.
template<bool Edge, bool Generic>
class EchoServer {
public:
    EchoServer(std::uint16_t port, const Options& options)
        : options_(options), piece_(options.buffer),
          block_size_(std::max(piece_, bench::buffer_size)), block_(new_block()),
          listener_(bench::open_server(SOCK_STREAM, port)),
          epoll_(bench::check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")) {
        bench::control(epoll_, EPOLL_CTL_ADD, listener_, EPOLLIN);
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

    /// A millisecond's worth.
    static void compute() {
        const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(1);
        while (std::chrono::steady_clock::now() < end) {
        }
    }

    void accept_all() {
        for (int fd; (fd = bench::accept_one(listener_)) >= 0;) {
            if (backlogs_.size() <= static_cast<std::size_t>(fd)) backlogs_.resize(fd + 1);
            bench::control(epoll_, EPOLL_CTL_ADD, fd, interest);
        }
    }

    void on_event(int fd, std::uint32_t events) {
        if (backlogs_[fd].block) {
            if (!flush(fd)) return;
        } else if (!(events & (EPOLLIN | hangup))) {
            return;
        }
        options_.gather ? answer_together(fd, events) : answer_pieces(fd, events);
    }

    ssize_t receive(int fd, char* data) {
        return Generic ? ::read(fd, data, piece_) : ::recv(fd, data, piece_, 0);
    }

    // A receive cut short has emptied the socket; with a hang-up the end is still to be read.
    bool emptied(ssize_t size, std::uint32_t events) const {
        return !Edge || (size < static_cast<ssize_t>(piece_) && !(events & hangup));
    }

    void answer_pieces(int fd, std::uint32_t events) {
        for (;;) {
            ssize_t size = receive(fd, block_.get());
            if (size <= 0) {
                if (size == 0 || errno != EAGAIN) drop(fd);
                return;
            }
            if (options_.hog && block_[0] == '!') compute();
            if (!reply(fd, size) || emptied(size, events)) return;
        }
    }

    void answer_together(int fd, std::uint32_t events) {
        for (ssize_t filled = 0;;) {
            if (block_size_ - filled < piece_) {
                if (!reply(fd, filled)) return;
                filled = 0;
            }
            ssize_t size = receive(fd, block_.get() + filled);
            bool ended = size == 0 || (size < 0 && errno != EAGAIN);
            if (size > 0) filled += size;
            if (size > 0 && !emptied(size, events)) continue;
            bool open = filled == 0 || reply(fd, filled);
            if (open && ended) drop(fd);
            return;
        }
    }

    /// Sends the first `size` bytes of the block. False when reading has to stop: what the socket
    /// does not take keeps the block.
    bool reply(int fd, ssize_t size) {
        ssize_t sent = transmit(fd, block_.get(), size);
        if (sent == size) return true;
        if (sent < 0) {
            drop(fd);
            return false;
        }
        char* rest = block_.get() + sent;
        backlogs_[fd] = {std::move(block_), rest, static_cast<std::size_t>(size - sent)};
        block_ = new_block();
        if (!Edge) bench::control(epoll_, EPOLL_CTL_MOD, fd, EPOLLOUT);
        return false;
    }

    bool flush(int fd) {
        Backlog& backlog = backlogs_[fd];
        ssize_t sent = transmit(fd, backlog.data, backlog.size);
        if (sent < 0) {
            drop(fd);
            return false;
        }
        backlog.data += sent;
        backlog.size -= sent;
        if (backlog.size) return false;
        spare_.push_back(std::move(backlog.block));
        if (!Edge) bench::control(epoll_, EPOLL_CTL_MOD, fd, interest);
        return true;
    }

    Block new_block() {
        if (spare_.empty()) {
            const std::size_t whole = (block_size_ + alignment - 1) / alignment * alignment;
            return Block(static_cast<char*>(std::aligned_alloc(alignment, whole)));
        }
        Block block = std::move(spare_.back());
        spare_.pop_back();
        return block;
    }

    /// Returns the bytes taken, 0 when the socket is full, -1 when the connection is broken.
    static ssize_t transmit(int fd, const char* data, std::size_t size) {
        ssize_t sent = Generic ? ::write(fd, data, size) : ::send(fd, data, size, MSG_NOSIGNAL);
        return sent < 0 && errno == EAGAIN ? 0 : sent;
    }

    void drop(int fd) {
        backlogs_[fd] = {};
        ::close(fd);
    }

    const Options options_;
    const std::size_t piece_;
    const std::size_t block_size_;
    std::vector<Block> spare_;
    Block block_; ///< what is received into
    int listener_;
    int epoll_;
    std::vector<Backlog> backlogs_; ///< by descriptor
};

template<bool Edge, bool Generic>
[[noreturn]] void serve(std::uint16_t port, const Options& options) {
    static EchoServer<Edge, Generic> server(port, options);
    server.run();
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app(
        "A TCP echo server on epoll, written by hand: what the others are measured against");
    std::uint16_t port = 8007;
    std::string trigger = "level";
    std::string calls = "recv";
    Options options;
    app.add_option("--port", port, "port on 127.0.0.1")->capture_default_str();
    app.add_option("--trigger", trigger, "how epoll reports")
        ->check(CLI::IsMember({"level", "edge"}))
        ->capture_default_str();
    app.add_option("--calls", calls, "recv: recv and send; read: read and write")
        ->check(CLI::IsMember({"recv", "read"}))
        ->capture_default_str();
    app.add_option("--buffer", options.buffer, "bytes of a receive, at most")
        ->check(CLI::Range(std::size_t{1}, largest_buffer))
        ->capture_default_str();
    app.add_flag("--gather", options.gather, "one send for all that was received in pieces");
    app.add_flag("--hog", options.hog, "compute for a millisecond when a message begins with '!'");
    CLI11_PARSE(app, argc, argv);
    std::signal(SIGPIPE, SIG_IGN); // write() has no MSG_NOSIGNAL
    try {
        const bool generic = calls == "read";
        if (trigger == "edge" && generic) serve<true, true>(port, options);
        if (trigger == "edge") serve<true, false>(port, options);
        if (generic) serve<false, true>(port, options);
        serve<false, false>(port, options);
    } catch (const std::system_error& error) {
        std::cerr << "bench-echo-base: port " << port << ": " << error.what() << '\n';
        return 1;
    }
}
