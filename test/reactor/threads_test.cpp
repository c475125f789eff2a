#include "support/kernels.hpp"

#include <weft/reactor/thread_pool.hpp>

#include <atomic>
#include <csignal>
#include <future>
#include <spawn.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace std::chrono_literals;
using namespace weft::test;
using weft::Errc;
using weft::Future;
using weft::Loop;
using weft::ThreadPool;

namespace {

/// Holds threads up until it is opened.
class Door {
public:
    void open() { promise_.set_value(); }
    void wait() const { future_.wait(); }

private:
    std::promise<void> promise_;
    std::shared_future<void> future_ = promise_.get_future().share();
};

/// Calls a function when it is destroyed.
template<class F>
struct AtEnd {
    explicit AtEnd(F f) : function(std::move(f)) {}
    AtEnd(AtEnd&& other) noexcept
        : function(std::move(other.function)), armed(std::exchange(other.armed, false)) {}
    AtEnd& operator=(AtEnd&&) = delete;
    ~AtEnd() {
        if (armed) function();
    }
    F function;
    bool armed = true;
};

/// How a shell ends that sends itself SIGTERM and goes on if it is deaf to that.
int shell_that_ends_itself(bool by_spawn) {
    const char* const arguments[] = {"sh", "-c", "kill -TERM $$; exit 3", nullptr};
    pid_t child = 0;
    if (by_spawn) {
        char* const none[] = {nullptr};
        if (posix_spawn(&child, "/bin/sh", nullptr, nullptr, const_cast<char* const*>(arguments),
                        none) != 0)
            return -1;
    } else if ((child = fork()) == 0) {
        execv("/bin/sh", const_cast<char* const*>(arguments));
        _exit(4);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 1000 + WEXITSTATUS(status);
}

weft::LoopOptions with_one_thread() {
    weft::LoopOptions options;
    options.executor_threads = 1;
    return options;
}

} // namespace

// --- The pool ---

TEST_CASE("A pool destroys the jobs that wait before it waits for those that run [s117]") {
    const ResourceGuard guard;
    std::promise<void> promise;
    bool told = false;
    Door started;
    {
        ThreadPool pool({.threads = 1});
        CHECK(!pool.submit([&, future = promise.get_future()]() mutable {
            started.open();
            try {
                future.get();
            } catch (const std::future_error&) {
                told = true;
            }
        }));
        started.wait();
        CHECK(!pool.submit([promise = std::move(promise)]() mutable { promise.set_value(); }));
    }
    CHECK(told);
}

TEST_CASE("Shutting a pool down returns when its threads have ended, the second call as the first "
          "[s117]") {
    const ResourceGuard guard;
    ThreadPool pool({.threads = 1});
    Door started, go;
    std::atomic<bool> ended{false};
    CHECK(!pool.submit([&] {
        started.open();
        go.wait();
        ended = true;
    }));
    started.wait();
    std::atomic<int> seen{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i)
        threads.emplace_back([&] {
            pool.shutdown();
            seen += ended;
        });
    while (pool.submit([] {}) != Errc::closed)
        std::this_thread::yield();
    go.open();
    for (auto& thread : threads)
        thread.join();
    CHECK(seen == 3);
}

TEST_CASE("A pool that is shut down by its own job, or in the end of a dropped one, says so and "
          "goes on [s117]") {
    const ResourceGuard guard;
    ThreadPool pool({.threads = 1});
    std::promise<bool> refused;
    std::atomic<bool> on_own_thread{false};
    CHECK(!pool.submit([&] {
        on_own_thread = pool.on_own_thread();
        try {
            pool.shutdown();
            refused.set_value(false);
        } catch (const weft::UsageError&) {
            refused.set_value(true);
        }
    }));
    CHECK(refused.get_future().get());
    CHECK(on_own_thread);
    CHECK(!pool.on_own_thread());
    Door started, go;
    CHECK(!pool.submit([&] {
        started.open();
        go.wait();
    }));
    started.wait();
    bool dropped = false;
    CHECK(!pool.submit([end = AtEnd([&] {
                            pool.shutdown(); // which is going on already, here
                            dropped = true;
                            go.open();
                        })] {}));
    pool.shutdown();
    CHECK(dropped);
}

TEST_CASE(
    "Pool threads have the signal mask of the thread that made the pool, and no other [F33]") {
    WEFT_TEST_KERNEL(waking_kernels);
    TestLoop loop(kernel_kind);
    sigset_t two, before;
    sigemptyset(&two);
    sigaddset(&two, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &two, &before);
    ThreadPool pool;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    const auto blocked = loop->run_until(loop->run_in_executor(pool, [] {
        sigset_t mask;
        pthread_sigmask(SIG_SETMASK, nullptr, &mask);
        return std::pair(sigismember(&mask, SIGUSR2), sigismember(&mask, SIGTERM));
    }));
    CHECK(blocked == std::pair(1, 0));
}

TEST_CASE("What an executor's job forks or spawns hears of SIGTERM [F33]") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    for (const bool by_spawn : {false, true})
        CHECK(loop->run_until(loop->run_in_executor(
                  [&] { return shell_that_ends_itself(by_spawn); })) == SIGTERM);
}

