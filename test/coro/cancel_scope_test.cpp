#include "coro_support.hpp"

#include <weft/reactor/loop_core.hpp>

#include <stdexcept>

using namespace weft;
using namespace weft::test;

namespace {

/// Runs on the simulated kernel, whose clock moves only when all wait.
template<class F>
void in_virtual_time(F&& body) {
    run_on(simulated_kernels().front(), std::forward<F>(body));
}

TimePoint now() {
    return coro::this_loop().now();
}

} // namespace

TEST_CASE("an expired scope throws out of itself alone", "[s41][coro]") {
    in_virtual_time([] {
        const TimePoint start = now();
        coro::CancelScope scope(1s);
        CHECK_FALSE(scope.run([] { coro::sleep(1h); }));
        CHECK(scope.expired());
        CHECK(scope.cancelled_caught());
        CHECK(since(start) == "1.000000 s");
        coro::sleep(1s); // what follows is not cancelled
        CHECK(since(start) == "2.000000 s");
        CHECK_THROWS_AS(coro::with_timeout(1s, [] { coro::sleep(1h); }), coro::TimeoutError);
        coro::yield();
    });
}

TEST_CASE("a timeout that is not needed returns the function's value", "[s41][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        CHECK(coro::with_timeout(1h, [] { return 3; }) == 3);
        CHECK(coro::move_on_after(1h, [] { return 4; }) == 4);
        CHECK(coro::move_on_after(1h, [] { coro::yield(); }));
        CHECK(coro::this_loop().stats().timers == 0);
    });
}

TEST_CASE("of two scopes with one deadline the outer one catches, and both have expired",
          "[s42][s62][coro]") {
    in_virtual_time([] {
        const TimePoint at = now() + 1s;
        coro::CancelScope outer(at), inner(at);
        CHECK_FALSE(outer.run([&] {
            (void)inner.run([] { coro::sleep(1h); });
            FAIL_CHECK("the inner scope must not stop it");
        }));
        CHECK(outer.expired());
        CHECK(inner.expired());
        CHECK(outer.cancelled_caught());
        CHECK_FALSE(inner.cancelled_caught());
    });
}

TEST_CASE("a deadline of 0 or in the past ends the first suspension, none never", "[s43][coro]") {
    in_virtual_time([] {
        for (const auto limit : {0s, -5s}) {
            Trace trace;
            CHECK_THROWS_AS(coro::with_timeout(limit,
                                               [&] {
                                                   trace("begun");
                                                   coro::sleep(0s);
                                                   trace("never");
                                               }),
                            coro::TimeoutError);
            CHECK(trace.text == "begun");
        }
        coro::CancelScope none;
        CHECK(none.deadline() == TimePoint::max());
        CHECK(none.run([] { coro::sleep(100h); }));
        CHECK(coro::with_timeout(coro::Deadline(), [] { return 1; }) == 1);
    });
}

TEST_CASE("what is thrown inside a timeout passes, also while it unwinds", "[s44][coro]") {
    in_virtual_time([] {
        CHECK_THROWS_AS(coro::with_timeout(1s, [] { throw std::out_of_range("x"); }),
                        std::out_of_range);
        CHECK_THROWS_AS(coro::with_timeout(1s,
                                           [] {
                                               try {
                                                   coro::sleep(1h);
                                               } catch (const Cancelled&) {
                                                   throw std::out_of_range("cleaning");
                                               }
                                           }),
                        std::out_of_range);
        auto task = coro::spawn([] { coro::with_timeout(1s, [] { coro::sleep(1h); }); });
        coro::yield();
        task.cancel(); // before it expires: that stays a cancellation
        task.wait();
        CHECK(task.cancelled());
        // One that comes to its end all the same has a result.
        CHECK(coro::with_timeout(1s, [] {
                  coro::shield([] { coro::sleep(2s); });
                  return 5;
              }) == 5);
    });
}

TEST_CASE("a deadline can be moved while it runs, and not after", "[s45][s63][coro]") {
    in_virtual_time([] {
        const TimePoint start = now();
        coro::CancelScope scope(10s);
        CHECK_FALSE(scope.run([&] {
            scope.set_deadline(20s);
            coro::sleep(11s);
            scope.set_deadline(coro::Deadline());
            coro::sleep(100s);
            scope.set_deadline(1s);
            coro::sleep(2s);
        }));
        CHECK(since(start) == "112.000000 s");
        CHECK_THROWS_AS(scope.set_deadline(1s), UsageError);
        coro::CancelScope past(10s);
        CHECK_FALSE(past.run([&] {
            past.set_deadline(start); // cancels at once
            CHECK(past.expired());
            CHECK_THROWS_AS(past.set_deadline(10s), UsageError);
            coro::yield();
        }));
    });
}

