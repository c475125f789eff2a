#pragma once

#include "stream_support.hpp"

#include <functional>
#include <string>
#include <vector>

/// What docs/coroutines.md promises about checkpoints, as lists of operations; docs_test.py
/// compares their names with its table.
namespace weft::test {

/// What a test does with an operation: `call` does it once, and `state` says what it has changed.
using Attempt = std::function<void(const std::function<void()>& call,
                                   const std::function<std::size_t()>& state)>;

/// `set_up` makes everything that the operation needs, and lets `attempt` do it.
struct Operation {
    std::string name;
    std::function<void(const Attempt& attempt)> set_up;
};
using Operations = std::vector<Operation>;

inline std::size_t nothing() {
    return 0;
}

/// Whether others run while it exists; to be made by the coroutine that is watched.
class Others {
public:
    Others() : other_(coro::spawn([this] { ran_ = true; })) {}
    Others(const Others&) = delete;
    Others& operator=(const Others&) = delete;
    bool ran() const noexcept { return ran_; }

private:
    bool ran_ = false;
    coro::Task<void> other_;
};

/// Throws `Cancelled` in a scope that is cancelled, and has changed nothing then.
inline void throws_when_cancelled(const std::function<void()>& call,
                                  const std::function<std::size_t()>& state) {
    const std::size_t before = state();
    coro::CancelScope scope;
    scope.cancel();
    CHECK_FALSE(scope.run(call));
    CHECK(scope.cancelled_caught());
    CHECK(state() == before);
}

/// The others run meanwhile.
inline void suspends(const std::function<void()>& call, const std::function<std::size_t()>&) {
    const Others others;
    call();
    CHECK(others.ran());
}

/// The others do not run meanwhile, but do when it is the 100th in a row; of what counts as half an
/// operation, when it is two of them.
inline void yields_now_and_then(const std::function<void()>& call,
                                const std::function<std::size_t()>&) {
    coro::Event ready;
    ready.set();
    coro::yield(); // begins a new row
    const Others others;
    for (int i = 1; i < 100; ++i)
        ready.wait();
    CHECK_FALSE(others.ran());
    call();
    if (!others.ran()) call();
    CHECK(others.ran());
}

/// Neither throws `Cancelled` nor lets others run, even as the 100th.
inline void is_no_checkpoint(const std::function<void()>& call,
                             const std::function<std::size_t()>&) {
    coro::Event ready;
    ready.set();
    coro::yield();
    const Others others;
    for (int i = 1; i < 100; ++i)
        ready.wait();
    coro::CancelScope scope;
    scope.cancel();
    scope.run([&] {
        CHECK_NOTHROW(call());
        CHECK_FALSE(others.ran());
    });
}

/// Tries each of `operations` in a loop of its own, on every kernel.
inline void for_each(const Operations& operations, const Attempt& attempt) {
    WEFT_TEST_KERNEL(waking_kernels);
    for (const Operation& operation : operations) {
        INFO(operation.name);
        const ResourceGuard guard;
        coro::RunOptions options = options_on(kernel_kind);
        options.shuffle = 0; // which runs next is what is looked at
        coro::run([&] { operation.set_up(attempt); }, std::move(options));
    }
}

} // namespace weft::test
