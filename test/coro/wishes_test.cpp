#include "support/child.hpp"
#include "sync_support.hpp"

#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <functional>
#include <sched.h>
#include <sys/mman.h>
#include <thread>

// What users asked for, and the questions that headers had left open.

using namespace weft;
using namespace weft::test;

namespace {

std::string text_of(const std::function<void()>& call) {
    try {
        call();
        return "";
    } catch (const std::exception& error) {
        return error.what();
    }
}

[[gnu::noinline]] int read_errno() {
    return errno;
}
[[gnu::noinline]] void write_errno(int value) {
    errno = value;
}

/// Seen by forked children too.
std::atomic<bool>* shared_flag() {
    void* const page = ::mmap(nullptr, sizeof(std::atomic<bool>), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) throw std::bad_alloc();
    return new (page) std::atomic<bool>(false);
}

/// Whether the process waits in a system call: the third word of its stat is S, the second its
/// name.
bool is_asleep(pid_t process) {
    std::ifstream file("/proc/" + std::to_string(process) + "/stat");
    std::string text;
    std::getline(file, text);
    const std::size_t end = text.rfind(") ");
    return end != text.npos && text.compare(end + 2, 1, "S") == 0;
}

} // namespace

TEST_CASE("a value is moved out of a task once", "[s34][coro]") {
    run_on(simulated_kernels().front(), [] {
        auto task = coro::spawn([] { return std::make_unique<int>(7); });
        CHECK(*task.join() == 7);
        CHECK_THROWS_AS(task.join(), UsageError);
        CHECK_THROWS_AS(task.result(), UsageError);
        CHECK_THROWS_AS(coro::gather(task), UsageError);
        auto number = coro::spawn([] { return 1; });
        CHECK(std::get<0>(coro::gather(number)) == 1); // copied: it is the caller's
        CHECK(number.join() == 1);
        CHECK_THROWS_AS(number.join(), UsageError);
        auto nothing = coro::spawn([] {});
        nothing.join();
        nothing.join();
        CHECK(coro::spawn([] { return std::string("gone with its handle"); }).result() ==
              "gone with its handle");
    });
}

TEST_CASE("what is gathered is named for the caller's line", "[s34][coro]") {
    run_on(simulated_kernels().front(), [] {
        std::vector<std::source_location> places;
        const auto note = [&] { places.push_back(coro::current_task()->spawned); };
        const unsigned line = __LINE__ + 1;
        (void)coro::gather(note, note);
        std::vector<std::function<void()>> several{note};
        (void)coro::gather(several);
        (void)coro::gather_outcomes(note);
        REQUIRE(places.size() == 4);
        CHECK(places[0].line() == line);
        CHECK(places[1].line() == line);
        CHECK(places[2].line() == line + 2);
        CHECK(places[3].line() == line + 3);
        CHECK(std::string(places[3].file_name()).find("wishes_test") != std::string::npos);
    });
}

TEST_CASE("stacks of what is gathered and waited for have the size that is asked for",
          "[s34][s47][coro]") {
    run_on(simulated_kernels().front(), [] {
        const auto deep = [] {
            volatile char room[600 * 1024];
            room[0] = 1;
            return static_cast<int>(room[0]);
        };
        const coro::SpawnOptions large{.stack_size = 2 * 1024 * 1024};
        CHECK(std::get<0>(coro::gather(large, deep)) == 1);
        CHECK(coro::wait_for(deep, 1s, large) == 1);
    });
}

TEST_CASE("cases of a select are used again, and tell what they have not sent", "[s68][coro]") {
    run_on(simulated_kernels().front(), [] {
        coro::Channel<std::string> a, b;
        Trace trace;
        auto from_a = a.on_receive([&](auto item) { trace("a" + item.value_or("-")); });
        auto from_b = b.on_receive([&](auto item) { trace("b" + item.value_or("-")); });
        auto sender = coro::spawn([&] {
            b.send("1");
            coro::sleep(1ms);
            a.send("2");
            coro::sleep(1ms);
            b.send("3");
            a.close();
        });
        for (int i = 0; i < 4; ++i)
            (void)coro::select(from_a, from_b);
        CHECK(trace.text == "b1 a2 b3 a-");

        coro::Channel<std::string> one(1), other(0);
        auto to_one = one.on_send("x");
        auto to_other = other.on_send("y");
        CHECK(coro::select(to_one, to_other) == 0);
        CHECK(to_other.item() == "y");
        CHECK_THROWS_AS(coro::select(to_one, to_other), UsageError); // it has nothing left
        CHECK(other.size() == 0);
        to_one.set_item("z");
        auto receiver = coro::spawn([&] { return *other.receive(); });
        coro::yield();
        CHECK(coro::select(to_one, to_other) == 1);
        CHECK(receiver.join() == "y");
        CHECK(to_one.item() == "z");
        CHECK_THROWS_AS(coro::select(to_one, to_one), UsageError);
        coro::Channel<int> never;
        auto from_never = never.on_receive([](auto) {});
        auto selecting = begun([&] { (void)coro::select(from_never); });
        CHECK_THROWS_AS(coro::try_select(from_never), UsageError); // another one is in it
        selecting.cancel();
        CHECK_THROWS_AS(selecting.join(), Cancelled);
    });
}

