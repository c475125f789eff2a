#include "sync_support.hpp"

using namespace weft;
using namespace weft::test;

TEST_CASE("a task has handles for others, which cancel and wait", "[s39][coro]") {
    run_on(simulated_kernels().front(), [] {
        coro::TaskRef self;
        auto task = begun([&] {
            self = coro::this_task();
            coro::sleep_forever();
        });
        CHECK(self == coro::TaskRef(task));
        bool listed = false;
        for (auto& info : coro::all_tasks()) {
            if (info.task == coro::this_task()) continue;
            CHECK(info.task == self);
            listed = info.task.cancel();
        }
        CHECK(listed);
        self.wait();
        CHECK(self.done());
        CHECK(task.cancelled());
        CHECK_THROWS_AS(coro::TaskRef().cancel(), UsageError);
    });
}
