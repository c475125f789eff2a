// Runs families: random-programs FAMILY [OPTIONS]. See `usage`.

#include "family.hpp"

#include "../support/watchdog.hpp"

#include <weft/reactor/log.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

extern "C" {
// There where a sanitizer is linked.
[[gnu::weak]] void __sanitizer_set_death_callback(void (*callback)());
// Children that are forked beside other threads start their own.
const char* __tsan_default_options() {
    return "die_after_fork=0";
}
}

namespace weft::test {
namespace {

constexpr const char* usage =
    R"(usage: random-programs FAMILY|all [OPTIONS]
       random-programs --list

Runs random programs of a family until so many operations were done, and compares what weft does
with a model. The same seed gives the same programs; on a real kernel the system has its say, too.

  --seed S        default 1; "time" takes one from the clock
  --operations N  default 100000, for each family
  --round R       only this round: what a failure says to repeat
  --kernel K      sim, epoll or poll; otherwise the rounds take turns
  --abort         on a failure dump core
  --list          the families
  --help          this text

Exits 0 if all went well, 1 if a check failed, 2 if the call was wrong, 86 if an operation did not
end in time (60 s, more with sanitizers; WEFT_CASE_DEADLINE in seconds).
)";

const Family* first = nullptr;

struct Options {
    std::string family;
    std::uint64_t seed = 1;
    std::uint64_t operations = 100000;
    std::optional<std::uint64_t> round;
    std::optional<KernelChoice> kernel;
    bool abort = false;
};

// What is under way, for the report of a failure.
struct Now {
    const char* family = nullptr;
    std::uint64_t seed = 0;
    std::atomic<std::uint64_t> round{0};
    std::atomic<KernelChoice> kernel{KernelChoice::sim};
    std::atomic<std::uint64_t> operations{0}; ///< in all rounds so far
    std::atomic<std::uint64_t> in_round{0};
    bool abort = false;
};
Now now;

// The last operations and notes. Threads may write at once; a torn line is better than a lock.
struct Line {
    std::atomic<const char*> what{nullptr};
    std::array<std::atomic<std::int64_t>, 3> values{};
    std::atomic<std::uint64_t> operation{0};
};
constexpr std::size_t lines_kept = 200;
std::array<Line, lines_kept> lines;
std::atomic<std::uint64_t> lines_written{0};

void write_down(const char* what, std::int64_t a, std::int64_t b, std::int64_t c) noexcept {
    constexpr auto relaxed = std::memory_order_relaxed;
    Line& line = lines[lines_written.fetch_add(1, relaxed) % lines_kept];
    line.what.store(what, relaxed);
    line.values[0].store(a, relaxed);
    line.values[1].store(b, relaxed);
    line.values[2].store(c, relaxed);
    line.operation.store(now.in_round.load(relaxed), relaxed);
}

// The last messages of the library, which are too many to print while all is well.
std::mutex log_mutex;
std::array<std::string, 8> log_kept;
std::size_t log_size = 0;

void keep_log(LogLevel, std::string_view text) noexcept {
    const std::lock_guard lock(log_mutex);
    log_kept[log_size++ % log_kept.size()] = text;
}

std::string filled(const Line& line) {
    std::string text = line.what.load();
    std::size_t from = 0;
    for (const auto& value : line.values) {
        const std::size_t at = text.find('%', from);
        if (at == std::string::npos) break;
        const std::string number = std::to_string(value.load());
        text.replace(at, 1, number);
        from = at + number.size();
    }
    return text;
}

void say(const std::string& text) noexcept {
    for (std::string_view rest = text; !rest.empty();) {
        const ssize_t written = ::write(STDOUT_FILENO, rest.data(), rest.size());
        if (written <= 0) return;
        rest.remove_prefix(static_cast<std::size_t>(written));
    }
}

std::string where() {
    if (now.family == nullptr) return "";
    const std::string kernel(name_of(now.kernel.load()));
    std::string text = "the last operations, oldest first:\n";
    const std::uint64_t end = lines_written.load();
    for (std::uint64_t i = end < lines_kept ? 0 : end - lines_kept; i < end; ++i) {
        const Line& line = lines[i % lines_kept];
        if (line.what.load() == nullptr) continue;
        text += "  " + std::to_string(line.operation.load()) + ": " + filled(line) + "\n";
    }
    if (std::unique_lock lock(log_mutex, std::try_to_lock); lock && log_size != 0) {
        text += "the last log messages:\n";
        for (std::size_t i = log_size < log_kept.size() ? 0 : log_size - log_kept.size();
             i < log_size; ++i)
            text += "  " + log_kept[i % log_kept.size()] + "\n";
    }
    return text + "family " + now.family + ", seed " + std::to_string(now.seed) + ", round " +
           std::to_string(now.round.load()) + ", operation " + std::to_string(now.in_round.load()) +
           " of the round, " + std::to_string(now.operations.load()) + " in all, kernel " + kernel +
           "\nto repeat: random-programs " + now.family + " --seed " + std::to_string(now.seed) +
           " --round " + std::to_string(now.round.load()) + " --kernel " + kernel + "\n";
}

void tell_where() {
    say("\n" + where());
}

void on_crash(int number) {
    std::signal(number, SIG_DFL);
    say("\ncrash: signal " + std::to_string(number) + "\n");
    print_stack(STDOUT_FILENO);
    tell_where();
    ::raise(number);
}

constexpr std::chrono::seconds operation_limit(60);

void on_stuck(int) {
    say("STUCK: no operation has ended for " +
        std::to_string(Watchdog::scaled(operation_limit).count()) + " s\n" + where());
}
// A round may be long: it is each of its operations that has a limit.
bool has_moved() {
    static std::uint64_t seen = 0;
    const std::uint64_t before = std::exchange(seen, now.operations.load());
    return seen != before;
}

void prepare() {
    if (&__sanitizer_set_death_callback != nullptr) {
        __sanitizer_set_death_callback(&tell_where);
    } else {
        for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) {
            struct sigaction action {};
            action.sa_handler = &on_crash;
            action.sa_flags = SA_ONSTACK;
            sigaction(number, &action, nullptr);
        }
    }
    std::signal(SIGPIPE, SIG_IGN);
    set_log_sink(&keep_log);
}

