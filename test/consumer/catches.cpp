// A user's program whose own symbols are hidden: what the libraries throw is caught by its type all
// the same, and the libraries know what is thrown at them.

#include <weft/coro/coro.hpp>
#include <weft/reactor/loop.hpp>

#include <chrono>
#include <cstdio>
#include <system_error>
#include <utility>

namespace coro = weft::coro;
using namespace std::chrono_literals;

namespace {

int failures = 0;

template<typename Exception, typename F>
void expect(const char* what, F&& f) {
    try {
        f();
    } catch (const Exception&) {
        return;
    } catch (...) {
    }
    std::printf("%s is not caught as what it is\n", what);
    ++failures;
}

} // namespace

int main() {
    expect<weft::UsageError>("UsageError", [] {
        weft::LoopOptions options;
        options.reads_per_turn = 0;
        weft::Loop loop(std::move(options));
    });
    coro::run([] {
        expect<coro::TimeoutError>("TimeoutError",
                                   [] { coro::with_timeout(1ms, [] { coro::sleep_forever(); }); });
        coro::CancelScope scope;
        scope.cancel();
        scope.run([] { expect<weft::Cancelled>("Cancelled", [] { coro::sleep(1ms); }); });
        expect<std::system_error>("system_error", [] { coro::connect("unix:/nowhere/at/all"); });
        // A task that is cancelled by an exception of this program's ends well: the library takes
        // it for what it is.
        auto task = coro::spawn([] { throw weft::Cancelled(); });
        task.wait();
        if (!task.cancelled()) {
            std::puts("libweft-coro takes Cancelled for something else");
            ++failures;
        }
    });
    return failures;
}
