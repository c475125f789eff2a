#include "load.hpp"

#include "load_report.hpp"
#include "load_run.hpp"

#include <clocale>
#include <cstdio>
#include <langinfo.h>
#include <string_view>

namespace weft::tools {
namespace {

bool terminal_takes_utf8() {
    std::setlocale(LC_CTYPE, "");
    return std::string_view(::nl_langinfo(CODESET)) == "UTF-8";
}

} // namespace

int run_load(const LoadOptions& options) {
    LoadRun run(options);
    run.run();
    const LoadResult& result = run.result();
    if (result.connected == 0) {
        for (const auto& [kind, count] : result.errors) {
            std::fprintf(stderr, "weft load: %s\n", kind.c_str());
        }
        if (run.signal() != 0) return 128 + run.signal();
        return run.bad_address() ? 2 : 1;
    }
    if (options.json) {
        std::fputs(json(options, result).c_str(), stdout);
    } else {
        std::fputs(table(options, result).c_str(), stdout);
        if (options.histogram) {
            std::printf("\n%s", bars(result.latency, terminal_takes_utf8()).c_str());
        }
    }
    if (run.signal() != 0) return 128 + run.signal();
    return result.errors.empty() && result.answered != 0 ? 0 : 1;
}

} // namespace weft::tools
