// Which TCP ports are open, at most 100 attempts at a time: port_scanner 127.0.0.1 1 1024

#include <weft/coro/coro.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

using namespace weft;
using namespace std::chrono_literals;

std::vector<int> scan(const std::string& host, int first, int last) {
    std::vector<int> open;
    coro::Semaphore attempts(100);
    coro::task_group([&](coro::TaskGroup& group) {
        for (int port = first; port <= last; ++port) {
            // Before the task is made, so that there are never more than 100 of them.
            auto permit = attempts.permit();
            (void)group.spawn([&, port, permit = std::move(permit)] {
                try {
                    (void)coro::connect(host + ":" + std::to_string(port), {}, 1s);
                    open.push_back(port);
                } catch (const std::system_error&) { // closed, or no answer
                }
            });
        }
    });
    std::sort(open.begin(), open.end());
    return open;
}

int main(int argc, char** argv) try {
    if (argc != 4) {
        std::fprintf(stderr, "usage: port_scanner HOST FIRST LAST\n");
        return 2;
    }
    const auto open =
        coro::run([&] { return scan(argv[1], std::atoi(argv[2]), std::atoi(argv[3])); });
    for (const int port : open)
        std::printf("%d\n", port);
} catch (const std::exception& error) {
    std::fprintf(stderr, "port_scanner: %s\n", error.what());
    return 1;
}
