#pragma once

#include "support/kernels.hpp"
#include "support/log_capture.hpp"

#include <weft/coro/coro.hpp>

#include <chrono>
#include <string>
#include <utility>
#include <vector>

/// What the tests of coroutines share.
namespace weft::test {

using namespace std::chrono_literals;

/// How the tests run coroutines: on one kernel, without signals.
inline coro::RunOptions options_on(const KernelKind& kind) {
    coro::RunOptions options;
    options.loop.kernel = kind.make();
    options.handle_interrupt = false;
    options.report_overflow = false;
    return options;
}

/// Runs `body()` as main on a kernel of this kind, and checks that everything is given back.
template<class F>
auto run_on(const KernelKind& kind, F&& body) {
    const ResourceGuard guard;
    return coro::run(std::forward<F>(body), options_on(kind));
}

/// The same, first come, first served, whatever WEFT_SHUFFLE says: for what shows that order, and
/// for counts of allocations, of which shuffling makes some.
template<class F>
auto run_unshuffled_on(const KernelKind& kind, F&& body) {
    const ResourceGuard guard;
    coro::RunOptions options = options_on(kind);
    options.shuffle = 0;
    return coro::run(std::forward<F>(body), std::move(options));
}

/// Lets the others have `count` turns.
inline void turns(std::size_t count = 1) {
    for (; count != 0; --count)
        coro::yield();
}

/// Collects what nobody caught in the loop that runs; to be made inside a coroutine.
class UnhandledLog {
public:
    UnhandledLog() {
        coro::this_loop().on_unhandled(
            [this](const Unhandled& what) { texts.push_back(TestLoop::text_of(what)); });
    }
    ~UnhandledLog() { coro::this_loop().on_unhandled(nullptr); }
    UnhandledLog(const UnhandledLog&) = delete;
    UnhandledLog& operator=(const UnhandledLog&) = delete;

    std::vector<std::string> texts; ///< "message: what()" of each
};

/// A time as text in a failed check.
inline std::string since(TimePoint start) {
    const Duration passed = coro::this_loop().now() - start;
    return std::to_string(std::chrono::duration<double>(passed).count()) + " s";
}

/// What happened, in order: "a b c".
class Trace {
public:
    void operator()(const std::string& event) {
        if (!text.empty()) text += ' ';
        text += event;
    }
    std::string text;
};

} // namespace weft::test