TEST_CASE("A job that throws Cancelled cancels its future [s16] [s117]") {
    WEFT_TEST_KERNEL(waking_kernels);
    TestLoop loop(kernel_kind);
    auto job = loop->run_in_executor([]() -> int { throw weft::Cancelled(); });
    CHECK_THROWS_AS(loop->run_until(job), weft::Cancelled);
    CHECK(job.cancelled());
    weft::Promise<int> promise(loop);
    promise.set_exception(std::make_exception_ptr(weft::Cancelled())); // the same kind
    CHECK(promise.future().cancelled());
    CHECK(loop.unhandled.empty());
}

// --- Closing ---

TEST_CASE(
    "Closing ends although other threads post, which is refused from its first moment [F34]") {
    WEFT_TEST_KERNEL(waking_kernels);
    const ResourceGuard guard;
    std::atomic<bool> closed{false};
    std::atomic<int> posting{0};
    std::vector<std::thread> threads;
    {
        weft::LoopOptions options;
        options.kernel = kernel_kind.make();
        Loop loop(std::move(options));
        for (int i = 0; i < 3; ++i)
            threads.emplace_back([&, i, remote = loop.remote()] {
                while (remote.post([heavy = std::string(1000, 'x')] {}) != Errc::closed || !closed)
                    posting = i + 1;
            });
        while (posting == 0)
            std::this_thread::yield();
        bool refused = false;
        (void)loop.post([end = AtEnd([&] { refused = loop.post([] {}) == Errc::closed; })] {});
        loop.close();
        CHECK(refused);
        closed = true;
    }
    for (auto& thread : threads)
        thread.join();
}

TEST_CASE("A handle of a loop is safe whatever becomes of the loop, and of the handle [s23]") {
    WEFT_TEST_KERNEL(waking_kernels);
    const ResourceGuard guard;
    std::optional<weft::RemoteLoop> remote;
    int ran = 0;
    {
        TestLoop loop(kernel_kind), other(kernel_kind);
        remote = loop->remote();
        std::thread([remote = *remote, &ran] { CHECK(!remote->post([&] { ++ran; })); }).join();
        loop->run_once(true);
        CHECK(ran == 1);
        CHECK(!remote->closed());
        CHECK(*remote == weft::RemoteLoop(loop));
        CHECK(*remote != other->remote());
        weft::RemoteLoop moved = std::move(*remote);
        CHECK(!moved.post([&] { ++ran; }));
        CHECK(!remote->post([&] { ++ran; })); // a moved-from one is as good
        loop->run_once(true);
        CHECK(ran == 3);
    }
    auto capture = std::make_shared<int>();
    CHECK(remote->post([capture] {}) == Errc::closed);
    CHECK(capture.use_count() == 1);
    CHECK(remote->closed());
}

TEST_CASE(
    "What callbacks of a running job's future have captured lives until the job has ended [F34]") {
    WEFT_TEST_KERNEL(waking_kernels);
    std::atomic<bool> alive{true};
    bool seen = false;
    Door started;
    TestLoop loop(kernel_kind);
    auto job = loop->run_in_executor([&, closing = loop->remote()] {
        started.open();
        while (!closing.closed())
            std::this_thread::yield();
        for (int i = 0; i < 100; ++i)
            std::this_thread::yield();
        seen = alive;
    });
    auto after = job.then([frame = AtEnd([&] { alive = false; })] {});
    started.wait();
    loop->close();
    CHECK(seen);
    CHECK(!alive);
    CHECK(job.error_code() == Errc::aborted);
    CHECK(after.error_code() == Errc::aborted);
}

