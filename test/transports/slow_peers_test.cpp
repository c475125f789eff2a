// A crowd of peers that read nothing takes memory, and leaves none of it behind when it has gone.

#include "connect_support.hpp"
#include "support/resident.hpp"

#include <malloc.h>

using namespace weft;
using namespace weft::test;

namespace {

constexpr std::size_t for_each_peer = 80 * 1024;

void in_pieces(Transport& transport, std::string_view text) {
    for (; !text.empty(); text.remove_prefix(std::min<std::size_t>(1000, text.size())))
        transport.write(text.substr(0, 1000));
}

/// Writes to its peer, or sends back what it gets, without a look at whether anybody reads.
struct Talker final : Protocol {
    Talker(std::string h, std::vector<Transport*>& o) : how(std::move(h)), open(o) {}
    void connection_made(Transport& made) override {
        open.push_back(&made);
        transport = &made;
        const int small = 4096; // whatever the system's buffers are, most has to wait here
        if (made.fd() >= 0) ::setsockopt(made.fd(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
        const std::string text = pattern(for_each_peer);
        if (how == "whole") made.write(text);
        if (how == "pieces") in_pieces(made, text);
    }
    void data_received(Bytes data) override { transport->write(data); }
    void connection_lost(std::error_code) override {
        open.erase(std::find(open.begin(), open.end(), transport));
    }
    std::string how;
    std::vector<Transport*>& open;
    Transport* transport = nullptr;
};

/// Sends if it is to, and does not read.
struct Listener final : Protocol {
    explicit Listener(bool s) : sends(s) {}
    void connection_made(Transport& made) override {
        made.pause_reading();
        const std::string text = pattern(for_each_peer);
        if (sends) made.write(text);
    }
    bool sends;
};

/// A peer at a bare socket with as little room as there can be.
struct Quiet {
    Quiet(Kernel& kernel, const Address& to) : fd(make_socket(kernel)) {
        const int small = 4096;
        ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        const Sys begun = kernel.connect(fd, to);
        REQUIRE((begun.ok() || begun.error() == EINPROGRESS));
    }
    std::size_t send_some(std::string_view text) const {
        const ssize_t sent = ::send(fd, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        return sent > 0 ? static_cast<std::size_t>(sent) : 0;
    }
    int fd;
};

/// So many peers come and go; what the process holds while they are there.
std::size_t crowd(HostLoop& loop, const std::string& link, const std::string& how,
                  std::size_t count) {
    std::vector<Transport*> open;
    open.reserve(count);
    const bool sends = how == "echo";
    const std::string text = pattern(for_each_peer);
    std::size_t during = 0;
    const auto is_there = [&] {
        if (how == "from outside")
            for (Transport* transport : open)
                in_pieces(*transport, text);
        settle(loop);
        during = resident_memory();
    };
    if (link == "memory") {
        std::vector<TransportRef> peers;
        for (std::size_t i = 0; i < count; ++i)
            peers.push_back(connected_pair(loop, std::make_unique<Talker>(how, open),
                                           std::make_unique<Listener>(sends))
                                .second);
        until(loop, [&] { return open.size() == count; });
        is_there();
        for (std::size_t i = 0; i < count; ++i)
            i % 2 == 0 ? peers[i]->abort() : peers[i]->close();
        until(loop, [&] { return open.empty(); });
    } else {
        Server server = tcp::listen(loop, "127.0.0.1:0", [&] {
                            return std::make_unique<Talker>(how, open);
                        }).value();
        std::vector<Quiet> peers;
        peers.reserve(count);
        for (std::size_t i = 0; i < count; ++i) {
            peers.emplace_back(loop.kernel, server.addresses()[0]);
            until(loop, [&] { return open.size() == i + 1; });
            for (std::string_view rest = text; sends && !rest.empty(); loop->run_once())
                rest.remove_prefix(peers[i].send_some(rest));
        }
        is_there();
        for (std::size_t i = 0; i < count; ++i)
            loop.kernel.close(std::exchange(peers[i].fd, -1), i % 2 == 0);
        until(loop, [&] { return open.empty(); });
    }
    return during;
}

} // namespace

TEST_CASE("Two thousand slow peers that are gone have left the process as small as before") {
#if defined(__SANITIZE_THREAD__)
    WARN("left out under ThreadSanitizer, which keeps memory of its own for what was mapped");
    return;
#endif
    const auto link = GENERATE(as<std::string>(), "tcp", "memory");
    const auto how = GENERATE(as<std::string>(), "whole", "pieces", "echo", "from outside");
    INFO(link << ", " << how);
    ForwardKernel* kernel = nullptr;
    HostLoop loop([&] {
        auto made = std::make_unique<ForwardKernel>(make_default_kernel());
        kernel = made.get();
        return made;
    });
    constexpr std::size_t count = 2000;
    crowd(loop, link, how, 20);
    malloc_trim(0); // of what cases before this one have left
    const std::size_t before = resident_memory();
    // Of a pair in memory both ends are here.
    const std::size_t during = crowd(loop, link, how, link == "tcp" ? count : count / 2);
    for (int i = 0; i < 5; ++i) {
        kernel->put_forward(1s);
        loop->run_once();
    }
    const std::size_t after = resident_memory();
    CAPTURE(before, during, after);
    CHECK(during > before + count * 32 * 1024);
    CHECK(after < before + before / 5);
}
