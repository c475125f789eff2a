#include "family.hpp"

#include <weft/coro/coro.hpp>

#include <array>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

// Fifty coroutines over everything that they can wait for, with timeouts, cancellations, shields,
// groups and generators around each other. The model counts: what is where only one may be, where
// each item is, how many permits are out, what every scope and group leaves behind.

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

namespace {

struct World;

/// An item that knows when it is lost: it goes without having been used, and nobody was told so.
struct Item {
    Item(World& w, int n) noexcept : world(&w), number(n) {}
    Item(Item&& other) noexcept
        : world(std::exchange(other.world, nullptr)), number(other.number) {}
    Item& operator=(Item&& other) noexcept {
        Item old(std::move(*this));
        world = std::exchange(other.world, nullptr);
        number = other.number;
        return *this;
    }
    ~Item();
    bool operator<(const Item& other) const noexcept { return number < other.number; }
    void use(const char* what);
    World* world;
    int number;
};

enum class Place : std::uint8_t { made, given, used, refused };

struct World {
    explicit World(Round& r) : round(r), draw(r.random.split()) {}
    Round& round;
    Random draw;
    std::vector<Place> places; // outlives what holds items
    bool ending = false;

    std::array<coro::Mutex, 3> mutexes;
    std::array<int, 3> holders{-1, -1, -1};
    coro::RwLock rw;
    int readers = 0, writers = 0;
    coro::Semaphore permits{3, 3};
    int out = 0;
    coro::Mutex state;
    coro::Condition changed{state};
    int tokens = 0;
    coro::Barrier barrier{3};
    std::array<int, 3> passed{};
    coro::Event event;
    int sets = 0;
    coro::Queue<Item> bounded{2};
    coro::PriorityQueue<Item> sorted{3};
    coro::Channel<Item> direct{0};
    coro::Channel<Item> roomy{2};
    std::vector<coro::TaskRef> tasks;
    int running = 0;
    int next_id = 1000;

    Item make() {
        places.push_back(Place::made);
        return {*this, static_cast<int>(places.size()) - 1};
    }
    Duration moment() { return std::chrono::microseconds(draw.size(400)); }
};

void Item::use(const char* what) {
    RANDOM_CHECK(world != nullptr, what << " gave an item that was moved from");
    Place& place = world->places[static_cast<std::size_t>(number)];
    RANDOM_CHECK(place == Place::made || place == Place::given,
                 what << " gave item " << number << " that is at " << static_cast<int>(place));
    place = Place::used;
    world = nullptr;
}

Item::~Item() {
    if (world == nullptr) return;
    const Place place = world->places[static_cast<std::size_t>(number)];
    RANDOM_CHECK(place == Place::refused || world->ending,
                 "item " << number << " is lost, at " << static_cast<int>(place));
}

struct Counted {
    explicit Counted(int& c) noexcept : count(c) { ++count; }
    ~Counted() { --count; }
    int& count;
};

struct Held {
    Held(int& h, int i) : holder(h), id(i) {
        RANDOM_EQUAL(holder, -1);
        holder = id;
    }
    ~Held() {
        RANDOM_EQUAL(holder, id);
        holder = -1;
    }
    int& holder;
    const int id;
};

/// One of the fifty, or what runs in another coroutine for it.
class Worker {
public:
    Worker(World& w, int id) noexcept : w_(w), id_(id) {}
    explicit Worker(World& w) noexcept : Worker(w, ++w.next_id) {}
    void work(std::size_t operations, int depth) {
        for (std::size_t i = 0; i < operations; ++i)
            guarded([&] { operation(depth); });
    }

private:
    /// An operation may time out, and may be refused because it would close a cycle.
    template<class F>
    void guarded(F&& call) {
        try {
            call();
        } catch (const coro::TimeoutError&) {
            w_.round.note("%: timed out", id_);
        } catch (const UsageError& error) {
            const std::string text = error.what();
            RANDOM_CHECK(text.find("in turn") != text.npos ||
                             text.find("waits for itself") != text.npos ||
                             text.find("holds this") != text.npos,
                         text);
            w_.round.note("%: refused", id_);
        } catch (const std::system_error& error) {
            RANDOM_CHECK(error.code() == Errc::closed || error.code() == Errc::aborted,
                         error.what());
        }
    }
    void pause() {
        switch (w_.draw.below(4)) {
        case 0:
            return coro::yield();
        case 1:
            return coro::sleep(w_.moment());
        default:
            return;
        }
    }
    coro::Deadline limit() {
        return w_.draw.one_in(3) ? coro::Deadline(w_.moment()) : coro::Deadline();
    }

