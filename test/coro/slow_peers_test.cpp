// A crowd of peers that read nothing takes memory, and leaves none of it behind when it has gone.

#include "stream_support.hpp"
#include "support/resident.hpp"

#include <malloc.h>
#include <netinet/in.h>
#include <sys/socket.h>

using namespace weft;
using namespace weft::test;

namespace {

constexpr std::size_t for_each_peer = 80 * 1024;

/// A connection with as little room as there can be, whose peer is a bare socket.
struct Quiet {
    explicit Quiet(const Address& to) : fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        const int small = 4096;
        ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        REQUIRE(::connect(fd, to.data(), to.size()) == 0);
    }
    void close(bool reset) {
        const linger hard{1, 0};
        if (reset) ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        ::close(fd);
    }
    int fd;
};

/// Serves one of them until it is gone.
void talk(coro::Stream stream, const std::string& how, const std::string& text) {
    const int small = 4096;
    ::setsockopt(stream.transport()->fd(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    try {
        for (std::size_t at = 0; how == "pieces"; at = (at + 1000) % (text.size() - 1000))
            stream.write(std::string_view(text).substr(at, 1000));
        while (Buffer data = stream.read())
            stream.write(std::move(data));
    } catch (const std::system_error&) {
    }
}

/// So many peers come and go; what the process holds while they are there.
std::size_t crowd(const std::string& how, std::size_t count) {
    const std::string text = numbers(for_each_peer);
    std::vector<coro::Task<void>> tasks;
    std::vector<Quiet> peers;
    tasks.reserve(count);
    peers.reserve(count);
    coro::Listener listener("127.0.0.1:0");
    for (std::size_t i = 0; i < count; ++i) {
        peers.emplace_back(listener.addresses().front());
        tasks.push_back(coro::spawn(
            [&, stream = listener.accept()]() mutable { talk(std::move(stream), how, text); }));
        std::string_view rest = how == "echo" ? std::string_view(text) : std::string_view();
        for (int tries = 0; tries < 100 && !rest.empty(); ++tries, settle(1)) {
            const ssize_t sent =
                ::send(peers[i].fd, rest.data(), rest.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
            if (sent > 0) rest.remove_prefix(static_cast<std::size_t>(sent));
        }
    }
    settle();
    const std::size_t during = resident_memory();
    for (std::size_t i = 0; i < count; ++i)
        peers[i].close(i % 2 == 0);
    for (auto& task : tasks)
        task.join();
    return during;
}

} // namespace

TEST_CASE("two thousand slow peers that are gone leave neither blocks nor stacks behind",
          "[coro]") {
#if defined(__SANITIZE_THREAD__)
    WARN("left out under ThreadSanitizer, which keeps memory of its own for what was mapped");
    return;
#endif
    const auto how = GENERATE(as<std::string>(), "pieces", "echo");
    INFO(how);
    const ResourceGuard guard;
    coro::RunOptions options = options_on(real_kernels().front());
    auto made = std::make_unique<ForwardKernel>(std::move(options.loop.kernel));
    ForwardKernel& kernel = *made;
    options.loop.kernel = std::move(made);
    const auto let_time_pass = [&] {
        for (int i = 0; i < 200; ++i) {
            kernel.put_forward(50ms);
            coro::sleep(std::chrono::nanoseconds(1));
        }
    };
    coro::run(
        [&] {
            crowd(how, 20);
            let_time_pass();
            malloc_trim(0); // of what cases before this one have left
            const std::size_t before = resident_memory();
            const std::size_t during = crowd(how, 2000);
            let_time_pass();
            const std::size_t after = resident_memory();
            CAPTURE(before, during, after);
            CHECK(during > before + std::size_t{2000} * 64 * 1024);
            // Blocks and stacks go back; of a heap in pieces malloc keeps what lies between them.
            CHECK(after < before + before / 5 + std::size_t{2000} * 1536);
        },
        std::move(options));
}
