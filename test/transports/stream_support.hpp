#pragma once

#include "memory_peer.hpp"
#include "stream_kinds.hpp"
#include "support/buffers.hpp"

#include <weft/reactor/loop_core.hpp>
#include <weft/reactor/sim/faulty_kernel.hpp>
#include <weft/transports/connect/connect.hpp>
#include <weft/transports/server/server.hpp>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <functional>
#include <map>
#include <memory>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

/// What the tests of streams and servers share.
namespace weft::test {

using namespace std::chrono_literals;

/// What a protocol saw, and what it is to do when it sees it. Outlives the protocol.
struct Journal {
    std::string events;              ///< "made data eof lost"; data callbacks in a row count as one
    std::string received;            ///< all bytes, in order
    std::vector<std::size_t> chunks; ///< the size of each delivery
    Transport* transport = nullptr;  ///< null before `connection_made` and after `connection_lost`
    TransportRef ref;
    bool made = false, lost = false, destroyed = false;
    bool keep_open = false; ///< what `eof_received` returns
    std::error_code reason; ///< of the loss
    Reading reading = Reading::push;
    std::array<std::byte, 4096> buffer{}; ///< for `Reading::buffered`
    /// Called by the callback of this name, after it has been noted.
    std::map<std::string, std::function<void(Transport&)>> hooks;

    void note(const char* event) {
        const std::string_view name(event);
        if (name == "data" && events.ends_with("data")) return;
        if (!events.empty()) events += ' ';
        events += name;
    }
    std::size_t count(std::string_view event) const {
        std::size_t found = 0;
        for (auto at = events.find(event); at != events.npos; at = events.find(event, at + 1))
            ++found;
        return found;
    }
};

/// Notes what happens to it in a journal, and that it happens in the order that was promised.
class Recorder final : public Protocol {
public:
    explicit Recorder(std::shared_ptr<Journal> journal)
        : journal_(std::move(journal)), reading_(journal_->reading) {}
    ~Recorder() override { journal_->destroyed = true; }

    void connection_made(Transport& transport) override {
        CHECK(!journal_->made);
        journal_->made = true;
        journal_->transport = &transport;
        journal_->ref = transport.ref();
        fix_buffers(weft::detail::core_of(transport.loop()).kernel(), transport.fd());
        step("made");
    }
    void data_received(Bytes data) override {
        CHECK(!data.empty());
        take(data);
        step("data", "data_received");
    }
    MutableBytes get_buffer(std::size_t hint) override {
        CHECK(hint > 0);
        room_ = journal_->buffer;
        call("get_buffer");
        return room_;
    }
    void buffer_updated(std::size_t size) override {
        take(Bytes(journal_->buffer).first(size));
        step("data", "buffer_updated");
    }
    void read_ready() override { step("ready", "read_ready"); }
    bool eof_received() override {
        CHECK(journal_->count("eof") == 0);
        step("eof", "eof_received");
        return journal_->keep_open;
    }
    void pause_writing() override { step("pause", "pause_writing"); }
    void resume_writing() override { step("resume", "resume_writing"); }
    void idle_timeout(Transport& transport) override {
        step("idle", "idle_timeout");
        if (!journal_->hooks.contains("idle_timeout")) Protocol::idle_timeout(transport);
    }
    void draining(Transport& transport) override {
        step("draining");
        if (!journal_->hooks.contains("draining")) Protocol::draining(transport);
    }
    void connection_lost(std::error_code reason) override {
        CHECK(journal_->made);
        CHECK(!journal_->lost);
        CHECK(journal_->transport->is_closing());
        journal_->reason = reason;
        journal_->note("lost");
        Transport* transport = journal_->transport;
        // Noted first: nothing may come afterwards, also if the hook throws.
        journal_->lost = true;
        struct Gone {
            Journal& journal;
            ~Gone() { journal.transport = nullptr; }
        } gone{*journal_};
        if (const auto hook = journal_->hooks.find("lost"); hook != journal_->hooks.end())
            hook->second(*transport);
    }
    Reading reading() const noexcept override { return reading_; }

private:
    void take(Bytes data) {
        journal_->received += text_of(data);
        journal_->chunks.push_back(data.size());
    }
    void step(const char* event, const char* hook = nullptr) {
        CHECK(journal_->made);
        CHECK(!journal_->lost);
        journal_->note(event);
        call(hook ? hook : event);
    }
    void call(const char* name) {
        const auto keep = journal_;
        if (const auto hook = keep->hooks.find(name); hook != keep->hooks.end()) {
            const auto function = hook->second; // it may exchange itself
            function(*keep->transport);
        }
    }

