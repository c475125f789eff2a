#pragma once

#include "stream_support.hpp"
#include "support/heap.hpp"

#include <weft/reactor/loop_core.hpp>

#include <catch2/catch.hpp>
#include <future>
#include <map>
#include <string>
#include <unistd.h>
#include <vector>

/// What the tests of connecting, of pairs and of pipes share.
namespace weft::test {

/// A protocol and what becomes of it.
struct Side {
    std::shared_ptr<Journal> journal = std::make_shared<Journal>();
    std::unique_ptr<Protocol> protocol() const { return std::make_unique<Recorder>(journal); }
    Journal* operator->() const noexcept { return journal.get(); }
    Transport& transport() const {
        REQUIRE(journal->transport != nullptr);
        return *journal->transport;
    }
};

/// What a future has come to: "connected", "cancelled", "pending", or the text of its error.
inline std::string outcome(const Future<TransportRef>& future) {
    if (!future.done()) return "pending";
    if (future.cancelled()) return "cancelled";
    const auto error = future.exception();
    if (!error) return "connected";
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& e) {
        return e.what();
    }
}

/// A server of `Side`s.
struct Service {
    explicit Service(Loop& loop, std::string_view address = "127.0.0.1:0",
                     ListenOptions options = {}) {
        auto made =
            address.starts_with("unix:")
                ? unix_socket::listen(loop, address.substr(5), factory(), std::move(options))
                : tcp::listen(loop, address, factory(), std::move(options));
        INFO((made.ok() ? std::string() : made.error().message()));
        REQUIRE(made.ok());
        server = std::move(*made);
    }
    ProtocolFactory factory() {
        return [this] {
            sides.emplace_back();
            return sides.back().protocol();
        };
    }
    Address address() const { return server.addresses().at(0); }
    std::string text() const { return address().to_string(); }

    std::vector<Side> sides;
    Server server;
};

/// A descriptor of a kernel, closed at the end.
struct OwnFd {
    OwnFd(Kernel& used, int number) noexcept : kernel(used), fd(number) {}
    ~OwnFd() { close(); }
    OwnFd(const OwnFd&) = delete;
    OwnFd& operator=(const OwnFd&) = delete;
    void close() {
        if (fd >= 0) kernel.close(fd);
        fd = -1;
    }
    Kernel& kernel;
    int fd;
};

inline int make_socket(Kernel& kernel, int family = AF_INET, int type = SOCK_STREAM) {
    const Sys made = kernel.socket(family, type, 0);
    REQUIRE(made.ok());
    return made.fd();
}

/// A port that refuses connections for as long as this lives: it is taken, and nobody listens.
struct RefusingPort : OwnFd {
    explicit RefusingPort(Kernel& used, const Address& at = Address::loopback_ipv4(0))
        : OwnFd(used, make_socket(used, at.data()->sa_family)) {
        REQUIRE(kernel.bind(fd, at).ok());
        REQUIRE(kernel.local_address(fd, address).ok());
    }
    Address address;
};

inline Address parsed(std::string_view text) {
    return Address::parse(text).value();
}

/// Two ends of one kind of connection, made with bare calls.
inline std::pair<int, int> make_pair_of(Kernel& kernel, const std::string& kind) {
    if (kind == "socketpair") {
        int fds[2];
        REQUIRE(kernel.socketpair(SOCK_STREAM, fds).ok());
        return {fds[0], fds[1]};
    }
    const bool tcp = kind == "tcp";
    const Address at =
        tcp ? Address::loopback_ipv4(0)
            : Address::unix_path("@weft-adopt-" + std::to_string(::getpid())).value();
    const int family = tcp ? AF_INET : AF_UNIX;
    OwnFd listener(kernel, make_socket(kernel, family));
    REQUIRE(kernel.bind(listener.fd, at).ok());
    REQUIRE(kernel.listen(listener.fd, 1).ok());
    Address name, peer;
    REQUIRE(kernel.local_address(listener.fd, name).ok());
    const int client = make_socket(kernel, family);
    const Sys done = kernel.connect(client, name);
    REQUIRE((done.ok() || done.error() == EINPROGRESS));
    const Sys accepted = kernel.accept(listener.fd, peer); // over loopback it is there at once
    REQUIRE(accepted.ok());
    return {client, accepted.fd()};
}

/// The faulty kernel of a loop that was made with `faulty_kernels`.
inline sim::FaultyKernel& faults(Loop& loop) {
    return dynamic_cast<sim::FaultyKernel&>(weft::detail::core_of(loop).kernel());
}

/// All kernels, each inside a faulty one.
inline std::vector<KernelKind> faulty_kernels() {
    auto kinds = all_kernels();
    for (KernelKind& kind : kinds)
        kind.make = [inner = kind.make] { return std::make_unique<sim::FaultyKernel>(inner()); };
    return kinds;
}

/// A job that keeps the loop's only executor thread busy until it is told to end: look-ups wait
/// behind it.
class BusyExecutor {
public:
    explicit BusyExecutor(Loop& loop)
        : done_(loop.run_in_executor([gate = gate_.get_future().share()] { gate.wait(); })) {}
    ~BusyExecutor() { end(); }
    void end() {
        if (!std::exchange(ended_, true)) gate_.set_value();
    }

private:
    std::promise<void> gate_;
    Future<void> done_;
    bool ended_ = false;
};

inline LoopOptions one_thread() {
    LoopOptions options;
    options.executor_threads = 1;
    return options;
}

} // namespace weft::test
