// With WEFT_CASE_LOG in the environment every program tells what becomes of each case in lines of
// its own, for tools/count-tests: after a crash they still say which case it was and how many had
// passed.

#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include <catch2/catch.hpp>
#include <cstdlib>
#include <string>
#include <string_view>
#include <unistd.h>

namespace {

class CaseLog final : public Catch::TestEventListenerBase {
public:
    using TestEventListenerBase::TestEventListenerBase;

    void testRunStarting(const Catch::TestRunInfo&) override { say("run", ""); }
    void testCaseStarting(const Catch::TestCaseInfo& info) override { say("begin ", info.name); }
    void testCaseEnded(const Catch::TestCaseStats& stats) override {
        say(stats.totals.testCases.allOk() ? "passed " : "failed ", stats.testInfo.name);
    }

private:
    /// Straight to the descriptor: what waits in a stream's buffer is lost in a crash. The first
    /// line end closes whatever line a test has left open.
    void say(std::string_view event, std::string_view name) {
        if (!wanted_) return;
        std::string line = "\n@case ";
        line.append(event).append(name).push_back('\n');
        for (std::string_view rest = line; !rest.empty();) {
            const ssize_t written = ::write(STDOUT_FILENO, rest.data(), rest.size());
            if (written <= 0) return;
            rest.remove_prefix(static_cast<std::size_t>(written));
        }
    }

    const bool wanted_ = std::getenv("WEFT_CASE_LOG") != nullptr;
};

CATCH_REGISTER_LISTENER(CaseLog)

} // namespace
