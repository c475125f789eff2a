// A chat room: chat 127.0.0.1:8010, then `nc 127.0.0.1 8010` a few times. Whoever does not take
// what is said misses it.

#include <weft/coro/coro.hpp>

#include <csignal>
#include <cstdio>
#include <set>
#include <string>

using namespace weft;

struct Member {
    std::string name;
    coro::Queue<std::string> inbox{100};
};
using Room = std::set<Member*>;

void tell(Room& room, const Member& speaker, const std::string& text) {
    for (Member* member : room)
        if (member != &speaker) (void)member->inbox.try_put(text + "\n"); // a full one is too slow
}

void take_part(Room& room, coro::Stream& peer) {
    peer.write("Your name?\n");
    const auto name = peer.read_line();
    if (!name) return;
    Member me{std::string(*name)};
    room.insert(&me);
    peer.write("Welcome, " + me.name + "\n");
    tell(room, me, me.name + " comes in");
    try {
        coro::task_group([&](coro::TaskGroup& group) {
            (void)group.spawn([&] {
                for (;;)
                    peer.write(me.inbox.get());
            });
            while (const auto line = peer.read_line())
                tell(room, me, me.name + ": " + std::string(*line));
            group.cancel();
        });
    } catch (const coro::ExceptionGroup&) { // the connection broke
    } catch (...) {
        room.erase(&me);
        throw;
    }
    room.erase(&me);
    tell(room, me, me.name + " has left");
}

int main(int argc, char** argv) try {
    coro::run([&] {
        Room room;
        coro::CancelScope serving;
        auto terminate = coro::this_loop().on_signal(SIGTERM, [&] { serving.cancel(); }).value();
        serving.run([&] {
            coro::serve(argc > 1 ? argv[1] : "127.0.0.1:8010",
                        [&](coro::Stream& peer) { take_part(room, peer); },
                        {.started = [](auto& addresses) {
                            std::printf("listening on %s\n", addresses.front().to_string().c_str());
                            std::fflush(stdout);
                        }});
        });
    });
} catch (const std::exception& error) {
    std::fprintf(stderr, "chat: %s\n", error.what());
    return 1;
}