TEST_CASE("an outer deadline holds although an inner one was handled late", "[s46][coro]") {
    in_virtual_time([] {
        auto& kernel =
            dynamic_cast<sim::SimKernel&>(weft::detail::core_of(coro::this_loop()).kernel());
        const TimePoint start = now();
        coro::CancelScope outer(5s);
        CHECK_FALSE(outer.run([&] {
            CHECK_FALSE(coro::move_on_after(1s, [&] {
                kernel.advance(3s); // a computation
                coro::yield();
                coro::sleep(1h);
            }));
            coro::sleep(1h);
        }));
        CHECK(since(start) == "5.000000 s");
        // Cleaning up after an expiry may have a limit of its own.
        coro::CancelScope expired(1s);
        (void)expired.run([&] {
            try {
                coro::sleep(1h);
            } catch (const Cancelled&) {
                coro::CancelScope cleaning(2s, true);
                CHECK_FALSE(cleaning.run([] { coro::sleep(1h); }));
                throw;
            }
        });
        CHECK(since(start) == "8.000000 s");
    });
}

TEST_CASE("a cancelled scope throws at every suspension until it is left", "[s59][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::CancelScope scope;
        auto ready = make_ready_future(coro::this_loop(), 1);
        CHECK_FALSE(scope.run([&] {
            scope.cancel();
            try {
                coro::yield();
            } catch (const Cancelled&) {
                CHECK_THROWS_AS(coro::yield(), Cancelled);
                CHECK_THROWS_AS(coro::sleep(1s), Cancelled);
                CHECK_THROWS_AS(coro::await(ready), Cancelled);
                CHECK_THROWS_AS(coro::check_cancelled(), Cancelled);
                throw;
            }
        }));
        coro::yield();
    });
}

TEST_CASE("cancelling twice is cancelling once, and moving the deadline does not undo it",
          "[s60][coro]") {
    in_virtual_time([] {
        coro::CancelScope scope;
        CHECK_FALSE(scope.run([&] {
            scope.cancel();
            scope.cancel();
            scope.set_deadline(1h);
            CHECK(scope.cancel_called());
            coro::yield();
        }));
        CHECK_FALSE(scope.expired());
    });
}

TEST_CASE("a scope left without a suspension has caught nothing and leaks nothing", "[s60][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::CancelScope scope;
        CHECK(scope.run([&] { scope.cancel(); }));
        CHECK(scope.cancel_called());
        CHECK_FALSE(scope.cancelled_caught());
        coro::yield();
    });
}

TEST_CASE("a shield keeps cancellations from outside off, but not its own or those inside",
          "[s61][coro]") {
    in_virtual_time([] {
        coro::CancelScope outer;
        Trace trace;
        CHECK_FALSE(outer.run([&] {
            outer.cancel();
            coro::CancelScope shielded(coro::Deadline(), true);
            CHECK(shielded.run([&] {
                coro::sleep(1s);
                trace("shielded");
                CHECK_FALSE(coro::move_on_after(1s, [] { coro::sleep(1h); }));
                trace("inner");
            }));
            coro::CancelScope own(1s, true);
            CHECK_FALSE(own.run([] { coro::sleep(1h); }));
            trace("own");
            coro::yield();
            trace("never");
        }));
        CHECK(trace.text == "shielded inner own");
    });
}

TEST_CASE("a shield that is switched off lets the cancellation in, and on again keeps it off",
          "[s61][coro]") {
    in_virtual_time([] {
        coro::CancelScope outer;
        Trace trace;
        CHECK_FALSE(outer.run([&] {
            coro::CancelScope shielded(coro::Deadline(), true);
            auto helper = coro::spawn(coro::this_loop(), [&] {
                outer.cancel();
                coro::sleep(1s);
                trace("off");
                shielded.set_shield(false);
            });
            try {
                (void)shielded.run([&] {
                    try {
                        coro::sleep(1h);
                    } catch (const Cancelled&) {
                        trace("delivered");
                        shielded.set_shield(true);
                        coro::sleep(1s);
                        trace("kept off");
                        throw;
                    }
                });
            } catch (const Cancelled&) {
                trace("passed");
                throw;
            }
        }));
        CHECK(trace.text == "off delivered kept off passed");
    });
}