std::vector<KernelChoice> kernels_of(const Family& family, const Options& options) {
    std::vector<KernelChoice> kinds;
    for (const auto kind : {KernelChoice::sim, KernelChoice::epoll, KernelChoice::poll}) {
        const bool fits = kind == KernelChoice::sim ? family.on_simulated : family.on_real;
        const bool built = kind == KernelChoice::sim || make_real_kernel(kind);
        if (fits && built && options.kernel.value_or(kind) == kind) kinds.push_back(kind);
    }
    return kinds;
}

void play(const Family& family, std::uint64_t number, KernelChoice kernel) {
    now.round = number;
    now.kernel = kernel;
    now.in_round = 0;
    lines_written = 0;
    const std::uint64_t before = now.operations.load();
    Watchdog::arm(operation_limit, &on_stuck, &has_moved);
    Round round(now.seed, number, kernel);
    try {
        family.round(round);
    } catch (const std::exception& error) {
        random_failed("", 0, std::string("the round ended with an exception: ") + error.what());
    } catch (...) {
        random_failed("", 0, "the round ended with an exception");
    }
    if (now.operations.load() == before) random_failed("", 0, "the round did nothing");
}

int run(const Family& family, const Options& options) {
    now.family = family.name;
    now.seed = options.seed;
    now.abort = options.abort;
    now.operations = 0;
    const auto kinds = kernels_of(family, options);
    if (kinds.empty()) {
        std::printf("%s is not for this kernel\n", family.name);
        return 2;
    }
    const auto start = std::chrono::steady_clock::now();
    auto told = start;
    std::uint64_t rounds = 0;
    const auto report = [&] {
        const double seconds =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        std::printf("%s: %llu operations in %llu rounds, %.1f s, seed %llu\n", family.name,
                    static_cast<unsigned long long>(now.operations.load()),
                    static_cast<unsigned long long>(rounds), seconds,
                    static_cast<unsigned long long>(options.seed));
        std::fflush(stdout);
    };
    if (options.round) {
        play(family, *options.round, options.kernel.value_or(kinds[*options.round % kinds.size()]));
        rounds = 1;
    }
    while (!options.round && now.operations.load() < options.operations) {
        play(family, rounds, kinds[rounds % kinds.size()]);
        ++rounds;
        if (std::chrono::steady_clock::now() - told > std::chrono::seconds(10)) {
            told = std::chrono::steady_clock::now();
            report();
        }
    }
    Watchdog::disarm();
    report();
    now.family = nullptr;
    return 0;
}