TEST_CASE("Running jobs that wait for each other's futures do not hang the loop's close [F34]") {
    WEFT_TEST_KERNEL(waking_kernels);
    TestLoop loop(kernel_kind);
    Door started;
    bool told = false;
    // Queued first, so that it is the first that is waited for.
    std::promise<std::future<void>> second;
    auto first_job = loop->run_in_executor([&, second = second.get_future()]() mutable {
        auto waited = second.get();
        started.open();
        try {
            waited.get();
        } catch (const std::future_error&) {
            told = true;
        }
    });
    auto second_job = loop->run_in_executor([closing = loop->remote()] {
        while (!closing.closed())
            std::this_thread::yield();
    });
    second.set_value(second_job.to_std());
    started.wait();
    loop->close();
    CHECK(told);
}

TEST_CASE("A loop that is closed by a job of its own executor says so [s117]") {
    WEFT_TEST_KERNEL(waking_kernels);
    TestLoop loop(kernel_kind);
    auto job = loop->run_in_executor([&] { loop->close(); });
    Door done;
    CHECK_THROWS_AS(loop->run_until(job), weft::UsageError);
    CHECK(!loop->closed());
}

// --- Standard futures ---

TEST_CASE("Pending standard futures occupy no thread of the executor [s117]") {
    WEFT_TEST_KERNEL(waking_kernels);
    TestLoop loop(kernel_kind, with_one_thread());
    std::vector<std::promise<int>> promises(100);
    std::vector<Future<int>> futures;
    for (auto& promise : promises)
        futures.push_back(weft::from_std(loop, promise.get_future()));
    CHECK(loop->run_until(loop->run_in_executor([&] {
        promises[57].set_value(57);
        return 1;
    })) == 1);
    CHECK(loop->run_until(futures[57]) == 57);
    promises[3].set_exception(std::make_exception_ptr(std::runtime_error("of the third")));
    CHECK_THROWS_WITH(loop->run_until(futures[3]), "of the third");
    CHECK(loop->run_until(
              weft::from_std(loop, std::async(std::launch::deferred, [] { return 4; }))) == 4);
}

TEST_CASE("Cancelling the future of a standard one ends it, dropping it does not, and neither "
          "waits [s117]") {
    WEFT_TEST_KERNEL(waking_kernels);
    TestLoop loop(kernel_kind);
    auto go = std::make_shared<Door>(); // the thread is still there when this case has ended
    auto cancelled = weft::from_std(loop, std::async(std::launch::async, [go] { go->wait(); }));
    CHECK(cancelled.cancel());
    loop->run_until_idle();
    CHECK(cancelled.cancelled());
    std::promise<std::shared_ptr<int>> promise;
    auto value = std::make_shared<int>(1);
    (void)weft::from_std(loop, promise.get_future());
    CHECK(loop->stats().jobs == 1);
    promise.set_value(value);
    loop->run_until_idle();
    CHECK(value.use_count() == 1);
    go->open();
    CHECK(loop.unhandled.empty());
}

TEST_CASE("Closing the loop aborts the futures of standard ones, which may wait for others of the "
          "loop [F34]") {
    WEFT_TEST_KERNEL(waking_kernels);
    TestLoop loop(kernel_kind);
    weft::Promise<int> promise(loop);
    bool told = false;
    auto future = weft::from_std(
        loop, std::async(std::launch::async, [&, waited = promise.future().to_std()]() mutable {
            try {
                waited.get();
            } catch (const std::future_error&) {
                told = true;
            }
        }));
    loop->close();
    CHECK(future.error_code() == Errc::aborted);
    CHECK(told);
}

// --- Signals ---

TEST_CASE("Signals are unwatched in a storm of another one [s116]") {
    WEFT_TEST_KERNEL(real_kernels);
    TestLoop loop(kernel_kind);
    auto storm = loop->on_signal(SIGUSR2, [] {}).value();
    std::atomic<bool> done{false};
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i)
        threads.emplace_back([&] {
            while (!done)
                raise(SIGUSR2);
        });
    for (int i = 0; i < 200; ++i) {
        int seen = 0;
        auto watch = loop->on_signal(SIGUSR1, [&] { ++seen; }).value();
        raise(SIGUSR1);
        while (seen == 0)
            loop->run_once(true);
    }
    done = true;
    for (auto& thread : threads)
        thread.join();
}
