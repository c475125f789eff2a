#include <weft/coro/tasks/gather.hpp>

namespace weft::coro::detail {
namespace {

void gather_all(const char* what, std::vector<Awaited> items, bool until_failure) {
    Collector collector(what, std::move(items));
    try {
        const std::size_t failed = collector.wait_for_all(until_failure);
        if (failed != Collector::none) collector.items()[failed].check_value();
    } catch (const Cancelled&) {
        // Of the caller, or of one of them: then the rest runs on.
        if (running(what).cancel_pending) collector.end_all();
        throw;
    }
}

} // namespace

void gather_values(std::vector<Awaited> items) {
    gather_all("gather", std::move(items), true);
}

void gather_ends(std::vector<Awaited> items) {
    gather_all("gather_outcomes", std::move(items), false);
}

} // namespace weft::coro::detail
