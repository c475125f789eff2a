#include <weft/coro/tasks/co_await.hpp>

namespace weft::coro::detail {
namespace {

class BridgeWait final : public Wait {
public:
    explicit BridgeWait(Coroutine& self) noexcept : Wait(self) { uncancellable = true; }
    std::string describe() const override { return "something that can be co_awaited"; }
};

} // namespace

BridgeEnd::BridgeEnd(Coroutine& self) noexcept : self_(self) {}

void BridgeEnd::tell() noexcept {
    Loop& loop = self_.scheduler.loop();
    if (Loop::current() == &loop || loop.closing()) return told();
    (void)loop.post([this] { told(); });
}

void BridgeEnd::told() noexcept {
    told_ = true;
    if (wait_ != nullptr) std::exchange(wait_, nullptr)->wake();
}

void BridgeEnd::wait() {
    if (told_) return;
    BridgeWait wait(self_);
    wait_ = &wait;
    self_.scheduler.suspend(wait);
}

} // namespace weft::coro::detail
