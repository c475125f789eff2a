// Two producers and three consumers share a queue of eight places: producer_consumer

#include <weft/coro/coro.hpp>

#include <cstdio>

using namespace weft;
using namespace std::chrono_literals;

int main() try {
    const long sum = coro::run([] {
        coro::Queue<int> queue(8);
        long total = 0;
        coro::task_group([&](coro::TaskGroup& consumers) {
            for (int i = 0; i < 3; ++i)
                (void)consumers.spawn([&] {
                    try {
                        for (;;) {
                            const int item = queue.get();
                            coro::sleep(100us); // the work
                            total += item;
                        }
                    } catch (const std::system_error&) { // closed and empty
                    }
                });
            coro::task_group([&](coro::TaskGroup& producers) {
                for (int first : {1, 501})
                    (void)producers.spawn([&, first] {
                        for (int item = first; item < first + 500; ++item)
                            queue.put(item);
                    });
            });
            queue.close(); // what is in it is still consumed
        });
        return total;
    });
    std::printf("the sum is %ld\n", sum);
} catch (const std::exception& error) {
    std::fprintf(stderr, "producer_consumer: %s\n", error.what());
    return 1;
}
