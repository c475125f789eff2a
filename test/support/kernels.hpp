#pragma once

#include "listener.hpp"
#include "log_capture.hpp"
#include "real_kernels.hpp"
#include "resources.hpp"

#include <weft/reactor/kernel/kernel.hpp>
#include <weft/reactor/loop.hpp>
#include <weft/reactor/loop_core.hpp>
#include <weft/reactor/sim/sim_kernel.hpp>

#include <catch2/catch.hpp>
#include <functional>
#include <string>
#include <vector>

namespace weft::test {

/// A kind of kernel: a test body runs once with each.
struct KernelKind {
    const char* name;
    std::function<std::unique_ptr<Kernel>()> make;

    friend std::ostream& operator<<(std::ostream& out, const KernelKind& kind) {
        return out << kind.name;
    }
};

inline std::vector<KernelKind> kinds_of(const std::vector<KernelMaker>& makers) {
    std::vector<KernelKind> kinds;
    for (const KernelMaker& each : makers)
        kinds.push_back({each.name.data(), each.make});
    return kinds;
}

/// Those that talk to the system, for tests in which the system is the point.
inline std::vector<KernelKind> real_kernels() {
    return kinds_of(real_kernel_makers());
}

/// Those that another loop can wait for; there may be none.
inline std::vector<KernelKind> pollable_kernels() {
    return kinds_of(pollable_kernel_makers());
}

/// epoll's, for what only epoll does.
inline std::vector<KernelKind> epoll_kernels() {
    auto kinds = real_kernels();
    std::erase_if(kinds, [](const KernelKind& each) { return each.name != std::string("epoll"); });
    return kinds;
}

/// Those whose clock stands still while there is work, and moves at a word: for exact times.
inline std::vector<KernelKind> simulated_kernels() {
    return {
        {"sim", []() -> std::unique_ptr<Kernel> { return std::make_unique<sim::SimKernel>(); }}};
}

/// All of them.
inline std::vector<KernelKind> all_kernels() {
    auto kinds = real_kernels();
    kinds.push_back(simulated_kernels().front());
    return kinds;
}

/// Those that threads and signal handlers can wake: a simulated one waits for them instead of
/// finding that nothing can ever happen.
inline std::vector<KernelKind> waking_kernels() {
    auto kinds = real_kernels();
    kinds.push_back({"sim", []() -> std::unique_ptr<Kernel> {
                         auto kernel = std::make_unique<sim::SimKernel>();
                         kernel->set_block_when_idle(true);
                         return kernel;
                     }});
    return kinds;
}

/// The kernel of this run of the test case, which is run once for each of `kinds`.
#define WEFT_TEST_KERNEL(kinds)                                                                    \
    if (::weft::test::kinds().empty()) {                                                           \
        WARN("skipped: this build has no such kernel: " #kinds);                                   \
        return;                                                                                    \
    }                                                                                              \
    const ::weft::test::KernelKind kernel_kind = GENERATE(from_range(::weft::test::kinds()));      \
    ::weft::test::kernel_of_case = kernel_kind.name;                                               \
    INFO("kernel: " << kernel_kind.name)

/// A loop over one kernel, with what nobody caught collected, and the check that it gives
/// everything back.
class TestLoop {
    ResourceGuard guard_; // first, so that it is the last to go

public:
    explicit TestLoop(const KernelKind& kind, LoopOptions options = {})
        : loop((options.kernel = kind.make(), std::move(options))),
          kernel(weft::detail::core_of(loop).kernel()), kernel_name(kernel.name()) {
        loop.on_unhandled([this](const Unhandled& what) { unhandled.push_back(text_of(what)); });
    }
    Loop* operator->() noexcept { return &loop; }
    Loop& operator*() noexcept { return loop; }
    operator Loop&() noexcept { return loop; }
    bool simulated() const noexcept { return kernel_name == "sim"; }
    /// The kernel of a loop that is `simulated`.
    sim::SimKernel& sim() {
        return dynamic_cast<sim::SimKernel&>(weft::detail::core_of(loop).kernel());
    }

    std::vector<std::string> unhandled; ///< "message: what()" of each
    Loop loop;
    Kernel& kernel; ///< gone when the loop is closed
    const std::string kernel_name;

    static std::string text_of(const Unhandled& what) {
        const std::string message(what.message);
        if (!what.exception) return message;
        try {
            std::rethrow_exception(what.exception);
        } catch (const std::exception& error) {
            return message + ": " + error.what();
        } catch (...) {
            return message + ": something";
        }
    }
};

/// A connected pair of stream sockets of a kernel, closed at the end. Works on every kernel.
struct SocketPair {
    explicit SocketPair(Kernel& used) : kernel(used) {
        int fds[2];
        REQUIRE(kernel.socketpair(stream_socket, fds).ok());
        near = fds[0];
        far = fds[1];
    }
    ~SocketPair() {
        close_near();
        close_far();
    }
    SocketPair(const SocketPair&) = delete;
    SocketPair& operator=(const SocketPair&) = delete;

    void close_near() { close(near); }
    void close_far() { close(far); }
    /// Makes `near` readable.
    void send(std::string_view text) { REQUIRE(kernel.send(far, text.data(), text.size()).ok()); }
    /// Empties `near` of up to `size` bytes.
    std::string receive(std::size_t size = 64) {
        std::string text(size, '\0');
        const Sys got = kernel.recv(near, text.data(), size);
        text.resize(got.ok() ? got.count() : 0);
        return text;
    }

    Kernel& kernel;
    int near = -1;
    int far = -1;

private:
    static constexpr int stream_socket = 1; // SOCK_STREAM, on every system
    void close(int& fd) {
        if (fd >= 0) kernel.close(fd);
        fd = -1;
    }
};

} // namespace weft::test