TEST_CASE("the effective deadline is the earliest that no shield keeps off", "[s63][coro]") {
    in_virtual_time([] {
        const TimePoint start = now();
        CHECK(coro::current_effective_deadline() == TimePoint::max());
        coro::CancelScope outer(5s), middle(10s), shielded(20s, true);
        CHECK(outer.run([&] {
            CHECK(coro::current_effective_deadline() == start + 5s);
            (void)middle.run([&] {
                CHECK(coro::current_effective_deadline() == start + 5s);
                (void)shielded.run([&] {
                    CHECK(coro::current_effective_deadline() == start + 20s);
                    shielded.set_shield(false);
                    CHECK(coro::current_effective_deadline() == start + 5s);
                });
            });
            outer.set_deadline(coro::Deadline());
            CHECK(coro::current_effective_deadline() == TimePoint::max());
        }));
        coro::CancelScope cancelled;
        (void)cancelled.run([&] {
            cancelled.cancel();
            CHECK(coro::current_effective_deadline() == TimePoint::min());
        });
    });
}

TEST_CASE("a task that is spawned in a cancelled scope runs to its first suspension",
          "[s64][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    Trace trace;
    run_on(kernel_kind, [&] {
        coro::CancelScope scope;
        coro::Task<void> task;
        CHECK(scope.run([&] {
            scope.cancel();
            task = coro::spawn([&] {
                trace("begun");
                coro::yield();
                trace("never");
            });
        }));
        task.wait();
        CHECK(task.cancelled());
    });
    CHECK(trace.text == "begun");
}

TEST_CASE("tasks belong to the scope that they were spawned in, as long as it lasts",
          "[s64][coro]") {
    in_virtual_time([] {
        coro::Task<int> survivor;
        (void)coro::move_on_after(1s, [&] {
            survivor = coro::spawn([] {
                coro::sleep(5s);
                return 1;
            });
        });
        CHECK(survivor.join() == 1); // it was left before its deadline
        coro::Task<void> cut;
        const TimePoint start = now();
        (void)coro::move_on_after(1s, [&] {
            cut = coro::spawn([] { coro::sleep(5s); });
            coro::sleep(2s);
        });
        cut.wait();
        CHECK(cut.cancelled());
        CHECK(since(start) == "1.000000 s");
        // A shield covers what is spawned inside.
        coro::CancelScope outer;
        CHECK(outer.run([&] {
            outer.cancel();
            coro::shield([&] {
                auto child = coro::spawn([] {
                    coro::sleep(1s);
                    return 2;
                });
                CHECK(child.join() == 2);
            });
        }));
    });
}

TEST_CASE("cancelling a task reaches all tasks below it at once", "[s65][coro]") {
    in_virtual_time([] {
        int cancelled = 0;
        const auto sleeper = [&] {
            try {
                coro::sleep_forever();
            } catch (const Cancelled&) {
                ++cancelled;
                throw;
            }
        };
        auto top = coro::spawn([&] {
            auto left = coro::spawn(sleeper);
            auto right = coro::spawn([&] {
                coro::task_group([&](coro::TaskGroup& group) {
                    (void)group.spawn(sleeper);
                    (void)group.spawn(sleeper);
                    (void)coro::move_on_after(1h, sleeper);
                });
            });
            sleeper();
        });
        coro::sleep(1s);
        const TimePoint start = now();
        top.cancel();
        coro::wait_all_blocked();
        CHECK(cancelled == 5);
        CHECK(top.done());
        CHECK(since(start) == "0.000000 s");
    });
}

TEST_CASE("a scope is entered once and by one", "[s66][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    coro::CancelScope outside;
    CHECK_THROWS_AS(outside.run([] {}), UsageError);
    run_on(kernel_kind, [] {
        coro::CancelScope scope;
        (void)scope.run([&] {
            CHECK_THROWS_AS(scope.run([] {}), UsageError);
            auto other = coro::spawn([&] { (void)scope.run([] {}); });
            CHECK_THROWS_AS(other.join(), UsageError);
            coro::yield();
        });
        CHECK_THROWS_WITH(scope.run([] {}), Catch::Contains("entered before"));
        coro::yield();
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