    void operation(int depth) {
        const std::uint64_t kind = w_.draw.below(depth > 0 ? 23 : 13);
        w_.round.operation("%: operation %, depth %", id_, static_cast<std::int64_t>(kind), depth);
        switch (kind) {
        case 0:
            return lock();
        case 1:
            return read_or_write();
        case 2:
            return permit();
        case 3:
            return produce_token();
        case 4:
            return consume_token();
        case 5:
            return meet();
        case 6:
            return event();
        case 7:
            return give();
        case 8:
            return take();
        case 9:
            return select();
        case 10:
            return coro::sleep(w_.moment());
        case 11:
            return cancel_somebody();
        case 12:
            return give();
        case 13:
            return lock_and(depth);
        case 14:
            return timeout(depth);
        case 15:
            return move_on(depth);
        case 16:
            return shielded(depth);
        case 17:
            return group(depth);
        case 18:
            return gathered(depth);
        case 19:
            return generated(depth);
        case 20:
            return limited_task(depth);
        case 21:
            return detached(depth);
        default:
            return joined();
        }
    }

    void lock() {
        const std::size_t at = w_.draw.below(3);
        if (auto guard =
                w_.draw.one_in(4) ? w_.mutexes[at].try_lock() : w_.mutexes[at].lock(limit())) {
            const Held held(w_.holders[at], id_);
            pause();
        }
    }
    void lock_and(int depth) {
        const std::size_t at = w_.draw.below(3);
        const auto guard = w_.mutexes[at].lock(limit());
        const Held held(w_.holders[at], id_);
        work(1 + w_.draw.below(2), depth - 1);
    }
    void read_or_write() {
        if (w_.draw.one_in(2)) {
            const auto guard = w_.rw.write(limit());
            RANDOM_EQUAL(w_.writers, 0);
            RANDOM_EQUAL(w_.readers, 0);
            const Counted here(w_.writers);
            pause();
        } else {
            const auto guard = w_.rw.read(limit());
            RANDOM_EQUAL(w_.writers, 0);
            const Counted here(w_.readers);
            pause();
        }
    }
    void permit() {
        const auto permit = w_.permits.permit(limit());
        const Counted here(w_.out);
        RANDOM_CHECK(w_.out <= 3, w_.out);
        pause();
    }
    void produce_token() {
        const auto guard = w_.state.lock(limit());
        ++w_.tokens;
        w_.changed.notify();
    }
    void consume_token() {
        const auto guard = w_.state.lock(limit());
        try {
            w_.changed.wait([&] { return w_.tokens > 0; }, limit());
        } catch (...) {
            if (w_.tokens > 0) w_.changed.notify(); // it holds the mutex again, or this throws
            throw;
        }
        --w_.tokens;
        RANDOM_CHECK(w_.tokens >= 0);
    }
    void meet() {
        const std::size_t index =
            w_.barrier.wait(w_.draw.one_in(2) ? coro::Deadline(w_.moment()) : coro::Deadline());
        ++w_.passed.at(index);
    }
    void event() {
        switch (w_.draw.below(4)) {
        case 0:
            return w_.event.clear();
        case 1:
            ++w_.sets;
            return w_.event.set();
        default:
            break;
        }
        const int before = w_.sets;
        const bool was_set = w_.event.is_set();
        w_.event.wait(limit());
        RANDOM_CHECK(was_set || w_.sets != before, "an event's waiter came back without a set");
    }
    void give() {
        Item item = w_.make();
        const int number = item.number;
        try {
            switch (w_.draw.below(4)) {
            case 0:
                w_.bounded.put(std::move(item), limit());
                break;
            case 1:
                w_.sorted.put(std::move(item), limit());
                break;
            case 2:
                w_.direct.send(std::move(item), limit());
                break;
            default:
                w_.roomy.send(std::move(item), limit());
                break;
            }
        } catch (...) {
            refused(item, number);
            throw;
        }
        given(number);
    }
    void refused(Item& item, int number) {
        RANDOM_CHECK(item.world == &w_, "item " << number << " is gone although it was not taken");
        w_.places[static_cast<std::size_t>(number)] = Place::refused;
    }
    void given(int number) {
        Place& place = w_.places[static_cast<std::size_t>(number)];
        if (place == Place::made) place = Place::given;
    }
    static void use(std::optional<Item> item) {
        if (item) item->use("a queue or channel");
    }
    void take() {
        switch (w_.draw.below(5)) {
        case 0:
            return use(w_.bounded.get(limit()));
        case 1:
            return use(w_.sorted.get(limit()));
        case 2:
            return use(w_.direct.receive(limit()));
        case 3:
            return use(w_.roomy.receive(limit()));
        default:
            break;
        }
        // What comes at the limit is not lost with the task that took it. Only a task that is
        // cancelled while it waits for the end of that leaves it to itself.
        take_until(w_.moment());
    }
    void take_until(Duration limit) {
        // Shared, since the task may go on when this is gone.
        struct Taken {
            std::optional<Item> item;
            ~Taken() {
                if (item) item->use("a task that was left to itself");
            }
        };
        const auto taken = std::make_shared<Taken>();
        try {
            coro::wait_for([&w = w_, taken] { taken->item = w.roomy.receive(); }, limit);
        } catch (const coro::TimeoutError&) {
            RANDOM_CHECK(!taken->item, "an item was received, and wait_for said that it was late");
            throw;
        }
        use(std::move(taken->item));
        taken->item.reset();
    }
    void select() {
        Item item = w_.make();
        const int number = item.number;
        auto sending = w_.direct.on_send(std::move(item), [&] { given(number); });
        auto a = w_.direct.on_receive([&](std::optional<Item> got) { use(std::move(got)); });
        auto b = w_.roomy.on_receive([&](std::optional<Item> got) { use(std::move(got)); });
        const std::size_t times = 1 + w_.draw.below(2);
        const auto finish = [&] {
            if (!sending.sent()) refused(sending.item(), number);
        };
        try {
            for (std::size_t i = 0; i < times && !sending.sent(); ++i)
                if (w_.draw.one_in(2)) {
                    coro::select(limit(), sending, b);
                } else {
                    coro::select(limit(), a, b, sending);
                }
        } catch (...) {
            finish();
            throw;
        }
        finish();
    }
    void cancel_somebody() {
        if (w_.tasks.empty() || !w_.draw.one_in(4)) return;
        w_.round.note("%: cancels a task", id_);
        (void)w_.draw.pick(w_.tasks).cancel();
    }
    template<class F>
    auto started(F&& body) {
        auto task = coro::spawn(std::forward<F>(body));
        w_.tasks.emplace_back(task);
        if (w_.tasks.size() > 60) w_.tasks.erase(w_.tasks.begin(), w_.tasks.begin() + 20);
        return task;
    }

