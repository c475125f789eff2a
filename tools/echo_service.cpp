#include "echo_service.hpp"

#include <weft/reactor/log.hpp>

#include <utility>

namespace weft::tools {

void log_peer_error(std::string_view text) {
    static thread_local LogLimit limit;
    if (limit.admits(LogLevel::warning, Loop::current()->now())) log(LogLevel::warning, text);
}

void EchoCounters::add(const EchoCounters& other) noexcept {
    connections += other.connections;
    failed += other.failed;
    shed += other.shed;
    messages += other.messages;
    bytes += other.bytes;
}

EchoService::EchoService(const EchoOptions& options)
    : options_(options), style_(options.coroutines ? coroutine_style(loop_, counters_)
                                                   : callback_style(loop_, counters_)) {}

Result<void> EchoService::open(bool reuse_port) {
    const auto listen_options = [&] {
        ListenOptions options;
        options.reuse_port = reuse_port;
        options.max_connections = options_.max_connections;
        return options;
    };
    for (const std::string& address : options_.tcp) {
        auto server =
            tcp::listen(loop_, address, style_->streams(options_.lines), listen_options());
        if (!server) return server.error();
        tcp_.push_back(std::move(*server));
    }
    for (const std::string& path : options_.unix_paths) {
        auto server =
            unix_socket::listen(loop_, path, style_->streams(options_.lines), listen_options());
        if (!server) return server.error();
        unix_.push_back(std::move(*server));
    }
    UdpOptions udp_options;
    udp_options.reuse_port = reuse_port;
    for (const std::string& address : options_.udp) {
        auto endpoint = style_->datagrams(address, udp_options);
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
    const Duration grace = Duration(std::chrono::duration<double>(options_.grace));
    for (auto* servers : {&tcp_, &unix_}) {
        for (Server& server : *servers) {
            ++draining_;
            server.drain(grace).add_done_callback([this](const Future<std::size_t>&) {
                if (--draining_ == 0) stop_when_done();
            });
        }
    }
    // The endpoints are closed in this turn; the next one finds nothing to do.
    if (draining_ == 0) loop_.call_soon([this] { stop_when_done(); });
}

// What still runs has heard of the end, and needs some turns.
void EchoService::stop_when_done() {
    if (!style_->busy()) return loop_.stop();
    loop_.call_soon([this] { stop_when_done(); });
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