TEST_CASE("a reference that a limited function returns refers to what it did", "[s41][coro]") {
    run_on(simulated_kernels().front(), [] {
        const std::string text = "a text that is longer than the small buffer of a string";
        std::string changed;
        CHECK(&coro::with_timeout(1s, [&]() -> const std::string& { return text; }) == &text);
        CHECK(&coro::shield([&]() -> const std::string& { return text; }) == &text);
        CHECK(&coro::shield([&]() -> std::string& { return changed; }) == &changed);
        CHECK(&coro::finally([&]() -> std::string& { return changed; }, [] {}) == &changed);
        const auto moved =
            coro::with_timeout(1s, [&]() -> std::string&& { return std::move(changed); });
        static_assert(std::is_same_v<decltype(moved), const std::string>);
        CHECK(*coro::move_on_after(1s, [&]() -> const std::string& { return text; }) == text);
    });
}

TEST_CASE("clean-up may wait although everything is cancelled", "[s69][coro]") {
    run_on(simulated_kernels().front(), [] {
        bool cleaned = false;
        CHECK_FALSE(coro::move_on_after(1ms, [&] {
            coro::finally([] { coro::sleep(1h); },
                          [&] {
                              coro::sleep(5ms);
                              cleaned = true;
                          });
        }));
        CHECK(cleaned);
        CHECK(coro::finally([] { return 3; }, [] { coro::sleep(1ms); }) == 3);
        CHECK_THROWS_AS(coro::finally([] { throw 1; }, [] { coro::sleep(1ms); }), int);
        CHECK_THROWS_AS(coro::finally([] { throw 1; }, [] { throw 2.0; }), double);
    });
}

TEST_CASE("a task has handles for others, which cancel and wait", "[s39][coro]") {
    run_on(simulated_kernels().front(), [] {
        coro::TaskRef self;
        auto task = begun([&] {
            self = coro::this_task();
            coro::sleep_forever();
        });
        CHECK(self == coro::TaskRef(task));
        bool listed = false;
        for (auto& info : coro::all_tasks()) {
            if (info.task == coro::this_task()) continue;
            CHECK(info.task == self);
            listed = info.task.cancel();
        }
        CHECK(listed);
        self.wait();
        CHECK(self.done());
        CHECK(task.cancelled());
        CHECK_THROWS_AS(coro::TaskRef().cancel(), UsageError);
    });
}

TEST_CASE("callbacks for a task's end come in the loop, in order, also for one that has ended",
          "[s17][coro]") {
    run_on(simulated_kernels().front(), [] {
        Trace trace;
        auto task = coro::spawn([&] { trace("ran"); });
        const auto note = [&](const char* event) {
            return [&trace, &task, event] {
                CHECK_FALSE(coro::current_task());
                CHECK(task.done());
                trace(event);
            };
        };
        task.on_done(note("first"));
        task.on_done(note("second"));
        task.join();
        task.on_done(note("third"));
        trace("joined");
        coro::wait_all_blocked();
        CHECK((trace.text == "ran joined first second third" ||
               trace.text == "ran first second joined third"));
    });
}

TEST_CASE("arguments of a spawned function are the task's own", "[s24][coro]") {
    run_on(simulated_kernels().front(), [] {
        std::string text = "kept in the task";
        auto add = [](std::string a, int b, std::unique_ptr<int> c) {
            coro::yield();
            return a + std::to_string(b + *c);
        };
        auto task = coro::spawn(add, text, 1, std::make_unique<int>(2));
        text.clear();
        CHECK(task.join() == "kept in the task3");
        int changed = 0;
        coro::spawn([](int& by) { by = 5; }, std::ref(changed)).join();
        CHECK(changed == 5);
    });
}

