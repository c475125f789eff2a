#include "../support/kernels.hpp"

#include <unistd.h>

using namespace weft;
using namespace weft::test;

// For test/deadline_test.py, which wants to know how a case ends that does not.
TEST_CASE("A case that waits for ever", "[.stuck]") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    loop->run();
}

TEST_CASE("A case that turns for ever", "[.stuck]") {
    volatile bool go_on = true;
    while (go_on) {
    }
}
