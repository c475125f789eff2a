#include <weft/reactor/timer_queue.hpp>

#include <catch2/catch.hpp>
#include <deque>
#include <map>
#include <random>

using weft::Duration;
using weft::TimePoint;
using weft::detail::ListNode;
using weft::detail::TimerNode;
using weft::detail::TimerQueue;

namespace {

struct Node final : TimerNode {
    int id = 0;
    void on_timer() override {}
};

TimePoint time_at(std::int64_t nanoseconds) {
    return TimePoint(Duration(nanoseconds));
}

std::vector<int> fired_at(TimerQueue& queue, TimePoint now) {
    ListNode due;
    queue.expire(now, due);
    std::vector<int> ids;
    while (due.linked()) {
        auto& node = static_cast<Node&>(*due.next);
        queue.fired(node);
        ids.push_back(node.id);
    }
    return ids;
}

std::deque<Node> nodes(int count) {
    std::deque<Node> all(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i)
        all[static_cast<std::size_t>(i)].id = i;
    return all;
}

} // namespace

TEST_CASE(
    "Due timers come in the order of their deadlines, equal ones in the order of adding [s3]") {
    TimerQueue queue;
    auto all = nodes(6);
    const std::int64_t deadlines[] = {30, -1, 10, -2, 10, 30};
    for (std::size_t i = 0; i < all.size(); ++i)
        queue.add(all[i], time_at(deadlines[i]));
    CHECK(queue.next_deadline() == time_at(-2));
    CHECK(fired_at(queue, time_at(9)) == std::vector{3, 1});
    CHECK(fired_at(queue, time_at(29)) == std::vector{2, 4});
    CHECK(fired_at(queue, time_at(30)) == std::vector{0, 5});
    CHECK(queue.empty());
    CHECK(queue.size() == 0);
    CHECK(queue.next_deadline() == TimePoint::max());
}

TEST_CASE(
    "Equal deadlines stay first in, first out when they were added at different times [s3] [F27]") {
    TimerQueue queue;
    auto all = nodes(5);
    queue.add(all[0], time_at(1000));
    CHECK(fired_at(queue, time_at(600)).empty());
    queue.add(all[1], time_at(1000));
    CHECK(fired_at(queue, time_at(990)).empty());
    queue.add(all[2], time_at(1000));
    queue.add(all[3], time_at(999));
    CHECK(fired_at(queue, time_at(998)).empty());
    queue.add(all[4], time_at(1000));
    CHECK(fired_at(queue, time_at(1000)) == std::vector{3, 0, 1, 2, 4});
}

TEST_CASE("A deadline at the end of time neither overflows nor fires [s4]") {
    TimerQueue queue;
    auto all = nodes(3);
    queue.add(all[0], TimePoint::max());
    queue.add(all[1], TimePoint::max() - Duration(1));
    queue.add(all[2], TimePoint::min());
    CHECK(queue.next_deadline() == TimePoint::min());
    CHECK(fired_at(queue, time_at(0)) == std::vector{2});
    CHECK(queue.next_deadline() == TimePoint::max() - Duration(1));
    CHECK(fired_at(queue, TimePoint::max() - Duration(1)) == std::vector{1});
    CHECK(fired_at(queue, TimePoint::max()) == std::vector{0});
}

TEST_CASE("A timer cancelled while it is due does not fire") {
    TimerQueue queue;
    auto all = nodes(3);
    for (auto& node : all)
        queue.add(node, time_at(5));
    ListNode due;
    queue.expire(time_at(5), due);
    CHECK(queue.size() == 3);
    queue.cancel(all[1]);
    queue.cancel(all[1]);
    CHECK(queue.size() == 2);
    queue.fired(all[0]);
    CHECK(due.next == &all[2]);
    queue.add(all[2], time_at(9)); // moved to later while it was due
    CHECK(!due.linked());
    CHECK(queue.size() == 1);
    CHECK(fired_at(queue, time_at(9)) == std::vector{2});
}

TEST_CASE("Ten thousand random operations agree with a sorted map [s3] [s4]") {
    const auto seed = GENERATE(1U, 2U, 3U, 4U);
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    TimerQueue queue;
    auto all = nodes(500);
    std::map<std::pair<std::int64_t, std::uint64_t>, int> model; // {deadline, order of adding}: id
    std::map<int, std::pair<std::int64_t, std::uint64_t>> armed;
    std::int64_t now = 1'000'000;
    std::uint64_t order = 0;
    (void)fired_at(queue, time_at(now));
    const auto forget = [&](int id) {
        if (const auto it = armed.find(id); it != armed.end()) {
            model.erase(it->second);
            armed.erase(it);
        }
    };
    for (int step = 0; step < 10'000; ++step) {
        const int id = static_cast<int>(random() % all.size());
        auto& node = all[static_cast<std::size_t>(id)];
        switch (random() % 4) {
        case 0:
        case 1: {
            // From the past to far away, and many of them equal.
            const std::int64_t deadline =
                now - 50 + static_cast<std::int64_t>(random() % (1ULL << (random() % 40)));
            forget(id);
            queue.add(node, time_at(deadline));
            armed[id] = {deadline, order++};
            model[armed[id]] = id;
            break;
        }
        case 2:
            forget(id);
            queue.cancel(node);
            break;
        default: {
            now += static_cast<std::int64_t>(random() % (1ULL << (random() % 30)));
            std::vector<int> expected;
            while (!model.empty() && model.begin()->first.first <= now) {
                expected.push_back(model.begin()->second);
                forget(expected.back());
            }
            REQUIRE(fired_at(queue, time_at(now)) == expected);
        }
        }
        REQUIRE(queue.size() == model.size());
        // Never later than the earliest one; with this many it may be a lower bound.
        const auto next = queue.next_deadline();
        if (model.empty()) {
            REQUIRE(next == TimePoint::max());
        } else {
            REQUIRE(next <= time_at(model.begin()->first.first));
            if (model.size() <= 128) REQUIRE(next == time_at(model.begin()->first.first));
        }
    }
    while (queue.pop_any() != nullptr) {
    }
    CHECK(queue.size() == 0);
}

TEST_CASE("A million equal deadlines fire in the order of adding [F27]") {
    constexpr int count = 1'000'000;
    TimerQueue queue;
    auto all = nodes(count);
    for (auto& node : all)
        queue.add(node, time_at(1'000'000'007));
    int wakes = 0;
    // a lower bound while they are many, but not for long
    while (queue.next_deadline() < time_at(1'000'000'007)) {
        REQUIRE(++wakes <= 64);
        CHECK(fired_at(queue, queue.next_deadline()).empty());
    }
    ListNode due;
    queue.expire(time_at(1'000'000'007), due);
    int expected = 0;
    bool in_order = true;
    while (due.linked()) {
        auto& node = static_cast<Node&>(*due.next);
        queue.fired(node);
        in_order = in_order && node.id == expected++;
    }
    CHECK(in_order);
    CHECK(expected == count);
}
