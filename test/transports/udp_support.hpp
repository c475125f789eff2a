#pragma once

#include "support/real_kernels.hpp"
#include "support/resources.hpp"

#include <weft/reactor/loop.hpp>
#include <weft/reactor/sim/faulty_kernel.hpp>
#include <weft/reactor/sim/sim_kernel.hpp>
#include <weft/transports/datagram/udp.hpp>

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <string>
#include <vector>

/// What the tests of datagram endpoints share.
namespace udp_test {

using weft::Address;
using weft::Bytes;
using weft::bytes_of;
using weft::Datagram;
using weft::DatagramProtocol;
using weft::DatagramRef;
using weft::DatagramTransport;
using weft::Kernel;
using weft::Loop;
using weft::LoopOptions;
using weft::text_of;
using weft::UdpOptions;
using weft::UsageError;
using weft::sim::Call;
using weft::sim::FaultyKernel;
using weft::test::open_descriptors;
using namespace std::chrono_literals;
using Lines = std::vector<std::string>;

using Maker = std::unique_ptr<Kernel> (*)();

inline std::unique_ptr<Kernel> make_sim_kernel() {
    return std::make_unique<weft::sim::SimKernel>();
}

/// Generates every kernel.
inline Maker every_kernel() {
    auto makers = weft::test::real_kernel_makers();
    makers.push_back({"sim", &make_sim_kernel});
    return GENERATE_COPY(from_range(makers)).make;
}

/// Generates the real kernels.
inline Maker real_kernel() {
    return GENERATE(from_range(weft::test::real_kernel_makers())).make;
}

/// A loop on a fresh kernel, and the check that nothing is left of it: no source, no descriptor.
struct Bench {
    std::map<int, std::string> before = open_descriptors();
    FaultyKernel* kernel; ///< counts calls and makes them fail
    std::unique_ptr<Loop> owned;
    Loop& loop;
    Lines unhandled;

    explicit Bench(Maker maker, LoopOptions options = {})
        : kernel(new FaultyKernel(maker())), owned(make(kernel, std::move(options))), loop(*owned) {
        loop.on_unhandled([this](const weft::Unhandled& what) {
            unhandled.emplace_back(what.message.substr(0, what.message.find(' ')));
        });
    }
    ~Bench() {
        end();
        CHECK(open_descriptors() == before);
    }
    void end() {
        if (!owned) return;
        loop.close();
        CHECK(loop.stats().sources == 0);
        CHECK(loop.stats().timers == 0);
        owned.reset();
    }
    /// Runs turns until one finds nothing to do; endless work fails.
    void settle() {
        int turns = 0;
        while (loop.run_once() != 0 || loop.next_deadline() == weft::TimePoint::min())
            REQUIRE(++turns < 1000);
    }
    Address bound(DatagramRef endpoint) { return endpoint->local_address(); }

private:
    static std::unique_ptr<Loop> make(FaultyKernel* kernel, LoopOptions options) {
        options.kernel.reset(kernel);
        options.debug = true;
        return std::make_unique<Loop>(std::move(options));
    }
};

/// Writes down what happens, into lines that outlive it, and does what it is told to meanwhile.
struct DatagramRecorder : DatagramProtocol {
    explicit DatagramRecorder(Lines& out) : lines(out) {}

    void connection_made(DatagramTransport& t) override {
        transport = &t;
        lines.emplace_back("made");
    }
    void datagram_received(const Datagram& datagram) override {
        lines.push_back("got " + std::string(text_of(datagram.data)));
    }
    void error_received(std::error_code error, const Address& to) override {
        lines.push_back("error " + std::to_string(error.value()) + " " + to.to_string());
    }
    void pause_writing() override { lines.emplace_back("pause"); }
    void resume_writing() override { lines.emplace_back("resume"); }
    void connection_lost(std::error_code reason) override {
        transport = nullptr;
        lines.push_back(reason ? "lost " + reason.message() : "lost");
    }

    Lines& lines;
    DatagramTransport* transport = nullptr;
};

/// Sends back what it gets.
struct Echo final : DatagramRecorder {
    using DatagramRecorder::DatagramRecorder;
    void datagram_received(const Datagram& datagram) override {
        DatagramRecorder::datagram_received(datagram);
        transport->send_to(datagram.data, datagram.from);
    }
};

/// Calls `action` with each datagram after writing it down.
template<class Action>
struct Acting final : DatagramRecorder {
    Acting(Lines& out, Action a) : DatagramRecorder(out), action(std::move(a)) {}
    void datagram_received(const Datagram& datagram) override {
        DatagramRecorder::datagram_received(datagram);
        action(datagram);
    }
    Action action;
};

template<class Action>
std::unique_ptr<DatagramProtocol> acting(Lines& lines, Action action) {
    return std::make_unique<Acting<Action>>(lines, std::move(action));
}

inline std::unique_ptr<DatagramProtocol> recorder(Lines& lines) {
    return std::make_unique<DatagramRecorder>(lines);
}

/// An endpoint on a free port of 127.0.0.1.
inline DatagramRef local(Loop& loop, std::unique_ptr<DatagramProtocol> protocol,
                         const UdpOptions& options = {}) {
    return weft::udp::bind(loop, Address::loopback_ipv4(0), std::move(protocol), options).value();
}

/// How often `line` is among `lines`.
inline std::size_t count(const Lines& lines, std::string_view line) {
    return static_cast<std::size_t>(std::count(lines.begin(), lines.end(), line));
}

} // namespace udp_test
