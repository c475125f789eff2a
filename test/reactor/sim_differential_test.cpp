#include "reactor/sim_support.hpp"
#include "support/kernels.hpp"

#include <netinet/tcp.h>
#include <random>
#include <unistd.h>

// The same random calls on the simulated kernel and on the real one over the loopback interface
// have to give the same results. On the real one a segment arrives while the call that sends it
// runs, so that nothing has to be waited for.

using namespace weft;
using namespace weft::test;
using sim::SimKernel;

namespace {

/// What kqueue makes of the bits that epoll reports: its two ends of file are no news of their own
/// but come with what can be read and written, and one that is gone has both.
std::uint32_t to_kqueue(std::uint32_t bits) {
    return (bits & (hup | err)) != 0 ? bits | in | out | rdhup | hup : bits;
}

/// Interprets numbers as calls on one kernel and writes down what came of them.
class Script {
public:
    Script(Kernel& kernel, int family, Interest interest, std::string path)
        : kernel_(kernel), family_(family), interest_(interest), path_(std::move(path)) {
        listen();
    }
    ~Script() {
        for (const int fd : fds_)
            if (fd >= 0) kernel_.close(fd);
        kernel_.close(listener_);
    }
    Script(const Script&) = delete;
    Script& operator=(const Script&) = delete;

    std::string step(std::mt19937_64& random) {
        constexpr std::size_t most = 12; // sockets at once
        const auto pick = [&] { return random() % slots; };
        const std::uint64_t what = random() % 100;
        const std::size_t slot = pick();
        if (what < 8) return connect(slot);
        if (what < 16) return accept(slot);
        const std::size_t size = 1 + random() % most;
        if (fds_[slot] < 0) return "-";
        const int fd = fds_[slot];
        const std::string name = std::to_string(slot) + ' ';
        if (what < 36) return name + "send " + std::to_string(send_text(kernel_, fd, text(size)));
        if (what < 60) return name + "recv " + recv_text(kernel_, fd, size);
        if (what < 66) return name + "recv all " + recv_text(kernel_, fd);
        if (what < 72) return name + "shut " + error_text(kernel_.shutdown_write(fd).error());
        if (what < 76) return close(slot, false);
        if (what < 79) return close(slot, true);
        if (what < 83) return name + "SO_ERROR " + std::to_string(pending_error(kernel_, fd));
        if (what < 86) return name + "peer " + peer_of(fd);
        if (what < 89) return name + "again " + error_text(kernel_.connect(fd, to_).error());
        if (what < 91) return relisten();
        return poll();
    }

private:
    static constexpr std::size_t slots = 6;

