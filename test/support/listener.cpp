// Looks at the open descriptors before and after every test case, whatever the case itself checks.

#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include "listener.hpp"
#include "resources.hpp"

#include <catch2/catch.hpp>

#include <iostream>

namespace weft::test {
namespace {

std::size_t leaking = 0;

class DescriptorListener final : public Catch::TestEventListenerBase {
public:
    using TestEventListenerBase::TestEventListenerBase;

    void testCaseStarting(const Catch::TestCaseInfo&) override { before_ = open_descriptors(); }
    void testCaseEnded(const Catch::TestCaseStats& stats) override {
        bool leaked = false;
        for (const auto& [fd, target] : open_descriptors()) {
            if (before_.contains(fd)) continue;
            leaked = true;
            std::cerr << "descriptor " << fd << " -> " << target << " is left open by the test case \""
                      << stats.testInfo.name << "\"\n";
        }
        if (leaked) ++leaking;
    }

private:
    std::map<int, std::string> before_;
};

CATCH_REGISTER_LISTENER(DescriptorListener)

} // namespace

std::size_t leaking_cases() noexcept { return leaking; }

} // namespace weft::test