    void timeout(int depth) {
        const TimePoint at = coro::this_loop().now() + w_.moment();
        bool passed = false;
        try {
            coro::with_timeout(at, [&] { work(1 + w_.draw.below(4), depth - 1); });
        } catch (const coro::TimeoutError&) {
            passed = true;
        }
        RANDOM_CHECK(!passed || coro::this_loop().now() >= at, "timed out too early");
    }
    void move_on(int depth) {
        coro::CancelScope scope(limit());
        const bool whole = scope.run([&] {
            work(1 + w_.draw.below(3), depth - 1);
            if (!w_.draw.one_in(3)) return;
            scope.cancel();
            for (int i = 0; i < 3; ++i) { // again and again
                bool thrown = false;
                try {
                    coro::yield();
                } catch (const Cancelled&) {
                    thrown = true;
                }
                RANDOM_CHECK(thrown, "a cancelled scope let its owner go on");
            }
            coro::yield();
        });
        RANDOM_CHECK(whole != scope.cancelled_caught());
        RANDOM_CHECK(whole || scope.cancel_called());
    }
    void shielded(int depth) {
        coro::shield([&] {
            coro::move_on_after(w_.moment() + 50us, [&] { work(1 + w_.draw.below(3), depth - 1); });
        });
    }
    void group(int depth) {
        int alive = 0;
        try {
            coro::task_group([&](coro::TaskGroup& group) {
                int& kept = group.keep(depth - 1);
                const std::size_t count = w_.draw.below(4);
                for (std::size_t i = 0; i < count; ++i)
                    group.spawn([&alive, &kept, &w = w_] {
                        const Counted here(alive);
                        Worker(w).work(1 + w.draw.below(3), kept);
                        if (w.draw.one_in(8)) throw std::runtime_error("a child's own");
                    });
                if (w_.draw.one_in(2)) work(1, depth - 1);
                if (w_.draw.one_in(6)) group.cancel();
            });
        } catch (const coro::ExceptionGroup& errors) {
            RANDOM_CHECK(!errors.errors().empty());
        } catch (...) {
            RANDOM_EQUAL(alive, 0);
            throw;
        }
        RANDOM_EQUAL(alive, 0);
    }
    void gathered(int depth) {
        const auto part = [&w = w_, depth] {
            Worker(w).work(1 + w.draw.below(2), depth - 1);
            return 1;
        };
        if (w_.draw.one_in(2)) {
            auto [a, b] = coro::gather(part, part);
            RANDOM_EQUAL(a + b, 2);
        } else {
            (void)coro::gather_outcomes(part, part, part);
        }
    }
    void generated(int depth) {
        int alive = 0;
        {
            coro::Generator<int> items([&alive, &w = w_, depth](auto& yield) {
                const Counted here(alive);
                Worker body(w);
                for (int i = 0; i < 5; ++i) {
                    body.work(1, depth - 1);
                    yield(i);
                }
                if (w.draw.one_in(4)) body.started([&w] { coro::sleep(w.moment()); }).wait();
            });
            const std::size_t wanted = w_.draw.below(7);
            int next = 0;
            for (std::size_t i = 0; i < wanted; ++i) {
                std::optional<int> item;
                try {
                    item = items.next(limit());
                } catch (const coro::TimeoutError&) {
                    continue;
                }
                if (!item) break;
                RANDOM_EQUAL(*item, next++);
            }
        }
        RANDOM_EQUAL(alive, 0);
    }
    void limited_task(int depth) {
        const TimePoint at = coro::this_loop().now() + w_.moment();
        try {
            RANDOM_EQUAL(coro::wait_for(
                             [&w = w_, depth] {
                                 Worker(w).work(1 + w.draw.below(2), depth - 1);
                                 return 5;
                             },
                             at),
                         5);
        } catch (const coro::TimeoutError&) {
            RANDOM_CHECK(coro::this_loop().now() >= at, "timed out too early");
        }
    }
    void detached(int depth) {
        started([&w = w_, depth] {
            const Counted here(w.running);
            Worker(w).work(1 + w.draw.below(2), depth - 1);
        }).detach();
    }
    void joined() {
        if (w_.tasks.empty()) return;
        coro::TaskRef task = w_.draw.pick(w_.tasks);
        coro::with_timeout(w_.moment() + 1us, [&] { task.wait(); });
        RANDOM_CHECK(task.done());
    }

