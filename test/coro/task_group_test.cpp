#include "coro_support.hpp"

#include <stdexcept>

using namespace weft;
using namespace weft::test;

namespace {

void fail(const char* text) {
    throw std::runtime_error(text);
}

/// The texts of the errors of the group that `body` throws, "" if it throws none.
template<class F>
std::string errors_of(F&& body) {
    try {
        coro::task_group(std::forward<F>(body));
    } catch (const coro::ExceptionGroup& group) {
        return group.what();
    }
    return "";
}

} // namespace

TEST_CASE("a group is left when all its tasks have ended, those of its tasks included",
          "[s49][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    int ended = 0;
    run_on(kernel_kind, [&] {
        const int value = coro::task_group([&](coro::TaskGroup& group) {
            (void)group.spawn([&] {
                coro::yield();
                (void)group.spawn([&] { // while the group waits
                    coro::sleep(1ms);
                    (void)group.spawn([&] { ++ended; });
                    ++ended;
                });
                ++ended;
            });
            return 4;
        });
        CHECK(value == 4);
        CHECK(ended == 3);
    });
}

TEST_CASE("a task of a group that is cancelled by itself disturbs nobody", "[s50][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        bool ran = false;
        coro::task_group([&](coro::TaskGroup& group) {
            auto one = group.spawn([] { coro::sleep_forever(); });
            (void)group.spawn([&] {
                coro::sleep(1ms);
                ran = true;
            });
            coro::wait_all_blocked();
            one.cancel();
        });
        CHECK(ran);
    });
}

TEST_CASE("an error cancels the others and the body, and all errors are thrown together",
          "[s51][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        Trace trace;
        const std::string text = errors_of([&](coro::TaskGroup& group) {
            (void)group.spawn([] { fail("first"); });
            (void)group.spawn([&] {
                try {
                    coro::sleep_forever();
                } catch (const Cancelled&) {
                    fail("second");
                }
            });
            (void)group.spawn([&] {
                try {
                    coro::sleep_forever();
                } catch (const Cancelled&) {
                    trace("cancelled");
                    throw;
                }
            });
            try {
                coro::sleep_forever();
            } catch (const Cancelled&) {
                fail("body");
            }
        });
        CHECK_THAT(text, Catch::Contains("3 errors") && Catch::Contains("first") &&
                             Catch::Contains("second") && Catch::Contains("body"));
        CHECK(trace.text == "cancelled");
        coro::yield(); // nothing of that leaks out
    });
}

TEST_CASE("a group in which the body failed or that is over takes no more tasks", "[s52][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        auto capture = std::make_shared<int>();
        bool ran = false;
        coro::TaskGroup* kept = nullptr;
        const std::string text = errors_of([&](coro::TaskGroup& group) {
            (void)group.spawn([&] {
                try {
                    coro::sleep_forever();
                } catch (const Cancelled&) {
                    CHECK_THROWS_AS(group.spawn([&ran, capture] { ran = true; }), UsageError);
                    CHECK(capture.use_count() == 1);
                    throw;
                }
            });
            coro::wait_all_blocked();
            kept = &group;
            fail("body");
        });
        CHECK_THAT(text, Catch::Contains("1 error") && Catch::Contains("body"));
        CHECK_FALSE(ran);
    });
}

TEST_CASE("cancelling the task that waits for a group cancels the group's, whose errors come first",
          "[s53][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        for (const bool throws : {false, true}) {
            auto parent = coro::spawn([&] {
                coro::task_group([&](coro::TaskGroup& group) {
                    (void)group.spawn([&] {
                        try {
                            coro::sleep_forever();
                        } catch (const Cancelled&) {
                            if (throws) fail("child");
                            throw;
                        }
                    });
                });
            });
            coro::wait_all_blocked();
            parent.cancel();
            parent.wait();
            CHECK(parent.cancelled() == !throws);
            if (throws) CHECK_THROWS_AS(parent.join(), coro::ExceptionGroup);
        }
    });
}

TEST_CASE("a cancellation that comes while a group aborts is not forgotten", "[s54][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        Trace trace;
        const auto aborts = [&](bool suspends) {
            return coro::spawn([&, suspends] {
                try {
                    coro::task_group([&](coro::TaskGroup& group) {
                        (void)group.spawn([] { fail("x"); });
                        (void)group.spawn([] {
                            try {
                                coro::sleep_forever();
                            } catch (const Cancelled&) {
                                coro::shield([] { coro::sleep(2ms); });
                                throw;
                            }
                        });
                    });
                } catch (const coro::ExceptionGroup&) {
                    trace("group");
                }
                if (suspends) coro::yield();
                return 1;
            });
        };
        auto goes_on = aborts(true), returns = aborts(false);
        coro::sleep(1ms);
        goes_on.cancel();
        returns.cancel();
        goes_on.wait();
        returns.wait();
        CHECK(goes_on.cancelled());
        CHECK(returns.cancelled());
        CHECK(trace.text == "group group");
    });
}

