#include "echo_service.hpp"

#include <weft/protocols/framed_protocol.hpp>
#include <weft/reactor/log.hpp>

#include <utility>

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
        log(LogLevel::warning, error.message());
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

} // namespace

void EchoCounters::add(const EchoCounters& other) noexcept {
    connections += other.connections;
    failed += other.failed;
    shed += other.shed;
    messages += other.messages;
    bytes += other.bytes;
}

ProtocolFactory EchoService::factory() {
    if (options_.lines) return [this] { return std::make_unique<LineEcho>(counters_); };
    return [this] { return std::make_unique<StreamEcho>(counters_); };
}

Result<void> EchoService::open(bool reuse_port) {
    const auto listen_options = [&] {
        ListenOptions options;
        options.reuse_port = reuse_port;
        options.max_connections = options_.max_connections;
        return options;
    };
    for (const std::string& address : options_.tcp) {
        auto server = tcp::listen(loop_, address, factory(), listen_options());
        if (!server) return server.error();
        tcp_.push_back(std::move(*server));
    }
    for (const std::string& path : options_.unix_paths) {
        auto server = unix_socket::listen(loop_, path, factory(), listen_options());
        if (!server) return server.error();
        unix_.push_back(std::move(*server));
    }
    UdpOptions udp_options;
    udp_options.reuse_port = reuse_port;
    for (const std::string& address : options_.udp) {
        auto endpoint =
            udp::bind(loop_, address, std::make_unique<DatagramEcho>(counters_), udp_options);
        if (!endpoint) return endpoint.error();
        udp_.push_back(std::move(*endpoint));
    }
    return {};
}

void EchoService::end() {
    if (std::exchange(ending_, true)) return;
    for (DatagramRef& endpoint : udp_) {
        if (DatagramTransport* transport = endpoint.get()) transport->close();
    }
    const Duration grace = to_duration(std::chrono::duration<double>(options_.grace));
    for (auto* servers : {&tcp_, &unix_}) {
        for (Server& server : *servers) {
            ++draining_;
            server.drain(grace).add_done_callback([this](const Future<std::size_t>&) {
                if (--draining_ == 0) loop_.stop();
            });
        }
    }
    // The endpoints are closed in this turn; the next one finds nothing to do.
    if (draining_ == 0) loop_.call_soon([this] { loop_.stop(); });
}

EchoOptions EchoService::shared_options() const {
    EchoOptions shared = options_;
    shared.tcp.clear();
    shared.udp.clear();
    shared.unix_paths.clear();
    for (const Server& server : tcp_) {
        for (const Address& address : server.addresses())
            shared.tcp.push_back(address.to_string());
    }
    for (const DatagramRef& endpoint : udp_) {
        shared.udp.push_back(endpoint.get()->local_address().to_string());
    }
    return shared;
}

std::vector<std::string> EchoService::addresses() const {
    std::vector<std::string> texts;
    const EchoOptions shared = shared_options();
    for (const std::string& address : shared.tcp)
        texts.push_back("tcp " + address);
    for (const std::string& path : options_.unix_paths)
        texts.push_back("unix " + path);
    for (const std::string& address : shared.udp)
        texts.push_back("udp " + address);
    return texts;
}

EchoCounters EchoService::counters() const {
    EchoCounters counters = counters_;
    for (const auto* servers : {&tcp_, &unix_}) {
        for (const Server& server : *servers) {
            counters.connections += server.counters().accepted;
            counters.shed += server.counters().shed;
        }
    }
    return counters;
}

} // namespace weft::tools