std::optional<std::uint64_t> number_of(const char* text) {
    char* end = nullptr;
    const std::uint64_t number = std::strtoull(text, &end, 10);
    return *text != '\0' && *end == '\0' ? std::optional(number) : std::nullopt;
}

// False if the arguments are not what `usage` says.
bool parse(const std::vector<std::string>& arguments, Options& options) {
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string& name = arguments[i];
        if (name == "--abort") {
            options.abort = true;
            continue;
        }
        if (!name.starts_with("--")) {
            if (!options.family.empty()) return false;
            options.family = name;
            continue;
        }
        if (++i == arguments.size()) return false;
        const std::string& value = arguments[i];
        const auto number = number_of(value.c_str());
        if (name == "--kernel") {
            for (const auto kind : {KernelChoice::sim, KernelChoice::epoll, KernelChoice::poll})
                if (value == name_of(kind)) options.kernel = kind;
            if (!options.kernel) return false;
        } else if (name == "--seed" && value == "time") {
            options.seed = static_cast<std::uint64_t>(
                std::chrono::system_clock::now().time_since_epoch().count());
        } else if (!number) {
            return false;
        } else if (name == "--seed") {
            options.seed = *number;
        } else if (name == "--operations") {
            options.operations = *number;
        } else if (name == "--round") {
            options.round = *number;
        } else {
            return false;
        }
    }
    return !options.family.empty();
}

int start(const std::vector<std::string>& arguments) {
    if (!arguments.empty() && arguments[0] == "--help") {
        std::fputs(usage, stdout);
        return 0;
    }
    if (!arguments.empty() && arguments[0] == "--list") {
        for (const Family* family = first; family != nullptr; family = family->next)
            std::printf("%-20s %s\n", family->name, family->summary);
        return 0;
    }
    Options options;
    if (!parse(arguments, options)) {
        std::fputs(usage, stderr);
        return 2;
    }
    prepare();
    bool found = false;
    for (const Family* family = first; family != nullptr; family = family->next) {
        if (options.family != "all" && options.family != family->name) continue;
        found = true;
        if (const int status = run(*family, options); status != 0 && options.family != "all")
            return status;
    }
    if (!found)
        std::fprintf(stderr, "there is no family \"%s\"; --list names them\n",
                     options.family.c_str());
    return found ? 0 : 2;
}

} // namespace

std::string_view name_of(KernelChoice choice) noexcept {
    switch (choice) {
    case KernelChoice::sim:
        return "sim";
    case KernelChoice::epoll:
        return "epoll";
    case KernelChoice::poll:
        return "poll";
    }
    return "?";
}

RegisterFamily::RegisterFamily(Family family) noexcept : family_(family) {
    // In the order of their names, which does not depend on the linker's.
    const Family** at = &first;
    while (*at != nullptr && std::strcmp((*at)->name, family_.name) < 0)
        at = const_cast<const Family**>(&(*at)->next);
    family_.next = *at;
    *at = &family_;
}

std::unique_ptr<Kernel> make_real_kernel(KernelChoice choice) {
    for (const KernelMaker& each : available_kernels())
        if (each.name == name_of(choice)) return each.make();
    return nullptr;
}

std::unique_ptr<Kernel> Round::make_kernel(sim::SimOptions options) {
    if (!simulated()) return make_real_kernel(kernel_);
    options.seed = random.next();
    return std::make_unique<sim::SimKernel>(options);
}

void Round::operation(const char* what, std::int64_t a, std::int64_t b, std::int64_t c) noexcept {
    now.operations.fetch_add(1, std::memory_order_relaxed);
    now.in_round.fetch_add(1, std::memory_order_relaxed);
    write_down(what, a, b, c);
}

void Round::note(const char* what, std::int64_t a, std::int64_t b, std::int64_t c) noexcept {
    write_down(what, a, b, c);
}

void random_failed(const char* file, int line, const std::string& text) noexcept {
    static std::atomic<bool> failing{false};
    if (failing.exchange(true)) ::_exit(1); // another thread tells, or the telling fails
    std::string place;
    if (line != 0) place = std::string(file) + ":" + std::to_string(line) + ": ";
    say("FAILED: " + place + text + "\n" + where());
    print_stack(STDOUT_FILENO);
    if (now.abort) {
        std::signal(SIGABRT, SIG_DFL);
        std::abort();
    }
    ::_exit(1);
}

} // namespace weft::test

int main(int argc, char* argv[]) {
    return weft::test::start({argv + 1, argv + argc});
}
