#include "stream_support.hpp"

using namespace weft;
using namespace weft::test;

// Whatever a callback does, every connection that was made is lost once, in order, nothing comes
// afterwards, nothing leaks (the sanitizer and `HostLoop` see to that), and the others go on.

namespace {

const std::vector<std::string> callbacks{
    "connection_made", "data_received", "get_buffer",     "buffer_updated", "read_ready",
    "eof_received",    "pause_writing", "resume_writing", "idle_timeout",   "draining",
    "connection_lost", "factory",       "admit"};

const std::vector<std::string> actions{"nothing", "close", "abort", "destroy", "throw"};

/// One connection that misbehaves and one that does not.
struct Scene {
    explicit Scene(const KernelKind& kind, std::string c, std::string a)
        : world(kind), callback(std::move(c)), action(std::move(a)) {}

    /// What the callback under test does. `t` is null in the factory and in `admit`.
    void act(Transport* t) {
        ++acted;
        if (callback == "idle_timeout") t->set_idle_timeout(0s);
        if (action == "close") t ? t->close() : world.server.close();
        if (action == "abort") t ? t->abort(Errc::aborted) : world.server.pause_accepting();
        if (action == "destroy") {
            world.server = Server();
            handles.clear();
            waiting.clear();
        }
        if (action == "throw") throw std::runtime_error("thrown by " + callback);
    }

    void prepare(Journal& made) {
        const std::map<std::string, std::string> names{{"connection_made", "made"},
                                                       {"connection_lost", "lost"}};
        const auto named = names.find(callback);
        made.hooks[named == names.end() ? callback : named->second] = [this](Transport& t) {
            act(&t);
        };
        if (callback == "get_buffer" || callback == "buffer_updated")
            made.reading = Reading::buffered;
        if (callback == "read_ready") made.reading = Reading::pull;
    }

