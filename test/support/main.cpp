#define CATCH_CONFIG_RUNNER
#include "listener.hpp"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <thread>

/// ThreadSanitizer asks for this: children that are forked beside other threads start their own.
extern "C" const char* __tsan_default_options() {
    return "die_after_fork=0";
}

int main(int argc, char* argv[]) {
    // With the first thread ThreadSanitizer starts one of its own, which the tests are not to
    // count.
    std::thread([] {}).join();
    Catch::Session session;
    if (const int wrong = session.applyCommandLine(argc, argv); wrong != 0) return wrong;
    // An order by chance for the cases of a whole `meson test`: the environment reaches every
    // program.
    if (const char* seed = std::getenv("WEFT_CASE_ORDER"); seed != nullptr && *seed != '\0') {
        session.configData().runOrder = Catch::RunTests::InRandomOrder;
        session.configData().rngSeed = static_cast<unsigned>(std::strtoul(seed, nullptr, 10));
    }
    const int failed = session.run();
    return failed == 0 && weft::test::leaking_cases() != 0 ? 1 : failed;
}
