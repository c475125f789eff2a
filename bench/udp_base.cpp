// The denominator of the datagram comparison: an epoll loop written by hand that takes up to 64
// datagrams with one recvmmsg and sends them back with one sendmmsg.

#include "sockets.hpp"

#include <CLI/CLI.hpp>

namespace {

/// Datagrams per call. More gains little: the kernel's cost per datagram dominates from about 16.
constexpr int batch = 64;
/// Larger than any datagram of a run: an Ethernet frame's worth.
constexpr std::size_t datagram_size = 2048;

struct Batch {
    char bytes[batch][datagram_size];
    sockaddr_in peers[batch];
    iovec parts[batch];
    mmsghdr messages[batch]{};

    /// Points every message at its own buffer and peer again: recvmmsg leaves lengths in both.
    void rearm(int count) {
        for (int i = 0; i < count; ++i) {
            parts[i] = {bytes[i], datagram_size};
            messages[i].msg_hdr.msg_name = &peers[i];
            messages[i].msg_hdr.msg_namelen = sizeof peers[i];
            messages[i].msg_hdr.msg_iov = &parts[i];
            messages[i].msg_hdr.msg_iovlen = 1;
        }
    }
};

/// Answers the datagrams that begin with '?', which are few.
void answer_asked(int socket, Batch& incoming, int count) {
    for (int i = 0; i < count; ++i) {
        if (incoming.bytes[i][0] != '?') continue;
        incoming.parts[i].iov_len = incoming.messages[i].msg_len;
        ::sendmsg(socket, &incoming.messages[i].msg_hdr, 0);
    }
    incoming.rearm(count);
}

[[noreturn]] void serve(std::uint16_t port, int at_once, bool sink) {
    static Batch incoming;
    int socket = bench::open_server(SOCK_DGRAM, port);
    int epoll = bench::check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    bench::control(epoll, EPOLL_CTL_ADD, socket, EPOLLIN);
    incoming.rearm(batch);
    for (epoll_event event;;) {
        ::epoll_wait(epoll, &event, 1, -1);
        int count = ::recvmmsg(socket, incoming.messages, at_once, 0, nullptr);
        if (count <= 0) continue;
        if (sink) {
            answer_asked(socket, incoming, count);
            continue;
        }
        for (int i = 0; i < count; ++i)
            incoming.parts[i].iov_len = incoming.messages[i].msg_len;
        ::sendmmsg(socket, incoming.messages, count,
                   0); // what does not fit is lost, as datagrams are
        incoming.rearm(count);
    }
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app("A UDP echo server on epoll, recvmmsg and sendmmsg, written by hand");
    std::uint16_t port = 8007;
    app.add_option("--port", port, "port on 127.0.0.1")->capture_default_str();
    int at_once = batch;
    app.add_option("--batch", at_once, "datagrams per call")
        ->check(CLI::Range(1, batch))
        ->capture_default_str();
    bool sink = false;
    app.add_flag("--sink", sink, "answer only the datagrams that begin with '?'");
    CLI11_PARSE(app, argc, argv);
    try {
        serve(port, at_once, sink);
    } catch (const std::system_error& error) {
        std::cerr << "bench-udp-base: port " << port << ": " << error.what() << '\n';
        return 1;
    }
}
