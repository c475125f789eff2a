// With WEFT_CASE_LOG in the environment every program tells how many cases it is about to run and
// what becomes of each, in lines of its own, for tools/count-tests: after a crash they still say
// which case it was, how many had passed, and how many were not run.

#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include "listener.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <string>
#include <string_view>
#include <unistd.h>

namespace {

using weft::test::kernel_of_case;

bool wanted() {
    static const bool set = std::getenv("WEFT_CASE_LOG") != nullptr;
    return set;
}

/// Straight to the descriptor: what waits in a stream's buffer is lost in a crash. The first line
/// end closes whatever line a test has left open.
void say(std::string_view event, std::string_view name) {
    if (!wanted()) return;
    std::string line = "\n@case ";
    line.append(event).append(" ").append(name).push_back('\n');
    for (std::string_view rest = line; !rest.empty();) {
        const ssize_t written = ::write(STDOUT_FILENO, rest.data(), rest.size());
        if (written <= 0) return;
        rest.remove_prefix(static_cast<std::size_t>(written));
    }
}

class CaseLog final : public Catch::TestEventListenerBase {
public:
    using TestEventListenerBase::TestEventListenerBase;

    void testRunStarting(const Catch::TestRunInfo&) override {
        const auto cases =
            filterTests(getAllTestCasesSorted(*m_config), m_config->testSpec(), *m_config);
        say("run", std::to_string(cases.size()));
    }
    void testCaseStarting(const Catch::TestCaseInfo& info) override { say("begin", info.name); }
    // What a case leaves out here it says with WARN.
    bool assertionEnded(const Catch::AssertionStats& stats) override {
        if (stats.assertionResult.getResultType() != Catch::ResultWas::Warning) return false;
        std::string line = kernel_of_case != nullptr ? std::string(kernel_of_case) + ": " : "";
        for (const auto& message : stats.infoMessages)
            if (message.type == Catch::ResultWas::Warning) line += message.message;
        std::replace(line.begin(), line.end(), '\n', ' ');
        say("left-out", line);
        return false;
    }
    void testCaseEnded(const Catch::TestCaseStats& stats) override {
        say(stats.totals.testCases.allOk() ? "passed" : "failed", stats.testInfo.name);
    }
};

CATCH_REGISTER_LISTENER(CaseLog)

} // namespace