TEST_CASE("a group that fails inside a group is one of its errors", "[s55][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        try {
            coro::task_group([](coro::TaskGroup& outer) {
                (void)outer.spawn([] {
                    coro::task_group(
                        [](coro::TaskGroup& inner) { (void)inner.spawn([] { fail("deep"); }); });
                });
            });
            FAIL_CHECK("it must throw");
        } catch (const coro::ExceptionGroup& group) {
            REQUIRE(group.errors().size() == 1);
            CHECK_THROWS_AS(std::rethrow_exception(group.errors().front()), coro::ExceptionGroup);
        }
    });
}

TEST_CASE("an error in the outer group cancels the body of the inner one first", "[s55][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        Trace trace;
        const std::string text = errors_of([&](coro::TaskGroup& outer) {
            (void)outer.spawn([] { fail("x"); });
            try {
                coro::task_group([&](coro::TaskGroup&) {
                    try {
                        coro::sleep_forever();
                    } catch (const Cancelled&) {
                        trace("inner");
                        throw;
                    }
                });
            } catch (const Cancelled&) {
                trace("outer");
                throw;
            }
        });
        CHECK(trace.text == "inner outer");
        CHECK_THAT(text, Catch::Contains("1 error"));
    });
}

TEST_CASE("a fatal error passes a group as it is", "[s56][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        CHECK_THROWS_AS(coro::task_group([](coro::TaskGroup& group) {
                            (void)group.spawn([] { fail("plain"); });
                            (void)group.spawn([] { throw FatalError("fatal"); });
                        }),
                        FatalError);
    });
}

TEST_CASE("tasks of a group that have ended take no memory", "[s57][coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    constexpr int children = 10'000;
#else
    constexpr int children = 1'000'000;
#endif
    run_on(kernel_kind, [&] {
        coro::task_group([&](coro::TaskGroup& group) {
            std::size_t most = 0;
            long ended = 0;
            for (int i = 0; i < children; ++i) {
                (void)group.spawn([&ended] { ++ended; });
                if (i % 100 == 0) coro::yield();
                most = std::max(most, group.size());
            }
            while (group.size() != 0)
                coro::yield();
            CHECK(ended == children);
            CHECK(most < 1000); // what has ended is gone
            CHECK(coro::all_tasks().size() == 1);
        });
    });
}

TEST_CASE("tasks that spawn others while they are cancelled end all the same", "[s57][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        int begun = 0;
        coro::task_group([&](coro::TaskGroup& group) {
            Function<void()>* hydra = nullptr;
            Function<void()> head = [&] {
                ++begun;
                try {
                    coro::sleep_forever();
                } catch (const Cancelled&) {
                    if (begun < 200)
                        for (int i = 0; i < 2; ++i)
                            (void)group.spawn([&] { (*hydra)(); });
                    throw;
                }
            };
            hydra = &head;
            (void)group.spawn([&] { head(); });
            coro::wait_all_blocked();
            group.cancel();
            while (group.size() != 0)
                coro::shield([] { coro::yield(); });
        });
        CHECK(begun >= 200);
        CHECK(coro::all_tasks().size() == 1);
    });
}

TEST_CASE("starting a task waits until it tells that it has started", "[s58][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        Trace trace;
        coro::task_group([&](coro::TaskGroup& group) {
            const int port = group.start<int>([&](coro::Started<int>& started) {
                coro::sleep(1ms);
                started(4711);
                CHECK_THROWS_AS(started(1), UsageError);
                trace("serving");
                coro::sleep(1ms);
                trace("ended");
            });
            CHECK(port == 4711);
            trace("started");
        });
        CHECK(trace.text == "serving started ended");
    });
}

TEST_CASE("what goes wrong before a task has started is the starter's, and the group goes on",
          "[s58][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        const std::string text = errors_of([&](coro::TaskGroup& group) {
            CHECK_THROWS_AS(group.start([](coro::Started<void>&) { fail("early"); }),
                            std::runtime_error);
            CHECK_THROWS_WITH(group.start([](coro::Started<void>&) {}),
                              Catch::Contains("without having started"));
            group.start([](coro::Started<void>& started) {
                started();
                coro::yield();
                fail("late");
            });
        });
        CHECK_THAT(text, Catch::Contains("1 error") && Catch::Contains("late"));
        coro::task_group([](coro::TaskGroup& group) {
            group.cancel();
            CHECK_THROWS_AS(group.start([](coro::Started<void>& s) { s(); }), UsageError);
        });
    });
}

TEST_CASE("cancelling the starter cancels the task that has not started", "[s58][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        bool cancelled = false;
        coro::task_group([&](coro::TaskGroup& group) {
            CHECK_FALSE(coro::move_on_after(1ms, [&] {
                group.start([&](coro::Started<void>&) {
                    try {
                        coro::sleep_forever();
                    } catch (const Cancelled&) {
                        cancelled = true;
                        throw;
                    }
                });
            }));
            coro::wait_all_blocked();
            CHECK(cancelled);
        });
    });
}

TEST_CASE("cancelling a group ends it without an error", "[s50][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [&] {
        coro::task_group([](coro::TaskGroup& group) {
            (void)group.spawn([] { coro::sleep_forever(); });
            coro::wait_all_blocked();
            group.cancel();
        });
        coro::yield();
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
