#include "echo.hpp"

#include "echo_service.hpp"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <memory>
#include <thread>

namespace weft::tools {
namespace {

int report(const Error& error) {
    std::fprintf(stderr, "weft echo: %s\n", error.message().c_str());
    return error.code == Errc::bad_address ? 2 : 1;
}

/// A further thread with a service of its own.
class Worker {
public:
    explicit Worker(const EchoOptions& options) {
        std::promise<Result<EchoService*>> started;
        auto outcome = started.get_future();
        thread_ = std::thread([this, &options, started = std::move(started)]() mutable {
            serve(options, std::move(started));
        });
        outcome_ = outcome.get();
    }
    /// Ends the service and waits for it.
    ~Worker() { join(); }

    const Result<EchoService*>& outcome() const noexcept { return outcome_; }
    const EchoCounters& join() {
        if (!thread_.joinable()) return counters_;
        if (outcome_.ok()) {
            EchoService& service = **outcome_;
            // It fails only if the loop has been closed, and then there is nothing to end.
            (void)service.loop().post([&service] { service.end(); });
        }
        thread_.join();
        return counters_;
    }

private:
    void serve(const EchoOptions& options, std::promise<Result<EchoService*>> started) {
        EchoService service(options);
        if (auto opened = service.open(true); !opened) return started.set_value(opened.error());
        started.set_value(&service);
        service.run();
        counters_ = service.counters();
    }

    EchoCounters counters_;
    Result<EchoService*> outcome_ = Error{};
    std::thread thread_;
};

void print_addresses(const EchoService& service) {
    for (const std::string& address : service.addresses()) {
        std::printf("listening on %s\n", address.c_str());
    }
    std::fflush(stdout); // what waits for these lines reads a pipe
}

void print_counters(const EchoCounters& counters) {
    const auto number = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
    std::printf("%llu connections, %llu ended with an error, %llu closed for want of descriptors\n"
                "%llu messages, %llu bytes echoed\n",
                number(counters.connections), number(counters.failed), number(counters.shed),
                number(counters.messages), number(counters.bytes));
}

} // namespace

int run_echo(const EchoOptions& options) {
    if (options.coroutines && !has_coroutines()) {
        std::fprintf(stderr, "weft echo: --style coro: this build has no coroutines; they need "
                             "Boost and -Dcoro=enabled\n");
        return 2;
    }
    EchoService first(options);
    if (auto opened = first.open(options.reuse_port || options.threads > 1); !opened) {
        return report(opened.error());
    }
    // Port 0 is a free one for the first thread and the same one for the others.
    const EchoOptions shared = first.shared_options();
    std::vector<std::unique_ptr<Worker>> workers;
    for (unsigned i = 1; i < options.threads; ++i) {
        workers.push_back(std::make_unique<Worker>(shared));
        if (!workers.back()->outcome()) return report(workers.back()->outcome().error());
    }

    bool ending = false;
    std::vector<SignalWatch> signals;
    for (int number : {SIGINT, SIGTERM}) {
        auto watch = first.loop().on_signal(number, [&first, &ending, number] {
            // Somebody who asks twice has lost patience; the status is the shell's for a death by
            // this signal.
            if (std::exchange(ending, true)) std::_Exit(128 + number);
            first.end();
        });
        if (!watch) return report(watch.error());
        signals.push_back(std::move(*watch));
    }
    print_addresses(first);
    first.run();

    EchoCounters counters = first.counters();
    for (auto& worker : workers)
        counters.add(worker->join());
    if (options.stats) print_counters(counters);
    return 0;
}

} // namespace weft::tools