    World& w_;
    const int id_;
};

void cancel_others() {
    for (auto& info : coro::all_tasks())
        if (!(info.task == coro::this_task())) (void)info.task.cancel();
}

template<class Source>
void drain(Source take, const char* what) {
    while (auto got = take())
        got->use(what);
}

void check_end(World& world) {
    RANDOM_EQUAL(world.running, 0);
    RANDOM_EQUAL(world.out, 0);
    RANDOM_EQUAL(world.permits.available(), 3);
    for (const int holder : world.holders)
        RANDOM_EQUAL(holder, -1);
    for (auto& mutex : world.mutexes)
        RANDOM_CHECK(!mutex.locked());
    RANDOM_CHECK(!world.state.locked() && !world.rw.writing() && world.rw.readers() == 0);
    RANDOM_EQUAL(world.passed[0], world.passed[1]);
    RANDOM_EQUAL(world.passed[1], world.passed[2]);
    RANDOM_EQUAL(world.barrier.waiting(), 0u);
    // What is left is where it was put, each once.
    drain([&] { return world.bounded.try_get(); }, "the queue");
    drain([&] { return world.sorted.try_get(); }, "the sorted queue");
    drain([&] { return world.direct.try_receive(); }, "the channel");
    drain([&] { return world.roomy.try_receive(); }, "the channel with room");
    for (std::size_t i = 0; i < world.places.size(); ++i)
        RANDOM_CHECK(world.places[i] == Place::used || world.places[i] == Place::refused,
                     "item " << i << " is at " << static_cast<int>(world.places[i]));
}

void play_in(Round& round) {
    World world(round);
    std::vector<coro::Task<void>> workers;
    for (int i = 0; i < 50; ++i) {
        workers.push_back(
            coro::spawn([&world, i] { Worker(world, i).work(1 + world.draw.below(20), 3); }));
        world.tasks.emplace_back(workers.back());
        if (world.draw.one_in(4)) coro::yield();
    }
    // For a while they are left to themselves, and then all are to end.
    const TimePoint end = coro::this_loop().now() + std::chrono::milliseconds(world.draw.size(20));
    while (coro::this_loop().now() < end) {
        coro::sleep(200us);
        if (!world.draw.one_in(2)) continue;
        ++world.sets;
        world.event.set();
    }
    round.operation("the end of all");
    cancel_others();
    for (auto& worker : workers)
        worker.wait();
    while (coro::all_tasks().size() > 1) {
        cancel_others();
        coro::sleep(100us);
    }
    check_end(world);
    world.tasks.clear();
    world.ending = true;
}

void play(Round& round) {
    coro::RunOptions options;
    options.loop.kernel = round.make_kernel();
    options.handle_interrupt = false;
    options.report_overflow = false;
    options.shuffle = round.random.one_in(2) ? 0 : round.random.next();
    coro::run([&] { play_in(round); }, std::move(options));
}

const RegisterFamily family({"coroutines", "fifty coroutines over everything they can wait for",
                             &play});

} // namespace