TEST_CASE("what a group keeps lives as long as its tasks", "[s49][coro]") {
    run_on(simulated_kernels().front(), [] {
        std::string seen;
        coro::task_group([&](coro::TaskGroup& group) {
            std::string& text = group.keep(std::string("longer than the small buffer of a string"));
            group.spawn([&] {
                coro::sleep(1ms);
                seen = text;
            });
        });
        CHECK(seen == "longer than the small buffer of a string");
    });
}

TEST_CASE("errors of a group are sorted by type, whatever groups they are in", "[s51][coro]") {
    run_on(simulated_kernels().front(), [] {
        const auto fail = [](auto error) {
            return [error] {
                coro::shield([] { coro::yield(); });
                throw error;
            };
        };
        try {
            coro::task_group([&](coro::TaskGroup& group) {
                group.spawn(fail(std::runtime_error("a")));
                group.spawn(fail(7));
                group.spawn([&] {
                    coro::task_group([&](coro::TaskGroup& inner) {
                        inner.spawn(fail(std::runtime_error("b")));
                        inner.spawn(fail(8));
                    });
                });
            });
            FAIL("no errors");
        } catch (const coro::ExceptionGroup& errors) {
            std::string found;
            CHECK(errors.for_each<std::exception>([&](auto& e) { found += e.what(); }) == 2);
            CHECK(found == "ab");
            const auto [known, others] = errors.split<std::runtime_error>();
            REQUIRE(known);
            REQUIRE(others);
            CHECK(known->for_each<std::runtime_error>([](auto&) {}) == 2);
            CHECK(known->for_each<int>([](auto&) {}) == 0);
            CHECK(others->for_each<int>([](auto&) {}) == 2);
            CHECK_FALSE(known->split<int>().first);
        }
    });
}

TEST_CASE("an item that comes after a deadline is the next one", "[s80][coro]") {
    run_on(simulated_kernels().front(), [] {
        coro::Generator<int> items([](auto& yield) {
            for (int i = 1; i <= 3; ++i) {
                coro::sleep(10ms);
                yield(i);
            }
            throw std::runtime_error("over");
        });
        CHECK_THROWS_AS(items.next(5ms), coro::TimeoutError);
        CHECK_THROWS_AS(items.next(1ms), coro::TimeoutError);
        CHECK(items.next(1s) == 1);
        CHECK_THROWS_AS(items.next(1ms), coro::TimeoutError);
        coro::sleep(1s);
        CHECK(items.next(0s) == 2);
        CHECK(items.next() == 3);
        CHECK_THROWS_AS(items.next(), std::runtime_error);
        CHECK_FALSE(items.next());
        coro::Generator<int> left([](auto& yield) {
            coro::sleep(10ms);
            yield(1);
        });
        CHECK_THROWS_AS(left.next(1ms), coro::TimeoutError);
    });
}

TEST_CASE("a generator's body has locks and task-locals of its own", "[s39][coro]") {
    static coro::TaskLocal<int> number(0);
    run_on(simulated_kernels().front(), [] {
        number.set(1);
        coro::Mutex mutex;
        coro::Generator<int> items([&](auto& yield) {
            const auto guard = mutex.lock();
            for (;;) {
                yield(*number.get());
                number.set(*number.get() + 10);
            }
        });
        CHECK(items.next() == 1);
        number.set(2);
        CHECK(items.next() == 11);
        CHECK(*number.get() == 2);
        CHECK_FALSE(mutex.try_lock()); // it is not the consumer's
        CHECK(mutex.locked());
    });
}

TEST_CASE("texts of what ran out of time or was closed say what happened", "[s80][coro]") {
    run_on(simulated_kernels().front(), [] {
        coro::Queue<int> queue;
        CHECK(text_of([&] { (void)queue.get(5ms); }) == "Queue::get: the time is up");
        CHECK(text_of([] { coro::with_timeout(1ms, [] { coro::sleep(1s); }); }) ==
              "with_timeout: the time is up");
        coro::Channel<int> channel;
        auto closing = coro::spawn([&] {
            coro::sleep(1ms);
            channel.close();
            queue.close();
        });
        auto getting = coro::spawn([&] { return text_of([&] { (void)queue.get(); }); });
        CHECK(text_of([&] { channel.send(1); }) == "Channel::send: closed while it waited");
        CHECK(getting.join() == "Queue::get: closed while it waited");
        CHECK(text_of([&] { channel.send(1); }) == "Channel::send: already closed");
        try {
            queue.get();
        } catch (const std::system_error& error) {
            CHECK(error.code() == Errc::closed);
        }
    });
}

