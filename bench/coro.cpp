// What the coroutines' own operations cost, without sockets: switches, yields, spawning and
// joining, a tree of a million tasks, the memory of a million that wait. Times are this thread's
// processor time, so that a busy machine moves them little; each is the fastest of several
// repetitions. Every figure stands beside its budget.

#include <weft/coro/core/context_switch.hpp>
#include <weft/coro/coro.hpp>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <functional>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace {

std::size_t allocations = 0;

struct Figure {
    std::string name;
    double value;
    std::string unit;
    std::optional<double> budget = {}; ///< at most
};

struct Options {
    int repetitions = 31;
    std::size_t suspended = 1'000'000;
    bool json = false;
    std::string only = {};
};

double processor_ns() {
    timespec time;
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return 1e9 * static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec);
}

/// Nanoseconds for one of `operations` that `body` does, in the fastest of the repetitions:
/// whatever else goes on in a machine only adds to them.
double measure(int repetitions, std::size_t operations, const std::function<void()>& body) {
    body(); // pools and caches are filled by the first
    double fastest = std::numeric_limits<double>::max();
    for (int i = 0; i < repetitions; ++i) {
        const double start = processor_ns();
        body();
        fastest = std::min(fastest, processor_ns() - start);
    }
    return fastest / static_cast<double>(operations);
}

/// A number from a line of /proc/self/status, in bytes.
double status_bytes(const std::string& key) {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with(key + ":")) return 1024 * std::stod(line.substr(key.size() + 1));
    throw std::runtime_error("/proc/self/status has no " + key);
}

double mappings() {
    std::ifstream maps("/proc/self/maps");
    double count = 0;
    for (std::string line; std::getline(maps, line);)
        ++count;
    return count;
}

// --- Two stacks, and nothing else ---

struct Pair {
    weft::coro::detail::Context main;
    weft::coro::detail::Context other;
};
Pair* pair_of = nullptr;

void jump_back(weft::coro::detail::Context& self) {
    for (;;)
        switch_context(self, pair_of->main);
}

double switch_one_way(int repetitions) {
    constexpr std::size_t count = 2'000'000;
    weft::coro::detail::find_thread_places();
    weft::coro::detail::StackPool pool;
    const weft::coro::detail::Stack stack = pool.take(64 * 1024);
    Pair pair;
    pair_of = &pair;
    make_context(pair.other, stack.top, stack.usable(), &jump_back);
    const double cost = measure(repetitions, 2 * count, [&] {
        for (std::size_t i = 0; i < count; ++i)
            switch_context(pair.main, pair.other);
    });
    pool.give_back(stack);
    return cost;
}

// --- Coroutines ---

/// `sides` coroutines that do nothing but yield; of one there and back again, divided by `sides`.
double yield_among(std::size_t sides, int repetitions) {
    constexpr std::size_t total = 500'000;
    return weft::coro::run([&] {
        bool ending = false;
        std::vector<weft::coro::Task<void>> others;
        for (std::size_t i = 1; i < sides; ++i)
            others.push_back(weft::coro::spawn([&] {
                while (!ending)
                    weft::coro::yield();
            }));
        const double cost = measure(repetitions, total, [&] {
            for (std::size_t i = 0; i < total / sides; ++i)
                weft::coro::yield();
        });
        ending = true;
        for (auto& other : others)
            other.join();
        return cost;
    });
}

/// Two coroutines that want the same mutex: each release grants it to the other, and each lock
/// waits for that.
double mutex_hand_off(int repetitions) {
    constexpr std::size_t count = 1'000'000;
    return weft::coro::run([&] {
        weft::coro::Mutex mutex;
        bool ending = false;
        const auto lock_often = [&](std::size_t times) {
            for (std::size_t i = 0; i < times && !ending; ++i) {
                const auto held = mutex.lock();
                // Once is enough for the other to line up; from then on it always waits.
                if (i == 0) weft::coro::yield();
            }
        };
        auto other = weft::coro::spawn([&] { lock_often(SIZE_MAX); });
        const double cost = measure(repetitions, 2 * count, [&] { lock_often(count); });
        ending = true;
        other.join();
        return cost;
    });
}

/// There and back through two channels without room, divided by two.
double channel_hand_off(int repetitions) {
    constexpr std::size_t count = 500'000;
    return weft::coro::run([&] {
        weft::coro::Channel<int> there, back;
        auto other = weft::coro::spawn([&] {
            while (const auto item = there.receive())
                back.send(*item);
        });
        const double cost = measure(repetitions, 2 * count, [&] {
            for (std::size_t i = 0; i < count; ++i) {
                there.send(1);
                if (!back.receive()) throw std::runtime_error("a channel has ended");
            }
        });
        there.close();
        other.join();
        return cost;
    });
}

