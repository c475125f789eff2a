// A relay for clients that name their target, HTTP's CONNECT: relay 127.0.0.1:3128, then curl
// --proxytunnel --proxy 127.0.0.1:3128 http://example.org/. Whoever may talk to it reaches whatever
// this machine can.

#include <weft/coro/coro.hpp>

#include <charconv>
#include <csignal>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

using namespace weft;
using namespace std::chrono_literals;

struct Target {
    std::string host;
    std::uint16_t port = 0;
};

/// The target of "CONNECT host:port HTTP/1.1": a name or an address, and a port. Nothing else that
/// a stranger may write there, such as a path, becomes one.
std::optional<Target> target_of(std::string_view head) {
    std::string_view line = head.substr(0, head.find("\r\n"));
    if (!line.starts_with("CONNECT ")) return {};
    line.remove_prefix(8);
    line = line.substr(0, line.find(' '));
    const std::size_t colon = line.rfind(':');
    if (colon == line.npos) return {};
    std::string_view host = line.substr(0, colon);
    const std::string_view port = line.substr(colon + 1);
    const bool ipv6 = host.starts_with('[') && host.ends_with(']');
    if (ipv6) host = host.substr(1, host.size() - 2);
    const auto fits = [&](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               c == '.' || c == '-' || (ipv6 && c == ':');
    };
    for (const char c : host)
        if (!fits(c)) return {};
    Target target{std::string(host)};
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), target.port);
    if (host.empty() || error != std::errc() || end != port.data() + port.size() ||
        target.port == 0)
        return {};
    return target;
}

void pump(coro::Stream& from, coro::Stream& to) {
    while (Buffer data = from.read())
        to.write(std::move(data)); // nothing of it is copied
    to.write_eof();
}

void relay(coro::Stream& client) {
    client.set_limit(8192);
    const auto target = target_of(client.read_until("\r\n\r\n", 30s));
    if (!target) return client.write("HTTP/1.1 400 Bad Request\r\n\r\n");
    coro::Stream server;
    try {
        // With host and port apart it is a TCP connection or none, whatever the text says.
        server = coro::tcp::connect(target->host, target->port, 30s);
    } catch (const std::system_error&) {
        return client.write("HTTP/1.1 502 Bad Gateway\r\n\r\n");
    }
    client.write("HTTP/1.1 200 Connection established\r\n\r\n");
    try {
        coro::task_group([&](coro::TaskGroup& group) {
            group.spawn([&] { pump(server, client); });
            pump(client, server);
        });
    } catch (const coro::ExceptionGroup&) { // one side broke: so does the other
        client.abort();
        server.abort();
    }
}

int main(int argc, char** argv) try {
    coro::run([&] {
        coro::ServeHandle serving;
        auto terminate = coro::this_loop().on_signal(SIGTERM, [&] { serving.close(); }).value();
        const auto started = [](const std::vector<Address>& addresses) {
            std::printf("listening on %s\n", addresses.front().to_string().c_str());
            std::fflush(stdout);
        };
        coro::serve(argc > 1 ? argv[1] : "127.0.0.1:3128", relay,
                    {.started = started, .handle = serving});
    });
} catch (const std::exception& error) {
    std::fprintf(stderr, "relay: %s\n", error.what());
    return 1;
}
