#define CATCH_CONFIG_RUNNER
#include "listener.hpp"

#include <catch2/catch.hpp>

#include <thread>

/// ThreadSanitizer asks for this: children that are forked beside other threads start their own.
extern "C" const char* __tsan_default_options() { return "die_after_fork=0"; }

int main(int argc, char* argv[]) {
    // With the first thread ThreadSanitizer starts one of its own, which the tests are not to count.
    std::thread([] {}).join();
    const int failed = Catch::Session().run(argc, argv);
    return failed == 0 && weft::test::leaking_cases() != 0 ? 1 : failed;
}
