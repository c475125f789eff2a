#pragma once
// Measuring operations in one program: the fastest of some repetitions, since whatever else goes on
// in a machine only adds to what they take. Printed as a table or as JSON.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace bench {

inline double seconds(clockid_t clock) {
    timespec time;
    ::clock_gettime(clock, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// What this process has in memory, page tables included.
inline double resident_bytes() {
    double kilobytes = 0;
    for (const auto& [path, field] : {std::pair{"/proc/self/smaps_rollup", "Rss: %lf"},
                                      std::pair{"/proc/self/status", "VmPTE: %lf"}}) {
        std::FILE* file = std::fopen(path, "r");
        if (!file) continue;
        char line[256];
        for (double found; std::fgets(line, sizeof line, file);)
            if (std::sscanf(line, field, &found) == 1) kilobytes += found;
        std::fclose(file);
    }
    return 1024 * kilobytes;
}

/// The processor time of one thread is moved little by a busy machine; what takes several threads
/// is measured in wall time.
class Figures {
public:
    explicit Figures(int repetitions) : repetitions_(repetitions) {}

    /// Records the nanoseconds for one of `operations` that `body` does, by `clock`.
    template<class Body>
    void measure(std::string name, std::size_t operations, clockid_t clock, Body body) {
        body(); // pools and caches are filled by the first
        double fastest = std::numeric_limits<double>::max();
        for (int i = 0; i < repetitions_; ++i) {
            const double start = seconds(clock);
            body();
            fastest = std::min(fastest, seconds(clock) - start);
        }
        record(std::move(name), 1e9 * fastest / static_cast<double>(operations));
    }
    /// Records a value that was measured elsewhere.
    void record(std::string name, double value) { figures_.push_back({std::move(name), value}); }

    /// A table, or one JSON object for programs.
    void print(bool json) const {
        const char* separator = "{";
        for (const auto& [name, value] : figures_) {
            if (json)
                std::printf("%s\"%s\": %.3f", std::exchange(separator, ",\n "), name.c_str(),
                            value);
            else
                std::printf("%-44s %10.1f\n", name.c_str(), value);
        }
        if (json) std::puts("}");
    }

private:
    int repetitions_;
    std::vector<std::pair<std::string, double>> figures_;
};

/// A whole program: reads `[--json] [--repetitions N]`, has the figures taken, prints them.
template<class Body>
int figures_main(int argc, char** argv, Body body) {
    bool json = false;
    int repetitions = 15;
    for (int i = 1; i < argc; ++i) {
        if (std::strcmp(argv[i], "--json") == 0) {
            json = true;
        } else if (std::strcmp(argv[i], "--repetitions") == 0 && i + 1 < argc) {
            repetitions = std::max(1, std::atoi(argv[++i]));
        } else {
            std::fprintf(stderr, "usage: %s [--json] [--repetitions N]\n", argv[0]);
            return 2;
        }
    }
    Figures figures(repetitions);
    body(figures);
    figures.print(json);
    return 0;
}

} // namespace bench