double spawn_and_join(int repetitions) {
    constexpr std::size_t count = 500'000;
    return weft::coro::run([&] {
        std::size_t ran = 0;
        const double cost = measure(repetitions, count, [&] {
            for (std::size_t i = 0; i < count; ++i)
                weft::coro::spawn([&ran] { ++ran; }).join();
        });
        if (ran % count != 0) throw std::runtime_error("not every task ran once");
        return cost;
    });
}

double spawn_batch_and_join(int repetitions) {
    constexpr std::size_t count = 500;
    return weft::coro::run([&] {
        std::vector<weft::coro::Task<void>> tasks;
        tasks.reserve(count);
        return measure(20 * repetitions, count, [&] {
            for (std::size_t i = 0; i < count; ++i)
                tasks.push_back(weft::coro::spawn([] {}));
            for (auto& task : tasks)
                task.join();
            tasks.clear();
        });
    });
}

/// A tree of tasks with ten children each, whose leaves return their numbers.
std::uint64_t skynet(std::uint64_t first, std::uint64_t leaves) {
    if (leaves == 1) return first;
    std::vector<weft::coro::Task<std::uint64_t>> children;
    children.reserve(10);
    for (std::uint64_t i = 0; i < 10; ++i) {
        const std::uint64_t from = first + i * leaves / 10;
        children.push_back(weft::coro::spawn([=] { return skynet(from, leaves / 10); }));
    }
    std::uint64_t sum = 0;
    for (auto& child : children)
        sum += child.join();
    return sum;
}

struct Trees {
    double cold, warm;
};
Trees skynet_cold_and_warm() {
    return weft::coro::run([] {
        constexpr std::uint64_t leaves = 1'000'000;
        constexpr double tasks = 1'111'110;
        double times[2];
        for (double& time : times) {
            const double start = processor_ns();
            if (skynet(0, leaves) != leaves * (leaves - 1) / 2)
                throw std::runtime_error("the tree's sum is wrong");
            time = (processor_ns() - start) / tasks;
        }
        return Trees{times[0], times[1]};
    });
}

struct Crowd {
    double bytes, each, maps, spawn_ns;
};
/// So many tasks that wait; with all that the process uses.
Crowd suspended(std::size_t count) {
    const double before = status_bytes("VmRSS") + status_bytes("VmPTE");
    return weft::coro::run([&] {
        std::vector<weft::coro::Task<void>> tasks;
        tasks.reserve(count);
        const double start = processor_ns();
        for (std::size_t i = 0; i < count; ++i)
            tasks.push_back(weft::coro::spawn([] { weft::coro::sleep_forever(); }));
        weft::coro::yield();
        const double took = processor_ns() - start;
        const double bytes = status_bytes("VmRSS") + status_bytes("VmPTE");
        const auto number = static_cast<double>(count);
        const Crowd crowd{bytes, (bytes - before) / number, mappings(), took / number};
        for (auto& task : tasks)
            task.cancel();
        for (auto& task : tasks)
            task.wait();
        return crowd;
    });
}

/// Allocations of one `operation`, when it has been done before.
double allocations_of(const std::function<void()>& operation) {
    constexpr std::size_t count = 1000;
    operation();
    const std::size_t before = allocations;
    for (std::size_t i = 0; i < count; ++i)
        operation();
    return static_cast<double>(allocations - before) / static_cast<double>(count);
}

// --- What is reported ---