    std::shared_ptr<Journal> journal_;
    Reading reading_;
    MutableBytes room_;
};

/// Runs turns without waiting until nothing happens any more.
inline void settle(Loop& loop) {
    int quiet = 0;
    for (int turn = 0; turn < 10'000 && quiet < 3; ++turn)
        quiet = loop.run_once() == 0 ? quiet + 1 : 0;
    CHECK(quiet == 3);
}

/// Runs turns until `done()`. Never waits, since what it waits for may happen outside of the loop;
/// the loopback of a busy system may take any time: the case's deadline is the only one.
template<class Done>
void until(Loop& loop, Done&& done) {
    const bool simulated = weft::detail::core_of(loop).kernel().name() == "sim";
    int idle = 0; // in a row; beside busy programs each yield takes as long as their turns
    for (int turn = 0; !simulated || turn < 1'000'000; ++turn) {
        if (done()) return;
        idle = loop.run_once() == 0 ? idle + 1 : 0;
        if (idle % 64 == 63 && !simulated) std::this_thread::yield();
    }
    FAIL("it did not come to pass");
}

/// The other end of a connection: a bare socket, or the end of a pair in memory, used by the test
/// itself. What it sends and receives goes through the same layers as at the end that is tested.
class RawPeer {
public:
    RawPeer(Kernel& kernel, int fd) noexcept : kernel_(&kernel), fd_(fd) {
        fix_buffers(kernel, fd);
    }
    explicit RawPeer(std::shared_ptr<MemoryPeer> peer) noexcept : memory_(std::move(peer)) {}
    RawPeer(RawPeer&& other) noexcept
        : received(std::move(other.received)), ended(other.ended), error(other.error),
          kernel_(other.kernel_), fd_(std::exchange(other.fd_, -1)),
          memory_(std::move(other.memory_)), out_(std::move(other.out_)),
          in_(std::move(other.in_)) {}
    RawPeer& operator=(RawPeer&&) = delete;
    ~RawPeer() { close(); }

    /// Connects to `address`; over loopback this is done when it returns.
    static RawPeer connect(Kernel& kernel, const Address& address) {
        const Sys made = kernel.socket(address.data()->sa_family, SOCK_STREAM, 0);
        REQUIRE(made.error() == 0);
        RawPeer peer(kernel, made.fd());
        const Sys begun = kernel.connect(made.fd(), address);
        REQUIRE((begun.ok() || begun.error() == EINPROGRESS));
        return peer;
    }
    /// From now on, what it sends and receives is changed by `layers`.
    void stand_behind(int layers) {
        for (int i = 0; i < layers; ++i) {
            out_.emplace_back(unsigned(i));
            in_.emplace_back(unsigned(i));
        }
    }

    int fd() const noexcept { return fd_; }
    /// Sends all of `text`; there must be room for it.
    void send(std::string_view text) {
        const std::string changed = crossed(out_, text);
        for (std::string_view left = changed; !left.empty();) {
            const Sys sent = send_once(left);
            REQUIRE(sent.error() == 0);
            left.remove_prefix(sent.count());
        }
    }
    /// As much of it as there is room for; how much that was.
    std::size_t send_some(std::string_view text) {
        auto trial = out_;
        const Sys sent = send_once(crossed(trial, text));
        if (!sent.ok()) return 0;
        (void)crossed(out_, text.substr(0, sent.count()));
        return sent.count();
    }
    void finish_sending() {
        if (memory_) return memory_->finish_sending();
        REQUIRE(kernel_->shutdown_write(fd_).ok());
    }
    void close(bool reset = false) {
        if (memory_) memory_->close(reset);
        memory_.reset();
        if (fd_ >= 0) kernel_->close(fd_, reset);
        fd_ = -1;
    }
    void reset() { close(true); }
    /// Takes what is there.
    void receive(std::size_t most = SIZE_MAX) {
        std::array<char, 65536> buffer;
        while (most > 0 && !ended && error == 0) {
            const std::size_t size = std::min(buffer.size(), most);
            const Sys got = memory_ ? memory_->receive(buffer.data(), size)
                                    : kernel_->recv(fd_, buffer.data(), size);
            if (got.would_block()) return;
            if (!got.ok()) error = got.error();
            if (got.ok() && got.count() == 0) ended = true;
            if (got.ok()) received += crossed(in_, {buffer.data(), got.count()});
            if (got.ok()) most -= got.count();
        }
    }
    /// Everything up to the end, be it FIN or an error, while the loop runs.
    void receive_all(Loop& loop) {
        until(loop, [&] {
            receive();
            return ended || error != 0;
        });
    }

    std::string received;
    bool ended = false; ///< the end of the stream was read
    int error = 0;      ///< what receiving failed with

private:
    static std::string crossed(std::vector<XorStream>& streams, std::string_view text) {
        std::string changed(text);
        for (XorStream& stream : streams)
            changed = text_of(stream.crossed(bytes_of(changed)));
        return changed;
    }
    Sys send_once(std::string_view text) {
        if (memory_) return memory_->send(text);
        return kernel_->send(fd_, text.data(), text.size());
    }

    Kernel* kernel_ = nullptr;
    int fd_ = -1;
    std::shared_ptr<MemoryPeer> memory_;
    std::vector<XorStream> out_;
    std::vector<XorStream> in_;
};

/// A loop over any kernel, also one that the case has prepared, with what nobody caught collected
/// and the check that it gives everything back.
class HostLoop {
    ResourceGuard guard_; // first, so that it is the last to go

public:
    /// Calls `make` for the kernel, so that what it opens is accounted for.
    explicit HostLoop(const std::function<std::unique_ptr<Kernel>()>& make,
                      LoopOptions options = {})
        : loop((options.kernel = make(), std::move(options))),
          kernel(weft::detail::core_of(loop).kernel()) {
        loop.on_unhandled(
            [this](const Unhandled& what) { unhandled.push_back(TestLoop::text_of(what)); });
    }
    Loop* operator->() noexcept { return &loop; }
    Loop& operator*() noexcept { return loop; }
    operator Loop&() noexcept { return loop; }

    std::vector<std::string> unhandled; ///< "message: what()" of each
    Loop loop;
    Kernel& kernel; ///< gone when the loop is closed
};

/// A server whose connections write journals, and a loop.
struct World {
    explicit World(const KernelKind& kind, LoopOptions options = {})
        : loop(kind.make, std::move(options)) {}
    explicit World(const StreamStage& stage, LoopOptions options = {})
        : World(static_cast<const KernelKind&>(stage), std::move(options)) {
        kind = stage.transport;
    }
    explicit World(const std::function<std::unique_ptr<Kernel>()>& make, LoopOptions options = {})
        : loop(make, std::move(options)) {}

    /// Listens where nobody else does; `prepare` sees each journal before its connection is made.
    void listen(const ListenOptions& options = {}) {
        if (kind.base == TransportKind::Base::memory) return set_options(options);
        const bool tcp = kind.base == TransportKind::Base::tcp;
        static int count = 0;
        listen(options, tcp ? "127.0.0.1:0"
                            : "unix:@weft-test-" + std::to_string(::getpid()) + "-" +
                                  std::to_string(++count));
    }
    void listen(const ListenOptions& options, std::string_view address) {
        auto listening = weft::listen(loop, address, factory(), options);
        INFO((listening.ok() ? std::string() : listening.error().message()));
        REQUIRE(listening.ok());
        server = std::move(*listening);
    }
    ProtocolFactory factory() {
        return [this]() -> std::unique_ptr<Protocol> {
            auto journal = std::make_shared<Journal>();
            if (prepare) prepare(*journal);
            journals.push_back(journal);
            return kind.wrap(std::make_unique<Recorder>(journal));
        };
    }
    /// Connects a bare end and waits for its connection to be made.
    RawPeer connect() {
        const std::size_t before = journals.size();
        RawPeer peer = begin_to_connect();
        peer.stand_behind(kind.layers);
        until([&] { return journals.size() > before && journals.back()->made; });
        return peer;
    }
    Journal& last() { return *journals.back(); }
    Transport& transport() {
        REQUIRE(last().transport != nullptr);
        return *last().transport;
    }
    void settle() { test::settle(loop); }
    template<class Done>
    void until(Done&& done) {
        test::until(loop, std::forward<Done>(done));
    }
    /// Where bare sockets are made: without the faults that are planned for the loop's own calls.
    Kernel& peers() { return faulty ? faulty->inner() : loop.kernel; }

    sim::FaultyKernel* faulty = nullptr; ///< that of a `FaultyWorld`
    HostLoop loop;
    std::function<void(Journal&)> prepare;
    TransportKind kind; ///< of its connections
    std::vector<std::shared_ptr<Journal>> journals;
    Server server;

private:
    RawPeer begin_to_connect() {
        if (kind.base != TransportKind::Base::memory)
            return RawPeer::connect(peers(), server.addresses().at(0));
        auto peer = std::make_shared<MemoryPeer>();
        const auto pair = connected_pair(loop, factory()(), peer->protocol());
        if (write_limits_)
            pair.first->set_write_buffer_limits(write_limits_->high, write_limits_->low);
        if (linger_) pair.first->set_linger(*linger_);
        if (idle_timeout_ > Duration::zero()) pair.first->set_idle_timeout(idle_timeout_);
        return RawPeer(std::move(peer));
    }
    /// What a server would give to its connections.
    void set_options(const ListenOptions& options) {
        write_limits_ = options.write_limits;
        linger_ = options.linger;
        idle_timeout_ = options.idle_timeout;
    }
    std::optional<WriteLimits> write_limits_;
    std::optional<Linger> linger_;
    Duration idle_timeout_{0};
};

/// The same over a kernel whose calls can be made to fail, and are counted.
struct FaultyWorld : World {
    explicit FaultyWorld(const StreamStage& stage, LoopOptions options = {})
        : FaultyWorld(static_cast<const KernelKind&>(stage), std::move(options)) {
        kind = stage.transport;
    }
    explicit FaultyWorld(const KernelKind& kind, LoopOptions options = {})
        : World(
              [&]() -> std::unique_ptr<Kernel> {
                  auto made = std::make_unique<sim::FaultyKernel>(kind.make());
                  made_ = made.get();
                  return made;
              },
              std::move(options)) {
        faulty = made_;
    }

private:
    static inline sim::FaultyKernel* made_ = nullptr;
};

/// A text of `size` bytes in which every place can be told from the others.
inline std::string pattern(std::size_t size) {
    std::string text(size, '\0');
    for (std::size_t i = 0; i < size; ++i)
        text[i] = static_cast<char>((i * 2654435761u) >> 13);
    return text;
}

} // namespace weft::test
