// An echo server with a loop on each of four threads, and a listener for each loop on the same
// port, over which the kernel spreads the connections: loop_per_thread 127.0.0.1:8013

#include <weft/transports/server/server.hpp>

#include <csignal>
#include <cstdio>
#include <future>
#include <string>
#include <thread>
#include <vector>

struct Echo final : weft::Protocol {
    void connection_made(weft::Transport& t) override { transport = &t; }
    void data_received(weft::Bytes data) override { transport->write(data); }
    void pause_writing() override { transport->pause_reading(); }
    void resume_writing() override { transport->resume_reading(); }
    weft::Transport* transport = nullptr;
};

weft::Server listen(weft::Loop& loop, const std::string& address) {
    weft::ListenOptions options;
    options.reuse_port = true;
    return weft::tcp::listen(
               loop, address, [] { return std::make_unique<Echo>(); }, std::move(options))
        .value();
}

/// A thread with a loop and a listener. Nothing is shared but the port.
class Worker {
public:
    explicit Worker(const std::string& address) {
        std::promise<weft::Loop*> started;
        auto loop = started.get_future();
        thread_ = std::thread([address, started = std::move(started)]() mutable {
            try {
                weft::Loop own;
                auto server = listen(own, address);
                started.set_value(&own);
                own.run();
            } catch (...) {
                started.set_exception(std::current_exception());
            }
        });
        try {
            loop_ = loop.get();
        } catch (...) {
            thread_.join();
            throw;
        }
    }
    Worker(Worker&& other) = default;
    ~Worker() {
        if (!thread_.joinable()) return;
        loop_->post([loop = loop_] { loop->stop(); }); // from any thread
        thread_.join();
    }

private:
    weft::Loop* loop_ = nullptr;
    std::thread thread_;
};

int main(int argc, char** argv) try {
    weft::Loop loop;
    auto server = listen(loop, argc > 1 ? argv[1] : "127.0.0.1:8013");
    auto terminate = loop.on_signal(SIGTERM, [&] { loop.stop(); }).value();
    const std::string address = server.addresses().front().to_string(); // with the port that it got
    std::vector<Worker> workers;
    for (int i = 0; i < 3; ++i)
        workers.emplace_back(address);
    std::printf("listening on %s\n", address.c_str());
    std::fflush(stdout);
    loop.run();
} catch (const std::exception& error) {
    std::fprintf(stderr, "loop_per_thread: %s\n", error.what());
    return 1;
}
