#define CATCH_CONFIG_RUNNER
#include "listener.hpp"

#include <catch2/catch.hpp>

int main(int argc, char* argv[]) {
    const int failed = Catch::Session().run(argc, argv);
    return failed == 0 && weft::test::leaking_cases() != 0 ? 1 : failed;
}