/// Calls `function` in a process of its own, so that what others have used is not counted.
template<class T>
T apart(T (*function)(std::size_t), std::size_t argument) {
    int ends[2];
    if (::pipe(ends) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
    const pid_t child = ::fork();
    if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
    if (child == 0) {
        const T result = function(argument);
        ::_exit(::write(ends[1], &result, sizeof result) == sizeof result ? 0 : 1);
    }
    ::close(ends[1]);
    T result{};
    const bool whole = ::read(ends[0], &result, sizeof result) == sizeof result;
    ::close(ends[0]);
    ::waitpid(child, nullptr, 0);
    if (!whole) throw std::runtime_error("a measurement in a process of its own has failed");
    return result;
}

class CoroBench {
public:
    explicit CoroBench(const Options& options) : options_(options) {}

    std::vector<Figure> run() {
        const int repetitions = options_.repetitions;
        if (options_.suspended != 0 && options_.only.empty()) memory();
        time(
            "switch, one way", [=] { return switch_one_way(repetitions); }, 6);
        time(
            "yield and back, 2 coroutines", [=] { return 2 * yield_among(2, repetitions); }, 15);
        time("yield, one of 10 coroutines", [=] { return yield_among(10, repetitions); });
        time("yield, one of 1000 coroutines", [=] { return yield_among(1000, repetitions); });
        time(
            "mutex, hand-off", [=] { return mutex_hand_off(repetitions); }, 25);
        time(
            "channel, hand-off", [=] { return channel_hand_off(repetitions); }, 25);
        time(
            "spawn and join, one at a time", [=] { return spawn_and_join(repetitions); }, 60);
        time("spawn and join, 500 at a time", [=] { return spawn_batch_and_join(repetitions); });
        if (!options_.only.empty()) return figures_;
        if (options_.suspended != 0) {
            const Trees trees = apart<Trees>([](std::size_t) { return skynet_cold_and_warm(); }, 0);
            record("skynet, a task of 1111110, cold", trees.cold, "ns", 1000);
            record("skynet, the same again", trees.warm, "ns");
        }
        count_allocations();
        return figures_;
    }

private:
    void record(std::string name, double value, std::string unit,
                std::optional<double> budget = {}) {
        figures_.push_back({std::move(name), value, std::move(unit), budget});
    }

    void time(const std::string& name, const std::function<double()>& measured,
              std::optional<double> budget = {}) {
        if (name.find(options_.only) == std::string::npos) return;
        record(name, measured(), "ns", budget);
    }

    void memory() {
        const Crowd crowd = apart<Crowd>(&suspended, options_.suspended);
        const std::string who = std::to_string(options_.suspended) + " suspended, ";
        const double gib = 1024.0 * 1024 * 1024;
        const auto share = static_cast<double>(options_.suspended) / 1e6;
        record(who + "resident and page tables", crowd.bytes / gib, "GiB", 4.4 * share);
        record(who + "each", crowd.each, "bytes");
        record(who + "mappings", crowd.maps, "", 199);
        record(who + "to spawn and first run", crowd.spawn_ns, "ns");
    }

    void count_allocations() {
        weft::coro::run([&] {
            using namespace std::chrono_literals;
            // Measured first, since recording allocates.
            const double yields = allocations_of([] { weft::coro::yield(); });
            const double sleeps = allocations_of([] { weft::coro::sleep(1ns); });
            const double joins = allocations_of([] { weft::coro::spawn([] {}).join(); });
            const double timeouts = allocations_of(
                [] { weft::coro::with_timeout(1h, [] { weft::coro::sleep(1ns); }); });
            record("allocations, yield", yields, "", 0);
            record("allocations, sleep", sleeps, "", 0);
            record("allocations, spawn and join", joins, "", 0);
            record("allocations, sleep in with_timeout", timeouts, "", 0);
        });
    }

    const Options options_;
    std::vector<Figure> figures_;
};

std::string as_json(const std::vector<Figure>& figures) {
    std::string text;
    for (const Figure& figure : figures)
        text += (text.empty() ? "{\"" : ",\n \"") + figure.name +
                "\": {\"value\": " + std::to_string(figure.value) + ", \"unit\": \"" + figure.unit +
                "\", \"budget\": " + (figure.budget ? std::to_string(*figure.budget) : "null") +
                "}";
    return text + "}";
}

void print_table(const std::vector<Figure>& figures) {
    std::printf("%-52s %10s %10s\n", "", "measured", "budget");
    for (const Figure& figure : figures) {
        char budget[32] = "";
        if (figure.budget) std::snprintf(budget, sizeof budget, "%g", *figure.budget);
        const bool over = figure.budget && figure.value > *figure.budget;
        std::printf("%-52s %10.*f %10s %-5s%s\n", figure.name.c_str(), figure.value < 1000 ? 2 : 0,
                    figure.value, budget, figure.unit.c_str(), over ? " over" : "");
    }
}

} // namespace

void* operator new(std::size_t size) {
    ++allocations;
    if (void* memory = std::malloc(size)) return memory;
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
    std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}

int main(int argc, char** argv) {
    CLI::App app("What the coroutines' operations cost, beside their budgets");
    Options options;
    app.add_option("--repetitions", options.repetitions, "the fastest of so many is reported")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--suspended", options.suspended,
                   "how many coroutines wait when memory is measured; 0 leaves out what takes "
                   "gigabytes")
        ->capture_default_str();
    app.add_option("--only", options.only, "nothing but the times whose names contain this");
    app.add_flag("--json", options.json, "print JSON instead of a table");
    CLI11_PARSE(app, argc, argv);
    try {
        const std::vector<Figure> figures = CoroBench(options).run();
        if (options.json)
            std::cout << as_json(figures) << '\n';
        else
            print_table(figures);
    } catch (const std::exception& error) {
        std::cerr << "bench-coro: " << error.what() << '\n';
        return 1;
    }
}
