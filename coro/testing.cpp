#include <weft/coro/scheduler.hpp>
#include <weft/coro/task.hpp>
#include <weft/coro/testing.hpp>

namespace weft::coro {
namespace {

// One turn of the loop in which nobody else did anything.
bool quiet_turn(detail::Scheduler& scheduler) {
    const auto before = scheduler.switches();
    scheduler.yield_to_loop();
    return scheduler.switches() == before + 1 && !scheduler.any_ready() &&
           scheduler.loop().stats().callbacks == 0;
}

void wait_for_quiet(detail::Scheduler& scheduler) {
    // So many turns may go by without a look at the kernel.
    const int enough = scheduler.loop().options().turns_per_poll + 1;
    for (int quiet = 0; quiet < enough;)
        quiet = quiet_turn(scheduler) ? quiet + 1 : 0;
}

} // namespace

void wait_all_blocked(Duration cushion) {
    detail::Scheduler& scheduler = detail::running("wait_all_blocked").scheduler;
    wait_for_quiet(scheduler);
    if (cushion <= Duration::zero()) return;
    for (bool quiet = false; !quiet;) {
        const auto before = scheduler.switches();
        sleep(cushion);
        quiet = scheduler.switches() == before + 1 && !scheduler.any_ready();
    }
    wait_for_quiet(scheduler);
}

} // namespace weft::coro
