// The program `weft`: an echo service, and a load generator for echo services.

#include "echo.hpp"
#include "load.hpp"

#include <weft/reactor/log.hpp>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <sys/resource.h>

namespace {

using weft::tools::EchoOptions;
using weft::tools::LoadOptions;

void log_to_stderr(weft::LogLevel, std::string_view text) noexcept {
    std::fprintf(stderr, "weft: %.*s\n", static_cast<int>(text.size()), text.data());
}

/// As many descriptors as the process may have: a connection is one, and 1024 are few.
void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

void add_echo(CLI::App& app, EchoOptions& options) {
    CLI::App& echo = *app.add_subcommand("echo", "Send back what comes, until SIGINT or SIGTERM");
    echo.add_option("--tcp", options.tcp,
                    "Serve on address:port; port 0 takes a free one. May be repeated")
        ->type_name("A:P");
    echo.add_option("--udp", options.udp, "The same for datagrams")->type_name("A:P");
    echo.add_option("--unix", options.unix_paths,
                    "Serve on a Unix socket; \"@name\" is an abstract one")
        ->type_name("PATH");
    echo.add_option_function<std::string>(
            "--style",
            [&options](const std::string& style) { options.coroutines = style == "coro"; },
            "How the service is written: with callbacks, or with coroutines (coro)")
        ->check(CLI::IsMember({"callback", "coro"}))
        ->default_str("callback");
    echo.add_option(
            "--threads", options.threads,
            "Loops, each on a thread of its own, that share the IP addresses; Unix sockets are "
            "served by the first")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
    echo.add_flag("--lines", options.lines, "Answer line by line, each with its own write");
    echo.add_flag("--reuse-port", options.reuse_port,
                  "Share the ports with other processes that do so, too");
    echo.add_option("--max-connections", options.max_connections,
                    "Accept no more at a time, per thread and address; 0: no bound")
        ->capture_default_str();
    echo.add_option("--grace", options.grace,
                    "Seconds that clients have to take their answers once it is to end")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    echo.add_flag("--stats", options.stats, "Print what was done at the end");
    echo.footer("Exit status: 0 ended as asked, 1 could not listen, 2 bad usage or address.\n"
                "A second SIGINT or SIGTERM ends it without waiting for connections.");
    echo.callback([&] {
        if (options.tcp.empty() && options.udp.empty() && options.unix_paths.empty()) {
            throw CLI::RequiredError("--tcp, --udp or --unix");
        }
    });
}

void add_target(CLI::App& load, LoadOptions& options) {
    CLI::Option_group& target = *load.add_option_group("target", "What to load");
    const auto add = [&](const char* name, LoadOptions::Target kind, const char* help,
                         const char* type) {
        const auto take = [&options, kind](const std::string& address) {
            options.target = kind;
            options.address = address;
        };
        target.add_option_function<std::string>(name, take, help)->type_name(type);
    };
    add("--tcp", LoadOptions::Target::tcp, "A TCP service at address:port", "A:P");
    add("--unix", LoadOptions::Target::unix_socket, "A service on a Unix socket", "PATH");
    add("--udp", LoadOptions::Target::udp, "A datagram service", "A:P");
    target.require_option(1);
}

void add_load(CLI::App& app, LoadOptions& options) {
    CLI::App& load =
        *app.add_subcommand("load", "Load an echo service, check its answers and measure them");
    add_target(load, options);
    load.add_option("-c,--connections", options.connections, "Connections")
        ->check(CLI::Range(1, 1'000'000))
        ->capture_default_str();
    load.add_option("-s,--size", options.size, "Bytes of a message, a line's end included")
        ->check(CLI::Range(1, 64 * 1024 * 1024))
        ->capture_default_str();
    CLI::Option* depth =
        load.add_option("--depth", options.depth,
                        "Closed loop: messages in flight on each connection; the next "
                        "is sent when one is answered")
            ->check(CLI::Range(1, 1'000'000))
            ->capture_default_str();
    load.add_option(
            "--rate", options.rate,
            "Open loop: messages per second, over all connections, whether answered or not. "
            "Latency counts from when a message was due")
        ->check(CLI::PositiveNumber)
        ->excludes(depth);
    load.add_flag("--lines", options.lines, "Messages are lines");
    load.add_option("-d,--duration", options.duration, "Seconds that are measured")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    load.add_option("--warmup", options.warmup, "Seconds before that")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    load.add_option("--timeout", options.timeout,
                    "Seconds that a connection attempt or an answer may take")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    load.add_flag("--json", options.json, "Report as one JSON object; latencies are microseconds");
    load.add_flag("--histogram", options.histogram, "Draw the distribution of latency, too");
    load.add_flag("--progress,!--no-progress", options.progress,
                  "Show a bar on standard error; the default is to if that is a terminal");
    load.footer(
        "Exit status: 0 every message was answered with the bytes sent, 1 not so, 2 bad usage or\n"
        "address, 130 or 143 ended by SIGINT or SIGTERM, after reporting what there was.");
    load.callback([&] {
        if (options.lines && options.target == LoadOptions::Target::udp) {
            throw CLI::ValidationError("--lines", "datagrams are no lines");
        }
        if (options.target == LoadOptions::Target::udp &&
            (options.size < 8 || options.size > 65507)) {
            throw CLI::ValidationError("--size", "a datagram has 8 to 65507 bytes here");
        }
    });
}

} // namespace

int main(int argc, char** argv) try {
    CLI::App app{"A network reactor's echo service and load generator", "weft"};
    app.require_subcommand(1);
    app.set_version_flag("--version", "weft " WEFT_VERSION);
    EchoOptions echo;
    LoadOptions load;
    add_echo(app, echo);
    add_load(app, load);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }

    weft::set_log_sink(log_to_stderr);
    raise_descriptor_limit();
    return app.got_subcommand("echo") ? weft::tools::run_echo(echo) : weft::tools::run_load(load);
} catch (const std::exception& error) {
    std::fprintf(stderr, "weft: %s\n", error.what());
    return 1;
}
