#include "echo_style.hpp"

#include <weft/coro/net/datagram.hpp>
#include <weft/coro/net/serve.hpp>
#include <weft/coro/net/stream.hpp>
#include <weft/coro/tasks/task.hpp>
#include <weft/coro/tasks/task_ref.hpp>

namespace weft::tools {
namespace {

void echo_bytes(coro::Stream& peer, EchoCounters& counters) {
    while (Buffer data = peer.read()) {
        ++counters.messages;
        counters.bytes += data.size();
        peer.write(std::move(data));
    }
}

// A line with its end, so that what comes back is what was sent.
void echo_lines(coro::Stream& peer, EchoCounters& counters) {
    for (;;) {
        const std::string_view line = peer.read_until("\n");
        ++counters.messages;
        counters.bytes += line.size();
        peer.write(line);
    }
}

// A datagram that can not be sent is not the service's end.
void echo_datagrams(coro::DatagramSocket& socket, EchoCounters& counters) {
    while (socket.is_open()) {
        try {
            for (const Datagram& datagram : socket.recv_batch()) {
                ++counters.messages;
                counters.bytes += datagram.data.size();
                socket.send_to(datagram.data, datagram.from);
            }
        } catch (const std::system_error&) {
        }
    }
}

/// A handler that calls `serve`, and counts how the connection ends.
template<void (*serve)(coro::Stream&, EchoCounters&)>
coro::StreamHandler counted(EchoCounters& counters) {
    return [&counters](coro::Stream& peer) {
        const auto refuse = [&](const std::exception& error) {
            log_peer_error(error.what());
            ++counters.failed;
        };
        try {
            serve(peer, counters);
        } catch (const coro::IncompleteRead& end) {
            if (!end.partial.empty()) refuse(end);
        } catch (const coro::LimitOverrun& error) {
            refuse(error);
        } catch (const std::system_error& error) {
            counters.failed += error.code() != Errc::closed; // which is the service's own end
        }
    };
}

class CoroutineStyle final : public EchoStyle {
public:
    CoroutineStyle(Loop& loop, EchoCounters& counters) noexcept
        : loop_(loop), counters_(counters) {}

    ProtocolFactory streams(bool lines) override {
        return coro::stream_protocol(loop_, lines ? counted<echo_lines>(counters_)
                                                  : counted<echo_bytes>(counters_));
    }
    Result<DatagramRef> datagrams(std::string_view address, const UdpOptions& options) override {
        auto serve = [&counters = counters_](coro::DatagramSocket& socket) {
            echo_datagrams(socket, counters);
        };
        return udp::bind(loop_, address, coro::datagram_protocol(loop_, serve), options);
    }
    bool busy() const override { return !coro::all_tasks(loop_).empty(); }

private:
    Loop& loop_;
    EchoCounters& counters_;
};

} // namespace

bool has_coroutines() noexcept {
    return true;
}

std::unique_ptr<EchoStyle> coroutine_style(Loop& loop, EchoCounters& counters) {
    return std::make_unique<CoroutineStyle>(loop, counters);
}

} // namespace weft::tools