    /// Makes the callback under test happen.
    void provoke(RawPeer& peer) {
        Transport* t = journal->transport;
        if (callback == "data_received" || callback == "get_buffer" ||
            callback == "buffer_updated" || callback == "read_ready")
            peer.send("x");
        if (callback == "eof_received") peer.finish_sending();
        if (callback == "pause_writing" || callback == "resume_writing") {
            t->write(pattern(8 << 20));
            world.until([&] {
                if (callback == "resume_writing") peer.receive(65'536);
                return acted != 0;
            });
        }
        if (callback == "idle_timeout") t->set_idle_timeout(1ns);
        if (callback == "draining") drained = world.server.drain(1h);
        if (callback == "connection_lost") t->close();
        while (callback == "idle_timeout" && acted == 0)
            world.loop->run_once(true);
        world.until([&] { return acted != 0; });
    }

    World world;
    std::string callback;
    std::string action;
    int acted = 0;
    std::shared_ptr<Journal> journal; ///< of the one that misbehaves, null if it was refused
    std::vector<Timer> handles;
    std::vector<Future<void>> waiting;
    Future<std::size_t> drained;
};

void play(Scene& scene) {
    World& world = scene.world;
    bool armed = false;
    ListenOptions options;
    options.admit = [&](const Address&) {
        if (armed && scene.callback == "admit") scene.act(nullptr);
        return true;
    };
    auto make = world.factory();
    auto listening = tcp::listen(
        world.loop, "127.0.0.1:0",
        [&]() -> std::unique_ptr<Protocol> {
            if (armed && scene.callback == "factory") scene.act(nullptr);
            return make();
        },
        std::move(options));
    REQUIRE(listening.ok());
    world.server = std::move(*listening);
    const Address address = world.server.addresses()[0];

    RawPeer bystander_peer = world.connect();
    const auto bystander = world.journals[0];
    scene.handles.push_back(world.loop->call_later(1h, [] {}));
    scene.waiting.push_back(world.server.wait_closed());

    armed = true;
    world.prepare = [&](Journal& journal) { scene.prepare(journal); };
    RawPeer peer = RawPeer::connect(world.loop.kernel, address);
    const bool at_once = scene.callback == "connection_made" || scene.callback == "factory" ||
                         scene.callback == "admit";
    world.until([&] { return scene.acted != 0 || world.journals.size() == 2; });
    const bool refused =
        scene.action == "throw" && (scene.callback == "factory" || scene.callback == "admit");
    if (!refused) {
        world.until([&] { return world.journals.size() == 2 && world.journals[1]->made; });
        scene.journal = world.journals[1];
    }
    if (!at_once) scene.provoke(peer);
    world.settle();

    // The one that did nothing goes on, unless the whole server was told to end.
    if (scene.callback != "draining") {
        bystander_peer.send("still here");
        world.until([&] { return bystander->received == "still here"; });
    }
    peer.close();
    bystander_peer.close();
    if (scene.journal && !scene.journal->lost && scene.journal->reading == Reading::pull)
        scene.journal->transport->close(); // it finds the end only where it reads
    world.until([&] { return bystander->lost && (!scene.journal || scene.journal->lost); });
    world.settle();

    for (const auto& journal : world.journals) {
        CHECK(journal->made);
        CHECK(journal->count("lost") == 1);
        CHECK(journal->events.ends_with("lost"));
        CHECK(journal->destroyed);
    }
    CHECK(world.server.connections() == 0);
    const bool told = scene.action == "throw";
    CHECK((world.loop.unhandled.empty() != told));
    for (const std::string& text : world.loop.unhandled)
        CHECK(text.ends_with("thrown by " + scene.callback));
    world.server.close();
    world.settle();
    if (scene.callback == "draining") CHECK(scene.drained.done());
    if (!scene.waiting.empty()) CHECK(scene.waiting[0].done());
}

} // namespace

TEST_CASE(
    "Every action in every callback leaves each connection made once and lost once [s82] [F7] "
    "[F20] [F21] [F28]") {
    WEFT_TEST_KERNEL(all_kernels);
    for (const std::string& callback : callbacks) {
        for (const std::string& action : actions) {
            INFO(action << " in " << callback);
            Scene scene(kernel_kind, callback, action);
            play(scene);
            CHECK(scene.acted > 0);
        }
    }
}

TEST_CASE("A chain of a million completions within callbacks does not deepen the stack [F21]") {
    // Two in memory write back and forth; were delivery nested, the stack would end.
    struct Bouncer final : Protocol {
        explicit Bouncer(std::size_t& l) : left(l) {}
        void connection_made(Transport& made) override { transport = &made; }
        void data_received(Bytes data) override {
            if (left == 0) return transport->abort({});
            --left;
            transport->write(data);
        }
        std::size_t& left;
        Transport* transport = nullptr;
    };
    HostLoop loop([] { return std::make_unique<sim::SimKernel>(); });
    std::size_t left = 1'000'000;
    const auto pair =
        connected_pair(loop, std::make_unique<Bouncer>(left), std::make_unique<Bouncer>(left));
    pair.first->write("x");
    loop->run_until_idle();
    CHECK(left == 0);
    CHECK(!pair.first);
    CHECK(!pair.second);
}

TEST_CASE("A callback that throws while its writes are gathered sends none of them [F28]") {
    WEFT_TEST_KERNEL(all_kernels);
    World world(kernel_kind);
    world.listen();
    RawPeer first = world.connect();
    RawPeer second = world.connect();
    world.journals[0]->hooks["data_received"] = [](Transport& t) {
        t.write("half a message");
        throw std::runtime_error("no");
    };
    world.journals[1]->hooks["data_received"] = [](Transport& t) { t.write("whole"); };
    first.send("x");
    second.send("x");
    first.receive_all(world.loop);
    CHECK(first.received.empty());
    world.until([&] {
        second.receive();
        return !second.received.empty();
    });
    CHECK(second.received == "whole");
}
