#include "reactor/sim_support.hpp"
#include "support/kernels.hpp"

#include <random>

// The same random calls for datagrams on the simulated kernel and on the real one over the loopback
// interface have to give the same results.

using namespace weft;
using namespace weft::test;
using sim::SimKernel;

namespace {

/// Interprets numbers as calls on one kernel and writes down what came of them.
class DatagramScript {
public:
    DatagramScript(Kernel& kernel, int family) : kernel_(kernel), family_(family) {
        for (std::size_t slot = 0; slot < slots; ++slot) {
            at_[slot] = family == AF_INET ? Address::loopback_ipv4(0) : Address::loopback_ipv6(0);
            open(slot);
            at_[slot] = local(kernel, fds_[slot]); // what it is bound to again after it was closed
        }
    }
    ~DatagramScript() {
        for (const int fd : fds_)
            if (fd >= 0) kernel_.close(fd);
    }
    DatagramScript(const DatagramScript&) = delete;
    DatagramScript& operator=(const DatagramScript&) = delete;

    std::string step(std::mt19937_64& random) {
        const std::uint64_t what = random() % 100;
        const std::size_t slot = random() % slots, other = random() % slots;
        const std::size_t size = random() % 8;
        if (what >= 85) return poll();
        if (fds_[slot] < 0) {
            if (what < 40) open(slot);
            return "open";
        }
        const int fd = fds_[slot];
        const std::string name = std::to_string(slot) + ' ';
        if (what < 25) return name + "send " + send(fd, size, &at_[other]);
        if (what < 40) return name + "send to peer " + send(fd, size, nullptr);
        if (what < 60) return name + "recv " + receive(fd, random() % 10);
        if (what < 66) return name + "connect " + connect(fd, at_[other]);
        if (what < 68) return name + "SO_ERROR " + std::to_string(pending_error(kernel_, fd));
        if (what < 70) return name + "peer " + peer_of(fd);
        if (what < 74) return name + "recv_error " + take_error(fd);
        if (what < 77) return name + "report errors " + report_errors(fd, other % 2);
        kernel_.close(std::exchange(fds_[slot], -1));
        return name + "close";
    }

private:
    static constexpr std::size_t slots = 4;

    void open(std::size_t slot) {
        fds_[slot] = open_socket(kernel_, family_, SOCK_DGRAM);
        REQUIRE(kernel_.bind(fds_[slot], at_[slot]).error() == 0);
        REQUIRE(kernel_.add(fds_[slot], slot, Interest::both).ok());
    }
    std::string owner(const Address& address) const {
        const auto found = std::find(at_.begin(), at_.end(), address);
        return found == at_.end() ? "nobody" : std::to_string(found - at_.begin());
    }
    std::string send(int fd, std::size_t size, const Address* to) {
        std::string text;
        for (std::size_t i = 0; i < size; ++i)
            text.push_back(static_cast<char>('a' + next_++ % 26));
        const OutDatagram datagram{bytes_of(text), to};
        const Sys sent = kernel_.send_batch(fd, {&datagram, 1});
        return std::to_string(sent.ok() ? static_cast<int>(sent.count()) : -sent.error());
    }
    std::string receive(int fd, std::size_t room) {
        std::array<std::byte, 16> bytes;
        DatagramSlot slot;
        slot.data = bytes.data();
        slot.capacity = room;
        const Sys got = kernel_.recv_batch(fd, {&slot, 1});
        if (!got.ok()) return error_text(got.error());
        return std::string(text_of(Bytes(bytes).first(slot.size))) + " from " + owner(slot.from) +
               (slot.truncated ? " cut" : "");
    }
    std::string connect(int fd, const Address& to) {
        return error_text(kernel_.connect(fd, to).error());
    }
    std::string peer_of(int fd) {
        Address address;
        const Sys known = kernel_.peer_address(fd, address);
        return known.ok() ? owner(address) : error_text(known.error());
    }
    std::string take_error(int fd) {
        Address to;
        const Sys got = kernel_.recv_error(fd, to);
        return got.ok() ? std::to_string(got.count()) + " to " + owner(to)
                        : error_text(got.error());
    }
    std::string report_errors(int fd, bool on) {
        return error_text(set_option(kernel_, fd, SocketOption::error_queue, on));
    }
    std::string poll() {
        std::array<std::uint32_t, slots> found{};
        for (const Event& event : look(kernel_))
            found.at(event.token) |= event.ready;
        std::string line = "poll";
        for (const std::uint32_t ready : found)
            line += ' ' + std::to_string(ready);
        return line;
    }

    Kernel& kernel_;
    int family_;
    std::array<Address, slots> at_;
    std::array<int, slots> fds_{-1, -1, -1, -1};
    std::size_t next_ = 0;
};

std::string difference(const KernelKind& kind, int family, std::uint64_t seed) {
    const auto real = kind.make();
    SimKernel simulated;
    DatagramScript expected(*real, family), actual(simulated, family);
    std::mt19937_64 one(seed), other(seed);
    std::string trace;
    for (int step = 0; step < 400; ++step) {
        const std::string wanted = expected.step(one), got = actual.step(other);
        trace += wanted + '\n';
        if (wanted != got) return trace + "simulated: " + got;
    }
    return {};
}

} // namespace

TEST_CASE(
    "Random calls for datagrams give the same results and events as on a real kernel [F45] [F46]") {
    WEFT_TEST_KERNEL(epoll_kernels); // whose bits the simulated kernel has
    const int family = GENERATE(AF_INET, AF_INET6);
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
        // Another process may take a port in between; what is really different is so each time.
        std::string found = difference(kernel_kind, family, seed);
        for (int retry = 0; retry < 3 && !found.empty(); ++retry)
            found = difference(kernel_kind, family, seed);
        INFO("family " << family << ", seed " << seed << '\n' << found);
        REQUIRE(found.empty());
    }
}