TEST_CASE("any number may wait for all others to be blocked", "[s119][coro]") {
    const KernelKind kind = GENERATE(from_range(all_kernels()));
    run_on(kind, [] {
        Trace trace;
        auto a = coro::spawn([&] {
            coro::wait_all_blocked();
            trace("a");
        });
        auto b = coro::spawn([&] {
            coro::wait_all_blocked();
            trace("b");
        });
        auto c = coro::spawn([&] {
            coro::wait_all_blocked(1ms);
            trace("c");
        });
        auto cancelled = coro::spawn([&] { coro::wait_all_blocked(5s); });
        a.join();
        b.join();
        c.join();
        CHECK((trace.text == "a b c" || trace.text == "b a c"));
        cancelled.cancel();
        cancelled.wait();
        coro::wait_all_blocked();
    });
}

TEST_CASE("a cushion counts from the last time that somebody did something", "[s119][coro]") {
    run_on(simulated_kernels().front(), [] {
        const TimePoint start = coro::this_loop().now();
        auto other = coro::spawn([] {
            coro::sleep(40ms);
            coro::yield();
            coro::sleep(1h);
        });
        coro::wait_all_blocked(50ms);
        CHECK(coro::this_loop().now() - start == 90ms);
        other.cancel();
    });
}

TEST_CASE("a second interrupt ends a program whose coroutine does not give way", "[s118][coro]") {
    const auto stage = GENERATE(0, 1);
    const ChildEnd end = in_child([&] {
        coro::run([&] {
            const pid_t self = ::getpid();
            const auto spin = [] {
                for (volatile bool on = true; on;) {
                }
            };
            std::thread([self, stage] {
                if (stage == 1) return;
                for (;;) { // as a key that is held down does
                    ::kill(self, SIGINT);
                    std::this_thread::yield();
                }
            }).detach();
            if (stage == 0) return spin(); // it has not heard of the first
            try {
                std::raise(SIGINT);
                coro::sleep(1h);
            } catch (const Cancelled&) {
                std::raise(SIGINT);
                spin();
            }
        });
        return 0;
    });
    CHECK(end.died_of(SIGINT));
}

TEST_CASE("a program that watches for interrupts itself gets them alone", "[s118][coro]") {
    const ChildEnd end = in_child([] {
        int seen = 0;
        coro::run([&] {
            coro::Event came;
            auto watch = coro::this_loop().on_signal(SIGINT, [&] {
                ++seen;
                came.set();
            });
            for (int i = 0; i < 3; ++i) {
                came.clear();
                std::raise(SIGINT);
                came.wait();
            }
        });
        return seen;
    });
    CHECK(end.exited_with(3));
}

TEST_CASE("a program that sleeps for ever waits for its interrupt and is no deadlock",
          "[s118][coro]") {
    const ChildEnd end = in_child([] {
        const pid_t self = ::getpid();
        std::atomic<bool>* const ready = shared_flag();
        if (::fork() == 0) { // the signal comes when nothing is left to do
            while (::getppid() == self && !(*ready && is_asleep(self)))
                ::sched_yield();
            if (::getppid() == self) ::kill(self, SIGINT);
            ::_exit(0);
        }
        bool cancelled = false;
        try {
            coro::run([&] {
                try {
                    *ready = true;
                    coro::sleep_forever();
                } catch (const Cancelled&) {
                    cancelled = true;
                }
            });
        } catch (const std::system_error&) {
            return 2;
        }
        return cancelled ? 3 : 4;
    });
    CHECK(end.exited_with(3));
}

TEST_CASE("debug mode has nothing to say about the library's own watch", "[s118][coro]") {
    const ChildEnd end = in_child([] {
        coro::RunOptions options;
        options.loop.debug = true;
        coro::run([] { coro::sleep(1ms); }, std::move(options));
        return 0;
    });
    CHECK(end.exited_with(0));
    CHECK(end.errors == "");
}

TEST_CASE("errno is each coroutine's own, also in another thread", "[s39][coro]") {
    Loop loop;
    int seen = 0;
    coro::Event go;
    auto task = coro::spawn(loop, [&] {
        write_errno(EDOM);
        go.wait();
        seen = read_errno();
    });
    auto other = coro::spawn(loop, [&] { write_errno(ERANGE); });
    loop.run_once();
    go.set();
    std::thread([&] { loop.run_once(); }).join();
    CHECK(seen == EDOM);
}
