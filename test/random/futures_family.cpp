#include "family.hpp"

#include <weft/reactor/loop.hpp>

#include <optional>
#include <string>
#include <thread>
#include <vector>

using namespace weft;
using namespace weft::test;

namespace {

/// An outcome: of the model, and as a future shows it. Errors are numbers; those of the library are
/// negative.
struct Outcome {
    enum class Kind : std::uint8_t { pending, value, error, cancelled };
    Kind kind = Kind::pending;
    long number = 0;
    friend bool operator==(const Outcome&, const Outcome&) = default;
    friend std::ostream& operator<<(std::ostream& out, const Outcome& o) {
        static constexpr const char* names[] = {"pending", "value ", "error ", "cancelled"};
        return out << names[static_cast<int>(o.kind)] << o.number;
    }
};
using Kind = Outcome::Kind;
constexpr long broken = -1, aborted = -2;

Outcome shown(Future<long>& future) {
    if (!future.done()) return {};
    if (future.cancelled()) return {Kind::cancelled, 0};
    if (!future.exception()) return {Kind::value, future.result()};
    const auto code = future.error_code();
    if (code == Errc::broken_promise) return {Kind::error, broken};
    if (code == Errc::aborted) return {Kind::error, aborted};
    return {Kind::error, code.value()};
}

struct Node {
    enum class Does : std::uint8_t { root, add, fail, cancel, inner };
    std::optional<Promise<long>> promise; // of a root
    Future<long> future;                  // empty: dropped
    Outcome outcome;
    Does does = Does::root;
    bool on_error = false; // or_else in place of then
    bool called = false;   // its function; an `inner` waits for that since
    int source = -1;
    int inner = -1;
    long number = 0;
};

struct World {
    explicit World(Round& r) : round(r) {
        LoopOptions options;
        options.kernel = r.make_kernel();
        loop.emplace(std::move(options));
        loop->on_unhandled([](const Unhandled&) {}); // errors of futures that were dropped
    }

    int root() {
        Node& node = nodes.emplace_back();
        node.promise.emplace(*loop);
        node.future = node.promise->future();
        return static_cast<int>(nodes.size()) - 1;
    }

    void derive(int from) {
        const bool on_error = round.random.one_in(3);
        const auto does = static_cast<Node::Does>(1 + round.random.below(4));
        const long number = 1 + static_cast<long>(round.random.below(100));
        const int inner =
            does == Node::Does::inner ? static_cast<int>(round.random.below(nodes.size())) : -1;
        Future<long> waited =
            inner >= 0 ? nodes[static_cast<std::size_t>(inner)].future : Future<long>();
        if (inner >= 0 && !waited.valid()) return;
        round.operation("derive from %, kind %, number %", from,
                        static_cast<int>(does) + 10 * on_error, number);
        const auto act = [does, number, waited, this](long value) -> Future<long> {
            switch (does) {
            case Node::Does::fail:
                throw std::system_error(errno_code(static_cast<int>(number)), "made");
            case Node::Does::cancel:
                throw Cancelled();
            case Node::Does::inner:
                return waited;
            default:
                return make_ready_future(*loop, value + number);
            }
        };
        Future<long>& source = nodes[static_cast<std::size_t>(from)].future;
        Future<long> made;
        if (on_error) {
            made = source.or_else([act](const std::exception_ptr&) { return act(0); });
        } else {
            made = source.then([act](long value) { return act(value); });
        }
        Node& node = nodes.emplace_back();
        node.future = std::move(made);
        node.does = does;
        node.on_error = on_error;
        node.source = from;
        node.inner = inner;
        node.number = number;
    }

