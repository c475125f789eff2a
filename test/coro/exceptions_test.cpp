#include "coro_support.hpp"

#include <exception>
#include <stdexcept>

using namespace weft;
using namespace weft::test;

namespace {

std::string current_text() {
    if (!std::current_exception()) return "none";
    try {
        throw;
    } catch (const std::exception& e) {
        return e.what();
    }
}

/// Its constructor throws, and its function-try-block waits before it lets that out.
struct Refusing {
    explicit Refusing(Trace& trace) try : member(0) {
        throw std::runtime_error("refused");
    } catch (const std::runtime_error& e) {
        coro::yield();
        trace(e.what());
    }
    int member;
};

/// Says what it sees when it is destroyed.
struct Witness {
    Trace& trace;
    const char* name;
    ~Witness() { trace(std::string(name) + ":" + std::to_string(std::uncaught_exceptions())); }
};

} // namespace

TEST_CASE("coroutines that wait inside catch blocks each rethrow their own exception",
          "[F39][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        std::vector<coro::Task<std::string>> tasks;
        for (int i = 0; i < 4; ++i)
            tasks.push_back(coro::spawn([i] {
                const std::string mine = "error " + std::to_string(i);
                try {
                    try {
                        throw std::runtime_error(mine);
                    } catch (...) {
                        // They leave in another order than they came.
                        for (int turn = 0; turn < 4 - i; ++turn)
                            coro::yield();
                        CHECK(current_text() == mine);
                        coro::sleep(1ms * i);
                        throw;
                    }
                } catch (const std::runtime_error& e) {
                    return std::string(e.what());
                }
                return std::string();
            }));
        CHECK(current_text() == "none");
        for (int i = 0; i < 4; ++i)
            CHECK(tasks[static_cast<std::size_t>(i)].join() == "error " + std::to_string(i));
        CHECK(current_text() == "none");
    });
    CHECK(current_text() == "none");
}

TEST_CASE("catch blocks nest across waits, and each level finds its exception again",
          "[F39][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        const auto nested = [](const std::string& name) {
            try {
                throw std::runtime_error(name + " outer");
            } catch (const std::exception& outer) {
                coro::yield();
                try {
                    throw std::logic_error(name + " inner");
                } catch (const std::exception& inner) {
                    coro::yield();
                    CHECK(inner.what() == name + " inner");
                    CHECK(current_text() == name + " inner");
                }
                coro::yield();
                CHECK(current_text() == name + " outer");
                CHECK(outer.what() == name + " outer");
            }
            CHECK(current_text() == "none");
        };
        auto a = coro::spawn([&] { nested("a"); });
        auto b = coro::spawn([&] { nested("b"); });
        nested("main");
        a.join();
        b.join();
    });
}

TEST_CASE("a function-try-block may wait", "[F39][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_unshuffled_on(kernel_kind, [&] {
        auto other = coro::spawn([&] {
            CHECK(std::current_exception() == nullptr);
            trace("other");
        });
        CHECK_THROWS_MATCHES(Refusing(trace), std::runtime_error, Catch::Message("refused"));
        other.join();
    });
    CHECK(trace.text == "other refused");
}

TEST_CASE("uncaught exceptions are counted per coroutine", "[F39][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_unshuffled_on(kernel_kind, [&] {
        const auto throwing = [&](const char* name) {
            try {
                Witness witness{trace, name};
                throw std::runtime_error(name);
            } catch (const std::runtime_error&) {
                CHECK(std::uncaught_exceptions() == 0);
                coro::yield();
                CHECK(std::uncaught_exceptions() == 0);
            }
            Witness witness{trace, name};
        };
        auto a = coro::spawn([&] { throwing("a"); });
        auto b = coro::spawn([&] { throwing("b"); });
        a.join();
        b.join();
    });
    CHECK(trace.text == "a:1 b:1 a:0 b:0");
}

TEST_CASE("an exception_ptr goes from one coroutine to another and keeps type and text",
          "[F39][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    std::weak_ptr<int> inside;
    struct Custom : std::runtime_error {
        Custom(const char* what, std::shared_ptr<int> v)
            : std::runtime_error(what), value(std::move(v)) {}
        std::shared_ptr<int> value;
    };
    run_on(kernel_kind, [&] {
        std::exception_ptr caught;
        auto task = coro::spawn([&] {
            try {
                auto value = std::make_shared<int>(7);
                inside = value;
                throw Custom("from afar", std::move(value));
            } catch (...) {
                caught = std::current_exception();
                coro::yield();
            }
        });
        task.join();
        try {
            std::rethrow_exception(caught);
        } catch (const Custom& e) {
            coro::yield();
            CHECK(std::string(e.what()) == "from afar");
            CHECK(*e.value == 7);
        }
    });
    CHECK(inside.expired());
}

TEST_CASE("a destructor that would have to wait during unwinding is refused by name",
          "[F40][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    std::string refusal;
    struct Waits {
        std::string& refusal;
        ~Waits() {
            try {
                coro::sleep(1ms);
            } catch (const UsageError& e) {
                refusal = e.what();
            }
        }
    };
    struct Yields {
        std::string& refusal;
        ~Yields() {
            try {
                coro::yield();
            } catch (const UsageError& e) {
                refusal = e.what();
            }
        }
    };
    run_on(kernel_kind, [&] {
        auto task = coro::spawn(
            [&] {
                Waits waits{refusal};
                throw std::runtime_error("first");
            },
            {.name = "careless"});
        CHECK_THROWS_MATCHES(task.join(), std::runtime_error, Catch::Message("first"));
        CHECK(refusal.starts_with("the coroutine 'careless' (spawned at exceptions_test.cpp:"));
        CHECK(refusal.find("in a destructor that runs because of an exception") != refusal.npos);
        refusal.clear();
        auto yielding = coro::spawn([&] {
            Yields yields{refusal};
            throw std::runtime_error("second");
        });
        CHECK_THROWS_MATCHES(yielding.join(), std::runtime_error, Catch::Message("second"));
        CHECK(refusal.find("would have to yield in a destructor") != refusal.npos);
    });
}

TEST_CASE("operations that need not wait work in destructors that run because of an exception",
          "[F40][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto ready = coro::spawn([] { return 5; });
        ready.wait();
        int joined = 0;
        struct Joins {
            coro::Task<int>& task;
            int& joined;
            ~Joins() {
                // More of them than a coroutine may do before the others have their turn.
                for (int i = 0; i < 200; ++i)
                    joined = task.result();
            }
        };
        CHECK_THROWS_AS(([&] {
                            Joins joins{ready, joined};
                            throw std::runtime_error("on the way");
                        }()),
                        std::runtime_error);
        CHECK(joined == 5);
    });
}
