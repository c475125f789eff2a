#include "echo_style.hpp"

#include <weft/protocols/codecs/framed_protocol.hpp>
#include <weft/reactor/loop.hpp>

namespace weft::tools {
namespace {

/// Answers whatever comes. While the peer does not take its answers nothing more is read from it.
class StreamEcho final : public Protocol {
public:
    explicit StreamEcho(EchoCounters& counters) noexcept : counters_(counters) {}

    void connection_made(Transport& transport) override { transport_ = &transport; }
    void data_received(Bytes data) override {
        ++counters_.messages;
        counters_.bytes += data.size();
        transport_->write(data);
    }
    void pause_writing() override { transport_->pause_reading(); }
    void resume_writing() override { transport_->resume_reading(); }
    void connection_lost(std::error_code reason) override { counters_.failed += bool(reason); }

private:
    Transport* transport_ = nullptr;
    EchoCounters& counters_;
};

/// Answers line by line, each with a write of its own. A carriage return belongs to the line, so
/// that what comes back is what was sent.
class LineEcho final : public FramedProtocol<LineFramer> {
public:
    explicit LineEcho(EchoCounters& counters)
        : FramedProtocol(LineFramer(LineEnd::lf)), counters_(counters) {}

    void message_received(Bytes line) override {
        ++counters_.messages;
        counters_.bytes += line.size() + 1;
        write_message(line);
    }
    void framing_error(const Error& error) override {
        log_peer_error(error.message());
        ++counters_.failed;
        transport().close();
    }
    void pause_writing() override { transport().pause_reading(); }
    void resume_writing() override { transport().resume_reading(); }
    void connection_lost(std::error_code reason) override { counters_.failed += bool(reason); }

private:
    EchoCounters& counters_;
};

class DatagramEcho final : public DatagramProtocol {
public:
    explicit DatagramEcho(EchoCounters& counters) noexcept : counters_(counters) {}

    void connection_made(DatagramTransport& transport) override { transport_ = &transport; }
    void datagram_received(const Datagram& datagram) override {
        ++counters_.messages;
        counters_.bytes += datagram.data.size();
        transport_->send_to(datagram.data, datagram.from);
    }
    void pause_writing() override { transport_->pause_reading(); }
    void resume_writing() override { transport_->resume_reading(); }

private:
    DatagramTransport* transport_ = nullptr;
    EchoCounters& counters_;
};

class CallbackStyle final : public EchoStyle {
public:
    CallbackStyle(Loop& loop, EchoCounters& counters) noexcept : loop_(loop), counters_(counters) {}

    ProtocolFactory streams(bool lines) override {
        if (lines) return [&counters = counters_] { return std::make_unique<LineEcho>(counters); };
        return [&counters = counters_] { return std::make_unique<StreamEcho>(counters); };
    }
    Result<DatagramRef> datagrams(std::string_view address, const UdpOptions& options) override {
        return udp::bind(loop_, address, std::make_unique<DatagramEcho>(counters_), options);
    }
    bool busy() const override { return false; }

private:
    Loop& loop_;
    EchoCounters& counters_;
};

} // namespace

std::unique_ptr<EchoStyle> callback_style(Loop& loop, EchoCounters& counters) {
    return std::make_unique<CallbackStyle>(loop, counters);
}

} // namespace weft::tools