    void listen() {
        const Address at = family_ == AF_UNIX   ? Address::unix_path(path_).value()
                           : family_ == AF_INET ? Address::loopback_ipv4(0)
                                                : Address::loopback_ipv6(0);
        listener_ = listen_at(kernel_, at, 2);
        to_ = local(kernel_, listener_);
        REQUIRE(kernel_.add(listener_, slots, Interest::read).ok());
    }
    /// Without it a small segment may wait for an acknowledgement that is delayed (RFC 896, RFC
    /// 1122).
    void no_delay(int fd) {
        if (family_ != AF_UNIX) (void)set_option(kernel_, fd, SocketOption::no_delay, 1);
    }
    std::string text(std::size_t size) {
        std::string bytes;
        for (std::size_t i = 0; i < size; ++i)
            bytes.push_back(static_cast<char>('a' + next_++ % 26));
        return bytes;
    }
    void watch(std::size_t slot, int fd) {
        fds_[slot] = fd;
        known_[slot] = 0;
        REQUIRE(kernel_.add(fd, slot, interest_).ok());
    }
    std::string connect(std::size_t slot) {
        if (fds_[slot] >= 0) return "-";
        const int fd = open_socket(kernel_, family_);
        no_delay(fd);
        const int error = kernel_.connect(fd, to_).error();
        watch(slot, fd);
        return std::to_string(slot) + " connect " + error_text(error);
    }
    std::string accept(std::size_t slot) {
        if (fds_[slot] >= 0) return "-";
        Address from;
        const Sys accepted = kernel_.accept(listener_, from);
        if (accepted.ok()) {
            no_delay(accepted.fd());
            watch(slot, accepted.fd());
        }
        return std::to_string(slot) + " accept " + error_text(accepted.error());
    }
    std::string close(std::size_t slot, bool reset) {
        kernel_.close(std::exchange(fds_[slot], -1), reset);
        return std::to_string(slot) + " close";
    }
    std::string peer_of(int fd) {
        Address address;
        return error_text(kernel_.peer_address(fd, address).error());
    }
    /// Closes the listener with what waits in it and opens another.
    std::string relisten() {
        kernel_.close(listener_);
        if (family_ == AF_UNIX && path_[0] != '@') CHECK(kernel_.unlink(path_).ok());
        listen();
        return "relisten";
    }
    std::string poll() {
        found_ = {};
        // Level-triggered: the second look sees what the first has moved.
        for (int i = 0; i < 2; ++i)
            for (const Event& event : look(kernel_))
                found_.at(event.token) |= event.ready;
        std::string line = "poll";
        for (const std::uint32_t ready : found_)
            line += ' ' + std::to_string(ready);
        return line;
    }

public:
    /// Whether the last poll saw the same as `simulated` did, but for edges without news.
    bool agrees_with(const Script& simulated) {
        const bool kqueue = kernel_.name() == "kqueue";
        for (std::size_t i = 0; i < found_.size(); ++i) {
            const std::uint32_t here = found_[i];
            const std::uint32_t there =
                kqueue ? to_kqueue(simulated.found_[i]) : simulated.found_[i];
            const bool idle =
                interest_ == Interest::stream && there == 0 && (here & ~known_[i]) == 0;
            if (here != there && !idle) return false;
            if (here == 0) continue;
            known_[i] = here;
            ++edges;
            if (here != there) ++idle_edges;
        }
        return true;
    }

    int edges = 0, idle_edges = 0;

private:
    Kernel& kernel_;
    int family_;
    Interest interest_;
    std::string path_;
    Address to_;
    int listener_ = -1;
    std::array<int, slots> fds_{-1, -1, -1, -1, -1, -1};
    std::array<std::uint32_t, slots + 1> found_{}, known_{};
    std::size_t next_ = 0;
};

/// What two runs of the same calls did differently, empty if nothing.
std::string difference(const KernelKind& kind, int family, Interest interest, std::uint64_t seed,
                       int& edges, int& idle) {
    const auto real = kind.make();
    SimKernel simulated;
    const std::string name = "@weft-differential-" + std::to_string(::getpid());
    Script expected(*real, family, interest, name), actual(simulated, family, interest, name);
    std::mt19937_64 one(seed), other(seed);
    std::string trace;
    for (int step = 0; step < 400; ++step) {
        const std::string wanted = expected.step(one), got = actual.step(other);
        trace += wanted + '\n';
        if (wanted == got && !wanted.starts_with("poll")) continue;
        if (wanted.starts_with("poll") && expected.agrees_with(actual)) continue;
        return trace + "simulated: " + got;
    }
    edges += expected.edges;
    idle += expected.idle_edges;
    return {};
}

} // namespace

TEST_CASE("Random calls give the same results and events as on a real kernel [F10] [F11] [F12] "
          "[F13] [F14]") {
    // The imitated edges of poll(2) are others.
    WEFT_TEST_KERNEL(pollable_kernels);
    const int family = GENERATE(AF_INET, AF_INET6, AF_UNIX);
    const Interest interest = GENERATE(Interest::both, Interest::stream);
    int edges = 0, idle_edges = 0;
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
        // On a busy machine a segment may be left to a kernel thread and come late. What is really
        // different is so each time.
        std::string found = difference(kernel_kind, family, interest, seed, edges, idle_edges);
        for (int retry = 0; retry < 3 && !found.empty(); ++retry)
            found = difference(kernel_kind, family, interest, seed, edges, idle_edges);
        INFO("family " << family << ", seed " << seed << '\n' << found);
        REQUIRE(found.empty());
    }
    CHECK(edges > 1000);
    // Were edges missed that tell of new bytes, it would be one of four.
    CHECK(idle_edges * 100 < edges);
}
