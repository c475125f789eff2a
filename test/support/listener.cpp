// Looks at the open descriptors before and after every test case, whatever the case itself checks,
// and ends the program when a case does not end in time.

#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include "listener.hpp"

#include "resources.hpp"
#include "watchdog.hpp"

#include <weft/reactor/loop.hpp>

#include <catch2/catch.hpp>
#include <cstdio>
#include <iostream>
#include <unistd.h>

namespace weft::test {
namespace {

std::size_t leaking = 0;

// A case has this long in a plain build; the longest takes some seconds on a quiet machine.
constexpr std::chrono::seconds case_limit(120);
std::string case_name;

void tell_stuck(int fd) {
    dprintf(fd, "STUCK: \"%s\" has not ended after %lld s; kernel: %s\n", case_name.c_str(),
            static_cast<long long>(Watchdog::scaled(case_limit).count()),
            kernel_of_case != nullptr ? kernel_of_case : "not said");
    if (Loop* loop = Loop::current(); loop != nullptr) {
        const auto stats = loop->stats();
        dprintf(fd,
                "its loop has %zu sources, %zu timers, %zu signals, %zu callbacks, %zu jobs after "
                "%llu turns\n",
                stats.sources, stats.timers, stats.signals, stats.callbacks, stats.jobs,
                static_cast<unsigned long long>(stats.turns));
    }
    if (tell_waits != nullptr) tell_waits(fd);
}

class CaseListener final : public Catch::TestEventListenerBase {
public:
    using TestEventListenerBase::TestEventListenerBase;

    void testCaseStarting(const Catch::TestCaseInfo& info) override {
        before_ = open_descriptors();
        case_name = info.name;
        kernel_of_case = nullptr;
        Watchdog::arm(case_limit, &tell_stuck);
    }
    void testCaseEnded(const Catch::TestCaseStats& stats) override {
        Watchdog::disarm();
        bool leaked = false;
        for (const auto& [fd, target] : open_descriptors()) {
            if (before_.contains(fd)) continue;
            leaked = true;
            std::cerr << "descriptor " << fd << " -> " << target
                      << " is left open by the test case \"" << stats.testInfo.name << "\"\n";
        }
        if (leaked) ++leaking;
    }

private:
    std::map<int, std::string> before_;
};

CATCH_REGISTER_LISTENER(CaseListener)

} // namespace

std::size_t leaking_cases() noexcept {
    return leaking;
}

} // namespace weft::test