    // The model.
    void cancel(int index) {
        while (index >= 0) {
            Node& node = nodes[static_cast<std::size_t>(index)];
            if (node.outcome.kind != Kind::pending) return;
            node.outcome = {Kind::cancelled, 0};
            index = node.called ? node.inner : node.source;
        }
    }
    void settle() {
        for (bool changed = true; changed;) {
            changed = false;
            for (Node& node : nodes) {
                if (node.outcome.kind != Kind::pending || node.does == Node::Does::root) continue;
                const Node& waited =
                    nodes[static_cast<std::size_t>(node.called ? node.inner : node.source)];
                if (waited.outcome.kind == Kind::pending) continue;
                changed = true;
                const bool calls =
                    waited.outcome.kind == (node.on_error ? Kind::error : Kind::value);
                if (node.called || !calls) {
                    node.outcome = waited.outcome;
                } else if (node.does == Node::Does::inner) {
                    node.called = true;
                } else if (node.does == Node::Does::add) {
                    node.outcome = {Kind::value,
                                    (node.on_error ? 0 : waited.outcome.number) + node.number};
                } else if (node.does == Node::Does::fail) {
                    node.outcome = {Kind::error, node.number};
                } else {
                    node.outcome = {Kind::cancelled, 0};
                }
            }
        }
    }
    void compare() {
        for (std::size_t i = 0; i < nodes.size(); ++i)
            if (nodes[i].future.valid()) {
                round.note("future %", static_cast<std::int64_t>(i));
                RANDOM_EQUAL(shown(nodes[i].future), nodes[i].outcome);
            }
    }
    void become_idle() {
        loop->run_until_idle();
        settle();
        compare();
    }

    void step() {
        const auto index = static_cast<int>(round.random.below(nodes.size()));
        Node& node = nodes[static_cast<std::size_t>(index)];
        switch (round.random.below(10)) {
        case 0:
            root();
            break;
        case 1:
        case 2:
        case 3:
            if (node.future.valid()) derive(index);
            break;
        case 4:
        case 5:
            if (!node.promise || !node.promise->pending()) break;
            if (round.random.one_in(3)) {
                round.operation("error of %", index);
                node.promise->set_error({errno_code(5), "made"});
                node.outcome = {Kind::error, 5};
            } else {
                round.operation("value of %", index);
                node.promise->set_value(index);
                node.outcome = {Kind::value, index};
            }
            break;
        case 6:
            if (!node.promise) break;
            round.operation("promise % is destroyed", index);
            if (node.outcome.kind == Kind::pending) node.outcome = {Kind::error, broken};
            node.promise.reset();
            break;
        case 7:
            if (!node.future.valid()) break;
            round.operation("cancel %", index);
            RANDOM_EQUAL(node.future.cancel(), node.outcome.kind == Kind::pending);
            cancel(index);
            break;
        case 8:
            round.operation("drop %", index);
            if (round.random.one_in(4)) {
                std::thread([future = std::move(node.future)]() mutable { future = {}; }).join();
            } else {
                node.future = {};
            }
            break;
        default:
            become_idle();
            if (!node.future.valid()) break;
            round.operation("cancel % from another thread", index);
            std::thread([future = node.future] { (void)future.cancel_from_any_thread(); }).join();
            cancel(index);
            become_idle();
        }
    }

    Round& round;
    std::optional<Loop> loop;
    std::vector<Node> nodes;
};

void play(Round& round) {
    World world(round);
    world.nodes.reserve(4096);
    world.root();
    const std::size_t count = 20 + round.random.size(1000);
    for (std::size_t i = 0; i < count; ++i)
        world.step();
    if (round.random.one_in(2)) world.become_idle();
    round.operation("close");
    const bool settled = round.random.one_in(2);
    if (settled) world.become_idle();
    world.loop->close();
    for (Node& node : world.nodes) {
        // what was on its way may have been or not
        if (!settled && node.does != Node::Does::root) node.future = {};
        if (node.outcome.kind == Kind::pending) node.outcome = {Kind::error, aborted};
    }
    world.compare();
}

const RegisterFamily family({"futures", "futures, then and or_else against a model", &play});

} // namespace
